//! A map and a pool as text and as Graphviz.

use std::fmt::Write;

use delegates::networks::state::Slots;
use serde_json::{Value, json};

use super::model::{Attachment, Map};

/// Networks, below each its nodes, below those its pods.
pub fn text(map: &Map) -> String {
    let mut out = String::new();
    for name in map.names() {
        let _ = writeln!(out, "{name}  {}", map.title(name));
        let attached = map.attached(name);
        let span = map.span_of(name);
        let holders = map.holders(name);
        let members = span.into_iter().flat_map(|span| span.members.keys()).map(String::as_str);
        let mut nodes: Vec<&str> = members.chain(holders.keys().copied()).chain(attached.keys().copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.is_empty() {
            out.push_str("  nobody is attached\n");
        }
        for node in nodes {
            let vtep = span.and_then(|span| span.members.get(node)).map(|vtep| format!("  VTEP {vtep}"));
            let held = holders.get(node).map(|held| format!("  {} addresses, {} free", held.owned, held.free));
            let shown = if node.is_empty() { "(no node)" } else { node };
            let _ = writeln!(out, "  {shown}{}{}", vtep.unwrap_or_default(), held.unwrap_or_default());
            for (pod, attachment) in attached.get(node).into_iter().flatten() {
                let by = map.claim_of(attachment).map(|claim| format!("  by {}", claim.holder));
                let _ = writeln!(out, "    {pod}  {}{}", words(attachment), by.unwrap_or_default());
            }
        }
        for claim in map.claims(name) {
            let _ = writeln!(out, "  {}", claim.words());
        }
    }
    out
}

fn words(attachment: &Attachment) -> String {
    let Attachment { interface, ips, mac, .. } = attachment;
    [interface, &ips.join(" "), mac].into_iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join("  ")
}

/// The same for Graphviz: nodes are clusters of pods, networks are boxes that pods are joined to.
pub fn dot(map: &Map) -> String {
    let mut out = String::from("graph networks {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for name in map.names() {
        let label = format!("{name}\n{}", map.title(name));
        let _ = writeln!(out, "  {} [label={}, style=filled];", quoted(&format!("network {name}")), quoted(&label));
    }
    let mut nodes: Vec<&str> = map.pods.values().map(|pod| pod.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    for (i, node) in nodes.into_iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{i} {{\n    label={};", quoted(node));
        for (name, _) in map.pods.iter().filter(|(_, pod)| pod.node == node) {
            let _ = writeln!(out, "    {} [label={}];", quoted(&format!("pod {name}")), quoted(name));
        }
        out.push_str("  }\n");
    }
    for (name, pod) in &map.pods {
        for attachment in &pod.attachments {
            let label = format!("{} {}", attachment.interface, attachment.ips.join(" "));
            let ends = (quoted(&format!("pod {name}")), quoted(&format!("network {}", attachment.network)));
            let _ = writeln!(out, "  {} -- {} [label={}];", ends.0, ends.1, quoted(label.trim()));
        }
    }
    out.push_str("}\n");
    out
}

/// A string of Graphviz: a newline is `\n` there, too.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The same for programs.
pub fn json(map: &Map) -> String {
    let network = |name: &&str| {
        let span = map.span_of(name);
        let members = span.map(|span| &span.members);
        let pods: Vec<Value> = map
            .attached(name)
            .into_iter()
            .flat_map(|(node, pods)| pods.into_iter().map(move |(pod, one)| (node, pod, one)))
            .map(|(node, pod, one)| json!({"pod": pod, "node": node, "interface": one.interface, "ips": one.ips, "mac": one.mac}))
            .collect();
        let claims: Vec<Value> = map
            .claims(name)
            .iter()
            .map(|one| json!({"name": one.name, "addresses": one.addresses, "holder": one.holder, "nodes": one.nodes, "heldBy": one.held_by}))
            .collect();
        json!({"name": name, "is": map.title(name), "members": members, "pods": pods, "claims": claims})
    };
    let networks: Vec<Value> = map.names().iter().map(network).collect();
    format!("{}\n", json!({"networks": networks}))
}

/// The pools: size, what nodes hold, what is free. What nobody gets is counted nowhere.
pub fn pools(map: &Map) -> String {
    let mut out = String::new();
    for (name, network) in &map.networks {
        let Some(pool) = &network.pool else { continue };
        let holders = map.holders(name);
        // Whether the nodes read a configuration of whereabouts as one of blocks is seen by its blocks.
        if network.is_assumed && holders.is_empty() {
            continue;
        }
        let held: u64 = holders.values().map(|held| held.owned).sum();
        let size = pool.usable(&[Slots { first: 0, count: pool.capacity() }]);
        let subnets: Vec<String> = pool.subnets().map(|subnet| subnet.to_string()).collect();
        let attached: usize = map.attached(name).values().map(Vec::len).sum();
        let _ = writeln!(
            out,
            "{name}  {}: {size} addresses, {held} in blocks of nodes, {attached} pods",
            subnets.join(" ")
        );
        for (node, held) in holders {
            let pods = map.attached(name).get(node).map_or(0, Vec::len);
            let _ = writeln!(out, "  {node}  {} addresses, {} free, {pods} pods", held.owned, held.free);
        }
        for claim in map.claims(name) {
            let _ = writeln!(out, "  {}", claim.words());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::example;
    use super::*;

    #[test]
    fn text_says_where_every_pod_is() {
        let expected = "\
shop/blue  vxlan 4200 on UDP 4789, MTU 1450, 10.42.0.0/24
  n1  VTEP 172.31.0.1  63 addresses, 61 free
    shop/a  net1  10.42.0.1  0a:58:0a:2a:00:01  by IPAMClaim shop/vm
  n2  VTEP 172.31.0.2  64 addresses, 63 free
    shop/b  net1  10.42.0.65  0a:58:0a:2a:00:01
  10.42.0.1  kept for IPAMClaim shop/vm on n1 (AddressClaim 4789-4200.a1)
  10.42.0.70  kept for pod shop/web on n1, held by shop/old (AddressClaim 4789-4200.a70)
shop/gone  no definition
  n1
    shop/<c>  net1  10.9.0.1  0a:58:0a:2a:00:01
shop/lan  bridge
  n1
    shop/a  net2  10.1.0.2  0a:58:0a:2a:00:01
";
        assert_eq!(text(&example()), expected);
        assert_eq!(text(&Map::default()), "");
    }

    #[test]
    fn pools_say_their_size_and_who_holds_what() {
        let expected = "\
shop/blue  10.42.0.0/24: 254 addresses, 127 in blocks of nodes, 2 pods
  n1  63 addresses, 61 free, 1 pods
  n2  64 addresses, 63 free, 1 pods
  10.42.0.1  kept for IPAMClaim shop/vm on n1 (AddressClaim 4789-4200.a1)
  10.42.0.70  kept for pod shop/web on n1, held by shop/old (AddressClaim 4789-4200.a70)
";
        assert_eq!(pools(&example()), expected);
    }

    #[test]
    fn a_pool_of_whereabouts_is_one_where_there_are_blocks_of_it() {
        let config = r#"{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.9.0.0/28"}}"#;
        let definition = json!({"metadata": {"namespace": "shop", "name": "lan"}, "spec": {"config": config}});
        let runs = json!([{"first": 0, "count": 8, "node": "n1"}, {"first": 8, "count": 8, "node": "n2"}]);
        let block = json!({"spec": {"network": "whereabouts-10-9-0-0-28", "first": 0, "count": 16, "runs": runs}});
        let mut map = Map::default();
        map.take("NetworkAttachmentDefinition", &definition);
        assert_eq!(pools(&map), "");
        map.take("AddressBlock", &block);
        let expected = "shop/lan  10.9.0.0/28: 14 addresses, 14 in blocks of nodes, 0 pods\n  n1  7 addresses, 7 free, 0 pods\n  n2  7 addresses, 7 free, 0 pods\n";
        assert_eq!(pools(&map), expected);
    }

    #[test]
    fn graphviz_has_every_pod_once_and_an_edge_for_each_attachment() {
        let dot = dot(&example());
        assert_eq!((dot.matches("\"pod shop/a\" [").count(), dot.matches(" -- ").count()), (1, 4), "{dot}");
        assert_eq!(quoted("a\"b\\\nc"), r#""a\"b\\\nc""#);
    }

    #[test]
    fn programs_get_the_same() {
        let read: Value = serde_json::from_str(&json(&example())).unwrap();
        assert_eq!(read["networks"][0]["pods"][1]["ips"][0], "10.42.0.65");
        assert_eq!(read["networks"][0]["members"]["n1"], "172.31.0.1");
        assert_eq!(read["networks"][0]["claims"][1]["heldBy"], "shop/old");
    }
}
