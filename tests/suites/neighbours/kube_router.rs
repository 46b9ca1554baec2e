//! kube-router: routes by BGP, NetworkPolicy, and a configuration that it rewrites in place. And its policies alone, on flannel's network.

use meta_cni_tests::cluster::neighbours::results::Subject;
use meta_cni_tests::cluster::neighbours::{flannel, kube_router};

use crate::scene::{Product, Scene, TUNNEL};

#[test]
fn kube_router_keeps_routes_and_policies() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "kube-router (BGP, NetworkPolicy; Services by kube-proxy)",
            programs: &["kube-router", "coredns"],
            tried_as: "default network",
            to_set: "nothing",
        },
        near: TUNNEL,
        install: kube_router::install,
        start: |node| vec![kube_router::start(node)],
        own: &["ip -4 route show proto 17", "ip -4 route show proto bgp"],
        has_host_ports: false,
    });
    scene.pods_with_three_networks();
    scene.a_policy_holds_on_eth0();
    scene.both_restart_in_both_orders();
    scene.goes();
}

#[test]
fn one_products_network_and_anothers_policies() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "flannel with kube-router's policies (Canal's split)",
            programs: &["flannel", "flannel's plugin", "kube-router", "coredns"],
            tried_as: "default network",
            to_set: "nothing",
        },
        near: TUNNEL,
        install: |cluster| {
            let mut daemons = flannel::install(cluster, flannel::Backend::Vxlan);
            daemons.extend(kube_router::install_firewall(cluster));
            daemons
        },
        start: |node| vec![flannel::start(node), kube_router::start_firewall(node)],
        own: &["ip -d link show flannel.1", "bridge fdb show dev flannel.1"],
        has_host_ports: true,
    });
    scene.pods_with_three_networks();
    scene.a_policy_holds_on_eth0();
    scene.both_restart_in_both_orders();
    scene.goes();
}
