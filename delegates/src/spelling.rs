//! Keys of configurations as their readers spell them: the known keys of every delegate and of its address management, for
//! ADD, lint and admission alike. [`attachments::cni::spelling`] knows how keys are compared.

use attachments::cni::conf::PluginConf;
use attachments::cni::object::Object;
use attachments::cni::spelling::{ARGS, CAPABILITIES, DNS, Known, LIST, OF_LIST, OF_PLUGIN, OF_RUNTIME, PLUGIN, Slip};
use attachments::finding::Finding;
use attachments::names::PluginType;

use crate::builtin::Builtin;
use crate::ipam;
use crate::ipam::blocks::whereabouts::{Files, read_as_blocks};

/// What it hands on is read by another plugin; it refuses to hand anything on to itself.
const FLANNEL: &str = "flannel";

/// Refuses two spellings of one key, and spells the keys of a plugin as it reads them where it is ours and `in_process`: a
/// program gets its bytes as they are.
pub fn settle(plugin: &mut PluginConf, in_process: bool) -> Result<(), Finding> {
    let mut refusal = None;
    let respelled = respell(&plugin.kind, &plugin.object, &mut |slip| {
        if refusal.is_none() {
            refusal = slip.refusal();
        }
    });
    match (refusal, respelled) {
        (Some(refusal), _) => return Err(refusal),
        (None, Some(object)) if in_process && Builtin::from_type(&plugin.kind).is_some() => plugin.object = object,
        (None, _) => {}
    }
    Ok(())
}

/// Reads the `ipam` of a plugin of ours as one of blocks where it is whereabouts'. A program calls whereabouts by itself.
pub fn whereabouts(plugin: &mut PluginConf, files: &Files<'_>) -> Result<(), Finding> {
    match Builtin::from_type(&plugin.kind) {
        Some(_) => read_as_blocks(&mut plugin.object, files),
        None => Ok(()),
    }
}

/// One plugin's configuration with every known key as it is read, or nothing where every key is so already. Each other
/// spelling is shown to `see`.
pub fn respell(kind: &PluginType, object: &Object, see: &mut dyn FnMut(Slip)) -> Option<Object> {
    // Most have all keys right, whoever reads them. Flannel's are read by another plugin too.
    if kind.as_str() != FLANNEL && PLUGIN.is_plain(object) && known(kind, None, |known| known.is_plain(object)) {
        return None;
    }
    let first = PLUGIN.respell(object, see);
    let read = first.as_ref().unwrap_or(object);
    let second = known(kind, Some(&ipam_kind(read)), |known| known.respell(read, see));
    let second = second.or(first);
    if kind.as_str() != FLANNEL {
        return second;
    }
    let read = second.as_ref().unwrap_or(object);
    delegate(read, see).or(second)
}

/// The same for a whole configuration or list. What is none is left to its readers.
pub fn respell_document(document: &Object, see: &mut dyn FnMut(Slip)) -> Option<Object> {
    let first = LIST.respell(document, see);
    let read = first.as_ref().unwrap_or(document);
    if read.get("plugins").is_none() {
        return single(read, see).or(first);
    }
    let list: Vec<&serde_json::value::RawValue> = serde_json::from_str(read.get("plugins")?.get()).unwrap_or_default();
    let mut changed = false;
    let mut plugins: Vec<String> = Vec::with_capacity(list.len());
    for (i, element) in list.iter().enumerate() {
        let mut see = |slip: Slip| see(slip.under(&format!("plugins[{i}]")));
        let respelled = serde_json::from_str(element.get()).ok().and_then(|object| single(&object, &mut see));
        changed |= respelled.is_some();
        plugins.push(respelled.map_or_else(|| element.get().to_owned(), |object| object.to_json()));
    }
    if !changed {
        return first;
    }
    let mut whole = read.clone();
    let plugins = serde_json::value::RawValue::from_string(format!("[{}]", plugins.join(","))).ok()?;
    whole.set("plugins", &plugins);
    Some(whole)
}

fn single(object: &Object, see: &mut dyn FnMut(Slip)) -> Option<Object> {
    let first = PLUGIN.respell(object, see);
    let read = first.as_ref().unwrap_or(object);
    let kind = read.text("type").ok().flatten().and_then(|kind| kind.parse().ok());
    kind.and_then(|kind| respell(&kind, read, see)).or(first)
}

/// What flannel hands on, by its reader's keys.
fn delegate(object: &Object, see: &mut dyn FnMut(Slip)) -> Option<Object> {
    let delegate = object.object("delegate").ok().flatten()?;
    let kind = delegate.text("type").ok().flatten().unwrap_or_else(|| "bridge".to_owned()).parse().ok()?;
    let kind = Some(kind).filter(|kind: &PluginType| kind.as_str() != FLANNEL)?;
    let respelled = respell(&kind, &delegate, &mut |slip| see(slip.under("delegate")))?;
    let mut object = object.clone();
    object.set("delegate", &respelled);
    Some(object)
}

fn ipam_kind(object: &Object) -> String {
    let kind = object.object("ipam").ok().flatten().and_then(|ipam| ipam.text("type").ok().flatten());
    kind.unwrap_or_default()
}

/// What is known in the configuration of a plugin with this kind of address management; without one, whatever any kind of
/// ours knows.
pub(crate) fn known<T>(kind: &PluginType, ipam: Option<&str>, then: impl FnOnce(&Known<'_>) -> T) -> T {
    let delegate = Builtin::from_type(kind);
    let ipam = match ipam {
        // Flannel hands it on, to host-local where it says nothing else.
        Some("") if delegate == Some(Builtin::Flannel) => ipam::known("host-local"),
        Some(kind) => ipam::known(kind),
        None => &ipam::ANY,
    };
    let Some(delegate) = delegate else {
        let inside = [("ipam", ipam), ("dns", &DNS), ("args", &ARGS), ("capabilities", &CAPABILITIES)];
        return then(&Known { inside: &inside, ..PLUGIN });
    };
    let cni = Known { keys: &[delegate.arguments()], inside: &[], only: false };
    let args = Known { keys: &[&["cni"]], inside: &[("cni", &cni)], only: false };
    let mut inside = vec![("ipam", ipam), ("dns", &DNS), ("args", &args), ("capabilities", &CAPABILITIES)];
    inside.extend(delegate.nested());
    then(&Known { keys: &[&OF_PLUGIN, &OF_LIST, &OF_RUNTIME, delegate.keys()], inside: &inside, only: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(conf: &str, in_process: bool) -> Result<String, String> {
        let mut plugin = PluginConf::from_object(Object::parse(conf.as_bytes()).unwrap()).map_err(|e| e.to_string())?;
        settle(&mut plugin, in_process).map_err(|e| e.to_string())?;
        Ok(plugin.object.to_json())
    }

    #[test]
    fn keys_of_built_in_plugins_are_spelled_as_they_are_read() {
        for (written, read) in [
            (
                r#"{"Type":"bridge","VLAN":7,"isgateway":true,"VlanTrunk":[{"MinID":1,"maxid":2}],"DNS":{"Domain":"d"},"mine":1}"#,
                r#"{"type":"bridge","vlan":7,"isGateway":true,"vlanTrunk":[{"minID":1,"maxID":2}],"dns":{"domain":"d"},"mine":1}"#,
            ),
            (
                r#"{"type":"vlan","vlanID":5,"IPAM":{"TYPE":"host-local","Ranges":[[{"Subnet":"s","rangestart":"a"}]],"routes":[{"DST":"d"}],"datadir":"/x"}}"#,
                r#"{"type":"vlan","vlanId":5,"ipam":{"type":"host-local","ranges":[[{"subnet":"s","rangeStart":"a"}]],"routes":[{"dst":"d"}],"dataDir":"/x"}}"#,
            ),
            (
                r#"{"type":"macvlan","ipam":{"type":"static","Addresses":[{"Address":"a"}],"dns":{"SEARCH":[]}},"Args":{"CNI":{"IPs":[],"x":1}}}"#,
                r#"{"type":"macvlan","ipam":{"type":"static","addresses":[{"address":"a"}],"dns":{"search":[]}},"args":{"cni":{"ips":[],"x":1}}}"#,
            ),
            (
                r#"{"type":"tuning","Sysctl":{"net.core.SOMAXCONN":"1"},"args":{"cni":{"MTU":1,"SYSCTL":{}}}}"#,
                r#"{"type":"tuning","sysctl":{"net.core.SOMAXCONN":"1"},"args":{"cni":{"mtu":1,"sysctl":{}}}}"#,
            ),
            (
                r#"{"type":"flannel","SubnetFile":"/f","ipam":{"RANGES":[]},"Delegate":{"Type":"ipvlan","MASTER":"eth1"}}"#,
                r#"{"type":"flannel","subnetFile":"/f","ipam":{"ranges":[]},"delegate":{"type":"ipvlan","master":"eth1"}}"#,
            ),
            (
                r#"{"type":"flannel","delegate":{"isdefaultgateway":true}}"#,
                r#"{"type":"flannel","delegate":{"isDefaultGateway":true}}"#,
            ),
            // An IPAM program reads its own keys; what nearly all of them share is no guess.
            (
                r#"{"type":"bridge","ipam":{"TYPE":"whereabouts","Range":"r","Range_Start":"s"}}"#,
                r#"{"type":"bridge","ipam":{"type":"whereabouts","range":"r","Range_Start":"s"}}"#,
            ),
        ] {
            assert_eq!(settled(written, true).as_deref(), Ok(read));
            assert_eq!(settled(read, true).as_deref(), Ok(read), "nothing is left to do");
        }
    }

    #[test]
    fn programs_get_their_keys_as_they_are_written() {
        for conf in [
            r#"{"type":"sriov","VLAN":7,"IPAM":{"Type":"host-local","rangestart":"a"}}"#,
            r#"{"type":"whatever","Delegate":{"Type":"bridge"}}"#,
        ] {
            assert_eq!(settled(conf, true).as_deref(), Ok(conf));
        }
        let bridge = r#"{"type":"bridge","isgateway":true}"#;
        assert_eq!(settled(bridge, false).as_deref(), Ok(bridge), "switched off, it is a program");
    }

    #[test]
    fn two_spellings_are_refused_whoever_reads_them() {
        for (conf, at) in [
            (r#"{"type":"vlan","vlanId":5,"vlanID":6}"#, "vlanID"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","Type":"static"}}"#, "ipam.Type"),
            (
                r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"rangeStart":"a","RANGESTART":"b"}]]}}"#,
                "ipam.ranges[0][0].RANGESTART",
            ),
            (r#"{"type":"bridge","dns":{"search":[],"Search":[]}}"#, "dns.Search"),
            (r#"{"type":"tuning","args":{"cni":{"mac":"a","MAC":"b"}}}"#, "args.cni.MAC"),
            (r#"{"type":"flannel","delegate":{"bridge":"a","Bridge":"b"}}"#, "delegate.Bridge"),
            (r#"{"type":"sriov","ipam":{"type":"host-local","rangeEnd":"a","rangeend":"b"}}"#, "ipam.rangeend"),
            (r#"{"type":"sriov","master":"a","MASTER":"b"}"#, "MASTER"),
        ] {
            for in_process in [true, false] {
                let refusal = settled(conf, in_process).unwrap_err();
                assert!(refusal.starts_with(&format!("{at}: got")), "{conf}: {refusal}");
            }
        }
    }

    #[test]
    fn documents_are_spelled_whole() {
        let document = r#"{"CNIVersion":"1.0.0","PLUGINS":[{"type":"x"},{"TYPE":"vlan","VLANID":1},7]}"#;
        let mut paths = Vec::new();
        let read = respell_document(&Object::parse(document.as_bytes()).unwrap(), &mut |slip| paths.push(slip.path));
        assert_eq!(
            read.unwrap().to_json(),
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"},{"type":"vlan","vlanId":1},7]}"#
        );
        assert_eq!(paths, ["CNIVersion", "PLUGINS", "plugins[1].TYPE", "plugins[1].VLANID"]);
        let plain = Object::parse(br#"{"name":"n","type":"bridge"}"#).unwrap();
        assert!(respell_document(&plain, &mut |slip| panic!("{slip:?}")).is_none());
    }

    /// Quadratic work would not end within a test's patience.
    #[test]
    fn a_configuration_of_many_keys_is_read_in_one_pass() {
        let keys = |prefix: &str| (0..100_000).map(|i| format!("\"{prefix}{i}\":1")).collect::<Vec<_>>().join(",");
        let conf = format!(r#"{{"type":"bridge","VLAN":1,{},"ipam":{{"type":"static",{}}}}}"#, keys("a"), keys("b"));
        assert!(settled(&conf, true).unwrap().starts_with(r#"{"type":"bridge","vlan":1,"#));
        let deep = format!(
            r#"{{"type":"flannel","delegate":{}1{}}}"#,
            r#"{"type":"flannel","delegate":"#.repeat(5000),
            "}".repeat(5000)
        );
        assert!(settled(&deep, true).is_err());
    }
}
