//! Pods, namespaces and agents that go while something is under way.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, wait_for_agents};

#[test]
fn an_agent_that_is_killed_at_any_time_is_noticed_by_nobody() {
    let mut bed = Bed::new("killed");
    bed.lan("lan", 130);
    bed.api.apply(&bed.deployment("web", 9, "lan")).unwrap();
    bed.replicas("app=web", 9);
    let path = "/apis/apps/v1/namespaces/killed/deployments/web";
    for replicas in [3, 12, 6] {
        bed.api.patch(path, &json!({"spec": {"replicas": replicas}})).unwrap();
        for node in ["n1", "n2", "n3"] {
            thread::sleep(Duration::from_millis(120));
            bed.kill_agent(node);
        }
        bed.replicas("app=web", replicas);
    }
    wait_for_agents(&mut bed.cluster);
    bed.clear();
}

/// containerd forgets nothing of its sandboxes, and asks for a DEL again that it was killed in; kubelet starts anew what it has not heard of.
#[test]
fn kubelet_and_containerd_are_killed_while_pods_come_and_go() {
    let mut bed = Bed::new("restarts");
    bed.lan("lan", 134);
    bed.api.apply(&bed.deployment("web", 9, "lan")).unwrap();
    bed.replicas("app=web", 9);
    let path = "/apis/apps/v1/namespaces/restarts/deployments/web";
    for (replicas, is_kubelet) in [(3, true), (12, false), (3, false), (9, true)] {
        bed.api.patch(path, &json!({"spec": {"replicas": replicas}})).unwrap();
        thread::sleep(Duration::from_millis(150));
        for node in 0..3 {
            let node = bed.cluster.node_mut(node);
            if is_kubelet {
                node.kill_kubelet();
                node.start_kubelet();
            } else {
                node.kill_containerd();
                node.start_containerd();
            }
        }
        bed.replicas("app=web", replicas);
    }
    wait_for_agents(&mut bed.cluster);
    bed.api.patch(path, &json!({"spec": {"replicas": 0}})).unwrap();
    bed.replicas("app=web", 0);
    forget_lost_namespaces(&bed);
    bed.clear();
}

/// containerd that is killed between making a namespace and noting whose it is forgets the namespace: it asks for no ADD in it, and
/// for no DEL either. Nothing else may be in it.
fn forget_lost_namespaces(bed: &Bed) {
    for node in bed.cluster.nodes() {
        let known = node.ctr(&["containers", "list"]).output_of(None).unwrap();
        let sandboxes = known.lines().filter_map(|line| line.split_whitespace().next());
        let held: String =
            sandboxes.filter_map(|id| node.ctr(&["containers", "info", id]).output_of(None).ok()).collect();
        for name in node.space().run("ls /run/netns").split_whitespace().filter(|name| !held.contains(*name)) {
            let links = node.space().run(&format!("ip -n {name} -o link"));
            if links.lines().all(|link| link.contains(": lo:")) {
                node.space().run(&format!("ip netns del {name}"));
            }
        }
    }
}

#[test]
fn pods_that_are_deleted_while_they_are_attached_leave_nothing() {
    let bed = Bed::new("hasty");
    bed.lan("a", 131);
    bed.lan("b", 132);
    for round in 0..12 {
        let name = format!("p{round}");
        bed.api.apply(&bed.pod_with(&name, Some(["n1", "n2", "n3"][round % 3]), "a,b")).unwrap();
        thread::sleep(Duration::from_millis(40 * round as u64));
        bed.api.delete(&format!("{}?gracePeriodSeconds=0", bed.path(&name))).unwrap();
    }
    bed.clear();
}

#[test]
fn a_namespace_is_deleted_with_its_pods_and_definitions() {
    let bed = Bed::new("doomed");
    bed.lan("a", 133);
    bed.api.apply(&bed.deployment("web", 6, "a")).unwrap();
    bed.replicas("app=web", 6);
    bed.clear();
}
