//! What agents tell Prometheus of networks.

use serde_json::json;

use super::stage::Stage;

/// Waits for a row of a node's page.
#[track_caller]
fn has(stage: &Stage, node: &str, row: &str) {
    stage.until(node, "row of metrics", || {
        let page = stage.metrics(node)?;
        if page.lines().any(|line| line == row) { Ok(()) } else { Err(format!("want {row}\n{page}")) }
    });
}

#[test]
fn networks_of_a_node_are_told_while_it_is_in_them() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.grace = 2;
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.define("big", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 7, "mtu": 8950}));
    for node in ["a", "b"] {
        stage.join(node, "red");
    }
    stage.refused("a", "big");
    let id = delegates::networks::NetworkId::overlay(4789, 4200);
    stage.take("a", &id, "c1").unwrap();
    for row in [
        r#"meta_cni_network_members{network="4789-4200"} 1"#,
        r#"meta_cni_network_entries{network="4789-4200"} 65"#,
        r#"meta_cni_network_pool_slots{network="4789-4200"} 65536"#,
        r#"meta_cni_network_slots{network="4789-4200"} 64"#,
        r#"meta_cni_network_slots_used{network="4789-4200"} 1"#,
        r#"meta_cni_network_obstacles{network="4789-4200"} 0"#,
        r#"meta_cni_network_joins_failed_total{network="4789-7",cause="configuration"} 1"#,
        r#"meta_cni_api_writes_total{kind="vniclaims",verb="create",outcome="done"} 1"#,
        r#"meta_cni_api_writes_total{kind="addressblocks",verb="create",outcome="done"} 1"#,
        r#"meta_cni_agent_info{version="0.1.0",node="a"} 1"#,
    ] {
        has(&stage, "a", row);
    }
    let page = stage.metrics("a").unwrap();
    let resident = page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
    eprintln!("an agent with one network: {resident} bytes resident");
    // The other one leaves, and has nothing to tell any more.
    stage.until("b", "end of the network's series", || {
        let page = stage.metrics("b")?;
        if page.contains("4789-4200") { Err(page) } else { Ok(()) }
    });
    has(&stage, "a", r#"meta_cni_network_members{network="4789-4200"} 0"#);
}

#[test]
fn news_that_reach_the_kernel_and_what_is_healed_are_counted() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    // As the plugin would, for a pod: the agent completes it.
    stage.world.plane.space().run("ip link add bx4200 type bridge");
    stage.join("a", "red");
    stage.until("a", "device", || {
        let links = stage.world.plane.space().run("ip -br link");
        if links.contains("vx4200") { Ok(()) } else { Err(links) }
    });
    // Its agent would take the device for its own.
    stage.kill("b");
    let spec = json!({
        "network": "4789-4200", "node": "b", "vteps": ["172.31.0.12"], "mac": "02:00:00:00:00:0b", "mtu": 1450,
    });
    let labels = json!({"meta-cni.io/network": "4789-4200"});
    let member = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "OverlayMember",
        "metadata": {"name": "4789-4200.b", "labels": labels}, "spec": spec,
    });
    stage.world.plane.api().apply(&member).unwrap();
    stage.until("a", "entry", || {
        let entries = stage.world.plane.space().run("bridge fdb show dev vx4200");
        if entries.contains("02:00:00:00:00:0b dst 172.31.0.12") { Ok(()) } else { Err(entries) }
    });
    stage.until("a", "news in the kernel", || {
        let page = stage.metrics("a")?;
        let count = page.lines().find_map(|line| line.strip_prefix("meta_cni_network_convergence_seconds_count "));
        match count.and_then(|count| count.parse::<u64>().ok()) {
            Some(1..) => Ok(()),
            _ => Err(page),
        }
    });
    stage.world.plane.space().run("bridge fdb del 02:00:00:00:00:0b dev vx4200 dst 172.31.0.12 self");
    stage.until("a", "heal", || {
        let page = stage.metrics("a")?;
        let row = r#"meta_cni_network_heals_total{network="4789-4200",what="entries"} "#;
        if page.contains(row) { Ok(()) } else { Err(page) }
    });
}
