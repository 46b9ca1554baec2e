use super::super::Dialects;
use super::*;
use crate::selection::{DEFAULT_NETWORK, NETWORKS as NPWG, Selection};

fn conf(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

fn list(text: &str) -> Result<Option<PodList>, String> {
    let knitter = Knitter::read(&conf("{}")).unwrap();
    knitter.read_pod(text, &"shop".parse().unwrap()).map_err(|finding| finding.to_string())
}

/// `network interface` of each port, with what it asks for.
fn read(text: &str) -> Result<Vec<String>, String> {
    let each = |one: &NetworkSelection| {
        let alias = one.target.alias().unwrap();
        assert_eq!((alias.namespace.as_str(), alias.shared.as_str()), ("shop", "admin"));
        let mut words = vec![alias.name.clone(), one.interface.as_ref().unwrap().to_string()];
        words.extend(one.ips.iter().cloned());
        words.extend(one.address_set.iter().map(ToString::to_string));
        words.extend(one.cni_args.iter().map(Object::to_json));
        words.join(" ")
    };
    list(text).map(|list| list.unwrap().elements.iter().map(each).collect())
}

fn refused(text: &str) -> String {
    match list(text) {
        Err(why) => why,
        Ok(list) => panic!("{text} reads as {list:?}"),
    }
}

/// One port on network `lan` with these attributes.
fn port(attributes: &str) -> String {
    format!(r#"{{"attach_to_network":"lan","attributes":{{{attributes}}}}}"#)
}

fn pod(ports: &[String]) -> String {
    format!(r#"{{"ports":[{}]}}"#, ports.join(","))
}

/// Pods of Knitter's examples and unit tests.
#[test]
fn pods_read_as_in_their_own_examples() {
    let three = r#"{"ports":[
        {"attach_to_network":"net_api","attributes":{"accelerate":"false","function":"std","nic_name":"eth0","nic_type":"normal"}},
        {"attach_to_network":"control","attributes":{"accelerate":"false","function":"control","nic_name":"nwrfcontrol","nic_type":"normal"}},
        {"attach_to_network":"media","attributes":{"accelerate":"false","function":"media","nic_name":"testpodmed","nic_type":"normal","metadata":{"a":1}}}]}"#;
    assert_eq!(
        read(three).unwrap(),
        [
            "net_api eth0",
            r#"control nwrfcontrol {"meta-cni.io/roles":["control"]}"#,
            r#"media testpodmed {"meta-cni.io/roles":["media"]}"#,
        ]
    );
    assert_eq!(list(three).unwrap().unwrap().places, [".ports[0]", ".ports[1]", ".ports[2]"]);
    for default in ["", "  ", "\"\"", " \"\"\n"] {
        assert_eq!(list(default).unwrap(), None, "{default:?}");
    }
    let nameless = r#"{"ports":[{"attach_to_network":"net_api","attributes":{"nic_name":"eth0"}},{"attach_to_network":"management"}]}"#;
    assert_eq!(read(nameless).unwrap(), ["net_api eth0", "management eth_manageme"]);
    let group = pod(&[port(r#""nic_name":"eth0","ip_group_name":"Web_1""#)]);
    assert_eq!(read(&group).unwrap(), ["lan eth0 web-1"]);
    let address = pod(&[port(r#""nic_name":"eth0","ip_addr":"192.168.1.20","ip_group_name":"""#)]);
    assert_eq!(read(&address).unwrap(), ["lan eth0 192.168.1.20"]);
}

#[test]
fn of_ports_of_which_none_is_eth0_the_first_is_it_and_it_is_said() {
    let list = list(&pod(&[port(r#""nic_name":"a""#), port(r#""nic_name":"b""#)])).unwrap().unwrap();
    let names: Vec<_> = list.elements.iter().map(|one| one.interface.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["eth0", "b"]);
    let said: Vec<String> = list.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["networks.ports[0].attributes.nic_name: got a, want eth0 for one port: this one is it, as the first"]
    );
}

#[test]
fn combinable_ports_are_one_with_the_functions_of_all() {
    let of = |function: &str, more: &str| port(&format!(r#""function":"{function}","combinable":"true"{more}"#));
    let two = pod(&[of("media", r#","nic_name":"eth1""#), of("control", r#","nic_name":"eth0""#)]);
    assert_eq!(read(&two).unwrap(), [r#"lan eth0 {"meta-cni.io/roles":["media","control"]}"#]);
    let four = pod(&["std", "control", "media", "oam"].map(|function| of(function, "")));
    assert_eq!(read(&four).unwrap(), [r#"lan eth0 {"meta-cni.io/roles":["std","control","media","oam"]}"#]);
    // Ports that differ stay apart, and so do those that are not combinable.
    let apart = pod(&[
        of("oam", r#","nic_name":"eth0""#),
        of("oam", r#","nic_name":"a","ip_group_name":"web""#),
        of("oam", r#","nic_name":"b","nic_type":"direct""#),
        of("oam", r#","nic_name":"c","accelerate":"true""#),
        port(r#""function":"oam","nic_name":"d""#),
        port(r#""function":"oam","nic_name":"e","combinable":"yes""#),
    ]);
    assert_eq!(read(&apart).unwrap().len(), 6);
    let address = pod(&[of("a", ""), of("b", r#","ip_addr":"10.0.0.9""#)]);
    assert_eq!(read(&address).unwrap(), [r#"lan eth0 10.0.0.9 {"meta-cni.io/roles":["a","b"]}"#]);

    let said = refused(&pod(&[of("oam", ""), of("std", ""), of("std", "")]));
    assert_eq!(
        said,
        r#"networks.ports[2].attributes.function: got "std", want a function that no other of its combined ports has: ports[0] has it"#
    );
    let fast = r#","accelerate":"true""#;
    for (one, other) in [("eio", "control"), ("media", "eio"), ("oam", "eio")] {
        let said = refused(&pod(&[of(one, fast), of(other, fast)]));
        assert!(said.contains("ports[1].attributes.function") && said.contains("exclude each other"), "{said}");
        assert!(read(&pod(&[of(one, ""), of(other, "")])).is_ok(), "only where they are accelerated");
    }
    let said = refused(&pod(&[of("a", r#","ip_addr":"10.0.0.8""#), of("b", r#","ip_addr":"10.0.0.9""#)]));
    assert!(said.contains("ports[1].attributes.ip_addr: got 10.0.0.9, want 10.0.0.8, as in ports[0]"), "{said}");
}

#[test]
fn what_needs_a_device_is_a_plain_port_and_it_is_said() {
    let list = list(&pod(&[port(r#""nic_name":"eth0","accelerate":"true","nic_type":"direct""#)])).unwrap().unwrap();
    let said: Vec<String> = list.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2);
    assert!(
        said[0].starts_with("networks.ports[0].attributes.accelerate: got \"true\", want a plain port"),
        "{said:?}"
    );
    assert!(said[1].contains("nic_type: got \"direct\"") && said[1].contains("resourceName"), "{said:?}");
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let long = "x".repeat(Alias::LONGEST + 1);
    for (text, why) in [
        ("net1,net2", "networks: got invalid JSON"),
        (r#"{"ports":"#, "networks: got invalid JSON"),
        ("{}", "networks.ports: missing"),
        (r#"{"ports":[]}"#, "networks.ports: missing"),
        (r#"{"ports":{}}"#, "networks.ports: got"),
        (r#"{"ports":["lan"]}"#, "networks.ports[0]: got"),
        (r#"{"ports":[{}]}"#, "networks.ports[0].attach_to_network: missing"),
        (r#"{"ports":[{"attach_to_network":" "}]}"#, "networks.ports[0].attach_to_network: missing"),
        (r#"{"ports":[{"attach_to_network":7}]}"#, "networks.ports[0].attach_to_network: got 7"),
        (
            &format!(r#"{{"ports":[{{"attach_to_network":"{long}"}}]}}"#),
            "attach_to_network: got 254 bytes, want at most 253",
        ),
        (r#"{"ports":[{"attach_to_network":"a","attributes":7}]}"#, "networks.ports[0].attributes: got 7"),
        (
            &pod(&[port(r#""nic_name":"thirteen-char""#)]),
            r#"networks.ports[0].attributes.nic_name: got "thirteen-char", want at most 12 characters"#,
        ),
        (
            &pod(&[port(r#""nic_name":"eth0""#), port(r#""nic_name":"a b""#)]),
            "networks.ports[1].attributes.nic_name: got \"a b\"",
        ),
        (
            &pod(&[port(r#""nic_name":"eth0""#), port(r#""nic_name":"eth0""#)]),
            "networks.ports[1].attributes.nic_name: got eth0, want an interface that no other port is",
        ),
        (
            &pod(&[port(r#""ip_addr":"fd00::1""#)]),
            r#"networks.ports[0].attributes.ip_addr: got "fd00::1", want an IPv4 address"#,
        ),
        (&pod(&[port(r#""ip_addr":"10.0.0""#)]), "networks.ports[0].attributes.ip_addr: got \"10.0.0\""),
        (
            &pod(&[port(r#""ip_addr":"10.0.0.9","ip_group_name":"web""#)]),
            "networks.ports[0].attributes.ip_addr cannot be combined with ip_group_name",
        ),
        (&pod(&[port(r#""ip_group_name":"__""#)]), "networks.ports[0].attributes.ip_group_name: got \"__\""),
        (&pod(&[port(r#""accelerate":true"#)]), "networks.ports[0].attributes.accelerate: got true"),
    ] {
        let said = refused(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    let said = refused(&format!(r#"{{"ports":[],"x":"{}"}}"#, "x".repeat(LONGEST)));
    assert!(said.contains("bytes, want at most"), "{said}");
}

#[test]
fn the_default_network_by_its_name_is_the_nodes_and_only_as_eth0() {
    let conf = conf(r#"{"knitter":{"defaultNetwork":"net_api","adminNamespace":"infra"}}"#);
    let knitter = Knitter::read(&conf).unwrap();
    let read = |text: &str| knitter.read_pod(text, &"shop".parse().unwrap());
    let api = |attributes: &str| format!(r#"{{"attach_to_network":"net_api","attributes":{{{attributes}}}}}"#);
    let list = read(&pod(&[port(r#""nic_name":"a""#), api(r#""nic_name":"eth0""#)])).unwrap().unwrap();
    assert_eq!((list.elements.len(), list.places.as_slice()), (1, &[".ports[0]".to_owned()][..]));
    assert_eq!(list.elements[0].target.alias().unwrap().shared.as_str(), "infra");
    assert!(read(&pod(&[api("")])).unwrap().unwrap().elements.is_empty(), "the first is eth0");
    for attributes in [r#""nic_name":"a""#, r#""nic_name":"eth0","ip_addr":"10.0.0.9""#] {
        let why = read(&pod(&[port(r#""nic_name":"b""#), api(attributes)])).unwrap_err().to_string();
        assert!(why.starts_with("networks.ports[1].attach_to_network: got \"net_api\""), "{why}");
    }
}

/// With both dialects on the first character tells whose list it is, and the annotations of NPWG count before both.
#[test]
fn two_dialects_share_a_key() {
    let both = Dialects::read(&conf(r#"{"dialects":["genie","knitter"]}"#)).unwrap();
    let select = |dialects: &Dialects, annotations: &[(&str, &'static str)]| {
        let annotation = |key: &str| annotations.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
        Selection::from_annotations(annotation, &"shop".parse().unwrap(), &"kube-system".parse().unwrap(), dialects)
    };
    let whose = |annotations: &[(&str, &'static str)]| {
        select(&both, annotations).unwrap().translated.map(|translated| (translated.dialect, translated.key))
    };
    const PORTS: &str = r#" {"ports":[{"attach_to_network":"lan"}]}"#;
    let (knitters, genies) = (Some((Dialect::Knitter, "networks")), Some((Dialect::Genie, "networks")));
    assert_eq!(whose(&[("networks", PORTS)]), knitters);
    assert_eq!(whose(&[("networks", PORTS), ("cni", "")]), knitters);
    assert_eq!(whose(&[("networks", "net1"), ("cni", "")]), genies);
    assert_eq!(whose(&[("networks", PORTS), ("cni", "a")]), Some((Dialect::Genie, "cni")));
    assert_eq!(whose(&[("networks", "net1")]), None, "Genie reads it beside cni alone");
    assert_eq!(whose(&[("networks", "\"\""), ("cni", "")]), None);
    let open = select(&both, &[("networks", " "), ("cni", "")]).unwrap().translated.unwrap();
    assert!(open.dialect == Dialect::Genie && open.is_open, "blank is no word of Knitter's there");
    let npwg = select(&both, &[("networks", PORTS), (NPWG, "lan")]).unwrap();
    assert_eq!((npwg.translated, npwg.ignored), (None, Some("networks")));
    assert_eq!(select(&both, &[("networks", PORTS), (DEFAULT_NETWORK, "x")]).unwrap().ignored, Some("networks"));
    assert_eq!(select(&both, &[("networks", ""), (NPWG, "lan")]).unwrap().ignored, None);
    assert_eq!(select(&Dialects::default(), &[("networks", PORTS)]).unwrap(), Selection::default());
    // Without Genie's dialect a list is nonsense in Knitter's words.
    let alone = Dialects::read(&conf(r#"{"dialects":["knitter"]}"#)).unwrap();
    assert!(select(&alone, &[("networks", "net1")]).unwrap_err().to_string().contains("invalid JSON"));
}

#[test]
fn names_are_settled_before_they_are_definitions() {
    let alone = Dialects::read(&conf(r#"{"dialects":["knitter"]}"#)).unwrap();
    let text = pod(&[port(r#""nic_name":"a""#), port(r#""nic_name":"eth0""#)]);
    let annotation = |key: &str| (key == NETWORKS).then_some(text.as_str());
    let mut selection =
        Selection::from_annotations(annotation, &"shop".parse().unwrap(), &"kube-system".parse().unwrap(), &alone)
            .unwrap();
    assert_eq!((selection.aliases().count(), selection.definitions().count()), (2, 0));
    let places: Vec<String> = selection.placed_elements().map(|(place, _)| place).collect();
    assert_eq!(places, ["metadata.annotations[networks].ports[1]", "metadata.annotations[networks].ports[0]"]);
    let found = crate::names::NetRef { namespace: "admin".parse().unwrap(), name: "lan".parse().unwrap() };
    selection.name_definitions(|_| vec![found.clone()]);
    assert_eq!(selection.definitions().collect::<Vec<_>>(), [&found, &found]);
    selection.name_definitions(|_| vec![found.clone(), found.clone()]);
    assert_eq!(selection.definitions().count(), 0, "two have the name");
}
