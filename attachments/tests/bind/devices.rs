//! Devices of the pod, handed out to its networks.

use super::*;

const NIC: &str = "vendor.com/nic";
const CHAIN: &str = r#"{"plugins":[{"type":"sriov"},{"type":"tuning","capabilities":{"CNIDeviceInfoFile":true}}]}"#;

fn told(all: &[(&str, &[&str])]) -> Allocation {
    let of = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
    Allocation::Told(all.iter().map(|(resource, ids)| ((*resource).to_owned(), of(ids))).collect())
}

/// `pods/a` and `pods/b` hand out devices of one resource.
fn scene(networks: &str, devices: Allocation) -> Scene {
    let scene = Scene::new().defines("pods/a", CHAIN).with_resource("pods/a", NIC);
    let mut scene = scene.defines("pods/b", r#"{"type":"host-device"}"#).with_resource("pods/b", NIC).wants(networks);
    scene.devices = devices;
    scene
}

fn ids(scene: &Scene) -> Vec<String> {
    let id = |a: Attachment| a.device.map_or_else(|| "-".to_owned(), |device| device.id.to_string());
    scene.bound().into_iter().map(id).collect()
}

#[test]
fn each_network_gets_the_next_device_and_none_is_shared() {
    let scene = scene("a, b, a", told(&[(NIC, &["d2", "d1", "d3"])]));
    assert_eq!(ids(&scene), ["-", "d2", "d1", "d3"]);
    let bound = scene.bound();
    assert_eq!(bound[1].plugins[0].object.to_json(), r#"{"type":"sriov","deviceID":"d2","pciBusID":"d2"}"#);
    assert_eq!(
        bound[1].runtime_config.to_json(),
        r#"{"deviceID":"d2","CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/pods-a-c1_net1"}"#
    );
    let file = bound[2].device_info_file.as_deref().unwrap();
    assert!(file.ends_with("/pods-b-c1_net2"), "also where no plugin declares the capability: {file}");
}

#[test]
fn each_resource_has_its_own_devices() {
    let scene = scene("a, c, b", told(&[(NIC, &["d1", "d2"]), ("vendor.com/gpu", &["d1"])]));
    let scene = scene.defines("pods/c", PLAIN).with_resource("pods/c", "vendor.com/gpu");
    assert_eq!(ids(&scene), ["-", "d1", "d1", "d2"]);
}

#[test]
fn the_default_network_takes_a_device_too_and_no_other_gets_it() {
    let scene = scene("a", told(&[(NIC, &["d1", "d2"])])).default_network(r#"[{"name":"b","namespace":"pods"}]"#);
    assert_eq!(ids(&scene), ["d1", "d2"]);
}

#[test]
fn too_few_devices_say_how_many_were_asked_and_given() {
    let message = scene("a, b", told(&[(NIC, &["d1"])])).refusal();
    assert_eq!(
        message,
        "k8s.v1.cni.cncf.io/networks[1]: vendor.com/nic: got 1 device of the pod, want 2, one for each network of vendor.com/nic: the limits of the pod's containers say how many it gets"
    );
    let none = scene("b", told(&[])).refusal();
    assert!(
        none.starts_with("k8s.v1.cni.cncf.io/networks[0]: vendor.com/nic: got 0 devices of the pod, want 1,"),
        "{none}"
    );
}

#[test]
fn devices_that_are_not_known_are_no_refusal_for_good() {
    let scene = scene("a", Allocation::Unknown("the kubelet does not answer".to_owned()));
    let error = scene.bind().unwrap_err();
    assert!(matches!(error, BindError::DevicesUnknown { .. }));
    assert_eq!(
        error.to_string(),
        "pods/a: the pod's devices of vendor.com/nic are not known: the kubelet does not answer"
    );
    let plain = Scene { devices: scene.devices, ..Scene::new().defines("pods/a", PLAIN).wants("a") };
    assert_eq!(ids(&plain), ["-", "-"], "who names no resource needs no answer");
}

#[test]
fn an_annotation_names_one_of_the_pods_own_devices() {
    let allocated = || told(&[(NIC, &["d1", "d2"]), ("vendor.com/gpu", &["g1"])]);
    for isolated in [false, true] {
        let mut own = scene(r#"[{"name":"a"},{"name":"b","deviceID":"d1"}]"#, allocated());
        own.rules.namespace_isolation = isolated;
        assert_eq!(ids(&own), ["-", "d2", "d1"], "what is named stays for who names it");
        let attachment = own.bound().remove(2);
        assert_eq!(attachment.plugins[0].object.to_json(), r#"{"type":"host-device","deviceID":"d1","pciBusID":"d1"}"#);
        assert_eq!(attachment.device.unwrap().resource.as_deref(), Some(NIC));
    }
    for foreign in ["d9", "g1"] {
        let message = scene(&format!(r#"[{{"name":"a","deviceID":"{foreign}"}}]"#), allocated()).refusal();
        let want = format!(
            "k8s.v1.cni.cncf.io/networks[0].deviceID: got {foreign}, want one of the pod's own devices of vendor.com/nic (d1, d2)"
        );
        assert_eq!(message, want);
    }
    let twice = scene(r#"[{"name":"a","deviceID":"d1"},{"name":"b","deviceID":"d1"}]"#, allocated()).refusal();
    assert_eq!(twice, "k8s.v1.cni.cncf.io/networks[1].deviceID: got d1, want a device that no earlier network has");
}

#[test]
fn without_a_resource_no_device_is_named() {
    let message = Scene::new().defines("pods/a", PLAIN).wants(r#"[{"name":"a","deviceID":"d1"}]"#).refusal();
    let want = "k8s.v1.cni.cncf.io/networks[0].deviceID: got d1, want no device: pods/a has no annotation k8s.v1.cni.cncf.io/resourceName";
    assert_eq!(message, want);
}

#[test]
fn where_nobody_tells_devices_a_network_goes_without_and_says_so() {
    let plain = scene("a", Allocation::Untold);
    assert_eq!(ids(&plain), ["-", "-"]);
    assert_eq!(
        plain.bind().unwrap().unmet,
        ["pods/a: which devices of vendor.com/nic are the pod's is not known here, so it gets none"]
    );
    let mut named = scene(r#"[{"name":"a","deviceID":"own"}]"#, Allocation::Untold);
    assert!(named.bound()[1].runtime_config.to_json().starts_with(r#"{"deviceID":"own""#));
    assert_eq!(named.bound()[1].plugins[0].object.to_json(), r#"{"type":"sriov"}"#);
    named.rules.namespace_isolation = true;
    assert!(named.refusal().contains("no device while namespaceIsolation is on"));
}

#[test]
fn what_a_running_pod_has_is_given_to_no_new_network() {
    let held = scene("a", told(&[(NIC, &["d1", "d2"])])).bound();
    let mut grown = scene("a, b", told(&[(NIC, &["d1", "d2"])]));
    grown.growth = Some((held.clone(), vec![1]));
    assert_eq!(ids(&grown), ["d2"]);
    grown.devices = told(&[(NIC, &["d1"])]);
    let error = grown.bind().unwrap_err().to_string();
    assert!(error.contains("2") && error.contains("1") && error.contains(NIC), "{error}");
}
