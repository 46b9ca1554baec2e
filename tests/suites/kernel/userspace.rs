//! Devices that a program in the pod drives: there is no link, and what the program needs is told. The bus is a fake, a directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use meta_cni_tests::call::Outcome;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

const ADDRESS: &str = "0000:3b:02.1";

/// A bus with one PCI device that has this driver.
fn bus(node: &Node, driver: &str) -> PathBuf {
    let buses = node.path("buses");
    let device = buses.join("pci/devices").join(ADDRESS);
    fs::create_dir_all(&device).unwrap();
    fs::create_dir_all(buses.join("pci/drivers").join(driver)).unwrap();
    let link = device.join("driver");
    let _ = fs::remove_file(&link);
    symlink(Path::new("../../drivers").join(driver), link).unwrap();
    buses
}

/// A node whose default network is a device that a program drives, with an address of its own.
fn scene(version: &str) -> (Node, Pod) {
    let mut node = Node::new();
    node.conf["delegates"] = json!([{"cniVersion": version, "name": "fast", "type": "host-device", "pciBusID": ADDRESS,
        "ipam": node.host_local("10.10.0.0/24")}]);
    let pod = node.pod("web", "");
    (node, pod)
}

fn call(node: &Node, verb: &str, pod: &Pod, buses: &Path) -> Outcome {
    node.call(verb, pod).with_fake_buses(buses).run()
}

fn check(node: &Node, pod: &Pod, result: &Value, buses: &Path) -> Outcome {
    node.call("CHECK", pod).conf("prevResult", result.clone()).with_fake_buses(buses).run()
}

#[test]
fn a_device_without_a_link_is_told_and_nothing_is_moved() {
    for version in ["1.1.0", "0.4.0"] {
        let (node, pod) = scene(version);
        for driver in ["vfio-pci", "uio_pci_generic", "igb_uio"] {
            let buses = bus(&node, driver);
            let result = call(&node, "ADD", &pod, &buses).result();
            let interface = &result["interfaces"][0];
            assert_eq!((&interface["name"], &interface["sandbox"]), (&json!("eth0"), &json!(pod.netns.text())));
            assert_eq!(interface.get("mac"), None, "{driver}");
            assert!(result["ips"][0]["address"].as_str().unwrap().starts_with("10.10.0."), "{result}");
            assert_eq!(pod.netns.links(), Vec::<String>::new());
            check(&node, &pod, &result, &buses).quiet();
            call(&node, "DEL", &pod, &buses).quiet();
            call(&node, "DEL", &pod, &buses).quiet();
        }
        node.assert_clean();
    }
}

#[test]
fn check_names_a_device_that_the_program_has_lost() {
    let (node, pod) = scene("1.1.0");
    let buses = bus(&node, "vfio-pci");
    let result = call(&node, "ADD", &pod, &buses).result();
    assert_eq!(result["interfaces"][0]["pciID"], ADDRESS);
    bus(&node, "iavf");
    let words = ["device 0000:3b:02.1", "its driver is iavf, want one of vfio-pci"];
    check(&node, &pod, &result, &buses).refused(105, &words);
    fs::remove_dir_all(buses.join("pci/devices").join(ADDRESS)).unwrap();
    check(&node, &pod, &result, &buses).refused(105, &["device 0000:3b:02.1", "it has no driver"]);
    call(&node, "DEL", &pod, &buses).quiet();
    node.assert_clean();
}

#[test]
fn a_device_with_a_driver_of_the_kernel_and_no_link_is_refused() {
    let (node, pod) = scene("1.1.0");
    let buses = bus(&node, "iavf");
    call(&node, "ADD", &pod, &buses).refused(102, &["pciBusID", ADDRESS, "want a device with a link on the node"]);
    fs::remove_dir_all(&buses).unwrap();
    fs::create_dir_all(&buses).unwrap();
    call(&node, "ADD", &pod, &buses)
        .refused(102, &["pciBusID", ADDRESS, "want the address of a PCI device of this node"]);
    node.assert_clean();
}
