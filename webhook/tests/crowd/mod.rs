//! A cluster of 1,000 definitions and 5,000 pods with three networks each, as the webhook's budget has it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use webhook::cluster::View;

fn metadata(name: String, annotations: BTreeMap<String, String>) -> ObjectMeta {
    let uid = format!("6ba7b810-9dad-11d1-80b4-{name:0>12}");
    ObjectMeta {
        namespace: Some("shop".to_owned()),
        name: Some(name),
        uid: Some(uid),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// The configuration of a definition: 2.4 KB.
pub fn config(i: u32) -> Value {
    let (four, six) = (format!("10.{}.{}.0/24", i / 256, i % 256), format!("fd00:{i:x}::/64"));
    json!({"cniVersion": "1.0.0", "plugins": [
        {"type": "vxlan", "vni": 4000 + i, "ipam": {"type": "host-local", "ranges": [[{"subnet": four}], [{"subnet": six}]]}},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "padding": "x".repeat(2000)}]})
}

/// The annotation of a pod.
pub fn networks(i: u32) -> String {
    format!("net-{},net-{},net-{}", i % 1000, (i + 1) % 1000, (i + 2) % 1000)
}

fn status(i: u32) -> String {
    let entry = |net: u32| {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", i / 256, i % 256);
        let ips = [format!("10.{}.{}.{}", net / 256, net % 256, 2 + i / 1000), format!("fd00:{net:x}::{i:x}")];
        json!({"name": format!("shop/net-{net}"), "interface": "net1", "mac": mac, "ips": ips})
    };
    json!([entry(i % 1000), entry((i + 1) % 1000), entry((i + 2) % 1000)]).to_string()
}

/// Fills a view.
pub fn fill(view: &mut View) {
    for i in 0..1000 {
        view.apply_definition(&metadata(format!("net-{i}"), BTreeMap::new()), Some(&config(i).to_string()));
    }
    for i in 0..5000 {
        let annotations = BTreeMap::from([
            ("k8s.v1.cni.cncf.io/networks".to_owned(), networks(i)),
            ("k8s.v1.cni.cncf.io/network-status".to_owned(), status(i)),
        ]);
        view.apply_pod(&metadata(format!("pod-{i}"), annotations));
    }
}
