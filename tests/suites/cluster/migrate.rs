//! From Multus to meta-cni and back, as `meta-cnictl migrate multus` says it: Multus's own daemon on every node, pods that it attached,
//! and no pod that notices.

use std::fs;
use std::path::Path;
use std::time::Duration;

use meta_cni_tests::cluster::{Api, Cluster, Node, multus, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::{
    self, PATIENCE, definition, deploy, install_with, is_ready, lan, uninstall, wait_for_agents, wait_for_webhook,
};
use crate::lifecycle::{SHOP, delete, path, used_cluster};

const CONF: &str = "/etc/cni/net.d/00-meta-cni.conflist";
const MULTUS_CONF: &str = "/etc/cni/net.d/00-multus.conf";

/// What `meta-cnictl migrate multus` says of a node's files.
fn migration(node: &Node) -> Value {
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["migrate", "multus", "-o", "json", "-f"]).arg(node.file("/etc/cni/net.d"));
    command.arg("-f").arg(node.file(multus::DAEMON_CONFIG));
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(20));
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert_eq!(finished.code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// Makes a pod with the network `lan`, waits until it has it, and gives its address there.
fn attach(api: &Api, name: &str, node: &Node) -> String {
    bed::attach(api, SHOP, name, node.name(), "lan")
}

/// Is an address of the network held on a node, by the file of host-local?
fn is_held(node: &Node, address: &str) -> bool {
    node.file(Path::new("/var/lib/cni/networks/lan").join(address)).exists()
}

/// How many sandboxes on a node meta-cni has attached.
fn records(node: &Node) -> usize {
    fs::read_dir(node.file("/var/lib/meta-cni/attached")).map_or(0, |dir| dir.count())
}

fn ping(cluster: &Cluster, from: &str, to: &str) {
    cluster.plane().kubectl(["exec", "-n", SHOP, from, "--", "ping", "-c", "1", "-W", "5", to]);
}

#[test]
fn a_cluster_goes_from_multus_to_meta_cni_and_back_and_no_pod_notices() {
    let (mut cluster, _) = used_cluster(2);
    let api = cluster.api();
    cluster.plane().kubectl(["apply", "-k", &deploy("crds")]);
    let daemons = multus::install(&cluster);
    wait::until("definition that is stored", PATIENCE, || {
        api.apply(&definition(SHOP, "lan", &lan(150).to_string())).map_err(|refusal| refusal.to_string())
    });
    let old: Vec<String> =
        cluster.nodes().iter().map(|node| attach(&api, &format!("old-{}", node.name()), node)).collect();

    // Over. The agents write what was foretold.
    let foretold = migration(&cluster.nodes()[0]);
    install_with(&cluster, &deploy("kustomize"), &foretold["node"]);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    for node in cluster.nodes() {
        assert_eq!(json!(fs::read_to_string(node.file(CONF)).unwrap()), foretold["conflist"], "{}", node.name());
        assert_eq!(records(node), 0);
    }
    for (node, old) in cluster.nodes().iter().zip(&old) {
        let new = format!("new-{}", node.name());
        attach(&api, &new, node);
        assert_eq!(records(node), 1);
        ping(&cluster, &new, old);
    }
    drop(daemons);
    cluster.nodes().iter().for_each(|node| fs::remove_file(node.file(MULTUS_CONF)).unwrap());
    let (first, second) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    assert!(is_held(first, &old[0]));
    delete(&api, "old-n1");
    wait::until("address that is given back", PATIENCE, || {
        if is_held(first, &old[0]) { Err(old[0].clone()) } else { Ok(()) }
    });

    // And back: Multus comes when our configuration is gone, or it would take that for the cluster's network.
    for node in cluster.nodes() {
        delete(&api, &format!("new-{}", node.name()));
    }
    uninstall(&cluster);
    let _daemons = multus::install(&cluster);
    assert!(is_ready(&api.get(&path("old-n2")).unwrap()));
    for (node, old) in cluster.nodes().iter().zip(&old) {
        let again = format!("again-{}", node.name());
        let address = attach(&api, &again, node);
        if is_held(node, old) {
            ping(&cluster, &again, old);
        }
        assert!(!node.file("/var/lib/meta-cni").exists() && !node.file(CONF).exists());
        delete(&api, &again);
        wait::until("address that Multus gives back", PATIENCE, || {
            if is_held(node, &address) { Err(address.clone()) } else { Ok(()) }
        });
    }
    delete(&api, "old-n2");
    wait::until("address that is given back", PATIENCE, || {
        if is_held(second, &old[1]) { Err(old[1].clone()) } else { Ok(()) }
    });
}
