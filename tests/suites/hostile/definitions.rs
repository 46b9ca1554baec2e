//! What a definition may start, and where it may reach.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::{fs, net};

use meta_cni_tests::call::plugin;
use serde_json::{Value, json};

use crate::stage::Stage;

/// A node configuration of the tenant's own, whose delegate writes a file as root.
fn own_node(stage: &Stage, kind: &str) -> Value {
    let script = stage.file("run/payload", &format!("#!/bin/sh\necho taken > {}\n", stage.node.text("run/marker")));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    json!({
        "cniVersion": "1.0.0", "name": "own", "type": kind, "binDir": stage.node.path("run"),
        "cluster": {"directory": stage.node.path("run")}, "stateDir": stage.node.path("run"),
        "delegates": [{"name": "x", "type": "payload"}],
    })
}

#[track_caller]
fn takes_nothing(config: impl Fn(&Stage) -> Value, names: &[&str]) {
    let stage = Stage::new();
    let config = config(&stage);
    let stage = stage.settled();
    stage.refuses(&config, 7, names);
    assert!(!stage.node.path("run/marker").exists());
}

#[test]
fn a_meta_plugin_as_delegate() {
    for kind in ["meta-cni", "multus", "multus-shim", "genie", "danm", "knitter"] {
        takes_nothing(|stage| own_node(stage, kind), &[kind]);
    }
}

#[test]
fn a_meta_plugin_in_a_chain() {
    let chain = |stage: &Stage| json!({"cniVersion": "1.0.0", "plugins": [{"type": "bridge", "bridge": "t0"}, own_node(stage, "meta-cni")]});
    takes_nothing(chain, &["plugins[1].type", "meta-cni"]);
}

#[test]
fn a_meta_plugin_as_ipam() {
    let ipam = |stage: &Stage| {
        let mut config = own_node(stage, "macvlan");
        config["master"] = json!("eth2");
        config["ipam"] = json!({"type": "meta-cni"});
        config
    };
    takes_nothing(ipam, &["ipam.type", "meta-cni"]);
}

#[test]
fn a_meta_plugin_as_the_delegate_of_flannel() {
    takes_nothing(
        |stage| json!({"cniVersion": "1.0.0", "type": "flannel", "subnetFile": stage.node.path("run/subnet.env"), "delegate": own_node(stage, "meta-cni")}),
        &["delegate.type", "meta-cni"],
    );
}

#[test]
fn this_program_under_another_name() {
    for how in ["copy", "link", "script"] {
        let stage = Stage::new();
        let program = stage.node.path("bin/innocent");
        match how {
            "copy" => drop(fs::copy(plugin(), &program).unwrap()),
            "link" => symlink(plugin(), &program).unwrap(),
            _ => {
                fs::write(&program, format!("#!/bin/sh\nexec {}\n", plugin().display())).unwrap();
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let config = own_node(&stage, "innocent");
        let stage = stage.settled();
        stage.trap(&config);
        let pod = stage.node.pod("tenant", "trap");
        stage.node.add(&pod).refused(7, &["default/trap"]);
        assert!(!stage.node.path("run/marker").exists(), "{how}");
        stage.node.del(&pod).quiet();
        stage.unharmed();
    }
}

#[test]
fn a_program_that_the_node_does_not_lend() {
    let mut stage = Stage::new();
    stage.node.conf["programs"] = json!(["two"]);
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "one"}), 7, &["one"]);
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "t0", "ipam": {"type": "one"}}),
        7,
        &["one"],
    );
}

#[test]
fn a_name_that_another_network_has() {
    let stage = Stage::new();
    let ipam = stage.node.host_local("10.244.1.0/24");
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "name": "cluster", "type": "macvlan", "master": "eth2", "ipam": ipam}),
        7,
        &["name", "cluster"],
    );
}

#[test]
fn a_directory_that_holds_other_networks() {
    let stage = Stage::new();
    let victim = stage.file("run/other/10.0.0.9", "");
    let stage = stage.settled();
    let ipam = json!({"type": "host-local", "dataDir": stage.node.path(""), "ranges": [[{"subnet": "10.0.0.0/24"}]]});
    stage.trap(&json!({"cniVersion": "1.0.0", "name": "run", "type": "macvlan", "master": "eth2", "ipam": ipam}));
    let pod = stage.node.pod("tenant", "trap");
    stage.node.add(&pod).refused(7, &["dataDir"]);
    assert!(fs::exists(victim).unwrap());
    stage.node.del(&pod).quiet();
    stage.unharmed();
}

#[test]
fn a_definition_without_text_for_a_file_of_the_node() {
    let stage = Stage::new();
    stage.file("conf/10-secret.conf", r#"{"cniVersion":"1.0.0","name":"secret","type":"one"}"#);
    let stage = stage.settled();
    stage.node.nad_text("tenants", "secret", "");
    let pod = stage.node.pod_in("tenants", "tenant", "secret");
    stage.refuses_pod(&pod, 120, &["secret", "tenants"]);
}

#[test]
fn a_device_by_its_address() {
    let stage = Stage::new();
    stage.trap(&json!({"cniVersion": "1.0.0", "type": "host-device", "capabilities": {"deviceID": true}}));
    let pod = stage.node.pod("tenant", r#"[{"name":"trap","deviceID":"0000:00:01.0"}]"#);
    stage.refuses_pod(&pod, 7, &["deviceID", "0000:00:01.0"]);
}

#[test]
fn a_path_for_a_program() {
    let stage = Stage::new();
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "one", "vendor": {"logs": ["/etc/shadow"]}}),
        7,
        &["vendor.logs[0]", "/etc/shadow"],
    );
}

#[test]
fn a_path_in_the_arguments_of_a_pod() {
    let stage = Stage::new();
    stage.trap(&json!({"cniVersion": "1.0.0", "type": "one"}));
    let pod = stage.node.pod("tenant", r#"[{"name":"trap","cni-args":{"kubeconfig":"/etc/shadow"}}]"#);
    stage.refuses_pod(&pod, 7, &["/etc/shadow"]);
}

#[test]
fn a_port_on_which_the_node_listens() {
    let stage = Stage::new();
    let _listener = stage.node.netns.inside(|| net::TcpListener::bind("0.0.0.0:9100").unwrap());
    for port in [9100, 10250, 31000] {
        stage.trap(&mapping(&stage));
        let pod = stage.node.pod(
            "tenant",
            &format!(r#"[{{"name":"trap","portMappings":[{{"hostPort":{port},"containerPort":80}}]}}]"#),
        );
        stage.refuses_pod(&pod, 7, &["portMappings", &port.to_string()]);
    }
}

fn mapping(stage: &Stage) -> Value {
    json!({"cniVersion": "1.0.0", "plugins": [
        {"type": "bridge", "bridge": "t0", "isGateway": true, "ipam": stage.node.host_local("10.77.0.0/24")},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

#[test]
fn half_of_the_world_by_an_address() {
    let stage = Stage::new();
    let addresses = |address: &str, gateway: &str| json!({"type": "static", "addresses": [{"address": address, "gateway": gateway}]});
    for (address, gateway) in
        [("172.0.0.9/2", "172.0.0.1"), ("10.9.0.200/24", "10.9.0.199"), ("10.244.1.9/30", "10.244.1.10")]
    {
        let bridge = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "t0", "isGateway": true, "ipam": addresses(address, gateway)});
        stage.trap(&bridge);
        let pod = stage.node.pod("tenant", "trap");
        stage.node.add(&pod).refused(7, &[]);
        stage.node.del(&pod).quiet();
    }
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "ptp", "ipam": addresses("172.31.0.254/32", "10.88.0.1")}),
        7,
        &["172.31.0.254"],
    );
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "ptp", "ipam": addresses("10.88.0.9/32", "172.31.0.1")}),
        7,
        &["172.31.0.1"],
    );
}
