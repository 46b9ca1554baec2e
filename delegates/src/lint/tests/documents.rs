//! Texts, keys, versions and names.

use serde_json::{Value, json};

use super::*;

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
        r#"plugins[0].macAddress: unknown key for "macvlan"; allowed: master, masterVlan, masterVlanName, masterVxlan, masterVxlanName, mode, mtu, mac, linkInContainer, bcqueuelen, ipam, acceptRA, dns [N18]"#,
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
