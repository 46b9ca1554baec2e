//! `meta-cnictl connectivity test` with the pods that it makes: whom it reaches, and whom it tells that it does not.

use std::collections::BTreeSet;
use std::time::Duration;

use meta_cni_tests::cluster::node::IMAGE;
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::Bed;

/// Exit status, what was printed, and what was said on the way.
fn connectivity(bed: &Bed, flags: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(["connectivity", "test", "-n", &bed.namespace, "--image", IMAGE, "--count", "1"]).args(flags);
    command.arg("--kubeconfig").arg(bed.cluster.plane().kubeconfig());
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(300));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (finished.code, text(&finished.stdout), text(&finished.stderr))
}

/// Pairs of nodes, by whether one reached the other.
fn pairs(out: &str, is_good: bool) -> BTreeSet<(String, String)> {
    let report: Value = serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"));
    let pairs = report["pairs"].as_array().unwrap().iter().filter(|pair| pair["good"] == is_good);
    pairs.map(|pair| (pair["from"].as_str().unwrap().to_owned(), pair["to"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn connectivity_of_all_pairs_of_nodes_is_tested_and_what_is_cut_off_is_named() {
    let bed = Bed::new("connected");
    let overlay = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4350, "ipam": {"type": "blocks", "subnet": "10.153.0.0/24"}});
    bed.nad("blue", &overlay);
    let (code, out, said) = connectivity(&bed, &["blue", "-o", "json"]);
    assert_eq!(code, Some(0), "{out}{said}");
    let names: Vec<&str> = bed.cluster.nodes().iter().map(|node| node.name()).collect();
    let all: BTreeSet<_> =
        names.iter().flat_map(|one| names.iter().map(|other| ((*one).to_owned(), (*other).to_owned()))).collect();
    assert_eq!(pairs(&out, true), all, "{out}{said}");

    // n3 hears nothing of the overlay.
    let cut = bed.node("n3").space();
    cut.run("nft add table ip cut");
    cut.run("nft add chain ip cut input { type filter hook prerouting priority raw ; }");
    cut.run("nft add rule ip cut input udp dport 4789 drop");
    let (code, out, said) = connectivity(&bed, &["blue", "-o", "json"]);
    cut.run("nft delete table ip cut");
    assert_eq!(code, Some(1), "{out}{said}");
    let is_cut = |(from, to): &(String, String)| (from == "n3") != (to == "n3");
    assert_eq!(pairs(&out, false), all.into_iter().filter(is_cut).collect(), "{out}{said}");

    let (code, out, said) = connectivity(&bed, &["blue", "--node", "n1", "--node", "n2"]);
    assert!(code == Some(0) && out.ends_with("all reached: 4 pairs, 0 failed\n"), "{out}{said}");
    let (code, out, said) = connectivity(&bed, &["green"]);
    assert!(code == Some(2) && said.contains("connected/green"), "{out}{said}");
    // Nothing of any of them is left.
    assert_eq!(bed.api.list("/api/v1/namespaces/connected/pods"), Vec::<Value>::new());
    bed.clear();
}
