//! Links of the node.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn the_link_of_the_default_route_as_a_device() {
    let stage = Stage::new();
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "host-device", "device": "eth0"}),
        7,
        &["eth0", "default route"],
    );
    let mac = stage.node.netns.link("eth0")["address"].as_str().unwrap().to_owned();
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "host-device", "hwaddr": mac}), 7, &["eth0"]);
}

#[test]
fn a_link_with_an_address_as_a_device() {
    let mut stage = Stage::new();
    let config = json!({"cniVersion": "1.0.0", "type": "host-device", "device": "eth1"});
    stage.refuses(&config, 7, &["eth1", "10.9.0.1/24", "sharedLinks"]);
    stage.node.conf["sharedLinks"] = json!(["eth*"]);
    stage.admits(&config);
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "host-device", "device": "eth0"}), 7, &["eth0"]);
}

#[test]
fn passthru_on_a_link_of_the_node() {
    let stage = Stage::new();
    for master in ["eth0", "eth1"] {
        stage.refuses(
            &json!({"cniVersion": "1.0.0", "type": "macvlan", "mode": "passthru", "master": master}),
            7,
            &[master],
        );
    }
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "macvlan", "mode": "passthru"}), 7, &["eth0"]);
    stage.admits(&json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth0"}));
}

#[test]
fn a_port_of_the_bridge_that_has_the_default_route() {
    let stage = Stage::new();
    for line in [
        "ip address flush dev eth0",
        "ip link set eth0 master br-vm",
        "ip address add 172.31.0.1/24 dev br-vm",
        "ip route add default via 172.31.0.254",
    ] {
        stage.node.netns.run(line);
    }
    let stage = stage.settled();
    stage.refuses(&json!({"cniVersion": "1.0.0", "type": "host-device", "device": "eth0"}), 7, &["eth0", "br-vm"]);
}
