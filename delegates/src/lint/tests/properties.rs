//! What holds for any document.

use std::collections::BTreeSet;

use attachments::cni::object::Object;
use attachments::cni::spelling::is_spelling;
use attachments::finding::Finding;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::builtin::Builtin;

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

/// An empty key leaves no step in a path.
fn has_empty_key(document: &Value) -> bool {
    match document {
        Value::Object(fields) => fields.iter().any(|(key, value)| key.is_empty() || has_empty_key(value)),
        Value::Array(values) => values.iter().any(has_empty_key),
        _ => false,
    }
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
            let is_about_nothing = problem.kind == Kind::Required || problem.rule == Some(Rule::NoMaster);
            let shown = if is_about_nothing { "" } else { "-" };
            prop_assert!(has_empty_key(&document) || is_true_to(&document, &problem.path, shown), "{problem} in {document}");
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
