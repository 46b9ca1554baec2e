//! Levels and policies at ADD, as they hold with no webhook anywhere.

use meta_cni_tests::call::Refusal;
use meta_cni_tests::node::{NETWORKS, Node, Pod};
use serde_json::{Value, json};

const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

fn namespace(node: &Node, name: &str, labels: Value) {
    let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    node.manifest(&format!("namespace-{name}.json"), manifest.to_string());
}

fn level(node: &Node, name: &str, level: &str) {
    namespace(node, name, json!({"meta-cni.io/level": level}));
}

fn ours(node: &Node, kind: &str, name: &str, spec: Value) {
    let manifest =
        json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    node.manifest(&format!("{kind}-{name}.json"), manifest.to_string());
}

/// Refused before any delegate was called or anything recorded.
#[track_caller]
fn refused(node: &Node, pod: &Pod, names: &[&str]) -> Refusal {
    let refusal = node.add(pod).refused(7, names);
    assert!(node.fakes.take_order().is_empty(), "a delegate ran");
    assert!(node.records("pending").is_empty() && node.records("attached").is_empty());
    assert_eq!(pod.netns.links(), Vec::<String>::new());
    refusal
}

#[track_caller]
fn attaches(node: &Node, pod: &Pod) -> String {
    let outcome = node.add(pod);
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    let said = outcome.stderr();
    node.del(pod).quiet();
    node.fakes.take_order();
    said
}

/// What docs/security.md says of level baseline, trick by trick, with nothing opened.
#[test]
fn a_tenant_of_level_baseline_fails_at_every_trick() {
    let node = Node::new();
    level(&node, "default", "baseline");
    let roots = node.text("");
    for (config, field, rule) in [
        (json!({"type": "host-device", "device": "eth1"}), "device: Forbidden: \"eth1\"", "devices"),
        (json!({"type": "host-device", "PCIBusID": "0000:3b:02.1"}), "PCIBusID: Forbidden", "devices"),
        (json!({"type": "macvlan", "master": "eth1", "mode": "passthru"}), "master: Forbidden", "masters"),
        (json!({"type": "macvlan", "master": "eth1", "mode": "passthru"}), "mode: Forbidden: \"passthru\"", "modes"),
        (json!({"type": "macvlan"}), "master: Required value", "masters"),
        (json!({"type": "ipvlan", "MASTER": "eth1"}), "MASTER: Forbidden: \"eth1\"", "masters"),
        (json!({"type": "vlan", "master": "eth1", "vlanId": 7}), "master: Forbidden: \"eth1\"", "masters"),
        (json!({"type": "bridge", "bridge": "br-vm"}), "bridge: Forbidden: \"br-vm\"", "bridges"),
        (json!({"type": "bridge"}), "bridge: Required value", "bridges"),
        (json!({"type": "vxlan", "vni": 4200}), "vni: Forbidden: 4200", "vnis"),
        (json!({"type": "vxlan", "vni": 4200, "peers": ["192.0.2.9"]}), "peers: Forbidden", "peers"),
        (json!({"type": "vxlan", "vni": 4200, "underlay": "eth1"}), "underlay: Forbidden: \"eth1\"", "underlays"),
        (json!({"type": "one"}), "type: Forbidden: \"one\"", "types"),
        (json!({"type": "flannel", "delegate": {"type": "macvlan"}}), "type: Forbidden: \"flannel\"", "types"),
        (json!({"type": "flannel", "delegate": {"type": "macvlan"}}), "delegate.master: Required value", "masters"),
        (json!({"type": "dummy", "ipam": {"type": "two"}}), "ipam.type: Forbidden: \"two\"", "ipam-types"),
        (
            json!({"plugins": [{"type": "dummy", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.2/24"}]}},
                {"type": "tuning", "sysctl": {"net.core.somaxconn": "1"}}]}),
            "plugins[1].sysctl: Forbidden",
            "sysctls",
        ),
        (
            json!({"type": "dummy", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": roots}}),
            "ipam.dataDir: Forbidden",
            "paths",
        ),
    ] {
        let mut config = config;
        config["cniVersion"] = json!("1.0.0");
        node.nad("trap", config.clone());
        let at = format!("network-attachment-definition default/trap: spec.config.{field}");
        let rule = format!("level \"baseline\" rule {rule:?} allows ");
        let refusal = refused(&node, &node.pod("tenant", "trap"), &[]);
        // The first three are said.
        assert!(
            refusal.msg.contains(&at) && refusal.msg.contains(&rule),
            "{config}: {}\nwant {at} {rule}",
            refusal.msg
        );
    }
    node.nad_text("default", "empty", "");
    std::fs::write(node.path("conf/10.conf"), r#"{"cniVersion":"1.0.0","name":"empty","type":"one"}"#).unwrap();
    refused(
        &node,
        &node.pod("tenant", "empty"),
        &["default/empty: spec.config.plugins: Required value", "configuration"],
    );

    // What a pod asks for, of a network that is in order.
    node.nad(
        "own",
        json!({"cniVersion": "1.0.0", "plugins": [
            {"type": "ptp", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "tuning"}]}),
    );
    for (asked, field, rule) in [
        (
            json!({"name": "own", "portMappings": [{"hostPort": 8080, "containerPort": 80}]}),
            "portMappings: Forbidden",
            "host-ports",
        ),
        (
            json!({"name": "own", "cni-args": {"SYSCTL": {"net.core.somaxconn": "1"}}}),
            "cni-args.SYSCTL: Forbidden",
            "sysctls",
        ),
        (json!({"name": "lan", "namespace": "infra"}), "namespace: Forbidden: \"infra\"", "namespaces"),
    ] {
        node.nad_text("infra", "lan", r#"{"cniVersion":"1.0.0","type":"one"}"#);
        let at = format!("metadata.annotations[{NETWORKS}][0].{field}");
        refused(
            &node,
            &node.pod("tenant", &json!([asked]).to_string()),
            &[&at, &format!("level \"baseline\" rule {rule:?}")],
        );
    }
    assert_eq!(attaches(&node, &node.pod("tenant", "own")), "");
    // A pod that asks for nothing has nothing to do with it.
    attaches(&node, &node.pod("plain", ""));
    node.assert_clean();
}

#[test]
fn without_a_level_everything_is_as_it_was_and_a_node_may_say_another() {
    let mut node = Node::new();
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    attaches(&node, &node.pod("web", "lan"));
    namespace(&node, "default", json!({"team": "a"}));
    attaches(&node, &node.pod("web", "lan"));
    node.conf["level"] = json!("baseline");
    let refusal = refused(&node, &node.pod("web", "lan"), &[]);
    assert_eq!(
        refusal.msg,
        "network-attachment-definition default/lan: spec.config.type: Forbidden: \"one\": level \"baseline\" rule \"types\" allows \
         \"bandwidth\", \"bond\", \"bridge\", \"dummy\", \"host-device\", \"ipvlan\", \"loopback\", \"macvlan\", \"portmap\", \"ptp\", \"route-override\", \
         \"sbr\", \"tap\", \"tuning\", \"vlan\", \"vrf\" and 1 more"
    );
    // The namespace's own word counts.
    level(&node, "default", "privileged");
    attaches(&node, &node.pod("web", "lan"));
    level(&node, "default", "open");
    refused(
        &node,
        &node.pod("web", "lan"),
        &["namespace default: metadata.labels[meta-cni.io/level]: got \"open\"", "baseline"],
    );
    node.conf["level"] = json!("open");
    node.add(&node.pod("web", "")).refused(7, &["level: got \"open\", want privileged, baseline or restricted"]);
}

#[test]
fn what_an_administrator_opens_is_open_to_its_level() {
    let node = Node::new();
    level(&node, "default", "baseline");
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    node.nad_text("infra", "far", r#"{"cniVersion":"1.0.0","type":"two"}"#);
    ours(&node, "AttachmentLevel", "restricted", json!({"programs": ["one"]}));
    refused(&node, &node.pod("web", "lan"), &["level \"baseline\" rule \"types\""]);
    ours(&node, "AttachmentLevel", "baseline", json!({"programs": ["one"], "sharedNamespaces": ["infra"]}));
    // The definition of another namespace is judged by that one's level.
    attaches(&node, &node.pod("web", "lan,infra/far"));
    level(&node, "infra", "baseline");
    refused(
        &node,
        &node.pod("web", "infra/far"),
        &["network-attachment-definition infra/far: spec.config.type: Forbidden: \"two\""],
    );

    level(&node, "infra", "privileged");
    level(&node, "default", "restricted");
    let refusal = refused(&node, &node.pod("web", "lan"), &["default/lan: metadata.name: Forbidden: \"lan\""]);
    assert!(refusal.msg.contains("[0].namespace: Forbidden: \"default\""), "{}", refusal.msg);
    refused(
        &node,
        &node.pod("web", "infra/far"),
        &["[0].namespace: Forbidden: \"infra\": level \"restricted\" rule \"namespaces\" allows none"],
    );
    ours(&node, "AttachmentLevel", "restricted", json!({"sharedNamespaces": ["infra"]}));
    attaches(&node, &node.pod("web", "infra/far"));
}

#[test]
fn a_policy_holds_for_definitions_that_are_older_and_never_at_del() {
    let node = Node::new();
    namespace(&node, "default", json!({"tenant": "a"}));
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one", "vni": 5000}));
    let before = node.pod("before", "lan");
    let result = node.add(&before).result();
    ours(
        &node,
        "AttachmentPolicy",
        "tenant-a",
        json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "rules": [
            {"name": "vni-pool", "select": "$.config.plugins[*].vni", "assert": {"range": {"min": 4000, "max": 4099}},
                "onMissing": "Pass", "message": "ask the network team"},
            {"name": "macs", "select": "$.attachment.mac", "assert": {"matches": "02:.*"}, "onMissing": "Pass"},
            {"name": "quota", "select": "$.usage.attachmentsInNamespace", "assert": {"range": {"max": 0}}},
        ]}),
    );
    node.fakes.take_order();
    let after = node.pod("after", "lan");
    let refusal = node.add(&after).refused(7, &[]);
    let text =
        r#"spec.config.vni: Forbidden: 5000: policy "tenant-a" rule "vni-pool" allows 4000-4099: ask the network team"#;
    let of_pod = format!("metadata.annotations[{NETWORKS}][0] (default/lan {text}").replacen("vni: ", "vni): ", 1);
    assert_eq!(refusal.msg, format!("network-attachment-definition default/lan: {text}; {of_pod}"));
    assert!(node.fakes.take_order().is_empty());

    // Who is attached stays so, and goes.
    node.check(&before, &result).quiet();
    let valid = json!([{"containerID": before.container, "ifname": "eth0"}]);
    node.bare_call("GC").conf("cni.dev/valid-attachments", valid).run().quiet();
    node.del(&before).quiet();
    node.del(&after).quiet();
    node.assert_clean();

    node.fakes.take_order();

    // In spellings that a program would take for the same.
    node.nad_text("default", "lan", r#"{"cniVersion":"1.0.0","type":"one","V\u004eI":5e3}"#);
    refused(&node, &node.pod("web", "lan"), &["spec.config.VNI: Forbidden: 5000"]);
    node.nad_text("default", "lan", r#"{"cniVersion":"1.0.0","type":"one","vni":4000,"VNI":5000}"#);
    refused(&node, &node.pod("web", "lan"), &["default/lan", "key \"VNI\" comes twice"]);
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one", "vni": 4000}));
    attaches(&node, &node.pod("web", "lan"));
    let asked = r#"[{"name":"lan","mac":"06:00:00:00:00:01"}]"#;
    refused(
        &node,
        &node.pod("web", asked),
        &["[0].mac: Forbidden: \"06:00:00:00:00:01\": policy \"tenant-a\" rule \"macs\" allows what matches"],
    );
    // The default network that a pod chooses is a choice like the others.
    node.nad_text("kube-system", "main", r#"{"cniVersion":"1.0.0","type":"one","vni":1}"#);
    let pod = node.pod_annotated("web", json!({DEFAULT_NETWORK: "main"}));
    refused(
        &node,
        &pod,
        &["metadata.annotations[v1.multus-cni.io/default-network] (kube-system/main spec.config.vni): Forbidden: 1"],
    );
    namespace(&node, "default", json!({"tenant": "b"}));
    attaches(&node, &pod);
}

#[test]
fn a_policy_that_warns_warns_and_one_that_cannot_be_read_refuses() {
    let node = Node::new();
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    let rules = json!([{"name": "types", "select": "$.config.plugins[*].type", "assert": {"oneOf": ["two"]}}]);
    ours(
        &node,
        "AttachmentPolicy",
        "p",
        json!({"mode": "Warn", "appliesTo": ["NetworkAttachmentDefinition"], "rules": rules}),
    );
    let said = attaches(&node, &node.pod("web", "lan"));
    assert!(
        said.contains(r#"default/lan: spec.config.type: Forbidden: "one": policy "p" rule "types" allows "two""#),
        "{said}"
    );
    ours(&node, "AttachmentPolicy", "p", json!({"mode": "Audit", "rules": rules}));
    assert_eq!(attaches(&node, &node.pod("web", "lan")), "");
    ours(&node, "AttachmentPolicy", "p", json!({"exempt": {"namespaces": ["default"]}, "rules": rules}));
    attaches(&node, &node.pod("web", "lan"));

    ours(
        &node,
        "AttachmentPolicy",
        "p",
        json!({"rules": [{"name": "r", "select": "$..a..b", "assert": {"absent": true}}]}),
    );
    refused(
        &node,
        &node.pod("web", "lan"),
        &[r#"policy "p": spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed"#],
    );
    attaches(&node, &node.pod("plain", ""));
    ours(&node, "AttachmentPolicy", "p", json!({"rules": 7}));
    refused(&node, &node.pod("web", "lan"), &["AttachmentPolicy-p.json: spec: "]);
}

/// What the node gives to every pod is the administrator's; it may be named by a pod, too.
#[test]
fn the_nodes_own_networks_are_judged_by_nobody() {
    let mut node = Node::new();
    level(&node, "default", "baseline");
    level(&node, "kube-system", "baseline");
    node.nad_text("kube-system", "cluster", r#"{"cniVersion":"1.0.0","type":"main"}"#);
    node.conf.as_object_mut().unwrap().remove("delegates");
    node.conf["clusterNetwork"] = json!("cluster");
    attaches(&node, &node.pod("plain", ""));
    refused(&node, &node.pod("web", "kube-system/cluster"), &["[0].namespace: Forbidden: \"kube-system\""]);
    ours(&node, "AttachmentLevel", "baseline", json!({"sharedNamespaces": ["kube-system"]}));
    attaches(&node, &node.pod("web", "kube-system/cluster"));
}

/// A network of the cluster says itself whose pods it is for, so no level speaks of it. A policy about the pods that use it does.
#[test]
fn a_network_of_the_cluster_is_judged_by_policies_and_by_no_level() {
    let mut node = Node::new();
    node.fakes.install("macvlan");
    node.conf["dialects"] = json!(["danm"]);
    node.conf["builtin"] = json!([]);
    level(&node, "default", "restricted");
    let spec =
        json!({"NetworkID": "b", "NetworkType": "macvlan", "Options": {"host_device": "eth1", "cidr": "10.0.0.0/24"}});
    let object =
        json!({"apiVersion": "danm.io/v1", "kind": "ClusterNetwork", "metadata": {"name": "blue"}, "spec": spec});
    node.manifest("network-blue.json", object.to_string());
    let list = json!([{"clusterNetwork": "blue", "ip": "dynamic"}]).to_string();
    let pod = node.pod_annotated("web", json!({"danm.io/interfaces": list}));
    attaches(&node, &pod);
    let rule = |select: &str, assert: Value| json!({"rules": [{"name": "r", "select": select, "assert": assert}]});
    for (select, assert, words) in [
        ("$.nad.name", json!({"notOneOf": ["blue"]}), "[0].name: Forbidden: \"blue\": policy \"p\" rule \"r\""),
        ("$.config.plugins[*].master", json!({"oneOf": ["eth2"]}), "(blue spec.config.master): Forbidden: \"eth1\""),
        ("$.attachment['meta-cni.io/addresses']", json!({"absent": true}), "policy \"p\" rule \"r\""),
    ] {
        ours(&node, "AttachmentPolicy", "p", rule(select, assert));
        refused(&node, &pod, &[words]);
    }
    ours(&node, "AttachmentPolicy", "p", rule("$.nad.namespace", json!({"absent": true})));
    attaches(&node, &pod);
}
