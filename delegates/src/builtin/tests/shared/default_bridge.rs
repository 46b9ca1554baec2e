//! The default network's bridge, which definitions share where the node says so.

use super::*;

#[test]
fn kernel_shared_the_default_networks_bridge_is_not_for_definitions() {
    on_node(|bed| {
        let reserved = Reserved { default_bridges: vec!["cni0".to_owned()], ..Reserved::default() };
        let shared = Reserved { share_default_bridge: true, ..reserved.clone() };
        const ONLY: &str = "which definitions may use only if the node's key shareDefaultBridge is true";
        let named = format!(r#"got "cni0", want another than the default network's bridge, {ONLY}"#);
        let absent = format!("missing, want a bridge's name: absent it is cni0, the default network's bridge, {ONLY}");
        for (kind, conf, want) in [
            (Builtin::Bridge, r#"{"bridge":"cni0"}"#, format!("bridge: {named}")),
            (Builtin::Bridge, "{}", format!("bridge: {absent}")),
            (Builtin::Bridge, r#"{"bridge":"","isGateway":true,"forceAddress":true}"#, format!("bridge: {absent}")),
            (Builtin::Flannel, r#"{"delegate":{"bridge":"cni0"}}"#, format!("delegate.bridge: {named}")),
            (Builtin::Flannel, "{}", format!("delegate.bridge: {absent}")),
            (Builtin::Macvlan, r#"{"master":"cni0"}"#, format!("master: {named}")),
            (Builtin::Ipvlan, r#"{"master":"cni0"}"#, format!("master: {named}")),
            (Builtin::Vlan, r#"{"master":"cni0","vlanId":5,"ipam":{"type":"static"}}"#, format!("master: {named}")),
            (
                Builtin::Flannel,
                r#"{"delegate":{"type":"macvlan","master":"cni0"}}"#,
                format!("delegate.master: {named}"),
            ),
        ] {
            let error = bed.admit("a", kind, conf, &reserved).unwrap_err();
            assert!(matches!(&error, crate::error::Error::Config(_)) && error.to_string() == want, "{conf}: {error}");
            bed.admit("a", kind, conf, &shared).unwrap();
            bed.admit("a", kind, conf, &Reserved::default()).unwrap();
            bed.admit("node", kind, conf, &reserved).unwrap();
        }
        bed.admit("a", Builtin::Bridge, r#"{"bridge":"br0"}"#, &reserved).unwrap();
        // A program in the place of our bridge does not know whose an address is.
        let types = ["vxlan".parse().unwrap()];
        let forced = |bridge: &str| format!(r#"{{"bridge":"{bridge}","isGateway":true,"forceAddress":true}}"#);
        let error = bed.call(&bed.pod(), "net1", &forced("br0"), None, |_, call| {
            let mut host = Host::new(Node { builtin: Some(&types), ..bed.node() });
            Builtin::Bridge.admit(&mut host, &Call { origin: origin("a"), ..call.clone() }).unwrap_err()
        });
        assert!(error.to_string().starts_with("forceAddress: got true, want false: a program"), "{error}");
        bed.admit("a", Builtin::Bridge, &forced("br0"), &reserved).unwrap();
        bed.admit("a", Builtin::Macvlan, r#"{"master":"cni0","linkInContainer":true}"#, &reserved).unwrap();
    });
}

#[test]
fn kernel_shared_a_bridge_that_only_the_default_networks_result_names_is_not_either() {
    on_node(|bed| {
        bed.bridge("weave");
        let pod = bed.pod();
        let told = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"weave"},{"name":"eth0","sandbox":"/x"}]}"#;
        let told = CniResult::parse(told.as_bytes(), Version::NEWEST).unwrap();
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        let add = |host: &mut Host<'_>, call: &Call<'_>| {
            host.note_default(&told);
            Builtin::Bridge.add(host, &mut sandbox, &Call { origin: origin("a"), ..call.clone() })
        };
        let error = bed.call(&pod, "net1", r#"{"bridge":"weave"}"#, None, add).unwrap_err();
        assert!(error.to_string().starts_with(r#"bridge: got "weave", want another than the default"#), "{error}");
        assert_eq!((bed.links(), bed.link("weave").unwrap().up), (vec!["weave".to_owned()], false));
    });
}
