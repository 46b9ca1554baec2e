//! `dhcp` beside the reference plugin and its daemon: the same lease, whoever asks.

use std::time::Duration;

use meta_cni_tests::dhcp::{Dnsmasq, wire};
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program::{self, Running};
use meta_cni_tests::{netns::Netns, peers};
use serde_json::{Value, json};

/// The reference daemon; ends when it is dropped.
struct Daemon(Running);

impl Daemon {
    fn start(node: &Node, socket: &str) -> Self {
        let mut command = node.netns.command(peers::program("dhcp"));
        command.args(["daemon", "-socketpath", socket]);
        let running = program::start(&mut command, b"");
        for _ in 0..200 {
            if std::path::Path::new(socket).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(running)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// What a pod has of a lease: result, addresses, routes, and what the server knows.
fn attached(node: &Node, pod: &Pod, server: &Dnsmasq) -> (Value, Vec<String>, String, Vec<String>) {
    let result = node.call("ADD", pod).run().result();
    let mut status = node.status(pod)[1].clone();
    status["mac"] = Value::Null;
    assert!(result["ips"].is_array());
    let routes = pod.netns.run("ip route show dev net1");
    (status, pod.netns.addresses("net1"), routes, server.leases())
}

fn same_lease(ipam: Value) {
    let mut node = Node::new();
    let far: Netns = wire(&node);
    let socket = node.text("dhcp.sock");
    let options = [
        "--dhcp-option=3,10.9.0.1",
        "--dhcp-option=33,10.7.0.0,10.9.0.3",
        "--dhcp-option=121,10.8.0.0/16,10.9.0.4,10.6.0.0/24,0.0.0.0",
    ];
    let server = Dnsmasq::start(&far, &options);
    let _daemon = Daemon::start(&node, &socket);
    std::os::unix::fs::symlink(peers::program("dhcp"), node.path("bin/dhcp")).unwrap();
    let mut conf = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "ipam": ipam});
    conf["ipam"]["type"] = json!("dhcp");
    conf["ipam"]["daemonSocketPath"] = json!(socket);
    node.nad("lan", conf);

    // One after the other for one sandbox. The server is not told of the first end, and knows the second by its identifier: the link has
    // another hardware address.
    let pod = node.pod("web", "lan");
    let ours = attached(&node, &pod, &server);
    std::fs::remove_file(node.path(&format!("state/dhcp/{},net1", pod.container))).unwrap();
    node.del(&pod).quiet();
    assert_eq!(server.leases(), ours.3);
    node.conf["builtin"] = json!(["macvlan"]);
    let theirs = attached(&node, &pod, &server);
    assert_eq!(ours, theirs);
    // Where we differ: their RELEASE comes from 0.0.0.0, which no kernel hands to a program. Ours ends the lease.
    node.del(&pod).quiet();
    assert_eq!((server.leases(), server.log().contains("DHCPRELEASE")), (theirs.3, false));
    pod.assert_empty();
    node.conf.as_object_mut().unwrap().remove("builtin");
    assert_eq!(attached(&node, &pod, &server), ours, "and back");
    node.del(&pod).quiet();
    server.has_nothing();
    node.assert_clean_but(&["up0"]);
}

pub mod on_host {
    use super::*;

    #[test]
    fn router_and_mask() {
        same_lease(json!({}));
    }

    #[test]
    fn static_routes_names_and_a_metric() {
        let ipam = json!({"priority": 50, "request": [{"option": "33"}],
            "provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}, {"option": "vendor-class-identifier", "value": "kube"}]});
        same_lease(ipam);
    }

    #[test]
    fn classless_routes_alone() {
        let ipam = json!({"request": [{"skipDefault": true}, {"option": "subnet-mask"}, {"option": "121"}]});
        same_lease(ipam);
    }
}
