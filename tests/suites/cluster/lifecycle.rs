//! From the installation to the uninstallation, on clusters of their own: a node is as it was, whether it was drained or not.

use meta_cni_tests::cluster::snapshot::{Snapshot, as_before, snapshot};
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{
    AGENTS, PATIENCE, UNINSTALL, count, definition, deploy, gone, image, install, is_ready, lan, namespace, pod, ready,
    remove_installation, wait_for_agents, wait_for_webhook, words,
};

pub const SHOP: &str = "shop";

/// A cluster whose nodes have attached and detached a pod each, so that their own network has what it keeps; and each node as it is.
pub fn used_cluster(nodes: u8) -> (Cluster, Vec<Snapshot>) {
    let cluster = Cluster::start(nodes);
    let api = cluster.api();
    namespace(&api, SHOP);
    for node in cluster.nodes() {
        come_and_go(&api, "first", node);
    }
    let before = cluster.nodes().iter().map(|node| settled(&api, node)).collect();
    cluster.import(&image());
    (cluster, before)
}

/// A pod without further networks that is made, and deleted.
fn come_and_go(api: &Api, name: &str, node: &Node) {
    let name = format!("{name}-{}", node.name());
    api.apply(&pod(SHOP, &name, Some(node.name()))).unwrap();
    ready(api, SHOP, &name);
    delete(api, &name);
}

pub fn delete(api: &Api, name: &str) {
    let path = path(name);
    api.delete(&path).unwrap();
    gone(api, &path);
}

pub fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{SHOP}/pods/{name}")
}

/// What is there once no pod's link is.
fn settled(api: &Api, node: &Node) -> Snapshot {
    wait::until("node without pods", PATIENCE, || {
        let now = snapshot(api, node);
        if now.iter().any(|line| line.starts_with("link veth")) { Err("there are veths".to_owned()) } else { Ok(now) }
    })
}

/// Nothing of ours is on a node, whatever pods with nothing but the cluster's network are.
pub fn given_back(node: &Node) {
    for path in ["/opt/cni/bin/meta-cni", "/etc/cni/net.d/00-meta-cni.conflist", "/var/lib/meta-cni", "/run/meta-cni"] {
        assert!(!node.file(path).exists(), "{path} on {}", node.name());
    }
    let links = node.space().run("ip -o link");
    assert!(!["lan146", "guarded", "vxlan"].iter().any(|link| links.contains(link)), "{links}");
}

/// Definitions that leave something in each corner of a node, and a pod with all of them.
pub fn make_networks(api: &Api) {
    let overlay = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4711, "ipam": {"type": "blocks", "subnet": "10.47.0.0/24"}});
    let guarded = json!({
        "cniVersion": "1.1.0", "type": "bridge", "bridge": "guarded", "isGateway": true, "ipMasq": true, "macspoofchk": true,
        "ipMasqBackend": "nftables", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.147.0.0/24"}]]},
    });
    for (name, config) in [("lan", lan(146)), ("overlay", overlay), ("guarded", guarded)] {
        let object = definition(SHOP, name, &config.to_string());
        wait::until("definition that is stored", PATIENCE, || {
            api.apply(&object).map_err(|refusal| refusal.to_string())
        });
    }
}

pub fn full_pod(name: &str, node: &Node) -> Value {
    let mut pod = pod(SHOP, name, Some(node.name()));
    pod["metadata"]["annotations"][NETWORKS] = json!("lan,overlay,guarded");
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8047}]);
    pod
}

#[test]
fn what_is_uninstalled_leaves_each_node_as_it_was_drained_or_not() {
    let (mut cluster, before) = used_cluster(2);
    let api = cluster.api();
    install(&cluster);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    make_networks(&api);
    for node in cluster.nodes() {
        let name = format!("full-{}", node.name());
        api.apply(&full_pod(&name, node)).unwrap();
        ready(&api, SHOP, &name);
    }
    let (running, drained) = (&cluster.nodes()[0], &cluster.nodes()[1]);

    // Just without its DaemonSet: what needs no agent goes on, what needs one waits and says so, and the configuration stays.
    api.delete(AGENTS).unwrap();
    gone(&api, AGENTS);
    for node in cluster.nodes() {
        come_and_go(&api, "plain", node);
        assert!(node.file("/etc/cni/net.d/00-meta-cni.conflist").exists());
    }
    let mut waits = full_pod("waits", drained);
    // The node's port is the other pod's.
    waits["spec"]["containers"][0].as_object_mut().unwrap().remove("ports");
    api.apply(&waits).unwrap();
    wait::until("event of a pod that waits", PATIENCE, || {
        let events = api.list(&format!("/api/v1/namespaces/{SHOP}/events?fieldSelector=involvedObject.name=waits"));
        let text = Value::Array(events).to_string();
        if text.contains("agent.sock") { Ok(()) } else { Err(text) }
    });
    assert!(!is_ready(&api.get(&path("waits")).unwrap()));
    delete(&api, "waits");
    delete(&api, &format!("full-{}", drained.name()));

    cluster.plane().kubectl(["apply", "-k", &deploy("uninstall")]);
    wait::until("drained node that is given back", PATIENCE, || match count(&api, UNINSTALL)? {
        (1, 2) => Ok(()),
        other => Err(format!("{other:?}\n{}", words(&api))),
    });
    given_back(drained);
    // The other one keeps the plugin, names the pod, and takes pods all the same.
    let said = words(&api);
    assert!(said.contains("sandboxes that still hold further networks: 1;") && said.contains("shop/full-n1"), "{said}");
    assert!(running.file("/opt/cni/bin/meta-cni").exists());
    assert!(!running.file("/etc/cni/net.d/00-meta-cni.conflist").exists());
    come_and_go(&api, "meanwhile", running);
    let full = api.get(&path("full-n1")).unwrap();
    assert!(is_ready(&full), "{full}");

    delete(&api, "full-n1");
    wait::until("node that is given back", PATIENCE, || match count(&api, UNINSTALL)? {
        (2, 2) => Ok(()),
        other => Err(format!("{other:?}\n{}", words(&api))),
    });
    remove_installation(&cluster);
    for (node, before) in cluster.nodes().iter().zip(&before) {
        as_before(&api, node, before);
        come_and_go(&api, "after", node);
    }
    // No object of anybody has gone with them.
    assert_eq!(
        api.list(&format!("/apis/k8s.cni.cncf.io/v1/namespaces/{SHOP}/network-attachment-definitions")).len(),
        3
    );
}
