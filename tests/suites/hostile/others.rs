//! What other networks and other tenants use.

use serde_json::{Value, json};

use crate::stage::Stage;

#[test]
fn the_bridge_of_the_default_network() {
    let mut stage = Stage::new();
    let config = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0"});
    stage.refuses(&config, 7, &["cni0", "shareDefaultBridge"]);
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "bridge"}), 7, &["bridge", "cni0"]);
    stage.node.conf["shareDefaultBridge"] = json!(true);
    stage.admits(&config);
}

#[test]
fn the_gateway_of_the_default_network() {
    let mut stage = Stage::new();
    stage.node.conf["shareDefaultBridge"] = json!(true);
    let ipam = stage.node.host_local("10.66.0.0/24");
    let config = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0", "isGateway": true, "forceAddress": true, "ipam": ipam});
    stage.trap(&config);
    let pod = stage.node.pod("tenant", "trap");
    stage.node.add(&pod).refused(7, &["10.244.1.1/24"]);
    stage.node.del(&pod).quiet();
    assert_eq!(stage.node.netns.addresses("cni0"), ["10.244.1.1/24"]);
}

#[test]
fn a_switch_of_a_bridge_of_others() {
    let stage = Stage::new();
    stage.admits(&json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-vm", "promiscMode": true}));
}

fn overlay(peers: &[&str]) -> Value {
    json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 4200, "underlay": "eth0", "peers": peers})
}

#[test]
fn a_peer_that_stays_in_an_overlay_of_others() {
    let stage = Stage::new();
    stage.node.nad("victim", overlay(&["172.31.0.2"]));
    let victim = stage.node.pod("victim", "victim");
    stage.node.add(&victim).result();
    let table = || stage.node.netns.run("bridge fdb show dev vx4200");
    let was = table();
    stage.trap(&overlay(&["172.31.0.2", "172.31.0.66"]));
    let tenant = stage.node.pod("tenant", "trap");
    stage.node.add(&tenant).result();
    assert!(table().contains("172.31.0.66"));
    stage.node.del(&tenant).quiet();
    assert_eq!(table(), was);
    stage.node.del(&victim).quiet();
    stage.unharmed();
}

#[test]
fn peers_that_are_no_peers() {
    let stage = Stage::new();
    for peer in ["127.0.0.1", "255.255.255.255", "224.0.0.1", "0.0.0.0"] {
        stage.refuses(&overlay(&[peer]), 7, &["peers[0]", peer]);
    }
}
