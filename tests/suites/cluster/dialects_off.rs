//! Pods of CNI-Genie, DANM and Knitter where no dialect is on: nobody reads their annotations.

use serde_json::{Value, json};

use crate::bed::{Bed, interfaces};

/// Annotations of each, good ones and such as its reader would refuse.
fn annotations() -> [(&'static str, Value); 6] {
    let danm = json!([{"network": "management", "ip": "dynamic"}, {"clusterNetwork": "external", "ip": "dynamic"}]);
    let knitter = json!({"ports": [{"attach_to_network": "control", "attributes": {"nic_name": "eth0"}}]});
    [
        ("genie", json!({"cni": "flannel,weave@eth4"})),
        ("genie-logical", json!({"cni": "", "networks": "net1@eth0,net2@eth4"})),
        ("genie-wrong", json!({"cni": "genie,,", "multi-ip-preferences": "{"})),
        ("danm", json!({"danm.k8s.io/interfaces": danm.to_string(), "danm.io/interfaces": "[]"})),
        ("knitter", json!({"networks": knitter.to_string()})),
        ("knitter-wrong", json!({"networks": "{"})),
    ]
}

#[test]
fn pods_of_other_systems_have_the_default_network_alone_where_no_dialect_is_on() {
    let bed = Bed::new("off");
    for (name, annotations) in annotations() {
        let mut pod = bed.pod(name, None);
        pod["metadata"]["annotations"] = annotations;
        bed.api.apply(&pod).unwrap();
    }
    for (name, annotations) in annotations() {
        let status = bed.status(name);
        assert!(status.len() == 1 && status[0]["default"] == true, "{name}: {status:?}");
        assert_eq!(interfaces(&bed.cluster, "off", name).len(), 1, "{name}");
        let pod = bed.ready(name);
        for (key, value) in annotations.as_object().unwrap() {
            assert_eq!(&pod["metadata"]["annotations"][key], value, "{name}: {key}");
        }
        let events = bed.api.list(&format!("/api/v1/namespaces/off/events?fieldSelector=involvedObject.name={name}"));
        let is_said = |event: &&Value| event["reportingComponent"] == "meta-cni" && event["reason"] != "AddedInterface";
        assert_eq!(events.iter().find(is_said), None, "{name}: nothing is told of what nobody reads");
    }
    // The kinds are not even there: an agent that follows one says so.
    for agent in bed.api.list("/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/name=meta-cni") {
        let name = agent["metadata"]["name"].as_str().unwrap();
        let log = bed.api.text(&format!("/api/v1/namespaces/kube-system/pods/{name}/log?container=agent")).unwrap();
        assert!(log.contains("network-attachment-definitions: listed"), "{log}");
        for kind in ["danmnets", "tenantnetworks", "clusternetworks", "logicalnetworks", "physicalnetworks"] {
            assert!(!log.contains(kind), "{name}: {kind}: {log}");
        }
    }
    bed.clear();
}
