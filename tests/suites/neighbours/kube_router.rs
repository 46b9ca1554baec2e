//! kube-router: routes by BGP, NetworkPolicy, and a configuration that it rewrites in place.

use meta_cni_tests::cluster::neighbours::kube_router::{install, start};
use meta_cni_tests::cluster::pods::PATIENCE;
use meta_cni_tests::cluster::wait;
use serde_json::json;

use crate::scene::{PORT, Product, SHOP, Scene};

#[test]
fn kube_router_keeps_routes_and_policies() {
    let mut scene = Scene::new(Product {
        install,
        start,
        own: &["ip -4 route show proto 17", "ip -4 route show proto bgp"],
        has_host_ports: false,
    });
    scene.pods_with_three_networks();
    a_policy_holds_on_eth0(&scene);
    scene.both_restart_in_both_orders();
    scene.goes();
}

/// A policy that nobody passes ends what comes by eth0, and nothing else: further networks are not the default network's.
fn a_policy_holds_on_eth0(scene: &Scene) {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": SHOP, "name": "closed"},
        "spec": {"podSelector": {"matchLabels": {"pod": "new-n2"}}, "policyTypes": ["Ingress"]},
    });
    let addresses = scene.addresses("new-n2");
    scene.api.apply(&policy).unwrap();
    wait::until("policy that holds", PATIENCE, || match scene.page("new-n1", &addresses[0], PORT) {
        Err(_) => Ok(()),
        Ok(page) => Err(page),
    });
    for address in &addresses[2..] {
        scene.pings("new-n1", address).unwrap();
    }
    scene.api.delete(&format!("/apis/networking.k8s.io/v1/namespaces/{SHOP}/networkpolicies/closed")).unwrap();
    wait::until("policy that is gone", PATIENCE, || scene.page("new-n1", &addresses[0], PORT));
}
