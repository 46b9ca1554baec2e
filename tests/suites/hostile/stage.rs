//! The node that a tenant attacks, and how it is seen that nothing came of it.

use std::collections::BTreeSet;
use std::fs;

use meta_cni_tests::call::Refusal;
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// A node as a careful administrator sets it up, with an uplink, a storage link, a bridge of virtual machines, and a pod of
/// somebody else.
pub struct Stage {
    pub node: Node,
    bystander: Pod,
    result: Value,
    before: BTreeSet<String>,
}

/// Each line is one command of the administrator.
const NODE: [&str; 14] = [
    "ip link add eth0 type veth peer name wire0",
    "ip address add 172.31.0.1/24 dev eth0",
    "ip link set wire0 up",
    "ip link set eth0 up",
    "ip route add default via 172.31.0.254",
    "ip link add eth1 type veth peer name wire1",
    "ip address add 10.9.0.1/24 dev eth1",
    "ip link set wire1 up",
    "ip link set eth1 up",
    "ip link add eth2 type veth peer name wire2",
    "ip link set wire2 up",
    "ip link set eth2 up",
    "ip link add br-vm address 02:00:00:00:0b:01 type bridge",
    "ip link set br-vm up",
];

impl Stage {
    pub fn new() -> Self {
        let mut node = Node::new();
        NODE.iter().for_each(|line| drop(node.netns.run(line)));
        let main = json!({"cniVersion": "1.0.0", "name": "cluster", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipam": node.host_local("10.244.1.0/24")},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        node.conf["delegates"] = json!([main]);
        node.conf["namespaceIsolation"] = json!(true);
        node.conf["strict"] = json!(true);
        let roots = [node.text("addresses"), node.text("run")];
        node.conf["pathRoots"] = json!(roots);
        let bystander = node.pod("bystander", "");
        let result = node.add(&bystander).result();
        let mut stage = Self { node, bystander, result, before: BTreeSet::new() };
        stage.before = stage.traces();
        stage
    }

    /// The same after the administrator, or a case, has prepared something more.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.before = self.traces();
        self
    }

    /// The tenant's definition `trap` in the tenant's own namespace.
    pub fn trap(&self, config: &Value) {
        self.node.nad("trap", config.clone());
    }

    /// A pod that asks for the definition is refused, and nothing came of it.
    #[track_caller]
    pub fn refuses(&self, config: &Value, code: u64, names: &[&str]) -> Refusal {
        self.trap(config);
        self.refuses_pod(&self.node.pod("tenant", "trap"), code, names)
    }

    /// This pod is refused, and nothing came of it.
    #[track_caller]
    pub fn refuses_pod(&self, pod: &Pod, code: u64, names: &[&str]) -> Refusal {
        let refusal = self.node.add(pod).refused(code, names);
        assert!(!refusal.text.chars().any(char::is_control), "{:?}", refusal.text);
        assert_eq!(pod.netns.links(), Vec::<String>::new());
        self.node.del(pod).quiet();
        self.unharmed();
        refusal
    }

    /// A pod with this definition is attached; the node is as it was when the pod is gone.
    #[track_caller]
    pub fn admits(&self, config: &Value) {
        self.trap(config);
        let pod = self.node.pod("tenant", "trap");
        self.node.add(&pod).result();
        self.node.del(&pod).quiet();
        self.unharmed();
    }

    /// The node is as it was, and the other pod has its network.
    #[track_caller]
    pub fn unharmed(&self) {
        let now = self.traces();
        let new: Vec<&String> = now.difference(&self.before).collect();
        let gone: Vec<&String> = self.before.difference(&now).collect();
        assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone: {gone:#?}");
        self.node.check(&self.bystander, &self.result).quiet();
    }

    /// Links, addresses, routes, rules, packet filter and files of the node, one line each.
    fn traces(&self) -> BTreeSet<String> {
        const OF_A_LINK: [&str; 9] =
            ["ifname", "address", "mtu", "master", "group", "ifalias", "altnames", "promiscuity", "txqlen"];
        let mut traces = BTreeSet::new();
        for link in self.node.netns.ip("link").as_array().into_iter().flatten() {
            let kept = OF_A_LINK.iter().map(|key| (*key, &link[*key]));
            let is_up = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")));
            traces.insert(format!("link {:?} {} up {is_up}", kept.collect::<Vec<_>>(), link["linkinfo"]["info_kind"]));
        }
        let lines = ["ip -o -4 address", "ip -4 route show table all", "ip rule", "nft list ruleset"];
        for line in lines {
            let text = self.node.netns.run(line);
            traces.extend(text.lines().map(|found| format!("{line}: {}", found.trim())));
        }
        let memory = |path: &String| !path.contains("departed") && !path.ends_with("/lock");
        for sub in ["state", "addresses", "run", "bin", "conf"] {
            traces.extend(self.node.files(sub).into_iter().filter(memory));
        }
        traces
    }

    /// A file of the node that only root may write.
    pub fn file(&self, sub: &str, text: &str) -> String {
        let path = self.node.path(sub);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}
