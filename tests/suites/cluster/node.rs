//! A node that loses its power.

use meta_cni_tests::cluster::wait;
use serde_json::Value;

use crate::bed::{Bed, PATIENCE, wait_for_agents};

#[test]
fn a_rebooted_node_attaches_its_pods_again_and_forgets_the_dead() {
    let mut bed = Bed::new("reboot");
    bed.lan("lan", 150);
    for name in ["stays", "goes"] {
        bed.api.apply(&bed.pod_with(name, Some("n3"), "lan")).unwrap();
        bed.status(name);
    }
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let before = bed.ready("stays");
    bed.cluster.reboot(2);
    bed.delete("goes");
    wait::until("restart of a pod", PATIENCE, || {
        let pod = bed.ready("stays");
        if restarts(&pod) > restarts(&before) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    bed.exec("stays", "ip link show net1");
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}
