//! A link of a running pod is deleted on its node: the cluster hears of it, and by the switch the pod has it again. The pod is one
//! of a Deployment with devices, which is hot-plugged and loses its agent before.

use std::time::{Duration, Instant};

use meta_cni_tests::cluster::wait;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::devices::{Cards, VF, capacity, deployed, host_device, nad, told, undeployed};

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
fn a_deployment_with_devices_is_hot_plugged_loses_its_agent_is_repaired_and_goes() {
    let bed = Bed::new("repair");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VF, "4");
    for name in ["left", "right"] {
        nad(&bed, name, VF, &host_device());
    }
    bed.lan("a", 139);
    bed.lan("b", 148);
    bed.nad("red", &json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4370, "ipam": {"type": "blocks", "subnet": "10.149.0.0/24"}}));
    let mut pod = bed.pod_with("web", None, "left,a,right,b,red");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {VF: "2"}});
    let names = deployed(&bed, &pod, 2);
    for name in &names {
        assert_eq!(told(&bed.status(name)).len(), 2);
    }

    let networks = ["net1", "net2", "net3", "net4", "net5", "late"];
    let (web, well) = (&names[0], &names[1]);
    bed.plug(web, "left,a,right,b,red,a@late", &networks);
    bed.kill_agent("n2");
    bed.plug(well, "left,a,right,b,red,a@late", &networks);

    let shown = |name: &str| {
        let link = bed.exec(name, "cat /sys/class/net/net2/address");
        let addresses = bed.exec(name, "ip -4 -o addr show net2");
        (link, addresses.split_whitespace().nth(3).unwrap_or_default().to_owned())
    };
    let before = names.iter().map(|name| shown(name)).collect::<Vec<_>>();
    let index: u64 = bed.exec(web, "cat /sys/class/net/net2/iflink").trim().parse().unwrap();
    let space = bed.node("n2").space();
    let links: Value = serde_json::from_str(&space.run("ip -j link show")).unwrap();
    let is_port = |link: &&Value| link["ifindex"] == index;
    let port = links.as_array().unwrap().iter().find(is_port).unwrap()["ifname"].as_str().unwrap().to_owned();

    let began = Instant::now();
    space.run(&format!("ip link del {port}"));
    let said = bed.condition(web, "False");
    println!("told after {:?}", began.elapsed());
    assert_eq!(said["reason"], "Differs");
    assert!(said["message"].as_str().unwrap().contains("(net2): link net2 is missing in the pod"), "{said}");
    bed.event(web, "NetworksDiffer");

    let switch = |on: bool| {
        let keys = if on { json!({"repair": true}) } else { json!({}) };
        bed.api.patch(CONFIG, &json!({"data": {"node.json": keys.to_string()}})).unwrap();
    };
    switch(true);
    let began = Instant::now();
    let said = bed.condition(web, "True");
    println!("repaired {:?} after the switch", began.elapsed());
    assert_eq!(said["reason"], "AsRecorded");
    bed.event(web, "RepairedInterface");
    assert_eq!(names.iter().map(|name| shown(name)).collect::<Vec<_>>(), before);
    let other = bed.api.get(&bed.path(well)).unwrap();
    assert!(!other["status"]["conditions"].to_string().contains("meta-cni.io/"), "{other}");
    switch(false);

    undeployed(&bed, "web", &names);
    assert_eq!(cards.links(), ["vf0", "vf1", "vf2", "vf3"], "they come home");
    drop(cards);
    bed.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/repair/network-attachment-definitions/red").unwrap();
    bed.forgotten("4789-4370");
    bed.clear();
}
