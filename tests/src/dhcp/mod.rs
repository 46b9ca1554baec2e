//! DHCP servers on a wire: Debian's dnsmasq, and a fake whose leases are as short and whose answers as odd as a case wants.

mod dnsmasq;
mod fake;

pub use dnsmasq::Dnsmasq;
pub use fake::{FakeServer, Mood};

use crate::netns::Netns;
use crate::node::Node;

/// A wire `up0` from the node to a namespace with 10.9.0.1/24, where a server can be.
pub fn wire(node: &Node) -> Netns {
    let far = Netns::new(node.path("netns/far"));
    node.netns.run(&format!("ip link add up0 type veth peer name up0 netns {}", far.text()));
    node.netns.run("ip link set up0 up");
    far.run("ip link set up0 up");
    far.run("ip address add 10.9.0.1/24 dev up0");
    // Answers to everybody need a way, as those to a router do.
    far.run("ip route add default dev up0");
    far
}
