//! The fixtures themselves: a fake that cannot fail would prove nothing.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Node;
use meta_cni_tests::program;
use serde_json::{Value, json};

/// Starts a fake as a plugin would.
fn call_fake(node: &Node, name: &str, verb: &str, conf: &Value) -> program::Finished {
    let mut command = node.netns.command(node.path("bin").join(name));
    command.env("CNI_COMMAND", verb).env("CNI_IFNAME", "net1").env("CNI_NETNS", "/n");
    program::start(&mut command, conf.to_string().as_bytes()).finish(std::time::Duration::from_secs(5))
}

#[test]
fn a_fake_answers_records_and_obeys() {
    let node = Node::new();
    let conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "one", "fakeIps": [{"address": "10.0.0.2/24"}]});
    let usual = call_fake(&node, "one", "ADD", &conf);
    let result: Value = serde_json::from_slice(&usual.stdout).unwrap();
    assert_eq!(result["interfaces"][0]["name"], "net1");
    assert_eq!(result["ips"], json!([{"address": "10.0.0.2/24", "interface": 0}]));

    node.fakes.rules("one", &[Rule::on("ADD").times(1).fails(11, "busy"), Rule { signal: Some(9), ..Rule::on("DEL") }]);
    assert_eq!(call_fake(&node, "one", "ADD", &conf).code, Some(1));
    assert_eq!(call_fake(&node, "one", "ADD", &conf).code, Some(0));
    assert_eq!(call_fake(&node, "one", "DEL", &conf).signal, Some(9));

    let calls = node.fakes.calls();
    assert_eq!(calls[0].conf(), conf);
    assert_eq!(calls[0].netns, node.netns.inode());
    assert_eq!(node.fakes.take_order(), ["ADD one net1", "ADD one net1", "ADD one net1", "DEL one net1"]);
}

#[test]
fn what_is_left_behind_is_seen() {
    let node = Node::new();
    node.assert_clean();
    node.netns.run("ip link add br0 type bridge");
    node.assert_clean();
    node.netns.run("ip link add a0 type veth peer name a1");
    std::fs::create_dir_all(node.path("addresses/n")).unwrap();
    std::fs::write(node.path("addresses/n/lock"), "").unwrap();
    std::fs::write(node.path("addresses/n/10.0.0.2"), "").unwrap();
    assert_eq!(node.leftovers(&["a1"]), ["link a0", "addresses/n/10.0.0.2"]);
}
