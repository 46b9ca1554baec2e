//! An API server that is away, slow, or has forgotten.

use std::fs;
use std::time::Duration;

use meta_cni_tests::cluster::wait;

use crate::bed::{Bed, PATIENCE, wait_for_agents};

#[test]
fn with_the_api_server_away_a_static_pod_starts_from_the_cache_and_others_go() {
    let mut bed = Bed::new("away");
    bed.lan("lan", 140);
    // Its node's agent knows the definition from here on.
    bed.api.apply(&bed.pod_with("first", Some("n1"), "lan")).unwrap();
    bed.status("first");
    wait_for_agents(&mut bed.cluster);
    bed.cluster.plane_mut().cut_api();
    let file = bed.node("n1").file("/etc/kubernetes/manifests/web.json");
    fs::write(&file, bed.pod_with("web", None, "lan").to_string()).unwrap();
    let held = |bed: &Bed| {
        let traces = bed.node("n1").traces();
        traces.iter().filter(|trace| trace.contains("/networks/lan/10.140.") || trace.contains("lan/10.140.")).count()
    };
    wait::until("second address of the network", PATIENCE, || match held(&bed) {
        2 => Ok(()),
        other => Err(format!("{other} addresses")),
    });
    fs::remove_file(&file).unwrap();
    wait::until("release of the address", PATIENCE, || match held(&bed) {
        1 => Ok(()),
        other => Err(format!("{other} addresses")),
    });
    bed.cluster.plane_mut().mend_api();
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}

#[test]
fn a_slow_api_server_makes_no_pod_fail() {
    let mut bed = Bed::new("slow");
    bed.lan("lan", 141);
    for (name, delay) in [("fair", 300), ("bad", 1000)] {
        bed.cluster.plane_mut().delay_api(Duration::from_millis(delay));
        bed.api.apply(&bed.pod_with(name, None, "lan")).unwrap();
        assert_eq!(bed.status(name).len(), 2);
        bed.delete(name);
    }
    bed.cluster.plane_mut().delay_api(Duration::ZERO);
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}

#[test]
fn after_a_restart_that_forgot_the_watches_new_definitions_are_seen() {
    let mut bed = Bed::new("gone");
    bed.lan("old", 142);
    bed.api.apply(&bed.pod_with("before", None, "old")).unwrap();
    bed.status("before");
    // The agents do not see what happens now, and after the restart nobody can tell them: their watches are 410 Gone.
    bed.cluster.plane_mut().cut_api();
    bed.lan("new", 143);
    bed.cluster.plane_mut().kill_api();
    bed.cluster.plane_mut().start_api();
    bed.lan("old", 144);
    bed.cluster.plane_mut().mend_api();
    bed.api.apply(&bed.pod_with("after", None, "new")).unwrap();
    let status = bed.status("after");
    assert!(status[1]["ips"][0].as_str().unwrap().starts_with("10.143."), "{status:?}");
    // What is cached is taken as it is until the watch has caught up.
    let mut tries = 0..;
    wait::until("edited definition", PATIENCE, || {
        let name = format!("after{}", tries.next().unwrap());
        bed.api.apply(&bed.pod_with(&name, None, "old")).unwrap();
        let status = bed.status(&name);
        bed.delete(&name);
        if status[1]["ips"][0].as_str().unwrap().starts_with("10.144.") { Ok(()) } else { Err(format!("{status:?}")) }
    });
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}
