//! Keys in other spellings, names that hide something, and what messages pass on of them.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// ADD of a pod with this network is code 7 with these words, before any delegate is called.
#[track_caller]
fn refused(node: &Node, networks: &str, names: &[&str]) {
    let pod = node.pod("web", networks);
    node.add(&pod).refused(7, names);
    assert!(node.fakes.calls().is_empty(), "{networks}: a delegate ran: {:?}", node.fakes.take_order());
    node.assert_clean();
}

#[test]
fn an_annotation_in_any_case_asks_for_the_same() {
    let node = Node::new();
    node.nad(
        "net-a",
        json!({"cniVersion": "1.0.0", "type": "one", "capabilities": {"ips": true, "portMappings": true}}),
    );
    let networks = r#"[{"Name":"net-a","IPs":["10.0.0.5/24"],"Interface":"lan","portmappings":[{"HostPort":80,"ContainerPort":8080}]}]"#;
    let pod = node.pod("web", networks);
    node.add(&pod).result();
    let calls = node.fakes.calls();
    assert_eq!(calls[1].var("CNI_IFNAME"), "lan");
    let asked = json!({"ips": ["10.0.0.5/24"], "portMappings": [{"hostPort": 80, "containerPort": 8080}]});
    assert_eq!(calls[1].conf()["runtimeConfig"], asked);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn a_program_gets_its_keys_as_they_are_written() {
    let node = Node::new();
    let text = r#"{"CNIVersion":"1.0.0","NAME":"mine","Type":"one","Capabilities":{"ips":true},"VLAN":7,"IPAM":{"Type":"x","rangestart":"a"}}"#;
    node.nad_text("default", "net-a", text);
    let pod = node.pod("web", r#"[{"name":"net-a","ips":["10.0.0.5/24"]}]"#);
    node.add(&pod).result();
    let conf = node.fakes.calls()[1].conf();
    let want = json!({"cniVersion": "1.0.0", "name": "mine", "type": "one", "VLAN": 7, "IPAM": {"Type": "x", "rangestart": "a"},
        "runtimeConfig": {"ips": ["10.0.0.5/24"]}});
    assert_eq!(conf, want);
    node.del(&pod).quiet();
    node.assert_clean();
}

#[test]
fn what_is_written_in_another_case_is_read_by_built_in_delegates() {
    let node = Node::new();
    let cases: [(Value, &[&str]); 6] = [
        (json!({"type": "vlan", "master": "eth1", "vlanID": 4095, "ipam": {"type": "static"}}), &["vlanId: got 4095"]),
        (json!({"type": "bridge", "isgateway": "yes"}), &["isGateway: got \"yes\""]),
        (json!({"Type": "bridge", "MTU": -1}), &["mtu: got -1"]),
        (
            json!({"type": "bridge", "ipam": {"Type": "host-local", "Ranges": [[{"Subnet": "10.1.0.0/24", "rangestart": "10.2.0.1"}]]}}),
            &["ipam.ranges[0][0].rangeStart", "10.2.0.1"],
        ),
        (json!({"type": "bridge", "IPAM": {"TYPE": "../x"}}), &["ipam.type", "../x"]),
        (json!({"type": "macvlan", "master": "eth1", "DNS": {"Search": 7}}), &["dns.search: got 7"]),
    ];
    for (mut conf, names) in cases {
        conf["cniVersion"] = json!("1.0.0");
        node.nad("broken", conf);
        refused(&node, "broken", &[&["default/broken"], names].concat());
    }
    node.nad("args", json!({"cniVersion": "1.0.0", "type": "bridge", "args": {"cni": {"mac": "02:00:00:00:00:01"}}}));
    refused(&node, r#"[{"name":"args","cni-args":{"MAC":"x"}}]"#, &["args.cni.mac: got \"x\""]);
}

#[test]
fn two_spellings_of_one_key_are_refused() {
    let node = Node::new();
    for (text, key) in [
        (r#"{"cniVersion":"1.0.0","name":"mine","NAME":"cbr0","type":"one"}"#, "NAME"),
        (r#"{"cniVersion":"1.0.0","type":"one","Type":"bridge"}"#, "Type"),
        (r#"{"cniVersion":"1.0.0","type":"one","TYPE":"one"}"#, "TYPE"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"one"}],"Plugins":[{"type":"sh"}]}"#, "Plugins"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"one","ipam":{"type":"a","tYpe":"b"}}]}"#, "plugins[0].ipam.tYpe"),
        (r#"{"cniVersion":"1.0.0","type":"one","delegate":{"type":"a","Type":"b"}}"#, "delegate.Type"),
        (r#"{"cniVersion":"1.0.0","type":"one","capabilities":{"ips":true,"IPs":false}}"#, "capabilities.IPs"),
        (
            "{\"cniVersion\":\"1.0.0\",\"type\":\"macvlan\",\"master\":\"eth1\",\"ma\\u017fter\":\"eth0\"}",
            "ma\u{17f}ter",
        ),
        (r#"{"cniVersion":"1.0.0","type":"vlan","master":"eth1","vlanId":5,"vlanID":6}"#, "vlanID"),
        (
            r#"{"cniVersion":"1.0.0","type":"bridge","ipam":{"type":"host-local","dataDir":"/var/lib/cni/x","DATADIR":"/etc","subnet":"10.1.0.0/24"}}"#,
            "ipam.DATADIR",
        ),
    ] {
        node.nad_text("default", "twice", text);
        refused(&node, "twice", &["network-attachment-definition default/twice: spec.config", key, "beside"]);
    }
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    for (networks, key) in [
        (r#"[{"name":"net-a","NAME":"net-b"}]"#, "[0].NAME"),
        (r#"[{"name":"net-a","ips":["10.0.0.1"],"IPs":["10.0.0.2"]}]"#, "[0].IPs"),
        (r#"[{"name":"net-a","cni-args":{"ips":"a","IPS":"b"}}]"#, "[0].cni-args.IPS"),
    ] {
        refused(&node, networks, &["k8s.v1.cni.cncf.io/networks", key, "beside"]);
    }
}

#[test]
fn a_node_is_configured_in_any_case_and_in_one_at_a_time() {
    let mut node = Node::new();
    let file = node.text("ready");
    node.conf["readinessIndicatorFile"] = json!(file);
    let pod = node.pod("web", "");
    node.add(&pod).refused(11, &[&file]);
    std::fs::write(&file, "").unwrap();
    node.add(&pod).result();
    node.del(&pod).quiet();
    node.conf["readinessindicatorfile"] = json!("/other");
    node.add(&pod).refused(7, &["eadiness", "beside"]);
}

#[test]
fn links_and_programs_have_names_that_can_be_seen() {
    let node = Node::new();
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one"}));
    for odd in ["br%d", "-a", "a\u{1b}[2J", "br\u{f6}", "a\u{7f}", "\u{202e}a"] {
        for conf in [
            json!({"type": "bridge", "bridge": odd}),
            json!({"type": "macvlan", "master": odd}),
            json!({"type": "ipvlan", "master": odd}),
            json!({"type": "vlan", "master": odd, "vlanId": 1, "ipam": {"type": "static"}}),
            json!({"type": "vxlan", "vni": 1, "underlay": odd}),
            json!({"type": "host-device", "device": odd}),
            json!({"plugins": [{"type": "bridge"}, {"type": "vrf", "vrfname": odd}]}),
        ] {
            let mut conf = conf;
            conf["cniVersion"] = json!("1.0.0");
            node.nad("odd", conf);
            refused(&node, "odd", &["default/odd"]);
        }
        let element = json!([{"name": "net-a", "interface": odd}]).to_string();
        refused(&node, &element, &["networks[0].interface"]);
    }
    for odd in ["-rf", "a b", "a\n", "s\u{fc}"] {
        node.nad("odd", json!({"cniVersion": "1.0.0", "type": odd}));
        refused(&node, "odd", &["default/odd", "type: got"]);
        node.nad("odd", json!({"cniVersion": "1.0.0", "type": "bridge", "ipam": {"type": odd}}));
        refused(&node, "odd", &["default/odd", "ipam.type: got"]);
    }
    let device = json!([{"name": "net-a", "deviceID": "0000:00:01.0\u{1b}[2J"}]).to_string();
    refused(&node, &device, &["networks[0].deviceID"]);
    assert_eq!(node.netns.links(), Vec::<String>::new(), "a template made a link");
}

/// Nothing that a terminal acts on, and no line that somebody else began.
#[track_caller]
fn assert_harmless(text: &str) {
    let acts =
        |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    assert!(!text.chars().any(acts), "{text:?}");
}

#[test]
fn messages_pass_no_control_characters_on() {
    const EVIL: &str = "a\u{1b}]0;owned\u{7}\r\nmeta-cni: all is well\u{85}\u{9b}2J\u{202e}\u{2066}";
    let node = Node::new();
    let answer = |networks: &str| {
        let outcome = node.add(&node.pod("web", networks));
        let object: Value = serde_json::from_str(&outcome.stdout()).unwrap();
        assert_harmless(object["msg"].as_str().unwrap());
        assert_harmless(object["details"].as_str().unwrap_or_default());
        // Lines and tabs of a program's log are its own.
        outcome.stderr().lines().for_each(|line| assert_harmless(&line.replace('\t', " ")));
        (object["msg"].as_str().unwrap().to_owned(), outcome.stderr())
    };
    // What a definition and an annotation say, as a value and as a key.
    for conf in [
        json!({"type": EVIL}),
        json!({"type": "bridge", "mtu": EVIL}),
        json!({"type": "bridge", EVIL: 1, "capabilities": {EVIL: 1}}),
        json!({"plugins": [{"type": "bridge"}, {"type": "tuning", "sysctl": {EVIL: 1}}]}),
        json!({"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": format!("/{EVIL}")}}),
    ] {
        let mut conf = conf;
        conf["cniVersion"] = json!("1.0.0");
        node.nad("evil", conf);
        answer("evil");
    }
    node.nad("net-a", json!({"cniVersion": "1.0.0", "type": "one", "lockedArgs": [EVIL]}));
    answer(&format!("net-a@{EVIL}"));
    answer(&json!([{"name": "net-a", "ips": [EVIL]}]).to_string());
    answer(&json!([{"name": "net-a", "cni-args": {EVIL: 1}}]).to_string());

    // What a program answers, and what it logs: its lines stay lines.
    let rule = Rule { stderr: Some(format!("one\n\ttwo {EVIL}\n")), ..Rule::on("ADD").fails(101, EVIL) };
    node.fakes.rules("one", &[rule]);
    let (message, stderr) = answer("net-a");
    assert!(message.contains(r"a\u001b]0;owned\u0007\r\nmeta-cni: all is well\u0085"), "{message}");
    assert!(stderr.contains("one\n\ttwo a\\u001b]0;owned"), "{stderr}");
    node.assert_clean();
}
