//! A link of a running pod is deleted on its node: the cluster hears of it, and by the switch the pod has it again.

use std::time::{Duration, Instant};

use meta_cni_tests::cluster::wait;
use serde_json::{Value, json};

use crate::bed::Bed;

/// The time between two comparisons behind a change of the ConfigMap, which takes a minute and more.
const PERIOD: Duration = Duration::from_secs(360);
const CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/meta-cni";

impl Bed {
    fn condition(&self, name: &str, status: &str) -> Value {
        wait::until(&format!("condition {status}"), PERIOD, || {
            let pod = self.api.get(&self.path(name)).map_err(|e| e.to_string())?;
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ours = conditions.into_iter().find(|one| one["type"] == "meta-cni.io/NetworksReady");
            ours.filter(|one| one["status"] == status).ok_or_else(|| pod["status"]["conditions"].to_string())
        })
    }
}

#[test]
fn a_link_that_is_deleted_on_a_node_is_told_of_and_repaired_with_its_addresses() {
    let bed = Bed::new("repair");
    bed.lan("a", 139);
    for name in ["web", "well"] {
        bed.api.apply(&bed.pod_with(name, Some("n2"), "a")).unwrap();
        bed.status(name);
    }
    let shown = |name: &str| {
        let link = bed.exec(name, "cat /sys/class/net/net1/address");
        let addresses = bed.exec(name, "ip -4 -o addr show net1");
        (link, addresses.split_whitespace().nth(3).unwrap_or_default().to_owned())
    };
    let (before, well) = (shown("web"), shown("well"));
    let index: u64 = bed.exec("web", "cat /sys/class/net/net1/iflink").trim().parse().unwrap();
    let space = bed.node("n2").space();
    let links: Value = serde_json::from_str(&space.run("ip -j link show")).unwrap();
    let is_port = |link: &&Value| link["ifindex"] == index;
    let port = links.as_array().unwrap().iter().find(is_port).unwrap()["ifname"].as_str().unwrap().to_owned();

    let began = Instant::now();
    space.run(&format!("ip link del {port}"));
    let told = bed.condition("web", "False");
    println!("told after {:?}", began.elapsed());
    assert_eq!(told["reason"], "Differs");
    assert!(told["message"].as_str().unwrap().contains("(net1): link net1 is missing in the pod"), "{told}");
    bed.event("web", "NetworksDiffer");

    let switch = |on: bool| {
        let keys = if on { json!({"repair": true}) } else { json!({}) };
        bed.api.patch(CONFIG, &json!({"data": {"node.json": keys.to_string()}})).unwrap();
    };
    switch(true);
    let began = Instant::now();
    let told = bed.condition("web", "True");
    println!("repaired {:?} after the switch", began.elapsed());
    assert_eq!(told["reason"], "AsRecorded");
    bed.event("web", "RepairedInterface");
    assert_eq!(shown("web"), before);
    assert_eq!(shown("well"), well);
    let pod = bed.api.get(&bed.path("well")).unwrap();
    assert!(!pod["status"]["conditions"].to_string().contains("meta-cni.io/"), "{pod}");
    switch(false);
    bed.clear();
}
