//! A node whose addresses change while its agent runs.

use std::time::Duration;

use delegates::networks::NetworkId;
use meta_cni_tests::cluster::wait;
use serde_json::{Value, json};

use super::stage::Stage;

const ID: (u16, u32) = (4789, 4200);

fn id() -> NetworkId {
    NetworkId::overlay(ID.0, ID.1)
}

/// The Node object says that these are its InternalIPs.
fn node_has(stage: &Stage, node: &str, ips: &[&str]) {
    let addresses: Vec<Value> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    let status = json!({"status": {"addresses": addresses}});
    stage.world.plane.api().patch(&format!("/api/v1/nodes/{node}/status"), &status).unwrap();
}

fn ends_at(stage: &Stage, node: &str, want: &[&str]) -> Result<(), String> {
    let is = &stage.object("overlaymembers", &format!("{}.{node}", id()))["spec"]["vteps"];
    if *is == json!(want) { Ok(()) } else { Err(format!("{is}, want {want:?}")) }
}

#[test]
fn the_internal_ips_of_the_node_object_are_where_tunnels_end() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    for node in ["a", "b"] {
        stage.join(node, "red");
    }
    let space = stage.world.plane.space();
    space.run("ip address add 172.31.0.111/24 dev under");
    space.run("ip address add fd31::111/64 dev under nodad");
    for ips in [&["172.31.0.111"][..], &["172.31.0.111", "fd31::111"]] {
        node_has(&stage, "a", ips);
        stage.until("a", "tunnel end at the other address", || ends_at(&stage, "a", ips));
    }
    // Both nodes' files follow, and so does what the plugin is told of the node.
    for node in ["a", "b"] {
        stage.until(node, "file that follows", || {
            let overlay = stage.file(node, &id()).and_then(|file| file.overlay).ok_or("no membership")?;
            let end = if node == "a" { overlay.vtep } else { overlay.members.first().ok_or("nobody")?.vtep };
            if end.to_string() == "172.31.0.111" { Ok(()) } else { Err(end.to_string()) }
        });
    }
    let answer = stage.resolve("a", "red");
    assert_eq!(answer["body"]["node"]["internalIPs"], json!(["172.31.0.111", "fd31::111"]), "{answer}");
    // One family goes. IPv6 leaves less room than the network has, which is told once.
    node_has(&stage, "a", &["fd31::111"]);
    stage.until("a", "tunnel end without the family that went", || ends_at(&stage, "a", &["fd31::111"]));
    let told = stage.until("a", "event", || {
        let told = stage.node_events("UnderlayMTUTooSmall");
        if told.is_empty() { Err("none".to_owned()) } else { Ok(told) }
    });
    assert!(told[0].contains("network 4789-4200 has MTU 1450") && told[0].contains("leaves 1430"), "{told:?}");
    node_has(&stage, "b", &["172.31.0.12"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(stage.node_events("UnderlayMTUTooSmall").len(), 1);
}

#[test]
fn another_address_of_the_underlays_link_is_heard_of() {
    let mut stage = Stage::new(&["a"]);
    let space = stage.world.plane.space();
    space.run("ip link add fast type veth peer name end");
    space.run("ip address add 10.9.0.1/24 dev fast");
    space.run("ip link set end up");
    space.run("ip link set fast up");
    stage.start_all();
    let config = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4200, "underlay": "fast"});
    stage.define("red", config);
    stage.join("a", "red");
    ends_at(&stage, "a", &["10.9.0.1"]).unwrap();
    let space = stage.world.plane.space();
    space.run("ip address add 10.9.1.1/24 dev fast");
    space.run("ip address del 10.9.0.1/24 dev fast");
    // Far sooner than the next look at the underlay, which is after half a minute.
    let moved = wait::patiently(Duration::from_secs(15), || ends_at(&stage, "a", &["10.9.1.1"]));
    moved.unwrap_or_else(|why| panic!("{why}\n{}", stage.log("a")));
    // Without any address the member stays as it is, and the Node says why.
    space.run("ip address del 10.9.1.1/24 dev fast");
    stage.until("a", "event", || match stage.node_events("NoTunnelAddress").as_slice() {
        [one] if one.contains("fast") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    ends_at(&stage, "a", &["10.9.1.1"]).unwrap();
}
