//! What a pod with NET_ADMIN does to what it was lent.

use serde_json::{Value, json};

use crate::stage::Stage;

/// Attaches a pod to the free link of the node, lets it play its trick, and detaches it.
#[track_caller]
fn brings_home(tricks: &[&str]) {
    let stage = Stage::new();
    stage.trap(&json!({"cniVersion": "1.0.0", "type": "host-device", "device": "eth2"}));
    let pod = stage.node.pod("tenant", "trap");
    stage.node.add(&pod).result();
    let group = pod.netns.link("eth0")["group"].as_str().unwrap().to_owned();
    tricks.iter().for_each(|trick| drop(pod.netns.run(&trick.replace("GROUP", &group))));
    stage.node.del(&pod).quiet();
    assert_eq!(stage.node.netns.link("eth2")["altnames"], Value::Null, "{tricks:?}");
    stage.unharmed();
}

#[test]
fn the_devices_own_name_as_its_other_name() {
    brings_home(&["ip link property add dev net1 altname eth2"]);
}

#[test]
fn the_name_of_another_link_as_its_other_name() {
    brings_home(&["ip link property add dev net1 altname eth1"]);
}

#[test]
fn a_device_in_the_group_of_the_record() {
    brings_home(&["ip link set net1 group GROUP"]);
}

#[test]
fn a_device_in_a_bridge_with_another_address() {
    brings_home(&[
        "ip link add b0 type bridge",
        "ip link set net1 master b0",
        "ip link set net1 down",
        "ip link set net1 name mine address 02:00:00:00:00:66 mtu 900",
    ]);
}
