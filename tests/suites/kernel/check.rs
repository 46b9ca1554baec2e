//! CHECK: whatever is changed behind an attachment's back is named, with what it is and what it was to be.

use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// What is done after the ADD, as "SIDE COMMAND; SIDE COMMAND", and the words that CHECK then has for it. Sides are `host`
/// and `pod`. PORT is the host's end of the pod's veth, TURN the last interface of the result, POD the pod's namespace,
/// CONTAINER its id and ADDRESSES the directory of host-local.
type Change = (&'static str, &'static [&'static str]);

/// A node with a wire `up0`, on which it is 192.168.50.1.
fn wired() -> Node {
    let node = Node::new();
    let wire = "link add up0 up type veth peer name up1\nlink set up1 up\naddress add 192.168.50.1/24 dev up0\n";
    std::fs::write(node.path("wire"), wire).unwrap();
    node.netns.run(&format!("ip -batch {}", node.text("wire")));
    node
}

/// Each change is made to a pod of its own, whose default network is this chain, on a node of its own.
fn names(node: fn() -> Node, plugins: impl Fn(&Node) -> Value, changes: &[Change]) {
    for (number, (change, words)) in changes.iter().enumerate() {
        let mut node = node();
        node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "net", "plugins": plugins(&node)}]);
        node.conf["runtimeConfig"] =
            json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        let pod = node.pod("web", "");
        let result = node.add(&pod).result();
        if number == 0 {
            node.check(&pod, &result).quiet();
        }
        for line in change.split("; ") {
            let line = filled(line, &node, &pod, &result);
            match line.split_once(' ').unwrap() {
                ("host", command) => node.netns.run(command),
                ("pod", command) => pod.netns.run(command),
                (other, _) => panic!("no side {other:?}"),
            };
        }
        let words: Vec<String> = words.iter().map(|word| filled(word, &node, &pod, &result)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        node.check(&pod, &result).refused(105, &words);
    }
}

fn filled(text: &str, node: &Node, pod: &Pod, result: &Value) -> String {
    let named = |interface: &Value| interface["name"].as_str().unwrap().to_owned();
    let interfaces = result["interfaces"].as_array().unwrap();
    let port = interfaces.iter().map(named).find(|name| name.starts_with("veth")).unwrap_or_default();
    text.replace("PORT", &port)
        .replace("TURN", &interfaces.last().map(named).unwrap_or_default())
        .replace("POD", pod.netns.text())
        .replace("CONTAINER", &pod.container)
        .replace("ADDRESSES", &node.text("addresses"))
}

fn bridge(node: &Node, keys: Value) -> Value {
    with(json!({"type": "bridge", "bridge": "cni0", "ipam": node.host_local("10.10.0.0/24")}), keys)
}

fn with(mut conf: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// What is in the pod, of any kind of link with this address.
const OF_POD: [Change; 5] = [
    ("pod ip link del eth0", &["link eth0 is missing in the pod"]),
    ("pod ip link set eth0 down", &["link eth0: up is false, want true"]),
    (
        "pod ip link set eth0 address 02:00:00:00:00:66",
        &["eth0 has hardware address 02:00:00:00:00:66, prevResult says"],
    ),
    ("pod ip address del 10.10.0.2/24 dev eth0", &["address 10.10.0.2/24 is missing on link eth0"]),
    ("host rm ADDRESSES/net/10.10.0.2", &["no address in ADDRESSES/net belongs to CONTAINER eth0"]),
];

#[test]
fn bridge_and_port() {
    let plugins = |node: &Node| {
        json!([bridge(node, json!({"isDefaultGateway": true, "hairpinMode": true, "portIsolation": true}))])
    };
    names(Node::new, plugins, &OF_POD);
    names(
        Node::new,
        plugins,
        &[
            ("pod ip link del eth0; pod ip link add eth0 type bridge", &["link eth0 is a bridge, was made as veth"]),
            ("pod ip route del default", &["route 0.0.0.0/0 via 10.10.0.1 is missing in the pod"]),
            ("host ip link del cni0", &["bridge cni0 is missing on the host"]),
            (
                "host ip link del cni0; host ip link add cni0 type veth peer name x",
                &["link cni0 is a veth, was made as bridge"],
            ),
            ("host ip link set cni0 down", &["link cni0: up is false, want true"]),
            (
                "host ip link set cni0 address 02:00:00:00:00:66",
                &["link cni0 has hardware address 02:00:00:00:00:66, prevResult"],
            ),
            ("host ip link set PORT nomaster", &["link PORT: index of the bridge is None, want Some"]),
            ("host ip link set PORT down", &["link PORT: up is false, want true"]),
            (
                "host ip link set PORT address 02:00:00:00:00:66",
                &["link PORT has hardware address 02:00:00:00:00:66, prevResult"],
            ),
            ("host ip link set PORT type bridge_slave hairpin off", &["link PORT: hairpinMode is false, want true"]),
            ("host ip link set PORT type bridge_slave isolated off", &["link PORT: portIsolation is false, want true"]),
            (
                "host ip address del 10.10.0.1/24 dev cni0",
                &["gateway 10.10.0.1/24 is missing on link cni0 of the host"],
            ),
            ("host sysctl -qw net.ipv4.ip_forward=0", &["sysctl net.ipv4.ip_forward of the node is \"0\", want \"1\""]),
            (
                "host mv ADDRESSES/net/10.10.0.2 ADDRESSES/net/10.10.0.3",
                &["no file 10.10.0.2 in ADDRESSES/net belongs to CONTAINER eth0"],
            ),
        ],
    );
    names(
        Node::new,
        |node| json!([bridge(node, json!({"promiscMode": true}))]),
        &[("host ip link set cni0 promisc off", &["link cni0: promiscuous mode is false, want true"])],
    );
}

#[test]
fn rules_of_bridge_on_host() {
    names(
        Node::new,
        |node| json!([bridge(node, json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}))]),
        &[
            ("host nft flush chain inet cni_plugins_masquerade masq_checks", &["no masquerade rule for 10.10.0.2/24"]),
            (
                "host nft flush chain inet cni_plugins_masquerade postrouting",
                &["postrouting does not lead to masq_checks"],
            ),
            (
                "host nft flush chain bridge nat PREROUTING",
                &["eth0: no rules against other hardware addresses", "bridge nat"],
            ),
            (
                "host nft flush chain bridge nat cni-br-iface-CONTAINER-eth0",
                &["no rules against other hardware addresses"],
            ),
            (
                "host nft flush chain bridge nat cni-br-iface-CONTAINER-eth0-mac",
                &["no rules against other hardware addresses"],
            ),
        ],
    );
}

#[test]
fn vlans_of_a_bridge_on_uml() {
    names(
        Node::new,
        |node| json!([bridge(node, json!({"isGateway": true, "vlan": 7}))]),
        &[
            ("host bridge vlan del vid 7 dev PORT", &["link PORT: VLAN 7 is None, want Some"]),
            ("host bridge vlan add vid 9 dev PORT", &["port PORT is in VLAN 9, which nobody asked for"]),
            ("host ip link del cni0.7", &["link cni0.7, the gateway's, is missing on the host"]),
            (
                "host ip address del 10.10.0.1/24 dev cni0.7",
                &["gateway 10.10.0.1/24 is missing on link cni0.7 of the host"],
            ),
        ],
    );
}

#[test]
fn ptp_and_its_routes() {
    let plugins = |node: &Node| json!([{"type": "ptp", "ipam": node.host_local("10.10.0.0/24")}]);
    names(Node::new, plugins, &OF_POD);
    names(
        Node::new,
        plugins,
        &[
            ("pod ip route del 10.10.0.0/24", &["route 10.10.0.0/24 via 10.10.0.1 is missing in the pod"]),
            ("pod ip route del 10.10.0.1", &["route 10.10.0.1/32 is missing in the pod"]),
            ("host ip link set PORT down", &["link PORT: up is false, want true"]),
            (
                "host ip link set PORT address 02:00:00:00:00:66",
                &["link PORT has hardware address 02:00:00:00:00:66, prevResult"],
            ),
            ("host ip route del 10.10.0.2", &["the node has no route to 10.10.0.2 through PORT"]),
            (
                "host ip address add 10.9.9.9/32 dev PORT; host ip address del 10.10.0.1/32 dev PORT",
                &["gateway 10.10.0.1 is missing on link PORT of the host"],
            ),
            ("host sysctl -qw net.ipv4.ip_forward=0", &["sysctl net.ipv4.ip_forward of the node is \"0\", want \"1\""]),
        ],
    );
}

#[test]
fn masquerade_of_ptp_on_host() {
    names(
        wired,
        |node| json!([{"type": "ptp", "ipMasq": true, "ipam": node.host_local("10.10.0.0/24")}]),
        &[("host nft delete table inet cni_plugins_masquerade", &["nftables table inet cni_plugins_masquerade"])],
    );
}

fn on_up0(node: &Node, kind: &str, keys: Value) -> Value {
    with(json!({"type": kind, "master": "up0", "ipam": node.host_local("10.10.0.0/24")}), keys)
}

/// The master is another link than the one that the pod's stands on.
const OF_MASTER: [Change; 2] = [
    (
        "host ip link set up0 down; host ip link set up0 name up9; host ip link set up9 up; pod ip link set eth0 up",
        &["master: got \"up0\", want an existing link"],
    ),
    (
        "host ip link set up0 down; host ip link set up0 name up9; host ip link set up9 up; pod ip link set eth0 up; host ip link add up0 type veth peer name up8",
        &["link eth0: index of the master is Some", "want Some"],
    ),
];

#[test]
fn macvlan_and_its_master() {
    let plugins = |node: &Node| json!([on_up0(node, "macvlan", json!({"mode": "private"}))]);
    names(wired, plugins, &OF_POD);
    names(wired, plugins, &OF_MASTER);
    names(
        wired,
        plugins,
        &[
            ("pod ip link set eth0 type macvlan mode bridge", &["link eth0: mode is", "Bridge", "want", "Private"]),
            ("pod ip link del eth0; pod ip link add eth0 type bridge", &["link eth0 is a bridge, was made as macvlan"]),
        ],
    );
}

#[test]
fn ipvlan_and_its_master_on_uml() {
    let plugins = |node: &Node| json!([on_up0(node, "ipvlan", json!({}))]);
    names(wired, plugins, &OF_MASTER);
    names(wired, plugins, &[OF_POD[0], OF_POD[1], OF_POD[3], OF_POD[4]]);
    names(wired, plugins, &[("pod ip link set eth0 type ipvlan mode l3", &["link eth0: mode is", "L3", "want", "L2"])]);
}

#[test]
fn vlan_and_its_master_on_uml() {
    let plugins = |node: &Node| json!([on_up0(node, "vlan", json!({"vlanId": 7, "mtu": 1400}))]);
    names(wired, plugins, &OF_POD);
    names(wired, plugins, &OF_MASTER);
    names(
        wired,
        plugins,
        &[
            ("pod ip link set eth0 mtu 1300", &["link eth0: MTU is 1300, want 1400"]),
            (
                "pod ip link del eth0; host ip link add link up0 name eth0 netns POD type vlan id 8; pod ip link set eth0 up",
                &["link eth0: VLAN is", "8", "want", "7"],
            ),
        ],
    );
}

#[test]
fn dummy_on_uml() {
    names(Node::new, |node| json!([{"type": "dummy", "ipam": node.host_local("10.10.0.0/24")}]), &OF_POD);
}

#[test]
fn tap_on_host() {
    let in_bridge = |node: &Node| json!([{"type": "tap", "ipam": node.host_local("10.10.0.0/24")}]);
    names(Node::new, in_bridge, &OF_POD);
    let replaced = "pod ip link del eth0; pod ip link add eth0 type veth peer name x";
    names(Node::new, in_bridge, &[(replaced, &["link eth0 is a veth, was made as tun"])]);
}

/// A node with two links that a bond can be made of.
fn two_wires() -> Node {
    let node = Node::new();
    for wire in ["up0", "up2"] {
        node.netns.run(&format!("ip link add {wire} up type veth peer name {wire}-far"));
        node.netns.run(&format!("ip link set {wire}-far up"));
    }
    node
}

#[test]
fn bond_on_uml() {
    let plugins = |node: &Node| {
        json!([{"type": "bond", "mode": "active-backup", "miimon": "100", "links": [{"name": "up0"}, {"name": "up2"}],
            "ipam": node.host_local("10.10.0.0/24")}])
    };
    names(two_wires, plugins, &OF_POD);
    names(
        two_wires,
        plugins,
        &[
            ("pod ip link set up2 nomaster", &["link up2: index of the bond is None, want Some"]),
            ("pod ip link set up2 down; pod ip link set up2 name other", &["link up2 is missing in the pod"]),
            ("pod ip link del eth0; pod ip link add eth0 type dummy", &["link eth0 is a dummy, was made as bond"]),
        ],
    );
}

#[test]
fn a_lent_device() {
    let plugins =
        |node: &Node| json!([{"type": "host-device", "device": "up0", "ipam": node.host_local("10.10.0.0/24")}]);
    names(wired, plugins, &OF_POD);
}

#[test]
fn loopback() {
    names(
        Node::new,
        |_| json!([{"type": "loopback"}]),
        &[
            ("pod ip link set lo down", &["link lo: up is false, want true"]),
            ("pod ip address del 127.0.0.1/8 dev lo", &["address 127.0.0.1/8 is missing on link lo"]),
        ],
    );
}

#[test]
fn an_overlay_and_its_peers() {
    let plugins = |node: &Node| {
        json!([{"type": "vxlan", "vni": 4200, "underlay": "192.168.50.0/24", "peers": ["192.168.50.1", "192.168.50.2"],
            "ipam": node.host_local("10.10.0.0/24")}])
    };
    names(wired, plugins, &OF_POD);
    names(
        wired,
        plugins,
        &[
            ("host ip link set bx4200 down", &["link bx4200: up is false, want true"]),
            ("host ip link set PORT nomaster", &["link PORT: index of the bridge is None, want Some"]),
            ("host ip link del vx4200", &["vxlan device vx4200 is missing on the host"]),
            ("host ip link set vx4200 down", &["link vx4200: up is false, want true"]),
            ("host ip link set vx4200 nomaster", &["link vx4200: index of the bridge is None, want Some"]),
            (
                "host bridge fdb del 00:00:00:00:00:00 dev vx4200 dst 192.168.50.2",
                &["vx4200: peer 192.168.50.2 is missing"],
            ),
            (
                "host ip address add 192.168.50.9/24 dev up0; host ip address del 192.168.50.1/24 dev up0",
                &["underlay: got \"192.168.50.0/24\", want a subnet in which this node has an IPv4 address"],
            ),
            (
                "host ip address del 192.168.50.1/24 dev up0; host ip address add 192.168.50.9/24 dev up0",
                &["link vx4200: local address is Some(192.168.50.1), want Some(192.168.50.9)"],
            ),
            (
                "host ip link del vx4200; host ip link add vx4200 type vxlan id 4201 dstport 4789 dev up0",
                &["link vx4200: VNI is 4201, want 4200"],
            ),
            (
                "host ip link del vx4200; host ip link add vx4200 type vxlan id 4200 dstport 8472 dev up0",
                &["link vx4200: UDP port is 8472, want 4789"],
            ),
        ],
    );
}

#[test]
fn settings_of_tuning() {
    let tuning = json!({"type": "tuning", "mac": "02:00:00:00:00:09", "mtu": 1300, "promisc": true, "allmulti": true,
        "txQLen": 77, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}});
    names(
        Node::new,
        |node| json!([bridge(node, json!({})), tuning]),
        &[
            (
                "pod ip link set eth0 address 02:00:00:00:00:66",
                &["hardware address", "02:00:00:00:00:66", "02:00:00:00:00:09"],
            ),
            ("pod ip link set eth0 mtu 1400", &["link eth0: MTU is 1400, want 1300"]),
            ("pod ip link set eth0 promisc off", &["link eth0: promiscuous mode is false, want true"]),
            ("pod ip link set eth0 allmulticast off", &["link eth0: all-multicast mode is false, want true"]),
            ("pod ip link set eth0 txqueuelen 78", &["link eth0: length of the transmit queue is 78, want 77"]),
            (
                "pod sysctl -qw net.ipv4.conf.eth0.arp_filter=0",
                &["sysctl net.ipv4.conf.IFNAME.arp_filter is \"0\", want \"1\""],
            ),
        ],
    );
}

#[test]
fn rules_and_routes_of_sbr() {
    names(
        Node::new,
        |node| json!([bridge(node, json!({"isGateway": true})), {"type": "sbr"}]),
        &[
            ("pod ip rule del from 10.10.0.2", &["no rule for packets from 10.10.0.2/32 in the pod"]),
            ("pod ip route del default table 100", &["no default route via 10.10.0.1 in table 100 of the pod"]),
        ],
    );
}

#[test]
fn a_vrf_on_uml() {
    names(
        Node::new,
        |node| json!([bridge(node, json!({})), {"type": "vrf", "vrfname": "blue", "table": 50}]),
        &[
            ("pod ip link del blue", &["link blue is missing in the pod"]),
            ("pod ip link set blue down", &["link blue: up is false, want true"]),
            ("pod ip link set eth0 nomaster", &["link eth0: index of the vrf is None, want Some"]),
            (
                "pod ip link del blue; pod ip link add blue up type vrf table 51; pod ip link set eth0 master blue",
                &["link blue: table is", "51", "want", "50"],
            ),
        ],
    );
}

#[test]
fn mapped_ports_on_host() {
    names(
        Node::new,
        |node| json!([bridge(node, json!({"isGateway": true})), {"type": "portmap", "capabilities": {"portMappings": true}}]),
        &[
            ("host nft flush chain ip cni_hostport hostports", &["8080", "in nftables table ip cni_hostport"]),
            (
                "host nft flush chain ip cni_hostport prerouting",
                &["no jump from prerouting", "nftables table ip cni_hostport"],
            ),
            ("host nft flush chain ip cni_hostport masquerading", &["in nftables table ip cni_hostport"]),
        ],
    );
}

#[test]
fn limits_of_bandwidth_on_host() {
    let limits = json!({"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000});
    names(
        Node::new,
        |node| json!([bridge(node, json!({})), limits]),
        &[
            ("host tc qdisc del dev PORT root", &["link PORT has no token bucket"]),
            (
                "host tc qdisc replace dev PORT root tbf rate 4mbit burst 100k latency 25ms",
                &["link PORT: rate in bytes per second is 500000, want 1000000"],
            ),
            ("host tc qdisc del dev PORT ingress", &["link PORT: what it receives is not sent through TURN"]),
            ("host tc qdisc del dev TURN root", &["link TURN has no token bucket"]),
            ("host ip link set TURN down", &["link TURN: up is false, want true"]),
        ],
    );
}

#[test]
fn what_flannel_handed_on() {
    let plugins = |node: &Node| {
        let env = "FLANNEL_NETWORK=10.10.0.0/16\nFLANNEL_SUBNET=10.10.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        std::fs::write(node.path("subnet.env"), env).unwrap();
        json!([{"type": "flannel", "subnetFile": node.path("subnet.env"), "dataDir": node.path("flannel"),
            "ipam": {"dataDir": node.path("addresses")}, "delegate": {"isDefaultGateway": true}}])
    };
    names(Node::new, plugins, &OF_POD);
    names(Node::new, plugins, &[("host ip link set cni0 down", &["link cni0: up is false, want true"])]);
}
