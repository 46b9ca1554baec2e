//! Networks, nodes, pods and addresses, from the objects of a cluster. A value without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use attachments::names::NetRef;
use attachments::status::NETWORK_STATUS;
use delegates::ipam::blocks::Pool;
use delegates::ipam::blocks::whereabouts::Files;
use delegates::networks::state::Slots as Run;
use delegates::networks::{Need, needs, needs_of};
use serde_json::Value;

/// What is asked of the API server: the kind, and its collection.
pub const COLLECTIONS: [(&str, &str); 6] = [
    ("NetworkAttachmentDefinition", "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"),
    ("VniClaim", "/apis/meta-cni.io/v1alpha1/vniclaims"),
    ("OverlayMember", "/apis/meta-cni.io/v1alpha1/overlaymembers"),
    ("AddressBlock", "/apis/meta-cni.io/v1alpha1/addressblocks"),
    ("AddressClaim", "/apis/meta-cni.io/v1alpha1/addressclaims"),
    ("Pod", "/api/v1/pods"),
];

/// The networks of a cluster, and who is attached.
#[derive(Debug, Default)]
pub struct Map {
    /// By definition, `namespace/name`.
    pub networks: BTreeMap<String, Network>,
    /// By namespace and name.
    pub pods: BTreeMap<String, Pod>,
    /// By the network's name with the cluster (label `meta-cni.io/network`).
    pub spans: BTreeMap<String, Span>,
}

/// A definition.
#[derive(Debug, Default)]
pub struct Network {
    /// Type of its first plugin; empty where nobody can read it.
    pub kind: String,
    /// What spans nodes of it: the name with the cluster.
    pub span: Option<String>,
    /// The pool of its addresses.
    pub pool: Option<Pool>,
    /// It has them where the nodes read configurations of whereabouts as those of blocks.
    pub is_assumed: bool,
}

/// A network that spans nodes.
#[derive(Debug, Default)]
pub struct Span {
    /// MTU, as the claim has it.
    pub mtu: Option<u64>,
    /// Members: node and tunnel ends.
    pub members: BTreeMap<String, String>,
    /// Who has which slots of its pool.
    pub blocks: Vec<Block>,
    /// The addresses that were asked for, or are kept, in the order of addresses.
    pub claims: Vec<Claim>,
}

/// An address that is claimed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The name of the AddressClaim.
    pub name: String,
    /// Its addresses, one of each family or range set.
    pub addresses: Vec<IpAddr>,
    /// For whom it is: `IPAMClaim shop/vm`, `pod shop/web`.
    pub holder: String,
    /// The nodes where the holder is, or is about to be.
    pub nodes: Vec<String>,
    /// Who has the address where the holder may not have it yet, as its owner told.
    pub held_by: String,
}

impl Claim {
    /// In words: `10.42.0.9  kept for IPAMClaim shop/vm on n1 (AddressClaim 4789-4200.a9)`.
    pub fn words(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let at = if self.nodes.is_empty() { String::new() } else { format!(" on {}", self.nodes.join(", ")) };
        let by = if self.held_by.is_empty() { String::new() } else { format!(", held by {}", self.held_by) };
        format!("{}  kept for {}{at}{by} (AddressClaim {})", addresses.join(" "), self.holder, self.name)
    }
}

/// A block of a pool.
#[derive(Debug, Default)]
pub struct Block {
    /// The slots of each node.
    pub runs: Vec<(String, Run)>,
    /// How many slots of a node nobody had a while ago, where it told.
    pub free: BTreeMap<String, u64>,
}

/// What a node has of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Addresses that pods of the node may have.
    pub owned: u64,
    /// Those that were free a while ago.
    pub free: u64,
}

/// A pod with further networks.
#[derive(Debug, Default)]
pub struct Pod {
    /// Its node; empty while it has none.
    pub node: String,
    /// Its attachments.
    pub attachments: Vec<Attachment>,
}

/// An interface of a pod in a network of a definition.
#[derive(Debug)]
pub struct Attachment {
    /// The definition.
    pub network: String,
    /// The interface in the pod.
    pub interface: String,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Its MAC address.
    pub mac: String,
}

/// What a definition needs of the cluster, and whether it does so only where whereabouts is read as blocks. The nodes' files are not looked at.
fn need(config: &str, reference: &NetRef) -> Option<(Need, bool)> {
    if let Some(need) = needs(config, reference).into_iter().next() {
        return Some((need, false));
    }
    let files = Files { root: Path::new("/nonexistent"), path_roots: &[] };
    Some((needs_of(config, reference, Some(&files)).into_iter().next()?, true))
}

impl Map {
    /// Takes an object of a kind; one of another kind, or one that cannot be read, says nothing.
    pub fn take(&mut self, kind: &str, object: &Value) {
        match kind {
            "NetworkAttachmentDefinition" => self.definition(object),
            "VniClaim" => {
                let mtu = object["spec"]["mtu"].as_u64();
                self.spans.entry(text(&object["metadata"]["name"])).or_default().mtu = mtu;
            }
            "OverlayMember" => {
                let spec = &object["spec"];
                let vteps: Vec<String> = list(&spec["vteps"]).map(text).collect();
                self.span(spec).members.insert(text(&spec["node"]), vteps.join(" "));
            }
            "AddressBlock" => self.block(object),
            "AddressClaim" => self.claim(object),
            "Pod" => self.pod(object),
            "List" => list(&object["items"]).for_each(|item| self.take(&text(&item["kind"]), item)),
            _ => {}
        }
    }

    fn span(&mut self, spec: &Value) -> &mut Span {
        self.spans.entry(text(&spec["network"])).or_default()
    }

    fn definition(&mut self, object: &Value) {
        let (namespace, name) = (namespace_of(object), text(&object["metadata"]["name"]));
        let config = text(&object["spec"]["config"]);
        let read: Value = serde_json::from_str(&config).unwrap_or_default();
        let first = read["plugins"].get(0).unwrap_or(&read);
        let mut network = Network { kind: text(&first["type"]), ..Network::default() };
        if let (Ok(namespace), Ok(name)) = (namespace.parse(), name.parse())
            && let Some((need, is_assumed)) = need(&config, &NetRef { namespace, name })
        {
            network.span = Some(need.id.to_string());
            network.pool = need.pool;
            network.is_assumed = is_assumed;
        }
        self.networks.insert(format!("{namespace}/{name}"), network);
    }

    fn block(&mut self, object: &Value) {
        let spec = &object["spec"];
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
        let run =
            |run: &Value| (text(&run["node"]), Run { first: number(&run["first"]), count: number(&run["count"]) });
        let told = |one: &Value| Some((text(&one["node"]), one["free"].as_u64()?));
        let block = Block {
            runs: list(&spec["runs"]).map(run).collect(),
            free: list(&object["status"]["nodes"]).filter_map(told).collect(),
        };
        self.span(spec).blocks.push(block);
    }

    fn claim(&mut self, object: &Value) {
        let (spec, status) = (&object["spec"], &object["status"]);
        let holder = &spec["holder"];
        let kept = |kind: &&str| ["IPAMClaim", "AddressSet"].contains(kind);
        let kind = holder["kind"].as_str().filter(kept).unwrap_or("pod");
        let claim = Claim {
            name: text(&object["metadata"]["name"]),
            addresses: list(&spec["addresses"]).filter_map(|ip| ip.as_str()?.parse().ok()).collect(),
            holder: format!("{kind} {}/{}", text(&holder["namespace"]), text(&holder["name"])),
            nodes: list(&spec["nodes"]).map(text).collect(),
            held_by: text(&status["heldBy"]),
        };
        let claims = &mut self.span(spec).claims;
        let at = claims.partition_point(|other| other.addresses <= claim.addresses);
        claims.insert(at, claim);
    }

    fn pod(&mut self, object: &Value) {
        let status: Value =
            serde_json::from_str(&text(&object["metadata"]["annotations"][NETWORK_STATUS])).unwrap_or_default();
        let further = list(&status).filter(|entry| entry["default"] != true);
        let attachments: Vec<Attachment> = further
            .map(|entry| Attachment {
                network: text(&entry["name"]),
                interface: text(&entry["interface"]),
                ips: list(&entry["ips"]).map(text).collect(),
                mac: text(&entry["mac"]),
            })
            .collect();
        if !attachments.is_empty() {
            let name = format!("{}/{}", namespace_of(object), text(&object["metadata"]["name"]));
            self.pods.insert(name, Pod { node: text(&object["spec"]["nodeName"]), attachments });
        }
    }

    /// Leaves the networks of one namespace, or one network, and the pods that are attached to them.
    pub fn limit(&mut self, namespace: Option<&str>, network: Option<&str>) {
        let is_wanted = |name: &str| {
            namespace.is_none_or(|wanted| name.split_once('/').is_some_and(|(of, _)| of == wanted))
                && network.is_none_or(|wanted| name == wanted)
        };
        for pod in self.pods.values_mut() {
            pod.attachments.retain(|attachment| is_wanted(&attachment.network));
        }
        self.pods.retain(|_, pod| !pod.attachments.is_empty());
        self.networks.retain(|name, _| is_wanted(name));
    }

    /// Every network: those of definitions, and those that a pod is attached to while nobody can read a definition of theirs.
    pub fn names(&self) -> BTreeSet<&str> {
        let attached = self.pods.values().flat_map(|pod| &pod.attachments).map(|one| one.network.as_str());
        self.networks.keys().map(String::as_str).chain(attached).collect()
    }

    /// What spans nodes of a network, and the network.
    pub fn span_of(&self, name: &str) -> Option<&Span> {
        self.spans.get(self.networks.get(name)?.span.as_deref()?)
    }

    /// The claims of a network's addresses.
    pub fn claims(&self, name: &str) -> &[Claim] {
        self.span_of(name).map_or(&[], |span| &span.claims)
    }

    /// The claim by which an attachment has its address.
    pub fn claim_of(&self, attachment: &Attachment) -> Option<&Claim> {
        let ips: Vec<IpAddr> = attachment.ips.iter().filter_map(|ip| ip.split('/').next()?.parse().ok()).collect();
        self.claims(&attachment.network).iter().find(|claim| claim.addresses.iter().any(|ip| ips.contains(ip)))
    }

    /// What each node has of a network's pool. A node that has told nothing of a block has all of its part free.
    pub fn holders(&self, name: &str) -> BTreeMap<&str, Held> {
        let pool = self.networks.get(name).and_then(|network| network.pool.as_ref());
        let mut holders: BTreeMap<&str, Held> = BTreeMap::new();
        for block in self.span_of(name).into_iter().flat_map(|span| &span.blocks) {
            let mut owned: BTreeMap<&str, u64> = BTreeMap::new();
            for (node, run) in &block.runs {
                let count = pool.map_or(run.count, |pool| pool.usable(&[*run]));
                *owned.entry(node).or_default() += u64::from(count);
            }
            for (node, owned) in owned {
                let held = holders.entry(node).or_default();
                held.owned += owned;
                held.free += block.free.get(node).copied().unwrap_or(owned).min(owned);
            }
        }
        holders
    }

    /// How many addresses of a network's pool nobody has, as far as the nodes have told; none where it has no pool, or no node told.
    pub fn free(&self, name: &str) -> Option<u64> {
        let pool = self.networks.get(name)?.pool.as_ref()?;
        let holders = self.holders(name);
        let used: u64 = holders.values().map(|held| held.owned - held.free).sum();
        let size = u64::from(pool.usable(&[Run { first: 0, count: pool.capacity() }]));
        (!holders.is_empty()).then(|| size.saturating_sub(used))
    }

    /// The pods of a network by node, each with its attachment.
    pub fn attached<'a>(&'a self, network: &str) -> BTreeMap<&'a str, Vec<(&'a str, &'a Attachment)>> {
        let mut nodes: BTreeMap<&str, Vec<(&str, &Attachment)>> = BTreeMap::new();
        for (name, pod) in &self.pods {
            for attachment in pod.attachments.iter().filter(|one| one.network == network) {
                nodes.entry(&pod.node).or_default().push((name, attachment));
            }
        }
        nodes
    }

    /// What a network is, in a few words: `vxlan 4200 on UDP 4789, MTU 1450, 10.42.0.0/16`.
    pub fn title(&self, name: &str) -> String {
        let Some(network) = self.networks.get(name) else { return "no definition".to_owned() };
        let mut words = match network.span.as_deref().and_then(|span| span.split_once('-')) {
            Some((port, vni)) if network.kind == "vxlan" => vec![format!("vxlan {vni} on UDP {port}")],
            _ => vec![network.kind.clone()],
        };
        words.extend(self.span_of(name).and_then(|span| span.mtu).map(|mtu| format!("MTU {mtu}")));
        words.extend(network.pool.iter().flat_map(Pool::subnets).map(|subnet| subnet.to_string()));
        words.join(", ")
    }
}

fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// An overlay of two nodes and a bridge; three pods.
    pub fn example() -> Map {
        let definition = |name: &str, config: Value| json!({"kind": "NetworkAttachmentDefinition", "metadata": {"namespace": "shop", "name": name}, "spec": {"config": config.to_string()}});
        let pod = |name: &str, node: &str, networks: Value| json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name, "annotations": {NETWORK_STATUS: networks.to_string()}}, "spec": {"nodeName": node}});
        let entry = |name: &str, interface: &str, ip: &str| json!({"name": format!("shop/{name}"), "interface": interface, "ips": [ip], "mac": "0a:58:0a:2a:00:01"});
        let member = |node: &str, vtep: &str| json!({"kind": "OverlayMember", "spec": {"network": "4789-4200", "node": node, "vteps": [vtep], "mac": "02:00:00:00:00:01", "mtu": 1450}});
        let block = |first: u32, node: &str, free: u32| json!({"kind": "AddressBlock", "spec": {"network": "4789-4200", "first": first, "count": 64, "runs": [{"first": first, "count": 64, "node": node}]}, "status": {"free": free, "nodes": [{"node": node, "free": free}]}});
        let claim = |name: &str, address: &str, holder: Value, held_by: &str| json!({"kind": "AddressClaim", "metadata": {"name": format!("4789-4200.{name}")}, "spec": {"network": "4789-4200", "slot": 1, "addresses": [address], "holder": holder, "nodes": ["n1"]}, "status": {"node": "n2", "heldBy": held_by}});
        let items = json!([
            definition("blue", json!({"type": "vxlan", "vni": 4200, "ipam": {"type": "blocks", "subnet": "10.42.0.0/24"}})),
            definition("lan", json!({"plugins": [{"type": "bridge", "bridge": "lan0"}]})),
            {"kind": "VniClaim", "metadata": {"name": "4789-4200"}, "spec": {"vni": 4200, "port": 4789, "mtu": 1450, "owner": {"namespace": "shop", "name": "blue"}}},
            member("n1", "172.31.0.1"), member("n2", "172.31.0.2"), block(0, "n1", 61), block(64, "n2", 63),
            pod("a", "n1", json!([{"name": "cni0", "interface": "eth0", "default": true}, entry("blue", "net1", "10.42.0.1"), entry("lan", "net2", "10.1.0.2")])),
            pod("b", "n2", json!([entry("blue", "net1", "10.42.0.65")])),
            pod("<c>", "n1", json!([entry("gone", "net1", "10.9.0.1")])),
            claim("a70", "10.42.0.70", json!({"kind": "Pod", "namespace": "shop", "name": "web"}), "shop/old"),
            claim("a1", "10.42.0.1", json!({"kind": "IPAMClaim", "namespace": "shop", "name": "vm"}), ""),
            {"kind": "AddressClaim"}, {"kind": "Secret"}, {"kind": "Pod"}, 7,
        ]);
        let mut map = Map::default();
        map.take("List", &json!({"kind": "List", "items": items}));
        map
    }

    #[test]
    fn objects_become_a_map() {
        let map = example();
        assert_eq!(map.names().into_iter().collect::<Vec<_>>(), ["shop/blue", "shop/gone", "shop/lan"]);
        assert_eq!(map.title("shop/blue"), "vxlan 4200 on UDP 4789, MTU 1450, 10.42.0.0/24");
        assert_eq!((map.title("shop/lan"), map.title("shop/gone")), ("bridge".to_owned(), "no definition".to_owned()));
        let blue = map.attached("shop/blue");
        assert_eq!((blue["n1"][0].0, blue["n2"][0].1.ips[0].as_str()), ("shop/a", "10.42.0.65"));
        let span = map.span_of("shop/blue").unwrap();
        assert_eq!(span.members["n2"], "172.31.0.2");
        // The subnet's own address is nobody's.
        assert_eq!(map.holders("shop/blue")["n1"], Held { owned: 63, free: 61 });
        assert_eq!(map.holders("shop/lan").len(), 0);
        assert_eq!((map.free("shop/blue"), map.free("shop/lan"), map.free("shop/gone")), (Some(251), None, None));
        let claims: Vec<&str> = map.claims("shop/blue").iter().map(|claim| claim.name.as_str()).collect();
        assert_eq!(claims, ["4789-4200.a1", "4789-4200.a70"]);
        let by = |pod: &str, at: usize| map.claim_of(&map.pods[pod].attachments[at]).map(|claim| claim.holder.as_str());
        assert_eq!((by("shop/a", 0), by("shop/a", 1), by("shop/b", 0)), (Some("IPAMClaim shop/vm"), None, None));
    }

    #[test]
    fn a_map_is_limited_to_a_namespace_or_a_network() {
        let mut map = example();
        map.limit(Some("shop"), Some("shop/lan"));
        assert_eq!(map.names().into_iter().collect::<Vec<_>>(), ["shop/lan"]);
        assert_eq!(map.pods.keys().collect::<Vec<_>>(), ["shop/a"]);
        map.limit(Some("other"), None);
        assert!(map.names().is_empty() && map.pods.is_empty());
    }
}
