//! The default networks of distributions, with our built-in types alone: the plugins are taken from the nodes while we are there.

use std::fs;

use meta_cni_tests::cluster::Cluster;
use meta_cni_tests::cluster::neighbours::{flannel, usual};

use crate::scene::{Product, Scene};

#[test]
fn kinds_default_network_with_built_ins_alone() {
    walk(Product {
        install: |cluster| {
            usual::kind(cluster);
            Vec::new()
        },
        start: |_| Vec::new(),
        own: &["cat /etc/cni/net.d/10-kindnet.conflist"],
        has_host_ports: true,
    });
}

#[test]
fn k3s_default_network_with_built_ins_alone() {
    walk(Product {
        install: flannel::install_as_k3s,
        start: |node| vec![flannel::start(node)],
        own: &["ip -d link show flannel.1", "bridge fdb show dev flannel.1"],
        has_host_ports: true,
    });
}

#[test]
fn the_nodes_own_ranges_are_the_default_network_where_that_is_asked_for() {
    let cluster = Cluster::start(2);
    for node in cluster.nodes() {
        fs::remove_file(node.file("/etc/cni/net.d/10-bridge.conflist")).unwrap();
    }
    let scene = Scene::without_a_product(cluster, "podcidr");
    scene.hide_plugins(true);
    for node in ["n1", "n2"] {
        scene.make(&format!("new-{node}"), node, "lan,far", true);
    }
    scene.serves("new-n1", "new-n2");
    scene.serves_at_the_node("new-n1", "n1", "new-n2");
    for name in ["new-n1", "new-n2"] {
        scene.delete(name);
    }
}

fn walk(product: Product) {
    let mut scene = Scene::new(product);
    scene.hide_plugins(true);
    scene.pods_with_three_networks();
    scene.both_restart_in_both_orders();
    // Pods from before go as well: those that the plugins themselves have attached.
    scene.delete("old-n1");
    scene.hide_plugins(false);
    scene.goes();
}
