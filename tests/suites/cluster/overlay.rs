//! Overlays from one definition: nobody lists a node, and nobody gives an address.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::{Node, wait};
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, pings};

/// An overlay with addresses of one pool.
fn overlay(vni: u32, subnet: &str) -> Value {
    json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": vni, "ipam": {"type": "blocks", "subnet": subnet}})
}

impl Bed {
    /// The objects of a kind of ours that belong to a network.
    fn of_network(&self, kind: &str, network: &str) -> Vec<Value> {
        self.api.list(&format!("/apis/meta-cni.io/v1alpha1/{kind}?labelSelector=meta-cni.io/network={network}"))
    }

    /// The first address of a pod's first further network.
    fn address(&self, pod: &str) -> String {
        self.status(pod)[1]["ips"][0].as_str().unwrap().to_owned()
    }

    /// Does one echo come back within a second? Nothing is sent before it: the first packet must arrive.
    pub fn answers(&self, pod: &str, address: &str) -> bool {
        pings(&self.cluster, &self.namespace, pod, &["-W", "1", address])
    }

    /// Waits until nothing of a network is left with the API server.
    pub fn forgotten(&self, network: &str) {
        wait::until(&format!("end of network {network}"), PATIENCE, || {
            let kinds = ["overlaymembers", "addressblocks"];
            let mut left: Vec<String> = kinds
                .iter()
                .flat_map(|kind| self.of_network(kind, network))
                .map(|one| one["metadata"].to_string())
                .collect();
            let claim = self.api.get(&format!("/apis/meta-cni.io/v1alpha1/vniclaims/{network}"));
            left.extend(claim.ok().map(|claim| claim.to_string()));
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
}

fn names(objects: &[Value], key: &str) -> BTreeSet<String> {
    objects.iter().map(|object| object["spec"][key].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_overlay_is_one_definition() {
    let bed = Bed::new("segment");
    let began = Instant::now();
    bed.nad("net", &overlay(4300, "10.43.0.0/16"));
    for number in 1..=2 {
        bed.api.apply(&bed.pod_with(&format!("p{number}"), Some(&format!("n{number}")), "net")).unwrap();
    }
    let second = bed.address("p2");
    bed.ready("p1");
    assert!(bed.answers("p1", &second), "the first packet from p1 to {second}");
    println!("from apply to a ping across nodes: {} ms", began.elapsed().as_millis());

    bed.api.apply(&bed.pod_with("p3", Some("n3"), "net")).unwrap();
    let addresses: Vec<String> = (1..=3).map(|number| bed.address(&format!("p{number}"))).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 3, "{addresses:?}");
    for (from, to) in [("p3", 0), ("p3", 1), ("p1", 2), ("p2", 2)] {
        assert!(bed.answers(from, &addresses[to]), "{from} to {}", addresses[to]);
    }
    let nodes: BTreeSet<String> = bed.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    assert_eq!(names(&bed.of_network("overlaymembers", "4789-4300"), "node"), nodes);
    assert_eq!(bed.of_network("addressblocks", "4789-4300").len(), 3);
    let claim = bed.api.get("/apis/meta-cni.io/v1alpha1/vniclaims/4789-4300").unwrap();
    assert_eq!(
        (&claim["spec"]["owner"]["namespace"], &claim["spec"]["owner"]["name"]),
        (&json!("segment"), &json!("net"))
    );
    assert_eq!(claim["spec"]["mtu"], 1450, "{claim}");

    // The pair is the definition's.
    let refusal =
        bed.api.apply(&crate::bed::definition("default", "thief", &overlay(4300, "10.99.0.0/24").to_string()));
    let refusal = refusal.unwrap_err();
    assert!(refusal.message.contains("segment/net"), "{refusal}");

    bed.delete("p3");
    wait::until("end of a membership", PATIENCE, || {
        let members = names(&bed.of_network("overlaymembers", "4789-4300"), "node");
        if members.contains("n3") { Err(format!("{members:?}")) } else { Ok(()) }
    });
    assert!(bed.answers("p1", &second));
    for pod in ["p1", "p2"] {
        bed.delete(pod);
    }
    bed.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/segment/network-attachment-definitions/net").unwrap();
    bed.forgotten("4789-4300");
    bed.clear();
}

#[test]
fn two_networks_with_the_same_addresses_never_meet() {
    let bed = Bed::new("twins");
    // Of two tenants: in one namespace the second would be refused.
    bed.nad("red", &overlay(4301, "10.44.0.0/24"));
    bed.nad_in("default", "blue", &overlay(4302, "10.44.0.0/24"));
    // Nodes and addresses in common, and one of each colour alone on a node.
    for (name, node, network) in
        [("red1", "n1", "red"), ("red2", "n2", "red"), ("blue1", "n1", "default/blue"), ("blue3", "n3", "default/blue")]
    {
        bed.api.apply(&bed.pod_with(name, Some(node), network)).unwrap();
    }
    let [red1, red2, blue1, blue3] = ["red1", "red2", "blue1", "blue3"].map(|pod| bed.address(pod));
    assert!(bed.answers("red1", &red2) && bed.answers("blue3", &blue1));
    assert!(![&red1, &red2].contains(&&blue3), "blue3 has an address that no red pod has: {blue3}");
    assert!(!bed.answers("red1", &blue3) && !bed.answers("red2", &blue3));
    assert!(!bed.answers("blue3", &red2) || blue1 == red2);
    let sockets = bed.node("n1").space().run("ss -lun");
    assert_eq!(sockets.lines().filter(|line| line.contains(":4789 ")).count(), 1, "both on one socket: {sockets}");
    bed.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/blue").unwrap();
    bed.clear();
}

#[test]
fn what_is_deleted_or_changed_by_hand_comes_back() {
    let bed = Bed::new("heal");
    bed.nad("net", &overlay(4303, "10.45.0.0/16"));
    for number in 1..=2 {
        bed.api.apply(&bed.pod_with(&format!("p{number}"), Some(&format!("n{number}")), "net")).unwrap();
    }
    let second = bed.address("p2");
    bed.ready("p1");
    let run = |line: &str| bed.node("n1").space().run(line);
    let entries = |node: &Node| {
        // Of all devices: this one may be gone at the moment.
        let fdb = node.space().run("bridge fdb show");
        let is_of = |line: &&str| line.contains(" dev vx4303 ") && line.contains(" dst ");
        let mut lines: Vec<String> = fdb.lines().filter(is_of).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(bed.answers("p1", &second));
    let before = entries(bed.node("n1"));
    assert!(!before.is_empty());
    let station = before.iter().find(|line| line.starts_with("0a:58:")).unwrap().split(' ').next().unwrap().to_owned();
    for hurt in [
        "ip link del vx4303".to_owned(),
        "ip link set vx4303 nomaster".to_owned(),
        "ip link set vx4303 down".to_owned(),
        "bridge fdb del 00:00:00:00:00:00 dev vx4303".to_owned(),
        format!("bridge fdb del {station} dev vx4303"),
        "ip neigh flush dev bx4303 nud permanent".to_owned(),
        "bridge link set dev vx4303 neigh_suppress off learning on".to_owned(),
    ] {
        run(&hurt);
        let began = Instant::now();
        wait::until(&format!("heal of {hurt}"), Duration::from_secs(10), || {
            let links = run("ip -o -d link");
            let link = links.lines().find(|line| line.contains(": vx4303: ")).unwrap_or_default();
            let is_whole =
                link.contains("master bx4303") && link.contains("LOWER_UP") && link.contains("neigh_suppress on");
            let now = entries(bed.node("n1"));
            if is_whole && now == before { Ok(()) } else { Err(format!("{link}\n{now:#?}\nbefore {before:#?}")) }
        });
        println!("{hurt}: {} ms", began.elapsed().as_millis());
        assert!(bed.answers("p1", &second), "after {hurt}");
    }
    bed.clear();
}

#[test]
fn a_pool_is_used_to_its_last_address_and_then_says_who_holds_it() {
    let bed = Bed::new("last");
    let mut net = overlay(4304, "10.46.0.0/29");
    net["ipam"]["blockSize"] = json!(4);
    bed.nad("net", &net);
    // Six addresses, in two blocks: the third node gets what another one gives up.
    for number in 1..=6 {
        let node = format!("n{}", 1 + number % 3);
        bed.api.apply(&bed.pod_with(&format!("p{number}"), Some(&node), "net")).unwrap();
    }
    let all: Vec<String> = (1..=6).map(|number| bed.address(&format!("p{number}"))).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 6, "{all:?}");
    bed.api.apply(&bed.pod_with("more", Some("n1"), "net")).unwrap();
    let said = bed.event("more", "10.46.0.0/29");
    assert!(said.contains("6") && said.contains("n2") && said.contains("n3"), "{said}");
    bed.delete("p1");
    bed.status("more");
    bed.clear();
}

#[test]
fn one_pool_serves_a_bridge_of_every_node() {
    let bed = Bed::new("pool");
    let ipam = json!({"type": "blocks", "ranges": [[{"subnet": "10.47.0.0/24"}], [{"subnet": "fd47::/64"}]]});
    bed.nad("lan", &json!({"cniVersion": "1.1.0", "type": "bridge", "bridge": "lan47", "ipam": ipam}));
    bed.api.apply(&bed.deployment("web", 9, "lan")).unwrap();
    let pods = bed.replicas("app=web", 9);
    let ips: Vec<String> = pods
        .iter()
        .flat_map(|pod| crate::bed::status_of(pod).unwrap()[1]["ips"].as_array().unwrap().clone())
        .map(|ip| ip.as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ips.len(), ips.iter().collect::<BTreeSet<_>>().len()), (18, 18), "{ips:?}");
    bed.api.delete("/apis/apps/v1/namespaces/pool/deployments/web").unwrap();
    wait::until("blocks that are given back", PATIENCE, || match bed.of_network("addressblocks", "pool.lan").len() {
        0 => Ok(()),
        left => Err(format!("{left} blocks")),
    });
    bed.clear();
}

#[test]
fn a_routed_overlay_reaches_every_node_and_a_gateway_leads_out() {
    let bed = Bed::new("routed");
    let mut routed = overlay(4305, "10.48.0.0/16");
    routed["mode"] = json!("l3");
    bed.nad("net", &routed);
    for number in 1..=3 {
        bed.api.apply(&bed.pod_with(&format!("p{number}"), Some(&format!("n{number}")), "net")).unwrap();
    }
    let addresses: Vec<String> = (1..=3).map(|number| bed.address(&format!("p{number}"))).collect();
    for (from, to) in [("p1", 1), ("p2", 2), ("p3", 0), ("p1", 2)] {
        assert!(bed.answers(from, &addresses[to]), "{from} to {}", addresses[to]);
    }

    // The gateway has one address and one MAC address on all nodes, and sends under the node's address what leaves the overlay.
    let mut open = overlay(4306, "10.49.0.0/16");
    let node = bed.api.get("/api/v1/nodes/n3").unwrap();
    let of_node = node["status"]["addresses"].as_array().unwrap().iter().find(|one| one["type"] == "InternalIP");
    let away = of_node.unwrap()["address"].as_str().unwrap().to_owned();
    open["isGateway"] = json!(true);
    open["ipMasq"] = json!(true);
    open["ipam"]["routes"] = json!([{"dst": format!("{away}/32")}]);
    bed.nad("open", &open);
    for number in 1..=2 {
        bed.api.apply(&bed.pod_with(&format!("g{number}"), Some(&format!("n{number}")), "open")).unwrap();
    }
    let macs = ["g1", "g2"].map(|pod| {
        bed.ready(pod);
        assert!(bed.answers(pod, "10.49.0.1"), "{pod}: the gateway");
        assert!(
            pings(&bed.cluster, &bed.namespace, pod, &["-W", "1", "-I", "net1", &away]),
            "{pod}: {away} by the gateway"
        );
        let line = bed.exec(pod, "ip neigh show 10.49.0.1 dev net1");
        line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
    });
    assert!(!macs[0].is_empty() && macs[0] == macs[1], "{macs:?}");
    bed.clear();
}

#[test]
fn an_ipam_claim_keeps_its_address_over_pods_and_nodes() {
    let bed = Bed::new("kept");
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/ipam-claims.yaml");
    bed.cluster.plane().kubectl(["apply", "-f", deploy]);
    bed.nad("net", &overlay(4307, "10.50.0.0/24"));
    let claim = json!({"apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim", "metadata": {"namespace": "kept", "name": "vm"},
        "spec": {"network": "net", "interface": "net1"}});
    wait::until("kind of IPAMClaims", PATIENCE, || bed.api.apply(&claim).map_err(|refusal| refusal.to_string()));
    let selection = json!([{"name": "net", "ipam-claim-reference": "vm"}]).to_string();
    let of_vm = |name: &str, node: &str| bed.api.apply(&bed.pod_with(name, Some(node), &selection)).unwrap();
    let of_pod = |pod: &str| {
        let status = bed.status(pod);
        (status[1]["ips"][0].as_str().unwrap().to_owned(), status[1]["mac"].as_str().unwrap().to_owned())
    };
    of_vm("vm-1", "n1");
    bed.api.apply(&bed.pod_with("other", Some("n3"), "net")).unwrap();
    let first = of_pod("vm-1");
    bed.ready("other");
    assert!(bed.answers("other", &first.0));
    wait::until("status of the claim", PATIENCE, || {
        let claim = bed.api.get("/apis/k8s.cni.cncf.io/v1alpha1/namespaces/kept/ipamclaims/vm").unwrap();
        let told = claim["status"]["ips"][0].as_str().unwrap_or_default().to_owned();
        if told == format!("{}/24", first.0) { Ok(()) } else { Err(claim.to_string()) }
    });
    // A migration: the second pod has the address while the first one runs, and is reached when that one goes.
    of_vm("vm-2", "n2");
    assert_eq!(of_pod("vm-2"), first);
    bed.delete("vm-1");
    wait::until("the second pod at the address", PATIENCE, || {
        if bed.answers("other", &first.0) { Ok(()) } else { Err("no answer".to_owned()) }
    });
    bed.delete("vm-2");
    of_vm("vm-3", "n3");
    assert_eq!(of_pod("vm-3"), first);
    bed.api.delete("/apis/k8s.cni.cncf.io/v1alpha1/namespaces/kept/ipamclaims/vm").unwrap();
    bed.clear();
}
