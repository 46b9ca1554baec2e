//! Every rule by its exact words, and what holds for any document.

mod rules;

use std::collections::BTreeSet;

use attachments::cni::object::Object;
use attachments::cni::spelling::is_spelling;
use attachments::finding::Finding;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::builtin::Builtin;
use crate::ipam;

fn lines(text: &str) -> Vec<String> {
    config(text, Origin::Definition).iter().map(Problem::to_string).collect()
}

/// The only problem of a configuration that is right otherwise.
#[track_caller]
fn says(text: &str, want: &str) {
    assert_eq!(lines(text), [want], "{text}");
}

/// One plugin with these keys.
fn plugin(keys: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0",{keys}}}"#)
}

/// macvlan with this section.
fn ipam(keys: &str) -> String {
    plugin(&format!(r#""type":"macvlan","master":"eth1","ipam":{{{keys}}}"#))
}

fn host_local(keys: &str) -> String {
    ipam(&format!(r#""type":"host-local",{keys}"#))
}

#[test]
fn what_is_right_is_passed_over() {
    for text in [
        plugin(r#""type":"macvlan","master":"eth1""#),
        plugin(r#""type":"sriov","vlan":7,"anything":{"x":[1]}"#),
        plugin(
            r#""name":"n","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}},{"type":"portmap","capabilities":{"portMappings":true}}]"#,
        ),
        host_local(
            r#""ranges":[[{"subnet":"10.0.0.0/24","gateway":"10.0.0.9"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.9"}]"#,
        ),
        ipam(r#""type":"whereabouts","range":"10.0.0.0/24","exclude":["10.0.0.0/30"]"#),
        plugin(r#""type":"macvlan","master":"eth1","args":{"cni":{"ips":["10.0.0.5"],"Ä":1}}"#),
        plugin(
            r#""type":"vxlan","vni":4200,"lockedArgs":["ips"],"ipam":{"type":"static"},"capabilities":{"ips":true}"#,
        ),
        r#"{"cniVersions":["1.0.0","1.1.0"],"type":"bridge"}"#.to_owned(),
    ] {
        assert_eq!(lines(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn text_that_is_no_configuration_says_where() {
    says(
        "{\n  \"cniVersion\": \"0.3.0\"mal\n}",
        r#"Invalid value: line 2 column 24 near "cniVersion\": \"0.3.0\"mal": not valid JSON, expected "," or "}" [N02]"#,
    );
    says("", r#"Invalid value: line 1 column 1 near "": not valid JSON, EOF while parsing a value [N02]"#);
    says("[1]", "Invalid value: array: must be a JSON object [N03]");
    says(
        &plugin(r#""type":"bridge","bridge":"\ud800""#),
        r#"bridge: Invalid value: "\ud800": must be JSON whose strings are Unicode [N02]"#,
    );
    let long = plugin(&format!(r#""type":"bridge","x":"{}""#, "y".repeat(65_536)));
    says(&long, &format!("Too long: {}: must be at most 65536 bytes [N06]", long.len()));
    let deep = plugin(&format!(r#""type":"x","args":{}1{}"#, "[".repeat(200), "]".repeat(200)));
    let at = format!("args{}", "[0]".repeat(31));
    says(&deep, &format!("{at}: Invalid value: deeper nesting: must be at most 32 levels [N06]"));
    assert!(config(&"[".repeat(60_000), Origin::Definition).len() == 1);
}

#[test]
fn keys_are_said_once_and_in_their_case() {
    let list = |keys: &str| plugin(&format!(r#""plugins":[{{"type":"macvlan","master":"eth1",{keys}}}]"#));
    says(
        &list(r#""m\u0061ster":"eth2""#),
        r#"plugins[0].master: Duplicate value: "master": appears 2 times in one object, keep one [N04]"#,
    );
    says(
        &list(r#""Master":"eth2""#),
        r#"plugins[0].Master: Duplicate value: "Master": stands beside "master", keep one, spelled "master" [N05]"#,
    );
    says(
        &list("\"ma\u{17f}ter\":\"eth2\""),
        "plugins[0].ma\u{17f}ter: Duplicate value: \"ma\u{17f}ter\": stands beside \"master\", keep one, spelled \"master\" [N05]",
    );
    says(
        &host_local(r#""subnet":"10.0.0.0/24","DATADIR":"/x""#),
        r#"ipam.DATADIR: read as "dataDir", write it so [N05]"#,
    );
    says(
        &list("\"m\u{e4}ster\":7"),
        "plugins[0].m\u{e4}ster: Invalid value: \"m\u{e4}ster\": keys must be ASCII: readers differ in which letters they take for the same [N05]",
    );
    // It is read, and so it is checked.
    assert_eq!(
        lines(&list(r#""Mode":"brigde""#)),
        [
            r#"plugins[0].Mode: read as "mode", write it so [N05]"#,
            r#"plugins[0].mode: Unsupported value: "brigde": supported values: "bridge", "passthru", "private", "vepa" [N21]"#,
        ]
    );
    says(
        r#"{"cniVersion":"1.0.0","name":"mine","NAME":"cbr0","type":"bridge"}"#,
        r#"NAME: Duplicate value: "NAME": stands beside "name", keep one, spelled "name" [N05]"#,
    );
    assert_eq!(
        lines(&plugin(r#""type":"sriov","ipam":{"type":"static","TYPE":"meta-cni"}"#)),
        [
            r#"ipam.TYPE: Duplicate value: "TYPE": stands beside "type", keep one, spelled "type" [N05]"#,
            r#"ipam.type: Forbidden: "meta-cni": an attachment cannot delegate to a meta-plugin [N17]"#,
        ]
    );
    says(
        &list(r#""macAddress":7"#),
        r#"plugins[0].macAddress: unknown key for "macvlan"; allowed: master, mode, mtu, mac, linkInContainer, bcqueuelen, ipam, dns [N18]"#,
    );
    says(
        &host_local(r#""ranges":[[{"subnet":"10.0.0.0/24","start":"10.0.0.9"}]]"#),
        r#"ipam.ranges[0][0].start: unknown key for "host-local"; allowed: subnet, rangeStart, rangeEnd, gateway [N18]"#,
    );
    says(
        &list(r#""RunTimeConfig":{"mac":"x"}"#),
        "plugins[0].runtimeConfig: ignored; only the runtime may set it [N18]",
    );
}

#[test]
fn versions_and_names() {
    says(
        r#"{"cniVersion":"0.5.0","type":"bridge"}"#,
        r#"cniVersion: Unsupported value: "0.5.0": supported values: "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" [N07]"#,
    );
    says(
        r#"{"type":"bridge"}"#,
        r#"cniVersion: Required value: assumed "0.1.0", which reports one address per family; set "1.0.0" [N08]"#,
    );
    says(
        &plugin(r#""name":"blue net","type":"bridge""#),
        r#"name: Invalid value: "blue net": must start with a letter or digit and contain only letters, digits, ".", "_" or "-" [N09]"#,
    );
    says(r#"{"cniVersion":1,"type":"bridge"}"#, "cniVersion: Invalid value: 1: must be a string [N19]");
    says(
        &plugin(r#""type":"bridge","disableGC":"perhaps""#),
        r#"disableGC: Invalid value: "perhaps": must be true or false [N19]"#,
    );
    let unnamed = config(r#"{"cniVersion":"1.0.0","type":"bridge"}"#, Origin::File);
    assert_eq!(unnamed[0].to_string(), "name: Required value: name of the network [N09]");
    assert_eq!(config(r#"{"cniVersion":"1.0.0","name":"n"}"#, Origin::File), [], "its directory has the plugins");
    let named: Vec<String> =
        definition(Some("blue.net"), &json!({"config": " "})).iter().map(Problem::to_string).collect();
    assert_eq!(
        named,
        [
            r#"metadata.name: Invalid value: "blue.net": pods must use the JSON form; a-z, 0-9 and "-" also work in the short form [N10]"#,
            "spec.config: Required value: put the CNI configuration here; an empty value loads a file from each node [N01]",
        ]
    );
    assert!(definition(None, &Value::Null).iter().all(|problem| problem.severity == Severity::Warn));
}

#[test]
fn plugins_and_their_types() {
    says(&plugin(r#""plugins":"x""#), "plugins: Invalid value: string: must be a list of objects [N11]");
    says(&plugin(r#""plugins":[{"type":"bridge"},null]"#), "plugins[1]: Invalid value: null: must be an object [N11]");
    says(&plugin(r#""plugins":[]"#), "plugins: Required value: must list at least one plugin [N12]");
    let many = vec![r#"{"type":"bridge"}"#; 17].join(",");
    says(&plugin(&format!(r#""plugins":[{many}]"#)), "plugins: Too many: 17: must have at most 16 [N06]");
    says(
        &plugin(r#""type":"bridge","plugins":[{"type":"bridge"}]"#),
        r#"Forbidden: "type" and "plugins" together; move the plugin into "plugins" [N13]"#,
    );
    let required = r#"Required value: name of the CNI plugin, for example "macvlan" [N14]"#;
    says(&plugin(r#""plugins":[{"type":"bridge"},{}]"#), &format!("plugins[1].type: {required}"));
    says(&plugin(r#""name":"n""#), &format!("type: {required}"));
    says(
        &plugin(r#""type":"../bin/sh""#),
        r#"type: Invalid value: "../bin/sh": must be a plugin name, not a path [N15]"#,
    );
    says(&plugin(r#""type":"mcavlan""#), r#"type: Not found: "mcavlan": not built in; did you mean "macvlan"? [N16]"#);
    says(
        &plugin(r#""type":"multus""#),
        r#"type: Forbidden: "multus": an attachment cannot delegate to a meta-plugin [N17]"#,
    );
    for (conf, field) in [
        (r#""type":"danm""#, "type"),
        (r#""type":"mine","ipam":{"type":"danm"}"#, "ipam.type"),
        (r#""type":"mine","delegates":[{"a":1},{"delegate":{"Type":"danm"}}]"#, "delegates[1].delegate.type"),
        (r#""type":"mine","TYPE":"danm""#, "type"),
    ] {
        let says = super::config(&plugin(conf), super::Origin::Definition);
        let want = format!(r#"{field}: Forbidden: "danm": an attachment cannot delegate to a meta-plugin [N17]"#);
        assert!(says.iter().any(|problem| problem.to_string() == want), "{conf}: {says:?}");
    }
    says(&plugin(r#""type":7"#), "type: Invalid value: 7: must be a string [N19]");
    says(
        &plugin(r#""plugins":[{"type":"bandwidth"},{"type":"bandwidth"}]"#),
        r#"plugins[0].type: Forbidden: "bandwidth": needs a previous plugin, move it after the interface plugin [N20]"#,
    );
    says(
        &plugin(r#""type":"sriov","capabilities":{"ips":1}"#),
        "capabilities.ips: Invalid value: 1: must be true or false [N19]",
    );
}

#[test]
fn names_of_links_can_be_seen_and_are_no_templates() {
    for odd in ["br%d", "-a", "a\\u001b[2J", "br\u{f6}", "a\\u007f"] {
        for keys in [
            format!(r#""type":"bridge","bridge":"{odd}""#),
            format!(r#""type":"macvlan","master":"{odd}""#),
            format!(r#""type":"ipvlan","master":"{odd}""#),
            format!(r#""type":"vlan","master":"{odd}","vlanId":1,"ipam":{{"type":"x"}}"#),
            format!(r#""type":"vxlan","vni":1,"underlay":"{odd}""#),
            format!(r#""type":"host-device","device":"{odd}""#),
            format!(r#""plugins":[{{"type":"bridge"}},{{"type":"vrf","vrfname":"{odd}"}}]"#),
        ] {
            let problems = config(&plugin(&keys), Origin::Definition);
            assert!(matches!(&problems[..], [one] if one.severity == Severity::Deny), "{keys}: {problems:?}");
        }
    }
    for odd in ["-rf", "a b", "s\u{fc}", "a\\u0000"] {
        let problems = config(&plugin(&format!(r#""type":"{odd}""#)), Origin::Definition);
        assert!(problems.iter().any(|problem| problem.rule == Some(Rule::TypeName)), "{odd}: {problems:?}");
    }
}

#[test]
fn what_delegates_say_is_said_in_the_rules_words() {
    for (text, want) in [
        (r#""type":"vxlan","vni":"100""#, r#"vni: Invalid value: "100": must be a number, remove the quotes [N19]"#),
        (
            r#""type":"bridge","ipMasq":"true""#,
            r#"ipMasq: Invalid value: "true": must be true or false, remove the quotes [N19]"#,
        ),
        (r#""type":"bridge","ipam":[]"#, "ipam: Invalid value: array: must be a JSON object [N19]"),
        (
            r#""type":"macvlan","master":"eth1","mode":"brigde""#,
            r#"mode: Unsupported value: "brigde": supported values: "bridge", "passthru", "private", "vepa" [N21]"#,
        ),
        (
            r#""type":"ipvlan","master":"eth1","mode":"l4""#,
            r#"mode: Unsupported value: "l4": supported values: "l2", "l3", "l3s" [N22]"#,
        ),
        (
            r#""type":"macvlan","master":"bond0.1234567890""#,
            r#"master: Invalid value: "bond0.1234567890": must be 1-15 visible ASCII characters without "/", ":" or "%", and no "-" first [N25]"#,
        ),
        (
            r#""type":"bridge","mtu":7"#,
            "mtu: Invalid value: 7: must be 0 for the default, or an integer from 68 to 65535 [N28]",
        ),
        (
            r#""type":"bridge","hairpinMode":true,"promiscMode":true"#,
            "hairpinMode: Forbidden: true: cannot be combined with promiscMode [N29]",
        ),
        (r#""type":"vxlan","vni":0"#, "vni: Invalid value: 0: must be an integer from 1 to 16777215 [X01]"),
        (r#""type":"vxlan""#, "vni: Required value: an integer from 1 to 16777215 [X01]"),
        (r#""type":"vxlan","vni":1,"port":0"#, "port: Invalid value: 0: must be an integer from 1 to 65535"),
    ] {
        says(&plugin(text), want);
    }
}

#[test]
fn addresses() {
    for (text, want) in [
        ("\"routes\":[]", "ipam.ranges: Required value: set subnet or ranges [I01]"),
        (
            r#""subnet":"10.9.0.0""#,
            r#"ipam.subnet: Invalid value: "10.9.0.0": must be CIDR, for example "10.9.0.0/24" [I02]"#,
        ),
        (
            r#""subnet":"10.9.0.5/24""#,
            r#"ipam.subnet: Invalid value: "10.9.0.5/24": host bits set, use "10.9.0.0/24" [I03]"#,
        ),
        (
            r#""subnet":"10.9.0.0/31""#,
            r#"ipam.subnet: Invalid value: "10.9.0.0/31": must leave at least 2 host bits [I04]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","rangeEnd":"10.9.1.9""#,
            r#"ipam.rangeEnd: Invalid value: "10.9.1.9": must be inside 10.9.0.0/24 [I05]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","rangeStart":"10.9.0.90","rangeEnd":"10.9.0.20""#,
            r#"ipam.rangeStart: Invalid value: "10.9.0.90": must not be above rangeEnd 10.9.0.20 [I06]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.9.0.0/25"}]]"#,
            r#"ipam.ranges[1]: Invalid value: "10.9.0.1-10.9.0.126": overlaps ranges[0] (10.9.0.1-10.9.0.254) [I07]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"},{"subnet":"fd00::/126"}]]"#,
            r#"ipam.ranges[0][1]: Invalid value: "fd00::1-fd00::3": one list per address family [I08]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","gateway":"10.8.0.1""#,
            r#"ipam.gateway: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24 [I10]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","routes":[{"dst":"default"}]"#,
            r#"ipam.routes[0].dst: Invalid value: "default": must be CIDR, use "0.0.0.0/0" for a default route [I11]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","routes":[{"dst":"10.1.0.0/16","gw":"10.8.0.1"}]"#,
            r#"ipam.routes[0].gw: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24 [I11]"#,
        ),
        (r#""subnet":"10.9.0.0/24","dataDir":"x""#, r#"ipam.dataDir: Invalid value: "x": must be an absolute path"#),
    ] {
        says(&host_local(text), want);
    }
    says(
        r#"{"cniVersion":"0.2.0","plugins":[{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.8.0.0/24"}]]}}]}"#,
        r#"cniVersion: Invalid value: "0.2.0": must be "0.3.0" or later for more than one address of a family [I09]"#,
    );
    says(
        &ipam(r#""type":"static","addresses":[{"address":"10.9.0.7"}]"#),
        r#"ipam.addresses[0].address: Invalid value: "10.9.0.7": must include a prefix, for example "10.9.0.7/24" [I15]"#,
    );
    // A gateway that another route leads to is reachable.
    let by_route =
        r#""subnet":"10.9.0.0/24","routes":[{"dst":"169.254.1.1/32"},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]"#;
    assert_eq!(lines(&host_local(by_route)), Vec::<String>::new());
    // An external interface plugin with our IPAM's configuration.
    assert_eq!(lines(&plugin(r#""type":"sriov","ipam":{"type":"host-local","subnet":"x"}"#)).len(), 1);
}

#[test]
fn everything_is_said_at_once() {
    let text = r#"{"name":"a b","Type":1,"plugins":[{"type":"macvlan","mode":"x","mtu":1,"oops":1,
        "ipam":{"type":"host-local","ranges":[[{"subnet":"x"},{"subnet":"10.0.0.0/24","rangeEnd":"y"}],7,[7]],"routes":[{},{"dst":"z","mtu":"w"}]}},{"type":"/"}]}"#;
    let paths: Vec<String> = config(text, Origin::Definition).into_iter().map(|problem| problem.path).collect();
    let want = [
        "Type",
        "cniVersion",
        "name",
        "",
        "plugins[0].oops",
        "plugins[0].mode",
        "plugins[0].mtu",
        "plugins[0].ipam.ranges[0][0].subnet",
        "plugins[0].ipam.ranges[0][1].rangeEnd",
        "plugins[0].ipam.ranges[1]",
        "plugins[0].ipam.ranges[2][0]",
        "plugins[0].ipam.routes[0].dst",
        "plugins[0].ipam.routes[1].dst",
        "plugins[0].ipam.routes[1].mtu",
        "plugins[1].type",
    ];
    assert_eq!(paths, want);
}

/// The first column of a page's table of keys is the keys that its delegate reads.
#[test]
fn the_documented_keys_are_the_known_ones() {
    let documented = |page: &str| -> BTreeSet<String> {
        let table = page.split("\n## ").find(|section| section.starts_with("Keys")).unwrap_or_default();
        let table = table.split("\n\n").find(|part| part.starts_with("| key")).unwrap_or_default();
        let cells = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
        let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned);
        keys.filter(|key| !key.starts_with("args.") && !key.starts_with("runtimeConfig.")).collect()
    };
    let known = |keys: &[&str]| -> BTreeSet<String> {
        keys.iter().filter(|key| **key != "type").map(|key| (*key).to_owned()).collect()
    };
    for (kind, page) in [
        ("bridge", include_str!("../../../docs/delegates/bridge.md")),
        ("macvlan", include_str!("../../../docs/delegates/macvlan.md")),
        ("ipvlan", include_str!("../../../docs/delegates/ipvlan.md")),
        ("vxlan", include_str!("../../../docs/delegates/vxlan.md")),
    ] {
        let builtin = Builtin::from_type(&kind.parse().unwrap()).unwrap();
        assert_eq!(documented(page), known(builtin.keys()), "{kind}");
    }
    for (kind, page) in [
        ("host-local", include_str!("../../../docs/delegates/host-local.md")),
        ("static", include_str!("../../../docs/delegates/static.md")),
    ] {
        assert_eq!(documented(page), known(ipam::known(kind).keys[0]), "{kind}");
    }
}

const WORDS: [&str; 56] = [
    "type",
    "plugins",
    "name",
    "cniVersion",
    "cniVersions",
    "ipam",
    "ranges",
    "subnet",
    "rangeStart",
    "rangeEnd",
    "gateway",
    "routes",
    "dst",
    "gw",
    "addresses",
    "address",
    "dns",
    "search",
    "args",
    "cni",
    "ips",
    "capabilities",
    "ipRanges",
    "mtu",
    "mode",
    "master",
    "vni",
    "peers",
    "group",
    "underlay",
    "bridge",
    "vlan",
    "vlanTrunk",
    "runtimeConfig",
    "mac",
    "dataDir",
    "Master",
    "\u{17f}",
    "x",
    "",
    "vlanId",
    "minID",
    "device",
    "hwaddr",
    "kernelpath",
    "pciBusID",
    "vrfname",
    "table",
    "Type",
    "IPAM",
    "Ranges",
    "SUBNET",
    "rangestart",
    "VLANTRUNK",
    "ip\u{17f}",
    "Plugins",
];

fn any_value() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "bridge",
        "macvlan",
        "ipvlan",
        "vxlan",
        "loopback",
        "vlan",
        "portmap",
        "host-local",
        "static",
        "1.0.0",
        "0.2.0",
        "",
        "10.0.0.0/24",
        "10.0.0.9",
        "fd00::/64",
        "10.0.0.0/31",
        "l3",
        "x y",
        "../z",
        "01:00:00:00:00:00",
        "\u{0}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let key = prop::sample::select(WORDS.to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

/// An object that is likely to be near a configuration.
fn any_object() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(WORDS.to_vec());
    prop::collection::vec((key, any_value()), 0..10)
        .prop_map(|entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

/// The path leads to a value, or the problem is that it leads nowhere.
fn is_true_to(document: &Value, path: &str, value: &str) -> bool {
    let mut node = document;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match step.strip_suffix(']') {
            Some(index) => index.parse::<usize>().ok().and_then(|index| node.get(index)),
            // Findings name a key as its reader spells it.
            None => node.get(step).filter(|found| !found.is_null()).or_else(|| {
                let entries = node.as_object()?.iter().rfind(|(key, _)| is_spelling(key, step));
                entries.map(|(_, value)| value)
            }),
        };
        match next {
            Some(found) if !found.is_null() || !value.is_empty() => node = found,
            _ => return value.is_empty(),
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_object_is_validated_with_paths_that_lead_somewhere(document in any_object()) {
        let conf = Object::parse(document.to_string().as_bytes()).unwrap();
        for kind in ["bridge", "macvlan", "ipvlan", "vxlan", "vlan", "dummy", "ptp", "host-device", "vrf", "portmap", "tuning", "bandwidth", "sbr", "loopback"] {
            let findings = Builtin::from_type(&kind.parse().unwrap()).unwrap().validate(&conf);
            for finding in &findings {
                prop_assert!(is_true_to(&document, &finding.path, &finding.value), "{kind}: {finding} in {document}");
                prop_assert!(!finding.allowed.to_string().is_empty());
            }
            let distinct: BTreeSet<String> = findings.iter().map(Finding::to_string).collect();
            prop_assert_eq!(distinct.len(), findings.len(), "said twice: {:?}", findings);
        }
    }

    #[test]
    fn any_object_that_no_rule_denies_is_accepted_by_the_engine(document in any_object()) {
        let text = document.to_string();
        let problems = config(&text, Origin::Definition);
        for problem in &problems {
            let shown = if problem.kind == Kind::Required { "" } else { "-" };
            // An empty key leaves no step in a path.
            let walkable = !problem.path.contains("..") && !problem.path.ends_with('.') && !problem.path.starts_with(['[', '.']);
            prop_assert!(!walkable || is_true_to(&document, &problem.path, shown), "{problem} in {document}");
        }
        if problems.iter().all(|problem| problem.severity == Severity::Warn) {
            let conf = NetworkConf::parse(text.as_bytes()).unwrap();
            prop_assert!(conf.require_plugins().is_ok());
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", cut in 0usize..80) {
        let _ = config(&text, Origin::Definition);
        let whole = plugin(r#""type":"macvlan","ipam":{"type":"host-local","subnet":"ä"}"#);
        let cut: String = whole.chars().take(cut).chain(text.chars()).collect();
        let _ = definition(Some(&text), &json!({"config": cut}));
    }
}
