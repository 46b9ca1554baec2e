//! flannel on a real kernel.

use std::fs;
use std::path::Path;

use super::*;
use crate::error::Error;

const FILE: &str =
    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// A configuration whose files are all in one directory.
fn conf(dir: &Path, more: &str) -> String {
    let dir = dir.display();
    format!(
        r#"{{"name":"net","cniVersion":"1.1.0","type":"flannel","subnetFile":"{dir}/subnet.env","dataDir":"{dir}/flannel",
        "ipam":{{"dataDir":"{dir}/networks"}}{more}}}"#
    )
}

fn addresses(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir.join("networks/net")).into_iter().flatten();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("10.")).collect()
}

#[test]
fn kernel_flannel_hands_its_subnet_on_to_bridge() {
    on_node(|bed| {
        let dir = tempfile::tempdir().unwrap();
        let pod = bed.pod();
        let conf = conf(dir.path(), r#","delegate":{"hairpinMode":true,"isDefaultGateway":true}"#);
        let early = bed.add(Builtin::Flannel, &pod, "net1", &conf).unwrap_err();
        assert!(matches!(&early, Error::NotReady(text) if text.contains("flannel has no subnet yet")), "{early}");
        assert!(matches!(bed.status(Builtin::Flannel, &conf), Err(Error::NotReady(_))));
        fs::write(dir.path().join("subnet.env"), FILE).unwrap();
        bed.status(Builtin::Flannel, &conf).unwrap();
        let attached = bed.add(Builtin::Flannel, &pod, "net1", &conf).unwrap();
        assert_eq!(pod.addresses("net1"), ["10.244.1.2/24"]);
        assert_eq!(pod.link("net1").unwrap().mtu, 1450);
        assert_eq!(pod.gateway_of("10.244.0.0/16").as_deref(), Some("10.244.1.1"));
        assert_eq!(pod.gateway_of("0.0.0.0/0").as_deref(), Some("10.244.1.1"));
        let port = bed.link(&attached.result.interfaces[1].name).unwrap();
        assert_eq!((attached.result.interfaces[0].name.as_str(), port.port.unwrap().hairpin), ("cni0", Some(true)));
        let note = fs::read_to_string(dir.path().join("flannel/pod0")).unwrap();
        assert!(note.contains(r#""subnet":"10.244.1.0/24""#) && note.contains(r#""ipMasq":false"#), "{note}");
        bed.check(Builtin::Flannel, &pod, "net1", &conf, &attached.result).unwrap();

        // flannel is restarting, and has another subnet next.
        fs::remove_file(dir.path().join("subnet.env")).unwrap();
        for _ in 0..2 {
            bed.del(Builtin::Flannel, &pod, "net1", &conf, Some(&attached)).unwrap();
            assert_eq!(addresses(dir.path()), Vec::<String>::new());
            assert_eq!(fs::read_dir(dir.path().join("flannel")).unwrap().count(), 0);
        }
        assert_eq!(bed.links(), ["cni0"]);
    });
}

#[test]
fn kernel_flannel_undoes_what_the_flannel_plugin_noted_and_what_nobody_noted() {
    on_node(|bed| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("subnet.env"), FILE).unwrap();
        let pod = bed.pod();
        let (first, other) = (conf(dir.path(), ""), conf(dir.path(), r#","delegate":{"bridge":"br-9"}"#));
        for name in ["net1", "net2"] {
            bed.add(Builtin::Flannel, &pod, name, &first).unwrap();
        }
        assert_eq!(addresses(dir.path()).len(), 2);
        // The configuration has changed since; the note has not. Of the two it tells only of one.
        for name in ["net1", "net2"] {
            bed.del(Builtin::Flannel, &pod, name, &other, None).unwrap();
        }
        assert_eq!(addresses(dir.path()), Vec::<String>::new());
        assert_eq!(bed.links(), ["cni0"]);
        // A note of another network is left to it.
        let note = dir.path().join("flannel/pod0");
        fs::write(&note, r#"{"name":"another","type":"bridge"}"#).unwrap();
        bed.call(&pod, "net1", &first, None, |host, call| Builtin::Flannel.restore(host, None, call, &[])).unwrap();
        bed.del(Builtin::Flannel, &pod, "net1", &first, None).unwrap();
        assert!(note.exists());
    });
}

#[test]
fn kernel_flannel_that_fails_leaves_nothing() {
    on_node(|bed| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("subnet.env"), FILE).unwrap();
        bed.master("eth9", 1500, None);
        let pod = bed.pod();
        let conf = conf(dir.path(), r#","delegate":{"bridge":"eth9"}"#);
        let before = bed.links();
        let error = bed.add(Builtin::Flannel, &pod, "net1", &conf).unwrap_err();
        assert!(error.to_string().contains("eth9 is a veth"), "{error}");
        assert_eq!((bed.links(), addresses(dir.path())), (before, Vec::new()));
        assert_eq!(fs::read_dir(dir.path().join("flannel")).unwrap().count(), 0);
        // A pod that no ADD could attach can go all the same.
        let wrong = self::conf(dir.path(), r#","delegate":{"ipam":{}}"#);
        assert!(matches!(bed.add(Builtin::Flannel, &pod, "net1", &wrong), Err(Error::Config(_))));
        bed.del(Builtin::Flannel, &pod, "net1", &wrong, None).unwrap();
    });
}

#[test]
fn kernel_flannel_of_a_tenant_leaves_the_note_of_another_network() {
    on_node(|bed| {
        let dir = tempfile::tempdir().unwrap();
        let (pod, conf) = (bed.pod(), conf(dir.path(), ""));
        fs::write(dir.path().join("subnet.env"), FILE).unwrap();
        fs::create_dir(dir.path().join("flannel")).unwrap();
        let note = dir.path().join("flannel/pod0");
        fs::write(&note, r#"{"name":"cbr0","type":"bridge"}"#).unwrap();
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        let refused = bed.call(&pod, "net1", &conf, None, |host, call| {
            let origin = crate::call::Origin { is_tenants: true, ..call.origin };
            Builtin::Flannel.add(host, &mut sandbox, &Call { origin, ..call.clone() })
        });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("dataDir: got ") && refused.contains("network cbr0 has noted there"), "{refused}");
        bed.del(Builtin::Flannel, &pod, "net1", &conf, None).unwrap();
        assert_eq!(fs::read_to_string(&note).unwrap(), r#"{"name":"cbr0","type":"bridge"}"#);
    });
}
