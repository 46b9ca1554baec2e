//! Pods and networks of DANM, with its dialect on and off. The types that are built in run as fakes: their configurations are what is judged.

use std::fs;

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::{NETWORKS, Node, Pod};
use serde_json::{Value, json};

const INTERFACES: &str = "danm.k8s.io/interfaces";

/// A node that speaks the dialect. Nothing is built in.
fn node() -> Node {
    let mut node = Node::new();
    for kind in ["ipvlan", "macvlan", "sriov", "vxlan"] {
        node.fakes.install(kind);
    }
    node.conf["dialects"] = json!(["danm"]);
    node.conf["builtin"] = json!([]);
    node.conf["runtimeConfDir"] = json!(node.path("conf"));
    node
}

fn object_of(node: &Node, group: &str, kind: &str, name: &str, spec: &Value) {
    let mut manifest =
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "spec": spec});
    if kind == "TenantConfig" {
        let fields = manifest["spec"].take();
        manifest.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        manifest.as_object_mut().unwrap().remove("spec");
    } else if kind != "ClusterNetwork" {
        manifest["metadata"]["namespace"] = json!("default");
    }
    node.manifest(&format!("{kind}-{name}-{group}.json"), manifest.to_string());
}

fn object(node: &Node, kind: &str, name: &str, spec: Value) {
    object_of(node, "danm.k8s.io", kind, name, &spec);
}

fn pod(node: &Node, list: &Value) -> Pod {
    node.pod_annotated("web", json!({INTERFACES: list.to_string()}))
}

/// The three networks of DANM's demo, and a fourth.
fn demo(node: &Node) {
    let options = json!({"host_device": "ens3", "cidr": "10.0.0.0/24"});
    object(node, "TenantNetwork", "management", json!({"NetworkID": "management", "Options": options}));
    let vlan = json!({"host_device": "ens4", "vlan": 300, "cidr": "10.100.20.0/24", "container_prefix": "ext",
        "allocation_pool": {"start": "10.100.20.10", "end": "10.100.20.30"}, "alloc": "gAAB"});
    object(
        node,
        "ClusterNetwork",
        "external",
        json!({"NetworkID": "external", "NetworkType": "ipvlan", "Options": vlan}),
    );
    let vxlan = json!({"host_device": "ens4", "vxlan": 600, "net6": "2001:db8::/64", "container_prefix": "int"});
    object(node, "TenantNetwork", "internal", json!({"NetworkID": "internal", "Options": vxlan}));
    object(
        node,
        "ClusterNetwork",
        "l2",
        json!({"NetworkID": "l2", "NetworkType": "macvlan", "Options": {"host_device": "ens5"}}),
    );
}

#[test]
fn a_list_is_the_pods_networks_with_prefixes_and_goes_without_its_objects() {
    let node = node();
    demo(&node);
    let list = json!([
        {"tenantNetwork": "management", "ip": "dynamic"}, {"clusterNetwork": "external", "ip": "dynamic"},
        {"tenantNetwork": "internal", "ip6": "dynamic"}, {"clusterNetwork": "l2", "ip": "none"},
    ]);
    let pod = pod(&node, &list);
    node.add(&pod).result();
    // The programs of a list run at the same time.
    let mut calls = node.fakes.calls_of("ADD");
    calls.sort_by_key(|call| ["eth0", "ext1", "int2", "eth3"].iter().position(|name| *name == call.var("CNI_IFNAME")));
    let confs: Vec<Value> = calls.iter().map(|call| call.conf()).collect();
    let kinds: Vec<&str> = calls.iter().map(|call| call.plugin.as_str()).collect();
    assert_eq!(kinds, ["ipvlan", "ipvlan", "vxlan", "macvlan"]);
    node.fakes.take_order();
    assert_eq!((&confs[0]["master"], &confs[0]["name"]), (&json!("ens3"), &json!("tenantnetwork.default.management")));
    assert_eq!((&confs[1]["masterVlan"], &confs[1]["masterVlanName"]), (&json!(300), &json!("external.300")));
    let ranges = json!([[{"subnet": "10.100.20.0/24", "rangeStart": "10.100.20.10", "rangeEnd": "10.100.20.30"}]]);
    assert_eq!((&confs[1]["ipam"]["type"], &confs[1]["ipam"]["ranges"]), (&json!("blocks"), &ranges));
    assert_eq!((&confs[2]["vni"], &confs[2]["ipam"]["families"]), (&json!(600), &json!(["IPv6"])));
    assert_eq!(confs[3].get("ipam"), None, "layer 2");
    let status = node.status(&pod);
    let names: Vec<_> = status.as_array().unwrap().iter().map(|one| (&one["name"], &one["interface"])).collect();
    let want = [("default/management", "eth0"), ("external", "ext1"), ("default/internal", "int2"), ("l2", "eth3")];
    assert_eq!(names, want.map(|(name, interface)| (json!(name), json!(interface))).each_ref().map(|(a, b)| (a, b)));
    for manifest in fs::read_dir(node.path("manifests")).unwrap() {
        fs::remove_file(manifest.unwrap().path()).unwrap();
    }
    node.del(&pod).quiet();
    assert_eq!(node.fakes.take_order(), ["DEL macvlan eth3", "DEL vxlan int2", "DEL ipvlan ext1", "DEL ipvlan eth0"]);
    node.assert_clean();
}

#[test]
fn by_the_legacy_scheme_a_prefix_is_the_whole_name() {
    let mut node = node();
    demo(&node);
    node.conf["danm"] = json!({"namingScheme": "legacy"});
    let external = json!({"clusterNetwork": "external", "ip": "dynamic"});
    let management = json!({"tenantNetwork": "management", "ip": "dynamic"});
    node.add(&pod(&node, &json!([management, external]))).result();
    let mut order = node.fakes.take_order();
    order.sort();
    assert_eq!(order, ["ADD ipvlan eth0", "ADD ipvlan ext"]);
    let twice = node.pod_annotated("two", json!({INTERFACES: json!([management, external, external]).to_string()}));
    node.add(&twice)
        .refused(7, &["danm.k8s.io/interfaces[2].interface: got ext, want a name that no earlier attachment has"]);
    node.conf["danm"] = json!({"namingScheme": "old"});
    node.add(&twice).refused(7, &["danm.namingScheme: got \"old\", want \"legacy\""]);
}

#[test]
fn a_plugin_with_a_file_has_the_files_addresses_or_its_networks() {
    let mut node = node();
    let file = json!({"cniVersion": "1.0.0", "name": "br", "type": "one", "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"}});
    fs::write(node.path("conf/br.conf"), file.to_string()).unwrap();
    fs::write(node.path("conf/10-br.conf"), "{}").unwrap();
    object(
        &node,
        "DanmNet",
        "net",
        json!({"NetworkID": "br", "NetworkType": "one", "Options": {"cidr": "10.0.0.0/24"}}),
    );
    for (element, ipam) in [
        (json!({"network": "net", "ip": "dynamic"}), json!("blocks")),
        (json!({"network": "net"}), json!("host-local")),
        (json!({"network": "net", "ip": "none"}), json!("host-local")),
    ] {
        let pod = pod(&node, &json!([element]));
        node.add(&pod).result();
        assert_eq!(node.fakes.calls_of("ADD").pop().unwrap().conf()["ipam"]["type"], ipam, "{element}");
        node.del(&pod).quiet();
        node.fakes.take_order();
    }
    let calls = node.fakes.calls().len();
    node.conf["namespaceIsolation"] = json!(true);
    let pod = pod(&node, &json!([{"network": "net", "ip": "dynamic"}]));
    node.add(&pod).refused(120, &["network DanmNet default/net: namespace isolation enabled"]);
    assert_eq!(node.fakes.calls().len(), calls, "a delegate ran");
    object(&node, "DanmNet", "gone", json!({"NetworkID": "gone", "NetworkType": "one"}));
    node.conf["namespaceIsolation"] = json!(false);
    let gone = node.pod_annotated("gone", json!({INTERFACES: r#"[{"network":"gone"}]"#}));
    node.add(&gone).refused(11, &["no configuration named \"gone\" in"]);
}

#[test]
fn a_pod_without_a_list_gets_its_namespaces_default_or_the_nodes() {
    let node = node();
    let of = |annotations: Value| {
        let pod = node.pod_annotated("web", annotations);
        node.add(&pod).result();
        let order = node.fakes.take_order();
        node.del(&pod).quiet();
        node.fakes.take_order();
        order
    };
    assert_eq!(of(json!({})), ["ADD main eth0"]);
    let options = json!({"host_device": "ens3", "cidr": "10.0.0.0/24"});
    object(&node, "ClusterNetwork", "default", json!({"NetworkID": "d", "NetworkType": "macvlan", "Options": options}));
    assert_eq!(of(json!({})), ["ADD macvlan eth0"]);
    assert_eq!(of(json!({INTERFACES: "[]"})), ["ADD macvlan eth0"]);
    object(&node, "DanmNet", "default", json!({"NetworkID": "d", "Options": options}));
    assert_eq!(of(json!({})), ["ADD ipvlan eth0"], "the namespace's own counts before the cluster's");
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    assert_eq!(of(json!({NETWORKS: "lan"})), ["ADD main eth0", "ADD one net1"]);
    let list = json!([{"clusterNetwork": "default", "ip": "dynamic"}]).to_string();
    assert_eq!(of(json!({INTERFACES: list})), ["ADD macvlan eth0"], "a list never adds the default");
    assert_eq!(of(json!({INTERFACES: list, NETWORKS: "lan"})), ["ADD main eth0", "ADD one net1"], "NPWG's counts");
    object(&node, "TenantNetwork", "default", json!({"NetworkID": "d", "Options": options}));
    let bare = node.pod_annotated("bare", json!({}));
    let words =
        ["network default of the namespace: got DanmNet default/default", "there is TenantNetwork default/default too"];
    node.add(&bare).refused(7, &words);
}

#[test]
fn what_a_list_or_a_network_may_not_say_is_refused_before_anything_is_made() {
    let mut node = node();
    demo(&node);
    let device = json!({"host_device": "ens3", "cidr": "10.0.0.0/30"});
    object(&node, "ClusterNetwork", "blue", json!({"NetworkID": "b", "AllowedTenants": ["blue"], "Options": device}));
    object(
        &node,
        "DanmNet",
        "bad",
        json!({"NetworkID": "b", "Options": {"host_device": "ens3", "cidr": "10.0.0.0/7"}}),
    );
    object(&node, "DanmNet", "bare", json!({"NetworkID": "b", "Options": {"cidr": "10.0.0.0/24"}}));
    object(&node, "DanmNet", "two", json!({"NetworkID": "b", "Options": device}));
    object_of(&node, "danm.io", "DanmNet", "two", &json!({"NetworkID": "c", "Options": device}));
    for (list, code, words) in [
        (
            json!([{"clusterNetwork": "blue", "ip": "dynamic"}]),
            7,
            &["ClusterNetwork blue", "AllowedTenants", "namespace default: blue"][..],
        ),
        (
            json!([{"network": "bad", "ip": "dynamic"}]),
            7,
            &["DanmNet default/bad: spec.Options.cidr: got \"10.0.0.0/7\""],
        ),
        (
            json!([{"network": "bare", "ip": "dynamic"}]),
            7,
            &["DanmNet default/bare: spec.Options.host_device: missing"],
        ),
        (
            json!([{"network": "two", "ip": "dynamic"}]),
            7,
            &["DanmNet default/two is in the groups danm.k8s.io and danm.io"],
        ),
        (
            json!([{"network": "none", "ip": "dynamic"}]),
            11,
            &["danm.k8s.io/interfaces[0]: cannot find DanmNet none in namespace default"],
        ),
        (
            json!([{"tenantNetwork": "management", "ip": "10.0.1.1"}]),
            7,
            &["[0].ip: got 10.0.1.1", "outside the network's CIDR"],
        ),
        (json!([{"tenantNetwork": "management"}]), 7, &["[0]", "want an address for the pod's default network"]),
        (json!([{"clusterNetwork": "l2", "ip": "dynamic"}]), 7, &["[0].ip: got dynamic", "a network of layer 2"]),
        (
            json!([{"tenantNetwork": "management", "clusterNetwork": "external"}]),
            7,
            &["[0]: got tenantNetwork and clusterNetwork"],
        ),
    ] {
        node.refuses(&pod(&node, &list), code, words);
    }
    node.conf["strict"] = json!(true);
    let list = json!([{"tenantNetwork": "management", "ip": "dynamic", "proutes": {"10.9.0.0/16": "10.0.0.1"}}]);
    node.refuses(&pod(&node, &list), 7, &["[0].proutes", "want rt_tables in network \"management\""]);
}

#[test]
fn a_network_of_tenants_keeps_to_the_tenant_config() {
    let node = node();
    let tenants = |name: &str, options: Value| {
        let mut spec = json!({"NetworkID": "t", "Options": {"cidr": "10.0.0.0/24"}});
        spec["Options"].as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        object(&node, "TenantNetwork", name, spec);
    };
    tenants("foreign", json!({"host_device": "ens9"}));
    tenants("outside", json!({"host_device": "ens3", "vlan": 300}));
    tenants("inside", json!({"host_device": "ens3", "vlan": 205}));
    let with = |network: &str| pod(&node, &json!([{"tenantNetwork": network, "ip": "dynamic"}]));
    let unlimited = node.add(&with("foreign"));
    let said = unlimited.stderr();
    unlimited.result();
    assert!(said.contains("TenantNetwork default/foreign: there is no TenantConfig, so nothing limits"), "{said}");
    node.del(&with("foreign")).quiet();
    node.fakes.take_order();
    let devices = json!({"hostDevices": [{"name": "ens3", "vniType": "vlan", "vniRange": "200-210", "alloc": "gA=="}]});
    object(&node, "TenantConfig", "limits", devices.clone());
    let words =
        ["TenantNetwork default/foreign: spec.Options.host_device: got ens9", "TenantConfig limits lists: ens3"];
    node.add(&with("foreign")).refused(7, &words);
    let words = ["TenantNetwork default/outside: spec.Options.vlan: got 300", "want one of 200-210"];
    node.add(&with("outside")).refused(7, &words);
    assert!(node.fakes.take_order().is_empty(), "a delegate ran");
    node.add(&with("inside")).result();
    assert_eq!(node.fakes.take_order(), ["ADD ipvlan eth0"]);
    node.del(&with("inside")).quiet();
    // The same in the other group is the same object, but for what DANM writes there.
    object_of(&node, "danm.io", "TenantConfig", "limits", &json!({"hostDevices": [{"name": "ens4"}]}));
    node.add(&with("inside")).refused(7, &["TenantConfig limits is in the groups danm.k8s.io and danm.io"]);
}

#[test]
fn a_pod_has_the_address_of_a_reserved_ip_that_it_names_and_others_have_it_not() {
    let node = node();
    let spec = json!({"NetworkID": "ext", "Options": {"host_device": "ens3", "cidr": "10.1.0.0/24"}});
    object(&node, "ClusterNetwork", "ext", spec);
    let reserved = |ips: Value| json!({"network": {"name": "ext", "type": "ClusterNetwork"}, "ips": ips});
    object(&node, "ReservedIP", "front", reserved(json!([{"address": "10.1.0.20"}])));
    object(&node, "ReservedIP", "vip", reserved(json!([{"address": "10.1.0.21", "shareable": true}])));
    let of = |ip: &str| {
        let pod = pod(&node, &json!([{"clusterNetwork": "ext", "ip": ip}]));
        node.add(&pod).result();
        let call = node.fakes.calls_of("ADD").pop().unwrap();
        node.del(&pod).quiet();
        (call.conf(), call.var("CNI_ARGS").to_owned())
    };
    let (any, asked) = of("dynamic");
    assert_eq!(any["ipam"]["exclude"], json!(["10.1.0.20", "10.1.0.21"]));
    assert!(!asked.contains("IP="), "{asked}");
    let (front, asked) = of("front");
    assert_eq!((&front["ipam"]["type"], &front["ipam"]["exclude"]), (&json!("blocks"), &json!(["10.1.0.21"])));
    assert!(asked.contains("IP=10.1.0.20"), "{asked}");
    let (vip, asked) = of("vip");
    assert!(!asked.contains("IP="), "the address is in the configuration: {asked}");
    assert_eq!(vip["ipam"], json!({"type": "static", "addresses": [{"address": "10.1.0.21/24"}]}));
    node.fakes.take_order();
    for (element, words) in [
        (
            json!({"clusterNetwork": "ext", "ip": "back"}),
            &["[0].ip: got \"back\"", "of namespace default for ClusterNetwork ext: there are front, vip"][..],
        ),
        (
            json!({"clusterNetwork": "ext", "ip": "10.1.0.20"}),
            &["[0].ip: got 10.1.0.20", "ReservedIP default/front gives it to pods that name the object"],
        ),
        (json!({"clusterNetwork": "ext", "ip": "vip", "ip6": "front"}), &["[0].ip6", "which has no net6"]),
    ] {
        node.add(&pod(&node, &json!([element]))).refused(7, words);
    }
    assert!(node.fakes.take_order().is_empty(), "a delegate ran");
}

#[test]
fn a_definition_may_name_a_vlan_or_vxlan_of_its_master_and_stays_as_it_is() {
    let mut node = node();
    let text =
        json!({"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "ens4", "vlan": 500}).to_string();
    node.nad_text("default", "lan", &text);
    let before = fs::read(node.path("manifests/nad-lan.json")).unwrap();
    let made = |node: &Node, network: &str, keys: [&str; 3]| {
        let pod = node.pod("web", network);
        node.add(&pod).result();
        let conf = node.fakes.calls_of("ADD").pop().unwrap().conf();
        node.del(&pod).quiet();
        keys.map(|key| conf[key].clone())
    };
    let vlan = ["masterVlan", "masterVlanName", "vlan"];
    assert_eq!(made(&node, "lan", vlan), [json!(500), json!("lan.500"), Value::Null]);
    assert_eq!(fs::read(node.path("manifests/nad-lan.json")).unwrap(), before);
    let wide = text.replace("vlan\":500", "vxlan\":600,\"vlan\":0");
    node.nad_text("default", "wide", &wide);
    let vxlan = ["masterVxlan", "masterVxlanName", "vxlan"];
    assert_eq!(made(&node, "wide", vxlan), [json!(600), json!("vx_lan"), Value::Null]);
    for (name, text, words) in [
        ("long", text.replace("\"lan\"", "\"averylongname\""), "spec.config.name: got \"averylongname.500\""),
        ("long-too", wide.replace("\"lan\"", "\"averylongname\""), "spec.config.name: got \"vx_averylongname\""),
        ("both", wide.replace("vlan\":0", "vlan\":500"), "spec.config.vxlan cannot be combined with vlan"),
        ("text", wide.replace("600", "\"600\""), "spec.config.vxlan: got \"600\", want an integer"),
    ] {
        node.nad_text("default", name, &text);
        node.add(&node.pod(name, name)).refused(7, &[words]);
    }
    node.conf.as_object_mut().unwrap().remove("dialects");
    assert_eq!(
        made(&node, "lan", vlan),
        [Value::Null, Value::Null, json!(500)],
        "without the dialect the plugin has what is written"
    );
}

/// Not even a word of NPWG's changes what the pod was attached by, and its DEL asks nobody.
#[test]
fn a_pod_whose_annotation_is_changed_or_removed_goes_as_it_came() {
    let node = node();
    demo(&node);
    node.nad("lan", json!({"cniVersion": "1.0.0", "type": "one"}));
    let quiet = Rule::on("ADD").answers(&json!({"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.7/24"}]}));
    for fake in ["ipvlan", "macvlan"] {
        node.fakes.rules(fake, std::slice::from_ref(&quiet));
    }
    let list = json!([{"tenantNetwork": "management", "ip": "dynamic"}, {"clusterNetwork": "l2", "ip": "none"}]);
    for annotations in [
        json!({}),
        json!({INTERFACES: "no list"}),
        json!({INTERFACES: json!([{"clusterNetwork": "external", "ip": "dynamic"}]).to_string()}),
        json!({NETWORKS: "lan"}),
    ] {
        let pod = pod(&node, &list);
        let result = node.add(&pod).result();
        node.fakes.take_order();
        let file = node.path("manifests/pod-web.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        manifest["metadata"]["annotations"] = annotations.clone();
        fs::write(&file, manifest.to_string()).unwrap();
        node.check(&pod, &result).quiet();
        assert_eq!(node.fakes.take_order(), ["CHECK ipvlan eth0", "CHECK macvlan eth1"], "{annotations}");
        node.del(&pod).quiet();
        assert_eq!(node.fakes.take_order(), ["DEL macvlan eth1", "DEL ipvlan eth0"], "{annotations}");
        node.assert_clean();
    }
}

#[test]
fn without_the_dialect_nothing_of_it_is_read() {
    let mut node = node();
    demo(&node);
    node.conf.as_object_mut().unwrap().remove("dialects");
    let pod = pod(&node, &json!("no list"));
    node.add(&pod).result();
    assert_eq!(node.fakes.take_order(), ["ADD main eth0"]);
}
