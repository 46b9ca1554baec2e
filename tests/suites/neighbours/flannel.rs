//! flannel: its subnet file, its plugin, its device.

use std::fs;

use meta_cni_tests::cluster::neighbours::flannel::{Backend, SUBNET_FILE, install, start};
use meta_cni_tests::cluster::neighbours::results::Subject;

use crate::scene::{Product, Scene, TUNNEL};

const FLANNEL: Subject = Subject {
    product: "",
    programs: &["flannel", "flannel's plugin", "coredns"],
    tried_as: "default network",
    to_set: "nothing",
};

#[test]
fn flannel_with_vxlan_keeps_its_device() {
    walk(Product {
        subject: Subject { product: "flannel, VXLAN", ..FLANNEL },
        near: TUNNEL,
        install: |cluster| install(cluster, Backend::Vxlan),
        start: |node| vec![start(node)],
        own: &[
            "ip -d link show flannel.1",
            "bridge fdb show dev flannel.1",
            "ip neigh show dev flannel.1 nud permanent",
        ],
        has_host_ports: true,
    });
}

#[test]
fn flannel_with_host_gw_keeps_its_routes() {
    walk(Product {
        subject: Subject { product: "flannel, host-gw", ..FLANNEL },
        near: TUNNEL,
        install: |cluster| install(cluster, Backend::HostGw),
        start: |node| vec![start(node)],
        own: &["ip -4 route show 10.244.0.0/16 table main"],
        has_host_ports: true,
    });
}

fn walk(product: Product) {
    let mut scene = Scene::new(product);
    scene.pods_with_three_networks();
    scene.both_restart_in_both_orders();
    scene.own_is_as_before();
    without_a_subnet(&mut scene);
    scene.goes();
}

/// flanneld is away and a reboot has taken its file: a pod waits, says for what, and comes when flannel does.
fn without_a_subnet(scene: &mut Scene) {
    scene.end_product();
    fs::remove_file(scene.node("n1").file(SUBNET_FILE)).unwrap();
    scene.ask_for("waits", "n1", "lan", false);
    scene.event("waits", SUBNET_FILE);
    scene.start_product();
    scene.ready("waits");
    scene.serves("waits", "new-n2");
    scene.delete("waits");
    scene.held("daemon away: a pod waits, its event names the file");
}
