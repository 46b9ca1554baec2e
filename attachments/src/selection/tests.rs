use super::*;
use crate::names::IfName;

fn namespace() -> ObjectName {
    "pods".parse().unwrap()
}

fn read(text: &str) -> Vec<NetworkSelection> {
    parse("nets", text, &namespace()).unwrap()
}

fn refusal(text: &str) -> String {
    parse("nets", text, &namespace()).unwrap_err().to_string()
}

fn element(fields: &str) -> String {
    format!(r#"[{{"name":"a"}},{{"name":"b",{fields}}}]"#)
}

#[test]
fn references_may_name_namespace_and_interface() {
    let selected = read(" a , ns/b.c@eth_1,/d , e @ x ");
    let shown: Vec<_> =
        selected.iter().map(|w| format!("{} {}", w.target, w.interface.as_ref().map_or("-", IfName::as_str))).collect();
    assert_eq!(shown, ["pods/a -", "ns/b.c eth_1", "pods/d -", "pods/e x"]);
}

#[test]
fn no_text_and_an_empty_list_ask_for_nothing() {
    assert!(read("").is_empty() && read(" [] ").is_empty());
}

#[test]
fn malformed_references_are_refused_by_position() {
    let shape = "want a reference of the form [namespace/]name[@interface]";
    for (text, at, value) in
        [(" ", 0, ""), ("a,,", 1, ""), ("a,b/c/d", 1, "b/c/d"), ("a@b@c", 0, "a@b@c"), ("ns/", 0, "ns/")]
    {
        assert_eq!(refusal(text), format!("nets[{at}]: got {value:?}, {shape}"));
    }
    assert!(refusal("a,B").starts_with("nets[1].name: got \"B\", want DNS-1123 labels"));
    assert!(refusal("N/b").starts_with("nets[0].namespace: got \"N\""));
    assert!(refusal("b@sixteen-bytes-xx").starts_with("nets[0].interface: got"));
    assert!(refusal("b@a:b").starts_with("nets[0].interface: got"));
}

#[test]
fn routes_and_rules_read_back_and_two_elements_do_not_lead_packets_apart() {
    let ours = r#""meta-cni.io/routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.1","table":7},{"dst":"0.0.0.0/0","gw":"10.0.0.1"}],"meta-cni.io/rules":[{"from":"10.0.0.0/24","table":7}]"#;
    let selected = read(&element(ours));
    assert_eq!(selected[1].to_string(), format!(r#"{{"name":"b","namespace":"pods",{ours}}}"#));
    assert_eq!(selected[1].default_gateways(), Some(vec!["10.0.0.1".parse().unwrap()]));
    let two =
        |one: &str, other: &str| format!(r#"[{{"name":"a","meta-cni.io/{one}}},{{"name":"b","meta-cni.io/{other}}}]"#);
    let route = |gw: &str, table: u32| format!(r#"routes":[{{"dst":"10.9.0.0/16","gw":"{gw}","table":{table}}}]"#);
    let rule = |table: u32| format!(r#"rules":[{{"from":"10.0.0.0/24","table":{table}}}]"#);
    assert_eq!(read(&two(&route("10.0.0.1", 7), &route("10.0.0.1", 8))).len(), 2);
    assert_eq!(read(&two(&rule(7), &rule(7))).len(), 2);
    assert_eq!(
        refusal(&two(&route("10.0.0.1", 7), &route("10.0.0.2", 7))),
        "nets[1].meta-cni.io/routes[0].dst: got \"10.9.0.0/16\", want a destination that no other route of its table has: [0] has it"
    );
    assert_eq!(
        refusal(&two(&rule(7), &rule(8))),
        "nets[1].meta-cni.io/rules[0].from: got \"10.0.0.0/24\", want a network whose packets no other element sends to another table: [0] has it"
    );
    for taken in ["[]", r#"["10.0.0.1"]"#] {
        let text = element(&format!(
            r#""default-route":{taken},"meta-cni.io/routes":[{{"dst":"0.0.0.0/0","gw":"10.0.0.2"}}]"#
        ));
        let want =
            "nets[1].meta-cni.io/routes[0].dst: got \"0.0.0.0/0\", want a destination that default-route does not take";
        assert_eq!(refusal(&text), want);
    }
    let default = r#"routes":[{"dst":"::/0","gw":"fd00::1"}]"#;
    let want = "nets[1].meta-cni.io/routes: got [fd00::1], want a family that no other element takes: [0] takes the IPv6 default route";
    assert_eq!(refusal(&two(default, default)), want);
}

#[test]
fn every_key_is_read() {
    let text = r#"[{"name":"b","namespace":"ns","interface":"if0","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01",
        "infiniband-guid":"c2:11:22:33:44:55:66:77","portMappings":[{"hostPort":1,"containerPort":65535,"protocol":"Tcp"}],
        "bandwidth":{"ingressRate":1},"cni-args":{"big":12345678901234567890.10},"default-route":["10.0.0.254","fd00::9"],
        "deviceID":"0000:00:01.0","unknown":1,"org.foo.key":2}]"#;
    assert_eq!(
        read(text)[0].to_string(),
        r#"{"name":"b","namespace":"ns","interface":"if0","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01","infiniband-guid":"c2:11:22:33:44:55:66:77","portMappings":[{"hostPort":1,"containerPort":65535,"protocol":"Tcp"}],"bandwidth":{"ingressRate":1},"cni-args":{"big":12345678901234567890.10},"default-route":["10.0.0.254","fd00::9"],"deviceID":"0000:00:01.0"}"#
    );
    assert_eq!(read(&element(r#""interfaceRequest":"x""#))[1].interface, Some("x".parse().unwrap()));
    assert_eq!(read(&element(r#""ipam-claim-reference":"vm.net.if""#))[1].ipam_claim, "vm.net.if".parse().ok());
}

#[test]
fn keys_are_read_in_any_case_and_once() {
    let text = "[{\"Name\":\"b\",\"IPs\":[\"10.0.0.1/24\"],\"PortMapping\u{17f}\":[{\"HostPort\":80,\"containerPort\":80}],\"CNI-args\":{\"IPS\":1}}]";
    assert_eq!(
        read(text)[0].to_string(),
        r#"{"name":"b","namespace":"pods","ips":["10.0.0.1/24"],"portMappings":[{"hostPort":80,"containerPort":80}],"cni-args":{"IPS":1}}"#
    );
    let paths: Vec<String> = slips("nets", text).into_iter().map(|slip| slip.path).collect();
    assert_eq!(
        paths,
        [
            "nets[0].Name",
            "nets[0].IPs",
            "nets[0].PortMapping\u{17f}",
            "nets[0].PortMapping\u{17f}[0].HostPort",
            "nets[0].CNI-args"
        ]
    );
    for (fields, start) in [
        (r#""NAME":"c""#, r#"NAME: got "NAME" beside "name", want one of them, spelled "name""#),
        (r#""ips":[],"IPs":[]"#, "IPs: got"),
        (r#""portMappings":[{"hostPort":80,"HostPort":81,"containerPort":80}]"#, "portMappings[0].HostPort: got"),
        (r#""bandwidth":{"ingressRate":1,"IngressRate":2}"#, "bandwidth.IngressRate: got"),
        (r#""cni-args":{"ips":1,"IPS":2}"#, "cni-args.IPS: got"),
    ] {
        let message = refusal(&element(fields));
        assert!(message.starts_with(&format!("nets[1].{start}")), "{message}");
    }
}

#[test]
fn links_have_names_that_can_be_seen() {
    for odd in ["br%d", "-a", "a\\u001b", "\u{e4}"] {
        assert!(refusal(&element(&format!(r#""interface":"{odd}""#))).starts_with("nets[1].interface: got"), "{odd}");
    }
    assert!(refusal("b@net%d").starts_with(r#"nets[0].interface: got "net%d""#));
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let plain = read(&element(r#""x":0"#));
    for same in [r#""mac":"","interface":null,"ips":[],"namespace":"""#, r#""ips":null,"portMappings":[]"#] {
        assert_eq!(read(&element(same)), plain);
    }
    assert_eq!(read(&element(r#""default-route":[]"#))[1].default_route, Some(Vec::new()));
}

#[test]
fn json_of_another_shape_is_refused() {
    assert!(refusal("[{]").starts_with("nets: got invalid JSON ("));
    assert!(refusal(r#"{"name":"a"}"#).starts_with(r#"nets: got {"name":"a"}, want a JSON list"#));
    assert_eq!(refusal(r#"[{"name":"a"},null]"#), "nets[1]: got null, want a JSON object");
    assert_eq!(refusal("[{}]"), format!("nets[0].name: missing, want {}", ObjectName::ALLOWED));
    assert!(refusal(r#"[{"name":"a/b"}]"#).starts_with(r#"nets[0].name: got "a/b""#));
}

#[test]
fn a_bad_value_is_refused_with_its_path() {
    for (fields, start) in [
        (r#""ips":"10.0.0.1""#, r#"ips: got "10.0.0.1", want a list"#),
        (r#""ips":["10.0.0.1","10.0.0.1/33"]"#, r#"ips[1]: got "10.0.0.1/33""#),
        (r#""mac":"02:00:00:00:00:00:00:01""#, r#"mac: got "02:00:00:00:00:00:00:01""#),
        (r#""infiniband-guid":"02:00:00:00:00:01""#, "infiniband-guid: got"),
        (r#""interface":"a b""#, r#"interface: got "a b""#),
        (r#""portMappings":[{"hostPort":0,"containerPort":1}]"#, "portMappings[0].hostPort: got 0, want an integer"),
        (r#""portMappings":[{"hostPort":80}]"#, "portMappings[0].containerPort: missing"),
        (r#""portMappings":[{"hostPort":65536,"containerPort":1}]"#, "portMappings[0].hostPort: got 65536"),
        (r#""portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]"#, "portMappings[0].protocol: got"),
        (r#""portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]"#, "portMappings[0].hostIP: got"),
        (r#""bandwidth":{}"#, "bandwidth: missing, want ingressRate or egressRate"),
        (r#""bandwidth":{"ingressRate":0}"#, "bandwidth.ingressRate: got 0"),
        (r#""bandwidth":{"egressBurst":5}"#, "bandwidth.egressBurst requires egressRate to be set"),
        (r#""bandwidth":{"egressRate":1.5}"#, "bandwidth.egressRate: got 1.5"),
        (r#""cni-args":[]"#, "cni-args: got [], want a JSON object"),
        (r#""default-route":["x"]"#, r#"default-route[0]: got "x""#),
        (r#""default-route":["10.0.0.1","10.0.0.2"]"#, r#"default-route[1]: got "10.0.0.2", want at most one"#),
        (r#""ips":["10.0.0.1"],"ipam-claim-reference":"c""#, "ipam-claim-reference cannot be combined with ips"),
        (r#""deviceID":"a b""#, "deviceID: got"),
    ] {
        let message = refusal(&element(fields));
        assert!(message.starts_with(&format!("nets[1].{start}")), "{message}");
    }
}

#[test]
fn one_element_may_take_the_default_route_of_a_family() {
    let of = |routes: [&str; 3]| {
        let [a, b, c] = routes;
        format!(r#"[{{"name":"a","default-route":[{a}]}},{{"name":"b"{b}}},{{"name":"c","default-route":[{c}]}}]"#)
    };
    let (v4, v6) = (r#""10.0.0.1""#, r#""fd00::1""#);
    assert_eq!(read(&of([v4, "", v6])).len(), 3, "one family each");
    assert_eq!(
        refusal(&of([r#""10.0.0.9","fd00::9""#, "", v6])),
        "nets[2].default-route: got [fd00::1], want a family that no other element takes: [0] takes the IPv6 default route"
    );
    for (first, second) in [(v4, v4), ("", v6), (v4, ""), ("", "")] {
        let said = refusal(&of([first, "", second]));
        assert!(said.starts_with("nets[2].default-route: got [") && said.contains("[0] takes the IPv"), "{said}");
    }
}

#[test]
fn the_default_network_is_exactly_one() {
    let one = |text| parse_default(text, &"kube-system".parse().unwrap());
    assert_eq!(one("calico").unwrap().target.to_string(), "kube-system/calico");
    assert_eq!(one(r#"[{"name":"x","namespace":"y"}]"#).unwrap().target.to_string(), "y/x");
    for bad in ["", "[]", "a,b"] {
        assert!(one(bad).unwrap_err().to_string().starts_with(DEFAULT_NETWORK), "{bad}");
    }
}

/// A pod of namespace `shop` on a node that speaks CNI-Genie's dialect.
fn of_genie(annotations: &[(&str, &'static str)]) -> (Selection, Vec<Finding>) {
    let annotation = |key: &str| annotations.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
    let dialects = Dialects { genie: Some(crate::dialect::genie::Genie::default()), ..Dialects::default() };
    Selection::read(annotation, &"shop".parse().unwrap(), &"kube-system".parse().unwrap(), &dialects)
}

#[test]
fn the_first_interface_of_a_dialects_list_is_the_default_network_and_places_are_kept() {
    let (selection, findings) = of_genie(&[("cni", "a@eth4,b,c")]);
    assert!(findings.is_empty() && selection.ignored.is_none() && selection.is_pods_own());
    let placed: Vec<String> = selection.placed_elements().map(|(path, one)| format!("{path} {}", one.target)).collect();
    let annotation = "metadata.annotations[cni]";
    assert_eq!(placed, [format!("{annotation}[1] b"), format!("{annotation}[0] a"), format!("{annotation}[2] c")]);
    assert_eq!((selection.default_field(), selection.network_field(1)), ("cni[1]".to_owned(), "cni[2]".to_owned()));
    let last = selection.alone(2);
    assert_eq!((last.network_field(0), last.default_network, last.networks.len()), ("cni[2]".to_owned(), None, 1));
    let first = selection.alone(0);
    assert_eq!((first.default_field(), first.networks.len()), ("cni[1]".to_owned(), 0));
}

#[test]
fn annotations_of_npwg_count_before_those_of_a_dialect() {
    for (key, text) in [(NETWORKS, "lan"), (NETWORKS, ""), (DEFAULT_NETWORK, "other")] {
        let (selection, findings) = of_genie(&[("cni", "no,,list"), (key, text)]);
        assert_eq!((selection.ignored, selection.translated, findings.len()), (Some("cni"), None, 0), "{key} {text}");
    }
    let (selection, _) = of_genie(&[("cni", "a"), (DEFAULT_NETWORK, " ")]);
    assert_eq!((selection.ignored, selection.default_network.is_some()), (None, true), "a blank one says nothing");
    let (selection, findings) = of_genie(&[("cni", "a,,b")]);
    assert_eq!((selection, findings.len()), (Selection::default(), 1));
    let annotation = |key: &str| (key == "cni").then_some("a");
    let (selection, _) =
        Selection::read(annotation, &"n".parse().unwrap(), &"m".parse().unwrap(), &Dialects::default());
    assert_eq!(selection, Selection::default(), "no dialect is on");
}
