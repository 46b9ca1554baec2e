//! The default networks of distributions, with our built-in types alone: the plugins are taken from the nodes while we are there.

use std::fs;

use meta_cni_tests::cluster::Cluster;
use meta_cni_tests::cluster::neighbours::results::Subject;
use meta_cni_tests::cluster::neighbours::{flannel, usual};

use crate::scene::{Product, Scene, TUNNEL};

#[test]
fn kinds_default_network_with_built_ins_alone() {
    walk(Product {
        subject: Subject {
            product: "kind's default network (ptp, host-local, portmap)",
            programs: &["coredns"],
            tried_as: "default network",
            to_set: "nothing",
        },
        near: TUNNEL,
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
        subject: Subject {
            product: "k3s' default network (flannel, portmap, bandwidth)",
            programs: &["flannel", "coredns"],
            tried_as: "default network",
            to_set: "nothing",
        },
        near: TUNNEL,
        install: flannel::install_as_k3s,
        start: |node| vec![flannel::start(node)],
        own: &["ip -d link show flannel.1", "bridge fdb show dev flannel.1"],
        has_host_ports: true,
    });
}

#[test]
fn the_nodes_own_ranges_are_the_default_network_where_that_is_asked_for() {
    let subject = Subject {
        product: "podCIDR (kubenet, GCE)",
        programs: &[],
        tried_as: "default network, made by us",
        to_set: "`META_CNI_PRIMARY=podcidr`",
    };
    let cluster = Cluster::start(2);
    for node in cluster.nodes() {
        fs::remove_file(node.file("/etc/cni/net.d/10-bridge.conflist")).unwrap();
    }
    let scene = Scene::without_a_product(subject, cluster, &["META_CNI_PRIMARY=podcidr"]);
    scene.hide_plugins(true);
    for node in ["n1", "n2"] {
        scene.make(&format!("new-{node}"), node, "lan,far", true);
    }
    scene.serves("new-n1", "new-n2");
    scene.held("pods and Services over two nodes");
    scene.serves_at_the_node("new-n1", "n1", "new-n2");
    scene.held("`hostPort`");
    for name in ["new-n1", "new-n2"] {
        scene.delete(name);
    }
    scene.passed();
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
