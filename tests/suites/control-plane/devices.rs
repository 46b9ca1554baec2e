//! Devices of pods, as far as they need no kubelet but its files: what the plugin makes of what the agent knows.

use std::fs;

use meta_cni_tests::fake::Seen;
use serde_json::{Value, json};

use super::world::{World, nad};

const NIC: &str = "vendor.com/nic";

impl World {
    fn nad_of_resource(&self, name: &str) {
        let config = json!({"cniVersion": "1.1.0", "type": "one"}).to_string();
        let mut object = nad("default", name, json!({ "config": config }));
        object["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/resourceName": NIC});
        self.plane.api().apply(&object).unwrap();
    }

    /// What the kubelet's device manager has written.
    fn checkpoint(&self, text: &str) {
        let dir = self.node.path("kubelet/device-plugins");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("kubelet_internal_checkpoint"), text).unwrap();
    }

    fn allocated(&self, pods: &[(&str, &[&str])]) {
        let entry = |(uid, ids): &(&str, &[&str])| json!({"PodUID": uid, "ContainerName": "main", "ResourceName": NIC, "DeviceIDs": {"0": ids}, "AllocResp": ""});
        let entries: Vec<Value> = pods.iter().map(entry).collect();
        self.checkpoint(
            &json!({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 1}).to_string(),
        );
    }

    /// The devices of the ADDs since the last look, by interface.
    fn devices_of_adds(&self) -> Vec<String> {
        let device = |seen: &Seen| {
            let conf = seen.conf();
            assert_eq!(conf["deviceID"], conf["pciBusID"], "{conf}");
            conf["deviceID"].as_str().map(|id| format!("{} {id}", seen.var("CNI_IFNAME")))
        };
        self.node.fakes.calls_of("ADD").iter().filter_map(device).collect()
    }
}

#[test]
fn the_checkpoint_alone_gives_each_network_its_device_and_the_right_pod_its_own() {
    let world = World::served();
    for name in ["left", "right"] {
        world.nad_of_resource(name);
    }
    let (web, db) = (world.pod("web", "right,left"), world.pod("db", "left"));
    world.allocated(&[(db.uid.as_str(), &["d5"]), (web.uid.as_str(), &["d3", "d2"])]);
    world.add(&web);
    assert_eq!(world.devices_of_adds(), ["net1 d2", "net2 d3"]);
    let handed = world.handed(&db, "left").run();
    assert!(handed.succeeded(), "{} {}", handed.stdout(), handed.stderr());
    assert_eq!(world.devices_of_adds()[2..], ["net1 d5"]);
    let page = world.metrics().unwrap();
    assert!(page.contains(r#"meta_cni_device_lookup_duration_seconds_count{source="checkpoint"} 2"#), "{page}");
    assert!(world.log().contains("does not tell of pod default/web"));
}

#[test]
fn a_kubelet_that_cannot_be_asked_is_asked_again_and_too_few_devices_are_refused() {
    let world = World::served();
    world.nad_of_resource("left");
    world.nad("lan");
    let web = world.pod("web", "left,left");
    // Nobody asks on behalf of a pod whose definitions name no resource.
    let plain = world.pod("plain", "lan");
    world.add(&plain);
    assert!(!world.metrics().unwrap().contains("device_lookup_duration_seconds_count{"));

    let cause = "the pod's devices of vendor.com/nic are not known";
    world.node.add(&web).refused(11, &["default/left", cause, "pod-resources/kubelet.sock: No such file"]);
    world.checkpoint(r#"{"PodDevices": []}"#);
    world.node.add(&web).refused(11, &["default/left", cause, "no checkpoint of a kubelet that is known here"]);
    world.allocated(&[(web.uid.as_str(), &["d1"])]);
    world.node.add(&web).refused(7, &["networks[1]: vendor.com/nic: got 1 device of the pod, want 2"]);
    let bare = world.pod("bare", "left,left");
    world.node.add(&bare).refused(11, &["default/left", cause, "it has no such device of the pod"]);
    assert_eq!(world.devices_of_adds(), Vec::<String>::new(), "nothing was attached");

    let foreign = r#"[{"name": "left", "deviceID": "d7"}]"#;
    let other = world.pod("other", foreign);
    world.allocated(&[(web.uid.as_str(), &["d7"]), (other.uid.as_str(), &["d8"])]);
    world.node.add(&other).refused(7, &["deviceID: got d7", "one of the pod's own devices of vendor.com/nic (d8)"]);
}
