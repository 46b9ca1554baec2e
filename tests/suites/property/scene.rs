//! The node of a round: an uplink, two devices to lend, and networks of every kind that the kernel has.

use fastrand::Rng;
use meta_cni_tests::call::Call;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Links of the node that are nobody's.
pub const LINKS: [&str; 6] = ["up0", "up1", "dev0", "dev0p", "dev1", "dev1p"];

/// The networks that a pod may ask for.
const NETWORKS: [&str; 10] = ["lan", "wide", "blue", "red", "wire", "fixed", "lent0", "lent1", "tuned", "sourced"];

/// What User Mode Linux has in addition. It lacks nf_tables but for bridges.
const UML_NETWORKS: [&str; 5] = ["thin", "tagged", "trunked", "idle", "apart"];

/// The device that the network `apart` makes in the pod, beside the pod's own.
pub const VRF: &str = "vrf0";

fn on_uml() -> bool {
    std::env::var("META_CNI_KERNEL").is_ok_and(|kernel| kernel == "uml")
}

/// What is known of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// ADD said so.
    Attached,
    /// A call was killed, or it has not been said yet what became of it.
    Unknown,
    /// Nothing of it may be there.
    Detached,
}

/// A pod of the round.
pub struct Member {
    pub pod: Pod,
    pub state: State,
    /// Its namespace is there.
    pub is_alive: bool,
    pub networks: Vec<&'static str>,
    /// What the runtime says beside the configuration.
    pub port: u16,
}

impl Member {
    pub fn can_be_added(&self) -> bool {
        self.is_alive && self.state != State::Attached
    }

    /// A virtual device would die with its borrower.
    pub fn borrows(&self) -> bool {
        self.networks.iter().any(|network| network.starts_with("lent"))
    }
}

pub struct Scene {
    pub node: Node,
    /// The plugins of the default network.
    pub default: Vec<String>,
}

impl Scene {
    pub fn new(rng: &mut Rng) -> Self {
        let mut node = Node::new();
        for (name, other) in [("up0", "up1"), ("dev0", "dev0p"), ("dev1", "dev1p")] {
            node.netns.run(&format!("ip link add {name} type veth peer name {other}"));
            node.netns.run(&format!("ip link set {name} up"));
            node.netns.run(&format!("ip link set {other} up"));
        }
        node.netns.run("ip address add 192.168.50.1/24 dev up0");
        for (device, mtu) in [("dev0", 1400), ("dev1", 1300)] {
            node.netns.run(&format!("ip link set {device} mtu {mtu} alias of-the-node"));
        }
        define(&node);
        let plugins = default_plugins(&node, rng);
        let default = plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect();
        node.conf["delegates"] = json!([{"cniVersion": "1.1.0", "name": "default-net", "plugins": plugins}]);
        Self { node, default }
    }

    /// A new pod, which nobody has called for yet.
    pub fn member(&self, rng: &mut Rng, number: usize) -> Member {
        let mut networks = NETWORKS.to_vec();
        if on_uml() {
            networks.extend(UML_NETWORKS);
        }
        rng.shuffle(&mut networks);
        networks.truncate(rng.usize(..4));
        let pod = self.node.pod(&format!("pod-{number}"), &networks.join(","));
        Member { pod, state: State::Detached, is_alive: true, networks, port: rng.u16(8000..8004) }
    }

    pub fn call(&self, verb: &str, member: &Member) -> Call<'_> {
        let mapping = json!([{"hostPort": member.port, "containerPort": 80, "protocol": "tcp"}]);
        let call = self.node.call(verb, &member.pod).conf("runtimeConfig", json!({"portMappings": mapping}));
        if member.is_alive { call } else { call.env("CNI_NETNS", "") }
    }
}

fn default_plugins(node: &Node, rng: &mut Rng) -> Vec<Value> {
    // Small enough to be exhausted now and then.
    let ipam = node.host_local("10.10.0.0/29");
    let nat = !on_uml();
    let mut plugins = vec![match rng.u32(..3) {
        0 => json!({"type": "ptp", "ipMasq": nat, "ipam": ipam}),
        1 => {
            json!({"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": nat, "ipMasqBackend": "nftables", "ipam": ipam})
        }
        _ => json!({"type": "bridge", "bridge": "cni0", "macspoofchk": true, "hairpinMode": true, "ipam": ipam}),
    }];
    let chained = [
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "bandwidth", "egressRate": 8_000_000, "egressBurst": 800_000, "ingressRate": 8_000_000, "ingressBurst": 800_000}),
        json!({"type": "tuning", "mtu": 1380, "allmulti": true, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}),
    ];
    plugins.extend(chained.into_iter().filter(|plugin| (nat || plugin["type"] != "portmap") && rng.bool()));
    plugins
}

fn define(node: &Node) {
    let ipam = |network: u8| node.host_local(&format!("10.{network}.0.0/24"));
    let one = |name: &str, plugin: Value| list(node, name, &[plugin]);
    one("lan", json!({"type": "bridge", "bridge": "br-lan", "isGateway": true, "ipam": ipam(11)}));
    one("wide", json!({"type": "macvlan", "master": "up0", "ipam": ipam(12)}));
    one("blue", json!({"type": "vxlan", "vni": 4200, "underlay": "up0", "peers": ["192.168.50.2"], "ipam": ipam(13)}));
    one(
        "red",
        json!({"type": "vxlan", "vni": 4201, "underlay": "up0", "ipam": {"type": "blocks", "ranges": [[{"subnet": "10.14.0.0/28"}], [{"subnet": "fd00:14::/64"}]]}}),
    );
    let blocks = json!({"type": "blocks", "subnet": "10.15.0.0/29"});
    one("wire", json!({"type": "ptp", "ipam": blocks}));
    let fixed = json!({"type": "static", "addresses": [{"address": "10.99.0.2/24"}]});
    one("fixed", json!({"type": "bridge", "bridge": "br-fixed", "ipam": fixed}));
    one("lent0", json!({"type": "host-device", "device": "dev0", "ipam": ipam(16)}));
    list(
        node,
        "lent1",
        &[
            json!({"type": "host-device", "device": "dev1"}),
            json!({"type": "tuning", "mtu": 1290, "mac": "02:00:00:00:00:77"}),
        ],
    );
    list(
        node,
        "tuned",
        &[json!({"type": "macvlan", "master": "up0"}), json!({"type": "tuning", "promisc": true, "txQLen": 77})],
    );
    one("thin", json!({"type": "ipvlan", "master": "up1", "ipam": ipam(18)}));
    one("tagged", json!({"type": "vlan", "master": "up1", "vlanId": 77, "ipam": ipam(19)}));
    one(
        "trunked",
        json!({"type": "bridge", "bridge": "br-trunk", "vlan": 78, "vlanTrunk": [{"minID": 90, "maxID": 99}], "ipam": ipam(20)}),
    );
    one("idle", json!({"type": "dummy", "ipam": ipam(21)}));
    list(
        node,
        "apart",
        &[json!({"type": "bridge", "bridge": "br-apart", "ipam": ipam(22)}), json!({"type": "vrf", "vrfname": VRF})],
    );
    list(node, "sourced", &[json!({"type": "macvlan", "master": "up0", "ipam": ipam(17)}), json!({"type": "sbr"})]);
}

fn list(node: &Node, name: &str, plugins: &[Value]) {
    node.nad(name, json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins}));
}
