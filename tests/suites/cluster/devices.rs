//! Devices of pods: a device plugin of the tests, with the real kubelet and scheduler. Its devices are veth ends, which a
//! directory of the node's /sys shows as PCI devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use meta_cni_tests::cluster::programs::INSIDE;
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::{Node, wait};
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE};

pub const VF: &str = "test.meta-cni.io/vf";
const VFIO: &str = "test.meta-cni.io/vfio";
const START: Duration = Duration::from_secs(30);
/// Under /var/run by the specification, which leads here.
const DEVICE_INFO: &str = "/run/k8s.cni.cncf.io/devinfo";

/// The cards of a node: four virtual functions with links, two that a program drives, and their device plugins.
pub struct Cards<'a> {
    node: &'a Node,
    plugins: Vec<Service>,
}

fn address(number: usize) -> String {
    format!("0000:f{number}:00.0")
}

impl<'a> Cards<'a> {
    /// Makes them, and waits until the kubelet knows of them.
    pub fn plug_in(node: &'a Node) -> Self {
        let space = node.space();
        space.run("mount -t tmpfs cards /sys/bus/pci/devices");
        let bus = node.file("/sys/bus/pci/devices");
        for number in 0..4 {
            space.run(&format!("ip link add vf{number} type veth peer name far{number}"));
            space.run(&format!("ip link set far{number} up"));
            fs::create_dir_all(bus.join(address(number)).join("net").join(format!("vf{number}"))).unwrap();
        }
        for number in 4..6 {
            fs::create_dir(bus.join(address(number))).unwrap();
            symlink("../../drivers/vfio-pci", bus.join(address(number)).join("driver")).unwrap();
        }
        let told = node.file(DEVICE_INFO).join("dp");
        fs::create_dir_all(&told).unwrap();
        for number in 0..6 {
            let resource = if number < 4 { VF } else { VFIO };
            let name = format!("{}-{}-device.json", resource.replace('/', "-"), address(number));
            let info = json!({
                "type": "pci", "version": "1.1.0",
                "pci": {"pci-address": address(number), "pf-pci-address": "0000:ff:00.0"},
            });
            fs::write(told.join(name), info.to_string()).unwrap();
        }
        let plugins = [(VF, 0..4), (VFIO, 4..6)].map(|(resource, numbers)| start(node, resource, numbers));
        Self { node, plugins: plugins.into() }
    }

    /// The links of virtual functions on the node.
    pub fn links(&self) -> Vec<String> {
        let all = self.node.space().run("ip -o link");
        let names = all.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("vf")).map(str::to_owned).collect();
        names.sort();
        names
    }
}

fn start(node: &Node, resource: &str, numbers: std::ops::Range<usize>) -> Service {
    let name = "test-device-plugin";
    let mut command = node.command(Path::new(INSIDE).join("harness").join(name).to_str().unwrap());
    command.args(["/var/lib/kubelet/device-plugins", resource]).args(numbers.map(address));
    let log = node.file("/var/log").join(format!("{name}-{}.log", resource.replace('/', "-")));
    let mut plugin = Service::start(name, node.space(), &mut command, &log);
    plugin.wait_for("registration with the kubelet", START, || {
        let said = fs::read_to_string(&log).map_err(|e| e.to_string())?;
        if said.contains("registered") { Ok(()) } else { Err(said) }
    });
    plugin
}

impl Drop for Cards<'_> {
    fn drop(&mut self) {
        self.plugins.drain(..).for_each(Service::kill);
        for number in 0..4 {
            self.node.space().run(&format!("ip link del far{number}"));
        }
        self.node.space().run("umount /sys/bus/pci/devices");
        let _ = fs::remove_dir_all(self.node.file(DEVICE_INFO).join("dp"));
    }
}

pub fn nad(bed: &Bed, name: &str, resource: &str, config: &Value) {
    let mut object = crate::bed::definition(&bed.namespace, name, &config.to_string());
    object["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/resourceName": resource});
    bed.api.apply(&object).unwrap();
}

pub fn capacity(bed: &Bed, node: &str, resource: &str, number: &str) {
    wait::until(&format!("{number} of {resource} on {node}"), PATIENCE, || {
        let node = bed.api.get(&format!("/api/v1/nodes/{node}")).map_err(|e| e.to_string())?;
        let got = &node["status"]["allocatable"][resource];
        if *got == number { Ok(()) } else { Err(got.to_string()) }
    });
}

pub fn host_device() -> Value {
    json!({
        "cniVersion": "1.1.0", "type": "host-device", "capabilities": {"deviceID": true, "CNIDeviceInfoFile": true},
    })
}

/// The PCI addresses that a status tells, by interface.
pub fn told(status: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let with = status.iter().filter(|entry| !entry["device-info"].is_null());
    with.map(|entry| (text(&entry["interface"]), text(&entry["device-info"]["pci"]["pci-address"]))).collect()
}

/// What the agent's metrics say of its questions to the kubelet.
fn lookups(node: &Node) -> Vec<String> {
    let page = node.space().run("curl --silent --noproxy * --max-time 5 http://127.0.0.1:9464/metrics");
    let of_devices = |line: &&str| line.starts_with("meta_cni_device_lookup_duration_seconds");
    page.lines().filter(of_devices).map(str::to_owned).collect()
}

fn ids(told: &[(String, String)]) -> Vec<String> {
    told.iter().map(|(_, id)| id.clone()).collect()
}

/// The devices of a resource that the kubelet gave to a pod's container `main`, sorted.
fn own(bed: &Bed, pod: &str, resource: &str) -> Vec<String> {
    own_of(bed, pod, "main", resource)
}

fn own_of(bed: &Bed, pod: &str, container: &str, resource: &str) -> Vec<String> {
    let name = format!("DEVICES_{}=", resource.to_uppercase().replace(['.', '/', '-'], "_"));
    let environment = bed.cluster.plane().kubectl(["exec", "-n", &bed.namespace, pod, "-c", container, "--", "env"]);
    let text = environment.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{environment}"));
    let mut own: Vec<_> = text.split(',').map(str::to_owned).collect();
    own.sort();
    own
}

/// Makes a Deployment of a pod's name with pods like it; their names.
pub fn deployed(bed: &Bed, pod: &Value, replicas: usize) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap();
    let labels = json!({"app": name});
    bed.api
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": bed.namespace, "name": name},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"],
                },
            },
        }))
        .unwrap();
    let list = format!("/api/v1/namespaces/{}/pods?labelSelector=app={name}", bed.namespace);
    wait::until(&format!("{replicas} pods"), PATIENCE, || {
        let names: Vec<_> =
            bed.api.list(&list).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        if names.len() == replicas { Ok(names) } else { Err(format!("{names:?}")) }
    })
}

/// Deletes a Deployment, and waits until its pods are gone.
pub fn undeployed(bed: &Bed, name: &str, pods: &[String]) {
    bed.api.delete(&format!("/apis/apps/v1/namespaces/{}/deployments/{name}", bed.namespace)).unwrap();
    pods.iter().for_each(|pod| bed.gone(&bed.path(pod)));
}

#[test]
fn a_deployment_with_two_devices_and_two_networks_comes_and_goes() {
    let bed = Bed::new("devices");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VF, "4");
    nad(&bed, "left", VF, &host_device());
    nad(&bed, "right", VF, &host_device());
    bed.lan("lan", 120);
    bed.lan("wan", 121);
    let mut pod = bed.pod_with("web", None, "left,lan,right,wan");
    let two = json!({VF: "2"});
    pod["spec"]["containers"][0]["resources"] = json!({"limits": two});
    let names = deployed(&bed, &pod, 2);
    let mut given = Vec::new();
    for name in &names {
        let status = bed.status(name);
        let interfaces: Vec<_> = status.iter().map(|entry| entry["interface"].as_str().unwrap()).collect();
        assert_eq!(interfaces, ["eth0", "net1", "net2", "net3", "net4"]);
        let devices = told(&status);
        assert_eq!(devices.iter().map(|(interface, _)| interface.as_str()).collect::<Vec<_>>(), ["net1", "net3"]);
        assert_eq!(status[1]["device-info"]["pci"]["pf-pci-address"], "0000:ff:00.0");
        // The kubelet gave the container these very devices.
        assert_eq!(ids(&devices), own(&bed, name, VF), "in the order of their names");
        for (interface, id) in devices {
            let alias = bed.exec(name, &format!("cat /sys/class/net/{interface}/ifalias"));
            assert_eq!(address(alias.trim().trim_start_matches("vf").parse().unwrap()), id);
            given.push(id);
        }
    }
    given.sort();
    assert_eq!(given, [0, 1, 2, 3].map(address), "no device is shared");
    let lookups = lookups(bed.node("n2"));
    let of = |source: &str| lookups.iter().any(|line| line.contains(&format!("_count{{source=\"{source}\"}}")));
    assert!(of("pod-resources") && !of("checkpoint"), "{lookups:?}");
    assert_eq!(cards.links(), Vec::<String>::new());
    undeployed(&bed, "web", &names);
    assert_eq!(cards.links(), ["vf0", "vf1", "vf2", "vf3"], "they come home");
    drop(cards);
    bed.clear();
}

#[test]
fn a_device_that_a_program_drives_is_told_and_has_no_link() {
    let bed = Bed::new("dpdk");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VFIO, "2");
    nad(&bed, "dpdk", VFIO, &host_device());
    let mut pod = bed.pod_with("p", None, "dpdk");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {VFIO: "1"}});
    bed.api.apply(&pod).unwrap();
    let status = bed.status("p");
    assert_eq!(ids(&told(&status)), own(&bed, "p", VFIO));
    assert!(!bed.exec("p", "ip -o link").contains("net1"));
    bed.delete("p");
    drop(cards);
    bed.clear();
}

#[test]
fn a_pod_with_too_few_devices_says_how_many_and_one_that_is_made_anew_gets_its_own() {
    let bed = Bed::new("too-few");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VF, "4");
    nad(&bed, "vf", VF, &host_device());
    let mut pod = bed.pod_with("p", None, "vf,vf");
    let asks = |pod: &mut Value, number: &str| {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {VF: number}});
    };
    asks(&mut pod, "1");
    bed.apply_unasked(&pod);
    bed.event("p", "test.meta-cni.io/vf: got 1 device of the pod, want 2");
    bed.delete("p");
    // The same name, with other devices: whatever was known of the name is not believed.
    for _ in 0..2 {
        asks(&mut pod, "2");
        bed.api.apply(&pod).unwrap();
        let devices = told(&bed.status("p"));
        assert_eq!((ids(&devices), devices.len()), (own(&bed, "p", VF), 2));
        bed.delete("p");
    }
    drop(cards);
    bed.clear();
}

#[test]
fn a_device_that_vanished_fails_the_add_until_it_is_back() {
    let bed = Bed::new("vanished");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VFIO, "2");
    nad(&bed, "dpdk", VFIO, &host_device());
    let bus = bed.node("n2").file("/sys/bus/pci/devices");
    for number in 4..6 {
        fs::rename(bus.join(address(number)), bus.join(format!("gone-{number}"))).unwrap();
    }
    let mut pod = bed.pod_with("p", None, "dpdk");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {VFIO: "1"}});
    bed.api.apply(&pod).unwrap();
    bed.event("p", "want the address of a PCI device of this node");
    for number in 4..6 {
        fs::rename(bus.join(format!("gone-{number}")), bus.join(address(number))).unwrap();
    }
    assert_eq!(ids(&told(&bed.status("p"))), own(&bed, "p", VFIO));
    bed.delete("p");
    drop(cards);
    bed.clear();
}

#[test]
fn sidecars_and_static_pods_have_devices_too() {
    let bed = Bed::new("sidecars");
    let cards = Cards::plug_in(bed.node("n2"));
    capacity(&bed, "n2", VF, "4");
    nad(&bed, "vf", VF, &host_device());
    let mut pod = bed.pod_with("p", None, "vf,vf");
    let mut sidecar = pod["spec"]["containers"][0].clone();
    sidecar["name"] = json!("sidecar");
    sidecar["restartPolicy"] = json!("Always");
    for container in [&mut sidecar, &mut pod["spec"]["containers"][0]] {
        container["resources"] = json!({"limits": {VF: "1"}});
    }
    pod["spec"]["initContainers"] = json!([sidecar]);
    bed.api.apply(&pod).unwrap();
    let devices = ids(&told(&bed.status("p")));
    let (first, last) = (own_of(&bed, "p", "sidecar", VF), own(&bed, "p", VF));
    assert_eq!(devices, [first, last].concat(), "in the order of the containers");

    let file = bed.node("n2").file("/etc/kubernetes/manifests/fixed.json");
    let mut fixed = bed.pod_with("fixed", None, "vf");
    fixed["spec"]["containers"][0]["resources"] = json!({"limits": {VF: "1"}});
    fs::write(&file, fixed.to_string()).unwrap();
    assert_eq!(ids(&told(&bed.status("fixed-n2"))), own(&bed, "fixed-n2", VF));
    fs::remove_file(&file).unwrap();
    bed.gone(&bed.path("fixed-n2"));
    bed.delete("p");
    drop(cards);
    bed.clear();
}
