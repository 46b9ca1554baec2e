//! Networks of running pods come and go with their annotations.

use std::time::Instant;

use meta_cni_tests::cluster::wait;
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, status_of};

impl Bed {
    /// Edits the networks of a pod.
    fn edit(&self, name: &str, networks: &str) -> Result<Value, String> {
        let patch = json!({"metadata": {"annotations": {NETWORKS: networks}}});
        self.api.patch(&self.path(name), &patch).map_err(|refusal| refusal.to_string())
    }

    /// Edits them and waits until the status has these interfaces behind the default network's.
    pub fn plug(&self, name: &str, networks: &str, want: &[&str]) -> Vec<Value> {
        let began = Instant::now();
        self.edit(name, networks).unwrap();
        let status = wait::until(&format!("pod {name} with {want:?}"), PATIENCE, || {
            let pod = self.api.get(&self.path(name)).map_err(|e| e.to_string())?;
            let status = status_of(&pod).unwrap_or_default();
            let names: Vec<&str> = status.iter().skip(1).filter_map(|entry| entry["interface"].as_str()).collect();
            if names == want { Ok(status) } else { Err(format!("{names:?}")) }
        });
        println!("{networks:?}: {:?} until the status says so", began.elapsed());
        status
    }

    /// The names of the links in a pod, but for lo.
    pub fn links(&self, name: &str) -> Vec<String> {
        let listed = self.exec(name, "ls /sys/class/net");
        listed.split_whitespace().filter(|link| *link != "lo").map(str::to_owned).collect()
    }
}

#[test]
fn an_edit_of_a_running_pod_attaches_and_detaches() {
    let bed = Bed::new("hotplug");
    bed.lan("a", 130);
    bed.lan("b", 131);
    bed.api.apply(&bed.pod("web", Some("n1"))).unwrap();
    bed.status("web");
    let default_route =
        || bed.exec("web", "ip route").lines().find(|line| line.starts_with("default")).map(str::to_owned);
    let route = default_route();

    let status = bed.plug("web", "a", &["net1"]);
    let address = status[1]["ips"][0].as_str().unwrap().to_owned();
    assert!(bed.exec("web", "ip -o addr show net1").contains(&address));
    bed.event("web", "Add net1");
    let status = bed.plug("web", "a,a@x", &["net1", "x"]);
    let kept = status[2].clone();
    // Of two attachments of one network, the one that is not named any more goes, and the other is not touched.
    let status = bed.plug("web", "a@x", &["x"]);
    assert_eq!(status[1], kept);
    assert_eq!(bed.links("web"), ["eth0", "x"]);
    bed.event("web", "Remove net1");

    let elements = json!([{"name": "a", "interface": "x"}, {"name": "b", "interface": "pod37a8eec1ce1", "mac": "02:00:00:00:01:31"}]);
    bed.plug("web", &elements.to_string(), &["x", "pod37a8eec1ce1"]);
    assert!(bed.exec("web", "ip -o link show pod37a8eec1ce1").contains("02:00:00:00:01:31"));
    assert_eq!(default_route(), route, "nobody has asked for it");

    for (networks, words) in [
        ("a@x,b@eth0", "eth0"),
        ("a@x,[", "networks"),
        ("b@x", "interface \"x\" is attached; remove it first, then add it back"),
        ("a@x,nowhere", "nowhere"),
    ] {
        let refusal = bed.edit("web", networks).unwrap_err();
        assert!(refusal.contains(words), "{networks}: {refusal}");
    }
    assert_eq!(bed.links("web"), ["eth0", "pod37a8eec1ce1", "x"]);
    // The end of the pod is the end of all that came later, too.
    bed.delete("web");
    bed.clear();
}

#[test]
fn an_edit_while_the_agent_is_dead_is_done_by_the_next_one() {
    let bed = Bed::new("hotplug-agent");
    bed.lan("a", 132);
    bed.lan("b", 133);
    bed.api.apply(&bed.pod_with("web", Some("n2"), "a")).unwrap();
    bed.status("web");
    bed.kill_agent("n2");
    bed.plug("web", "b", &["net2"]);
    assert_eq!(bed.links("web"), ["eth0", "net2"]);
    // An agent that is killed while edits go on.
    for networks in ["a,b", "b", "a", "a,b", "b,a,a"] {
        bed.edit("web", networks).unwrap();
        if networks == "a" {
            bed.kill_agent("n2");
        }
    }
    bed.plug("web", "a@z", &["z"]);
    assert_eq!(bed.links("web"), ["eth0", "z"]);
    bed.clear();
}

#[test]
fn an_overlay_is_plugged_into_pods_of_two_nodes_and_reaches_from_one_to_the_other() {
    let bed = Bed::new("hotplug-overlay");
    let overlay = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4360, "ipam": {"type": "blocks", "subnet": "10.136.0.0/24"}});
    bed.nad("red", &overlay);
    let mut addresses = Vec::new();
    for (pod, node) in [("a", "n1"), ("b", "n2")] {
        bed.api.apply(&bed.pod(pod, Some(node))).unwrap();
        bed.status(pod);
        let status = bed.plug(pod, "red@ov", &["ov"]);
        addresses.push(status[1]["ips"][0].as_str().unwrap().to_owned());
    }
    assert!(bed.answers("a", &addresses[1]));
    bed.plug("a", "", &[]);
    assert_eq!(bed.links("a"), ["eth0"]);
    bed.delete("a");
    bed.delete("b");
    bed.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/hotplug-overlay/network-attachment-definitions/red").unwrap();
    bed.forgotten("4789-4360");
    bed.clear();
}

#[test]
fn twenty_pods_are_edited_at_once() {
    let bed = Bed::new("hotplug-many");
    bed.lan("a", 134);
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    for name in &names {
        bed.api.apply(&bed.pod(name, Some("n3"))).unwrap();
    }
    names.iter().for_each(|name| drop(bed.status(name)));
    let began = Instant::now();
    names.iter().for_each(|name| drop(bed.edit(name, "a").unwrap()));
    for name in &names {
        bed.plug(name, "a", &["net1"]);
    }
    println!("all of them: {:?}", began.elapsed());
    names.iter().for_each(|name| bed.api.delete(&bed.path(name)).unwrap());
    names.iter().for_each(|name| bed.gone(&bed.path(name)));
    bed.clear();
}
