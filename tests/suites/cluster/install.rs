//! What the installation finds and what it makes.

use std::fs;

use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, status_of};
use meta_cni_tests::cluster::wait;

#[test]
fn pods_from_before_the_installation_are_deleted_after_it() {
    let bed = Bed::new("install");
    for (node, bare) in bed.cluster.nodes().iter().zip(&bed.earlier().bare) {
        let path = format!("/api/v1/namespaces/earlier/pods/old-{}", node.name());
        let address = bed.api.get(&path).unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
        let held = format!("file /var/lib/cni/networks/pods/{address}");
        assert!(!bare.contains(&held));
        assert!(node.traces().contains(&held), "{held} on {}", node.name());
        bed.api.delete(&path).unwrap();
        bed.gone(&path);
        wait::until("release of the address", PATIENCE, || {
            if node.traces().contains(&held) { Err(held.clone()) } else { Ok(()) }
        });
    }
    bed.clear();
}

#[test]
fn the_configuration_declares_what_the_default_network_can_do() {
    let bed = Bed::new("declared");
    for node in bed.cluster.nodes() {
        let conf = fs::read(node.file("/etc/cni/net.d/00-meta-cni.conflist")).unwrap();
        let conf: Value = serde_json::from_slice(&conf).unwrap();
        let capabilities = &conf["plugins"][0]["capabilities"];
        for name in ["portMappings", "bandwidth", "io.kubernetes.cri.pod-annotations"] {
            assert_eq!(capabilities[name], true, "{name} in {conf}");
        }
    }
    bed.clear();
}

#[test]
fn a_configuration_that_somebody_removes_comes_back() {
    let bed = Bed::new("removed");
    let conf = bed.node("n1").file("/etc/cni/net.d/00-meta-cni.conflist");
    let before = fs::read(&conf).unwrap();
    fs::remove_file(&conf).unwrap();
    let after = wait::until("configuration", PATIENCE, || fs::read(&conf).map_err(|e| e.to_string()));
    assert_eq!(before, after);
    bed.clear();
}

#[test]
fn a_pod_without_further_networks_has_the_default_network_and_a_status() {
    let bed = Bed::new("plain");
    bed.api.apply(&bed.pod("plain", None)).unwrap();
    let status = bed.status("plain");
    let pod = bed.ready("plain");
    assert_eq!(status_of(&pod).unwrap().len(), 1);
    assert_eq!(status[0]["name"], "pods");
    assert_eq!(status[0]["interface"], "eth0");
    assert_eq!(status[0]["default"], true);
    assert_eq!(status[0]["ips"][0], pod["status"]["podIP"]);
    bed.clear();
}

#[test]
fn a_definition_that_nobody_can_attach_is_refused_by_the_webhook() {
    let bed = Bed::new("refused");
    let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions", bed.namespace);
    let bad = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "bad"},
        "spec": {"config": r#"{"cniVersion":"1.0.0","type":"macvlan","master":"eth0","mode":"brigde"}"#},
    });
    wait::until("refusal", PATIENCE, || match bed.api.post(&path, &bad) {
        Err(refusal) if refusal.code == 422 && refusal.message.contains("[N21]") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bed.clear();
}
