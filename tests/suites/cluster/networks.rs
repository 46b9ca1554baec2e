//! Networks of pods: how many, whose, which are missing, and across nodes.

use serde_json::{Value, json};

use crate::bed::{Bed, interfaces, lan};

/// Interface and first address of each entry of a status.
fn told(status: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    status.iter().map(|entry| (text(&entry["interface"]), text(&entry["ips"][0]))).collect()
}

#[test]
fn pods_get_one_to_five_networks_and_a_status_that_tells_them() {
    let bed = Bed::new("counts");
    let names = ["one", "two", "three", "four", "five"];
    for (name, number) in names.into_iter().zip(101..) {
        bed.lan(name, number);
    }
    for count in 1..=names.len() {
        bed.api.apply(&bed.pod_with(&format!("p{count}"), None, &names[..count].join(","))).unwrap();
    }
    for count in 1..=names.len() {
        let pod = format!("p{count}");
        let status = bed.status(&pod);
        assert_eq!(status.len(), count + 1, "{status:?}");
        assert_eq!(interfaces(&bed.cluster, &bed.namespace, &pod), told(&status));
        for (entry, name) in status[1..].iter().zip(names) {
            assert_eq!(entry["name"], format!("counts/{name}"));
            assert_ne!(entry["default"], true);
        }
        bed.event(&pod, &format!("Add net{count} ["));
    }
    bed.clear();
}

#[test]
fn a_definition_of_another_namespace_is_named_with_it() {
    let bed = Bed::new("borrower");
    bed.nad_in("default", "shared", &lan(110));
    bed.api.apply(&bed.pod_with("p", None, "default/shared@extra")).unwrap();
    let status = bed.status("p");
    assert_eq!(status[1]["name"], "default/shared");
    assert_eq!(status[1]["interface"], "extra");
    // A definition that nobody deletes stays in what the agent keeps for an outage.
    let path = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/shared";
    bed.api.delete(path).unwrap();
    bed.clear();
}

#[test]
fn a_pod_tells_which_definition_is_missing_and_recovers_when_it_comes() {
    let bed = Bed::new("missing");
    bed.apply_unasked(&bed.pod_with("p", None, "later"));
    let cause = "(later) in namespace (missing)";
    let events = bed.event("p", cause);
    let told = events.lines().find(|line| line.starts_with("NoNetworkFound: ")).unwrap_or_else(|| panic!("{events}"));
    assert!(told.find(cause).is_some_and(|place| place < 200), "the cause comes late: {told}");
    bed.lan("later", 111);
    assert_eq!(bed.status("p").len(), 2);
    bed.clear();
}

#[test]
fn pods_of_an_overlay_reach_each_other_across_nodes() {
    let bed = Bed::new("overlay");
    let peers: Vec<String> = bed.cluster.nodes().iter().map(meta_cni_tests::cluster::Node::address).collect();
    bed.nad(
        "overlay",
        &json!({
            "cniVersion": "1.1.0", "type": "vxlan", "vni": 4200, "peers": peers, "capabilities": {"ips": true},
            "ipam": {"type": "static"},
        }),
    );
    for number in 1..=3 {
        let networks = json!([{"name": "overlay", "ips": [format!("10.42.0.{number}/24")]}]);
        let (name, node) = (format!("p{number}"), format!("n{number}"));
        bed.api.apply(&bed.pod_with(&name, Some(&node), &networks.to_string())).unwrap();
    }
    for number in 1..=3 {
        let status = bed.status(&format!("p{number}"));
        assert_eq!(status[1]["ips"][0], format!("10.42.0.{number}"));
        assert!(bed.node(&format!("n{number}")).traces().contains("link vx4200"));
    }
    for number in 2..=3 {
        bed.exec("p1", &format!("ping -c 1 -W 5 10.42.0.{number}"));
    }
    bed.exec("p2", "ping -c 1 -W 5 10.42.0.3");
    bed.clear();
}

#[test]
fn a_definition_that_is_edited_or_deleted_after_the_attachment_changes_nothing_of_the_detachment() {
    let bed = Bed::new("edited");
    bed.lan("edited", 112);
    bed.lan("deleted", 113);
    bed.api.apply(&bed.pod_with("p", Some("n1"), "edited,deleted")).unwrap();
    bed.status("p");
    bed.nad("edited", &json!({"cniVersion": "1.1.0", "type": "macvlan", "master": "nothing"}));
    bed.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/edited/network-attachment-definitions/deleted").unwrap();
    bed.delete("p");
    bed.clear();
}
