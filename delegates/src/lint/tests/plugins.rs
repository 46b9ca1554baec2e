//! Plugins: which there are, and what their delegates say.

use super::*;

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
        let says = config(&plugin(conf), Origin::Definition);
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
        (
            r#""type":"vxlan","vni":16777216"#,
            "vni: Invalid value: 16777216: must be an integer from 1 to 16777215 [X01]",
        ),
        (
            r#""type":"vxlan""#,
            "vni: Required value: an integer from 1 to 16777215; the webhook draws one when a definition without it is applied [X01]",
        ),
        (r#""type":"vxlan","vni":1,"port":0"#, "port: Invalid value: 0: must be an integer from 1 to 65535 [O03]"),
    ] {
        says(&plugin(text), want);
    }
}
