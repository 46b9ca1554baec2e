//! Properties of the annotation grammars: a tenant's text never brings the parser down, and nothing is lost in printing.

#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use attachments::names::ObjectName;
use attachments::selection::{NetworkSelection, parse};
use proptest::prelude::*;

fn namespace() -> ObjectName {
    "pods".parse().unwrap()
}

/// One JSON value for a key: mostly of the right shape, sometimes valid, often not.
fn value() -> impl Strategy<Value = String> {
    let word = "[a-zA-Z0-9./:@ _-]{0,12}".prop_map(|text| format!("{text:?}"));
    let valid = prop::sample::select(vec![
        r#""a""#,
        r#""net1""#,
        r#"["10.0.0.1/24","fd00::1"]"#,
        r#"["10.0.0.1"]"#,
        r#""02:00:00:00:00:01""#,
        r#""c2:11:22:33:44:55:66:77""#,
        r#"[{"hostPort":1,"containerPort":2}]"#,
        r#"{"ingressRate":1,"ingressBurst":2}"#,
        r#"{"k":123456789012345678901234567890.10, "l" : [1]}"#,
        "[]",
        "null",
        "7",
    ]);
    prop_oneof![1 => word, 4 => valid.prop_map(str::to_owned)]
}

fn element() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "namespace",
        "interface",
        "interfaceRequest",
        "ips",
        "mac",
        "infiniband-guid",
        "portMappings",
        "bandwidth",
        "cni-args",
        "default-route",
        "ipam-claim-reference",
        "deviceID",
        "unknown",
    ]);
    prop::collection::vec((key, value()), 0..4).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!(",{key:?}:{value}")).collect();
        format!(r#"{{"name":"net"{}}}"#, fields.concat())
    })
}

fn printed(networks: &[NetworkSelection]) -> String {
    let elements: Vec<String> = networks.iter().map(NetworkSelection::to_string).collect();
    format!("[{}]", elements.join(","))
}

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Ok(networks) = parse("nets", text, &namespace()) {
        // What is printed names its namespace: another pod's reads it the same.
        let again = parse("nets", &printed(&networks), &"elsewhere".parse().unwrap());
        prop_assert_eq!(again, Ok(networks));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_reference_is_answered(text in "[a-z0-9/@,. :-]{0,40}") {
        check(&text)?;
    }

    #[test]
    fn what_is_valid_prints_and_reads_again(elements in prop::collection::vec(element(), 0..3)) {
        check(&format!("[{}]", elements.join(",")))?;
    }
}
