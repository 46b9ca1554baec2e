//! The cluster itself, with the reference plugins alone: what the other cases stand on.

use serde_json::json;

use crate::bed::Bed;

#[test]
fn pods_of_the_reference_bridge_reach_each_other_across_nodes_and_leave_nothing() {
    let bed = Bed::new("bridge");
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n3")] {
        bed.api.apply(&bed.pod(name, Some(node))).unwrap();
    }
    let addresses = ["a", "b", "c"].map(|name| bed.ready(name)["status"]["podIP"].as_str().unwrap().to_owned());
    for address in &addresses {
        bed.exec("a", &format!("ping -c 1 -W 2 {address}"));
    }
    for node in bed.cluster.nodes() {
        assert!(node.operations("set_up_pod").count >= 1.0, "{}", node.name());
        assert!(node.traces().iter().any(|trace| trace.starts_with("file /var/lib/cni/networks/pods/10.244.")));
    }
    bed.clear();
}

#[test]
fn a_rebooted_node_starts_its_pods_again() {
    let mut bed = Bed::new("reboot");
    bed.api.apply(&bed.pod("stays", Some("n3"))).unwrap();
    let before = bed.ready("stays");
    bed.cluster.reboot(2);
    let restarts = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    meta_cni_tests::cluster::wait::until("restart", crate::bed::PATIENCE, || {
        let pod = bed.ready("stays");
        if restarts(&pod) > restarts(&before) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    assert_ne!(before["status"], json!(null));
    bed.clear();
}
