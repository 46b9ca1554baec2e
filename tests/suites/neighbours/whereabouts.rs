//! Whereabouts: the real program beside us with its own kinds, and its addresses taken over by our blocks while its pods run.

use std::collections::BTreeSet;
use std::fs;

use meta_cni_tests::cluster::installation::{image, install, wait_for_agents, wait_for_webhook};
use meta_cni_tests::cluster::neighbours::results::{Run, Subject};
use meta_cni_tests::cluster::neighbours::{say, whereabouts};
use meta_cni_tests::cluster::pods::{self, PATIENCE, definition, gone, namespace};
use meta_cni_tests::cluster::{Api, Cluster, wait};
use serde_json::json;

use crate::scene::SHOP;

const POOLS: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1/ippools";

/// Makes a pod of the network, and gives its address there.
fn attach(api: &Api, name: &str, node: &str) -> String {
    pods::attach(api, SHOP, name, node, "shared")
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{SHOP}/pods/{name}")
}

fn detach(api: &Api, name: &str) {
    api.delete(&path(name)).unwrap();
    gone(api, &path(name));
}

/// Pods that Whereabouts has given an address.
fn holders(api: &Api) -> BTreeSet<String> {
    let pools = api.list(POOLS);
    let allocations = pools.iter().filter_map(|pool| pool["spec"]["allocations"].as_object());
    allocations.flat_map(|all| all.values()).filter_map(|one| Some(one["podref"].as_str()?.to_owned())).collect()
}

fn held_by(api: &Api, pods: &[&str]) {
    let want: BTreeSet<String> = pods.iter().map(|pod| format!("{SHOP}/{pod}")).collect();
    wait::until(&format!("allocations of {want:?}"), PATIENCE, || {
        let holders = holders(api);
        if holders == want { Ok(()) } else { Err(format!("{holders:?}")) }
    });
}

#[test]
fn whereabouts_gives_addresses_and_blocks_take_them_over() {
    let run = Run::begin(Subject {
        product: "Whereabouts",
        programs: &["whereabouts"],
        tried_as: "address management of a further network; then its addresses taken over by [blocks](delegates/whereabouts.md)",
        to_set: "`\"whereabouts\": \"take-over\"`, then `\"blocks\"`, where blocks are wanted",
    });
    let mut cluster = Cluster::start(2);
    let api = cluster.api();
    namespace(&api, SHOP);
    cluster.import(&image());
    install(&cluster);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    whereabouts::install(&cluster);
    let network = json!({
        "cniVersion": "1.0.0", "type": "bridge", "bridge": "shared0",
        "ipam": {"type": "whereabouts", "range": "192.168.160.0/24", "gateway": "192.168.160.1"},
    });
    let network = definition(SHOP, "shared", &network.to_string());
    wait::until("definition that is stored", PATIENCE, || api.apply(&network).map_err(|refusal| refusal.to_string()));

    // The program, called as any other: one address space for both nodes.
    let addresses: Vec<String> =
        [("one", "n1"), ("two", "n2"), ("three", "n1")].map(|(name, node)| attach(&api, name, node)).into();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 3, "{addresses:?}");
    held_by(&api, &["one", "two", "three"]);
    detach(&api, "three");
    held_by(&api, &["one", "two"]);

    run.held("one address space over two nodes, given back with the pod");

    // Taken over: what running pods hold is nobody else's, and a pod that goes gives its address back to the pool.
    say(&cluster, &json!({"whereabouts": "take-over"}));
    let mut given = BTreeSet::from([addresses[0].clone(), addresses[1].clone()]);
    for number in 0..6 {
        let address = attach(&api, &format!("new{number}"), ["n1", "n2"][number % 2]);
        assert!(given.insert(address.clone()), "{address} is held twice: {given:?}");
    }
    held_by(&api, &["one", "two"]);
    detach(&api, "one");
    held_by(&api, &["two"]);
    detach(&api, "two");
    held_by(&api, &[]);

    run.held("taken over by blocks while its pods run: no address twice, its pool empties");

    // And without the product.
    say(&cluster, &json!({"whereabouts": "blocks"}));
    for node in cluster.nodes() {
        fs::remove_file(node.file("/opt/cni/bin/whereabouts")).unwrap();
    }
    cluster.plane().kubectl([
        "delete",
        "crd",
        "ippools.whereabouts.cni.cncf.io",
        "nodeslicepools.whereabouts.cni.cncf.io",
    ]);
    let address = attach(&api, "after", "n1");
    assert!(given.insert(address.clone()) || addresses[..2].contains(&address), "{address} is held twice: {given:?}");
    for name in ["after", "new0", "new1", "new2", "new3", "new4", "new5"] {
        detach(&api, name);
    }
    run.held("blocks go on without it");
    run.passed();
}
