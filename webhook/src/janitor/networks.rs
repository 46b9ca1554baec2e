//! Networks that span nodes, as the objects tell them: which claims and blocks nobody has any more, and what the status of a claim
//! says. Pure.
//!
//! A claim cannot be owned by its definition, which has a namespace; so the janitor ends it. A block may be several nodes', and
//! the garbage collector waits for the last of them; so the janitor takes out what a node had that is gone.

use std::collections::{BTreeMap, HashMap, HashSet};

use attachments::api::{
    AddressBlock, AddressBlockSpec, AddressClaim, AddressClaimSpec, AddressSet, ClaimHolder, ClaimOwner, HolderKind,
    NETWORK, OverlayMember, VniClaim, VniClaimSpec, VniClaimStatus,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::{Definition, Pair};

/// So long a claim may name a definition that has no uid yet: the one that a VNI was drawn for is about to be stored.
const PROVISIONAL: i64 = 60;
/// So far the API server's clock may be behind ours: a claim that was made when the pass began may be of a definition that was not
/// listed.
const SKEW: i64 = 10;

/// What is stored.
#[derive(Debug, Default)]
pub struct Objects {
    /// Owners of VNIs.
    pub claims: Vec<VniClaim>,
    /// Those that are networks of a dialect, with the pairs that they name. They were read after the claims.
    pub networks: Vec<(ClaimOwner, Pair)>,
    /// Nodes in overlays.
    pub members: Vec<OverlayMember>,
    /// Who has which addresses.
    pub blocks: Vec<AddressBlock>,
    /// Addresses that are kept.
    pub addresses: Vec<AddressClaim>,
    /// The pods and IPAMClaims of those that exist. They were listed after the claims.
    pub holders: Vec<ClaimHolder>,
    /// The AddressSets that list their members. They were listed after the claims.
    pub sets: Vec<AddressSet>,
    /// Names of the nodes that exist. They were listed after the blocks.
    pub nodes: HashSet<String>,
}

/// What definitions say of overlays: namespace, name and uid, and the pairs of UDP port and VNI that they name.
pub type Owners = HashMap<(String, String), (String, HashSet<Pair>)>;

/// What definitions say.
pub fn owners(definitions: &[Definition]) -> Owners {
    let each = definitions.iter().map(|definition| {
        let overlays = definition.plugins().iter().filter_map(|plugin| plugin.overlay.as_ref());
        let pairs = overlays.map(|overlay| (overlay.port, overlay.vni)).collect();
        let reference = &definition.reference;
        let name = (reference.namespace.to_string(), reference.name.to_string());
        (name, (definition.uid.to_string(), pairs))
    });
    each.collect()
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Claims that nobody has any more.
    pub ended: Vec<&'a VniClaim>,
    /// Claims whose status says something else.
    pub told: Vec<(&'a VniClaim, VniClaimStatus)>,
    /// Blocks without a node.
    pub empty: Vec<&'a AddressBlock>,
    /// Blocks without those of its nodes that are gone.
    pub cut: Vec<(&'a AddressBlock, AddressBlockSpec)>,
    /// Claims of addresses that nobody has any more.
    pub freed: Vec<&'a AddressClaim>,
    /// Claims of addresses without those of their nodes that are gone.
    pub narrowed: Vec<(&'a AddressClaim, AddressClaimSpec)>,
}

/// Compares what is stored with what should be. `began` is when the definitions began to be listed.
pub fn plan<'a>(objects: &'a Objects, owners: &Owners, began: Timestamp) -> Plan<'a> {
    let mut plan = Plan::default();
    let network = |labels: &BTreeMap<String, String>| labels.get(NETWORK).cloned().unwrap_or_default();
    let mut members: HashMap<String, u32> = HashMap::new();
    for member in &objects.members {
        *members.entry(network(member.labels())).or_default() += 1;
    }
    let mut claimed: HashMap<String, u64> = HashMap::new();
    for block in &objects.blocks {
        let left: Vec<_> = block.spec.runs.iter().filter(|run| objects.nodes.contains(&run.node)).cloned().collect();
        *claimed.entry(network(block.labels())).or_default() +=
            left.iter().map(|run| u64::from(run.count)).sum::<u64>();
        if left.is_empty() {
            plan.empty.push(block);
        } else if left.len() < block.spec.runs.len() {
            plan.cut.push((block, AddressBlockSpec { runs: left, ..block.spec.clone() }));
        }
    }
    for claim in &objects.addresses {
        let AddressClaimSpec { holder, nodes, .. } = &claim.spec;
        let left: Vec<_> = nodes.iter().filter(|node| objects.nodes.contains(*node)).cloned().collect();
        let is_there = objects.holders.iter().any(|one| one.is(holder));
        let is_over = match holder.kind {
            // One of no node is that of a pod which another program attached.
            HolderKind::Pod => !is_there || (left.is_empty() && !nodes.is_empty()),
            // While two nodes have the address, its agents come to terms first: who owns the slot may have no pod of it.
            HolderKind::IpamClaim => !is_there && left.len() <= 1,
            // A pod keeps its address until it goes, also when the set has gone, or does not list it any more.
            HolderKind::AddressSet => left.is_empty() && !(is_there && is_listed(claim, &objects.sets)),
        };
        if is_over {
            plan.freed.push(claim);
        } else if left.len() < nodes.len() {
            plan.narrowed.push((claim, AddressClaimSpec { nodes: left, ..claim.spec.clone() }));
        }
    }
    for claim in &objects.claims {
        let name = claim.name_any();
        let members = members.get(&name).copied().unwrap_or_default();
        if members == 0 && !is_owned(claim, owners, &objects.networks, began) {
            plan.ended.push(claim);
            continue;
        }
        let before = claim.status.clone().unwrap_or_default();
        let status = VniClaimStatus { members, claimed: claimed.get(&name).copied(), ..before.clone() };
        if status != before {
            plan.told.push((claim, status));
        }
    }
    plan
}

/// Is the address one that its AddressSet lists? A set that lists none has any.
fn is_listed(claim: &AddressClaim, sets: &[AddressSet]) -> bool {
    let AddressClaimSpec { holder, addresses, .. } = &claim.spec;
    let is_its =
        |set: &&AddressSet| (set.namespace(), set.name_any()) == (Some(holder.namespace.clone()), holder.name.clone());
    let listed = sets.iter().find(is_its).and_then(|set| set.spec.addresses.as_ref());
    listed.is_none_or(|listed| addresses.iter().any(|address| listed.contains(address)))
}

/// Does the definition, or the network of a dialect, that owns the claim still exist, and does it still name the pair?
fn is_owned(claim: &VniClaim, owners: &Owners, networks: &[(ClaimOwner, Pair)], began: Timestamp) -> bool {
    let VniClaimSpec { vni, port, owner, .. } = &claim.spec;
    let is_owner = |(one, pair): &(ClaimOwner, Pair)| {
        (&one.namespace, &one.name) == (&owner.namespace, &owner.name)
            && (owner.uid.is_empty() || owner.uid == one.uid)
            && *pair == (*port, *vni)
    };
    if networks.iter().any(is_owner) {
        return true;
    }
    let made = claim.creation_timestamp().map(|time| time.0.as_second());
    let youth = if owner.uid.is_empty() { PROVISIONAL } else { SKEW };
    let is_new = made.is_none_or(|made| began.as_second() - made < youth);
    match owners.get(&(owner.namespace.clone(), owner.name.clone())) {
        None => is_new,
        Some((uid, pairs)) => pairs.contains(&(*port, *vni)) && (owner.uid.is_empty() || owner.uid == *uid) || is_new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
        let metadata = json!({"name": name, "uid": "u", "creationTimestamp": "2026-11-29T10:00:00Z", "labels": {NETWORK: "4789-7"}});
        serde_json::from_value(
            json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    }

    fn claim(uid: &str) -> VniClaim {
        let owner = json!({"namespace": "shop", "name": "blue", "uid": uid});
        object("VniClaim", "4789-7", json!({"vni": 7, "port": 4789, "owner": owner}))
    }

    fn block(nodes: &[&str]) -> AddressBlock {
        let runs: Vec<Value> =
            nodes.iter().zip(0..).map(|(node, i)| json!({"first": 8 * i, "count": 8, "node": node})).collect();
        let spec = json!({"network": "4789-7", "first": 0, "count": 64, "addresses": ["10.0.0.0"], "runs": runs});
        object("AddressBlock", "4789-7.b0", spec)
    }

    fn member() -> OverlayMember {
        let spec =
            json!({"network": "4789-7", "node": "n1", "vteps": ["192.0.2.1"], "mac": "02:00:00:00:00:01", "mtu": 1450});
        object("OverlayMember", "4789-7.n1", spec)
    }

    fn owned(uid: &str, vni: u32) -> Owners {
        [(("shop".to_owned(), "blue".to_owned()), (uid.to_owned(), [(4789, vni)].into()))].into()
    }

    fn later() -> Timestamp {
        "2026-11-29T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_claim_goes_with_its_definition_after_the_last_member() {
        let mut objects = Objects { claims: vec![claim("a")], ..Objects::default() };
        let ended = |objects: &Objects, owners: &Owners, now| plan(objects, owners, now).ended.len();
        assert_eq!(ended(&objects, &owned("a", 7), later()), 0);
        for gone in [Owners::new(), owned("another", 7), owned("a", 8)] {
            assert_eq!(ended(&objects, &gone, later()), 1, "{gone:?}");
            assert_eq!(ended(&objects, &gone, "2026-11-29T10:00:05Z".parse().unwrap()), 0, "too young: {gone:?}");
        }
        objects.members.push(member());
        assert_eq!(ended(&objects, &Owners::new(), later()), 0);
        // A VNI that was drawn for a definition that never came.
        let drawn = Objects { claims: vec![claim("")], ..Objects::default() };
        assert_eq!((ended(&drawn, &owned("a", 7), later()), ended(&drawn, &Owners::new(), later())), (0, 1));
    }

    #[test]
    fn a_claim_of_a_dialects_network_goes_with_that() {
        let ended = |uid: &str, vni: u32| {
            let owner = ClaimOwner { namespace: "shop".into(), name: "blue".into(), uid: uid.into() };
            let objects =
                Objects { claims: vec![claim("a")], networks: vec![(owner, (4789, vni))], ..Objects::default() };
            plan(&objects, &Owners::new(), later()).ended.len()
        };
        assert_eq!((ended("a", 7), ended("b", 7), ended("a", 8)), (0, 1, 1));
    }

    #[test]
    fn a_block_loses_the_nodes_that_are_gone() {
        let nodes: HashSet<String> = ["n1".to_owned()].into();
        let objects =
            Objects { blocks: vec![block(&["n1"]), block(&["n1", "n2"]), block(&["n2"])], nodes, ..Objects::default() };
        let plan = plan(&objects, &Owners::new(), later());
        assert_eq!(plan.empty.len(), 1);
        let [(_, spec)] = plan.cut.as_slice() else { panic!("{:?}", plan.cut) };
        assert_eq!(spec.runs.iter().map(|run| run.node.as_str()).collect::<Vec<_>>(), ["n1"]);
    }

    fn holder(kind: &str, name: &str, uid: &str) -> Value {
        json!({"kind": kind, "namespace": "shop", "name": name, "uid": uid})
    }

    fn address(slot: u32, holder: &Value, nodes: &[&str]) -> AddressClaim {
        let spec =
            json!({"network": "4789-7", "slot": slot, "addresses": ["10.0.0.1"], "holder": holder, "nodes": nodes});
        object("AddressClaim", &format!("4789-7.a{slot}"), spec)
    }

    #[test]
    fn an_address_goes_with_its_pod_its_ipam_claim_or_its_node() {
        let (pod, vm) = (holder("Pod", "web", "1"), holder("IPAMClaim", "vm", "2"));
        let gone = [holder("Pod", "web", "0"), holder("Pod", "db", ""), holder("IPAMClaim", "vm", "0")];
        let addresses = vec![
            address(1, &pod, &["n1"]),
            address(2, &pod, &["n9"]),
            address(3, &vm, &["n1"]),
            address(4, &vm, &["n9", "n1"]),
            address(5, &vm, &[]),
            address(6, &gone[0], &["n1"]),
            address(7, &gone[1], &["n1"]),
            address(8, &gone[2], &["n1"]),
            address(9, &gone[2], &["n1", "n2"]),
            address(10, &gone[2], &["n1", "n9"]),
            address(11, &pod, &[]),
            address(12, &gone[0], &[]),
        ];
        let holders = [pod, vm].map(|holder| serde_json::from_value(holder).unwrap()).into();
        let nodes = ["n1".to_owned(), "n2".to_owned()].into();
        let objects = Objects { addresses, holders, nodes, ..Objects::default() };
        let plan = plan(&objects, &Owners::new(), later());
        let slots: Vec<u32> = plan.freed.iter().map(|claim| claim.spec.slot).collect();
        assert_eq!(slots, [2, 6, 7, 8, 10, 12]);
        let narrowed: Vec<_> =
            plan.narrowed.iter().map(|(claim, spec)| (claim.spec.slot, spec.nodes.clone())).collect();
        assert_eq!(narrowed, [(4, vec!["n1".to_owned()])]);
    }

    #[test]
    fn a_member_stays_with_its_set_and_is_free_of_a_node_that_is_gone() {
        let (set, gone) = (holder("AddressSet", "web", "1"), holder("AddressSet", "web", "0"));
        let listed = |address: &str| -> AddressSet {
            let metadata = json!({"name": "web", "namespace": "shop", "uid": "1"});
            let spec = json!({"network": "lan", "addresses": [address]});
            serde_json::from_value(
                json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet", "metadata": metadata, "spec": spec}),
            )
            .unwrap()
        };
        let addresses = vec![
            address(1, &set, &[]),
            address(2, &set, &["n1"]),
            address(3, &set, &["n9"]),
            address(4, &gone, &[]),
            address(5, &gone, &["n1"]),
            address(6, &gone, &["n9"]),
        ];
        let holders = vec![serde_json::from_value(set.clone()).unwrap()];
        let mut objects = Objects {
            addresses,
            holders,
            nodes: ["n1".to_owned()].into(),
            sets: vec![listed("10.0.0.1")],
            ..Objects::default()
        };
        let slots = |plan: &Plan<'_>| plan.freed.iter().map(|claim| claim.spec.slot).collect::<Vec<u32>>();
        let plan_of = |objects: &Objects| {
            let plan = plan(objects, &Owners::new(), later());
            let narrowed: Vec<u32> = plan.narrowed.iter().map(|(claim, _)| claim.spec.slot).collect();
            (slots(&plan), narrowed)
        };
        assert_eq!(plan_of(&objects), (vec![4, 6], vec![3]));
        objects.sets = vec![listed("10.0.0.2")];
        assert_eq!(plan_of(&objects), (vec![1, 3, 4, 6], vec![]), "not listed any more");
    }

    #[test]
    fn a_status_is_written_when_it_says_something_else() {
        let mut objects = Objects {
            claims: vec![claim("a")],
            members: vec![member()],
            blocks: vec![block(&["n1", "n1"])],
            nodes: ["n1".to_owned()].into(),
            ..Objects::default()
        };
        let status = {
            let plan = plan(&objects, &owned("a", 7), later());
            let [(_, status)] = plan.told.as_slice() else { panic!("{:?}", plan.told) };
            assert_eq!((status.members, status.claimed), (1, Some(16)));
            status.clone()
        };
        objects.claims[0].status = Some(status);
        assert!(plan(&objects, &owned("a", 7), later()).told.is_empty());
    }
}
