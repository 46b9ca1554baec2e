//! The annotation `network-status`, byte for byte. What Multus can say too was taken from its own library's output.
//!
//! `UPDATE_GOLDEN=1 cargo test -p attachments --test status` rewrites the files after a deliberate change.

#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use std::path::Path;

use attachments::bind::{Attachment, Source};
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::NetRef;
use attachments::status::{AttachmentStatus, network_status};

fn cluster() -> Attachment {
    Attachment {
        source: Source::Node("cluster".parse().unwrap()),
        address_dir: None,
        network: "cluster".parse().unwrap(),
        version: Version::V1_0_0,
        disable_check: false,
        disable_gc: false,
        ifname: "eth0".parse().unwrap(),
        plugins: Vec::new(),
        runtime_config: Object::new(),
        args: String::new(),
        default_route: None,
        routes: Vec::new(),
        rules: Vec::new(),
        without_ipv6: false,
        address_set: None,
        ipam_claim: None,
        is_default: true,
        is_tenants: false,
        translated: None,
        device: None,
        device_info_file: None,
        unverified: Default::default(),
        selected: None,
    }
}

fn secondary() -> Attachment {
    let reference = NetRef { namespace: "pods".parse().unwrap(), name: "net".parse().unwrap() };
    Attachment {
        source: Source::Definition(reference),
        ifname: "net1".parse().unwrap(),
        is_default: false,
        ..cluster()
    }
}

fn result(text: &str) -> CniResult {
    CniResult::parse(text.as_bytes(), Version::V1_0_0).unwrap()
}

fn report<'a>(attachment: &'a Attachment, result: &'a CniResult) -> AttachmentStatus<'a> {
    AttachmentStatus { attachment, result: Some(result), device_info: None }
}

fn golden(name: &str, reports: &[AttachmentStatus<'_>], strict: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    let text = network_status(reports, strict);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

const ETH0: &str = r#"{"interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"veth1"},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1450,"sandbox":"/ns"}],"ips":[{"interface":2,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"10.0.0.0/8"}],"dns":{"nameservers":["10.96.0.10"],"domain":"d","search":["s.d"],"options":["ndots:5"]}}"#;
const NET1: &str = r#"{"interfaces":[{"name":"net1","mac":"02:00:00:00:00:03","sandbox":"/ns"}],"ips":[{"interface":0,"address":"10.2.0.2/24"}]}"#;

#[test]
fn a_single_attachment() {
    golden("single", &[report(&cluster(), &result(ETH0))], false);
}

#[test]
fn the_default_with_extra_interfaces_gets_an_entry_for_each() {
    let text = r#"{"interfaces":[{"name":"h"},{"name":"eth0","sandbox":"/ns"},{"name":"eth1","mac":"02:00:00:00:00:05","sandbox":"/ns"},{"name":"eth2","sandbox":"/ns"}],"ips":[{"interface":1,"address":"10.1.0.2/24"},{"interface":2,"address":"10.2.0.2/24","gateway":"10.2.0.1"},{"address":"10.3.0.2/24"},{"interface":0,"address":"10.4.0.1/24"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.2.0.1"}]}"#;
    golden("multi-interface", &[report(&cluster(), &result(text))], false);
}

#[test]
fn attachments_follow_in_their_order() {
    golden("default-and-secondary", &[report(&cluster(), &result(ETH0)), report(&secondary(), &result(NET1))], false);
}

#[test]
fn both_families_are_listed() {
    let text = r#"{"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/ns"}],"ips":[{"interface":0,"address":"10.1.0.2/24","gateway":"10.1.0.1"},{"interface":0,"address":"fd00::2/64","gateway":"fd00::1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0","gw":"fd00::1"}]}"#;
    golden("dual-stack", &[report(&cluster(), &result(text))], false);
    golden("dual-stack-strict", &[report(&cluster(), &result(text))], true);
}

#[test]
fn a_result_without_interfaces_has_a_minimal_entry() {
    let text = r#"{"ips":[{"address":"10.1.0.2/24"},{"interface":-1,"address":"10.1.0.3/24"},{"interface":0,"address":"10.1.0.4/24"}]}"#;
    golden("no-interfaces", &[report(&cluster(), &result(text)), report(&secondary(), &result(text))], false);
}

#[test]
fn an_old_result_is_on_the_interface_that_was_asked_for() {
    let old = Attachment { version: Version::V0_2_0, ..secondary() };
    let text = r#"{"ip4":{"ip":"10.1.0.2/24"},"ip6":{"ip":"fd00::2/64"}}"#;
    golden("old-result", &[report(&old, &CniResult::parse(text.as_bytes(), old.version).unwrap())], false);
}

#[test]
fn no_result_has_a_minimal_entry() {
    let (cluster, secondary) = (cluster(), secondary());
    let [first, second] =
        [&cluster, &secondary].map(|a| AttachmentStatus { attachment: a, result: None, device_info: None });
    golden("no-result", &[first, second], false);
}

#[test]
fn a_requested_default_route_is_told() {
    let route = |gateways: &[&str]| Some(gateways.iter().map(|gw| gw.parse().unwrap()).collect());
    let asked = Attachment { default_route: route(&["10.2.0.1", "fd00::1"]), ..secondary() };
    let own = Attachment { default_route: route(&[]), ..secondary() };
    let eth0 = result(ETH0);
    golden("default-route", &[report(&asked, &result(NET1)), report(&own, &eth0)], false);
}

#[test]
fn device_information_is_told_as_it_is() {
    let info = Object::parse(br#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:00.1","x":12345678901234567890.10},"list":[ ]}"#).unwrap();
    let (secondary, net1) = (secondary(), result(NET1));
    golden("device-info", &[AttachmentStatus { device_info: Some(&info), ..report(&secondary, &net1) }], false);
}

#[test]
fn a_default_route_without_a_gateway_takes_the_familys() {
    let text = |gateway: &str| {
        result(&format!(
            r#"{{"interfaces":[{{"name":"eth0","sandbox":"/ns"}}],"ips":[{{"address":"10.1.0.2/24"{gateway}}}],"routes":[{{"dst":"0.0.0.0/0"}}]}}"#
        ))
    };
    let status = |gateway| network_status(&[report(&cluster(), &text(gateway))], false);
    assert!(status(r#","gateway":"10.1.0.9""#).contains("\"gateway\": [\n        \"10.1.0.9\"\n    ]"));
    assert!(!status("").contains("gateway"), "no [<nil>]");
}

#[test]
fn a_gateway_on_the_host_side_leaves_the_default_in_the_pod() {
    let text = r#"{"interfaces":[{"name":"h"},{"name":"eth0","sandbox":"/ns"}],"ips":[{"interface":0,"address":"10.1.0.2/24","gateway":"10.1.0.1"}]}"#;
    assert!(network_status(&[report(&cluster(), &result(text))], false).contains("\"default\": true"));
}

#[test]
fn events_tell_of_each_attachment_in_multus_words() {
    let (cluster, secondary) = (cluster(), secondary());
    let dual = result(r#"{"cniVersion":"1.0.0","ips":[{"address":"10.244.1.5/24"},{"address":"fd00::5/64"}]}"#);
    let link = result(r#"{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"}]}"#);
    let nothing = result(r#"{"cniVersion":"1.0.0"}"#);
    let said = |attachment, result| report(attachment, result).event();
    assert_eq!(said(&cluster, &dual).as_deref(), Some("Add eth0 [10.244.1.5/24 fd00::5/64] from cluster"));
    assert_eq!(said(&secondary, &link).as_deref(), Some("Add net1 [] from pods/net"));
    assert_eq!(said(&secondary, &nothing), None);
}
