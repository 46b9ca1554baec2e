//! What AddressClaims say: whose a slot is to be, and what the node's file is told of it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use attachments::api::{AddressClaimStatus, ClaimHolder, HolderKind};
use delegates::ipam::blocks::CLAIM;
use delegates::networks::NetworkId;

use super::super::facts::{Facts, Memory};
use super::super::known::View;
use super::super::objects::{Address, Meta};
use super::super::slots::{Blocks, slots};
use super::super::{address_sets, space};

/// Name of the claim of a slot.
pub fn name(id: &NetworkId, slot: u32) -> String {
    format!("{id}.a{slot}")
}

/// The claims that make sense. Objects can be edited by hand.
pub fn sound<'a>(id: &'a NetworkId, view: &'a View) -> impl Iterator<Item = &'a Arc<Address>> + 'a {
    view.addresses.iter().filter(move |claim| is_sound(id, claim))
}

/// Is the claim the one that its name says?
pub fn is_sound(id: &NetworkId, claim: &Address) -> bool {
    claim.spec.network == id.as_str() && claim.meta.name == name(id, claim.spec.slot)
}

/// Who gets a slot, as `network.json` says it.
pub fn promise(holder: &ClaimHolder) -> String {
    let ClaimHolder { kind, namespace, name, .. } = holder;
    let kind = match kind {
        HolderKind::Pod => "",
        HolderKind::IpamClaim => CLAIM,
        HolderKind::AddressSet => "AddressSet ",
    };
    format!("{kind}{namespace}/{name}")
}

/// The promised slots of this node. A slot that an IPAMClaim has is promised here too while a pod of another node has it, if that node
/// is one of the claim's: the pod here follows the one there.
pub fn promises(
    facts: &Facts<'_>,
    memory: &Memory,
    blocks: &Blocks,
    own: impl Fn(u32) -> bool,
) -> BTreeMap<u32, String> {
    let is_shared = |claim: &Address| {
        let nodes = &claim.spec.nodes;
        let owner = || owner(blocks, claim.spec.slot).is_some_and(|owner| nodes.iter().any(|node| node == owner));
        claim.spec.holder.kind == HolderKind::IpamClaim && nodes.iter().any(|node| node == facts.node) && owner()
    };
    let claims = sound(facts.id, facts.view).filter(|claim| own(claim.spec.slot) || is_shared(claim));
    let mut promises = memory.promised.clone();
    promises.retain(|slot, _| own(*slot));
    for claim in claims {
        let holder = &claim.spec.holder;
        let mut text = match holder.kind {
            HolderKind::AddressSet => address_sets::promise_of(&claim.spec, facts.node),
            _ => promise(holder),
        };
        // An IPAMClaim that was made anew under its name has another slot than the one before it.
        let any = ClaimHolder { uid: String::new(), ..holder.clone() };
        if holder.kind == HolderKind::IpamClaim
            && of_holder(facts, &any).is_none_or(|it| it.meta.name != claim.meta.name)
        {
            text.push_str(", another one");
        }
        promises.insert(claim.spec.slot, text);
    }
    for (slot, by) in space::all_kept(memory, blocks).filter(|(slot, _)| own(*slot)) {
        promises.entry(slot).or_insert_with(|| by.to_owned());
    }
    promises
}

/// The claim of a slot.
pub fn at<'a>(facts: &'a Facts<'_>, slot: u32) -> Option<&'a Arc<Address>> {
    sound(facts.id, facts.view).find(|claim| claim.spec.slot == slot)
}

/// The claim of a holder. Nodes that did not know of one another may have made one each: the one that was made first counts. Of a holder
/// whose uid is not known it is that of the newest.
pub fn of_holder<'a>(facts: &'a Facts<'_>, holder: &ClaimHolder) -> Option<&'a Arc<Address>> {
    let claims = || sound(facts.id, facts.view).filter(|claim| claim.spec.holder.is(holder));
    let newest = claims().max_by_key(|claim| (&claim.meta.creation_timestamp, &claim.meta.uid))?;
    claims().filter(|claim| claim.spec.holder.uid == newest.spec.holder.uid).min_by_key(|claim| {
        // Within a second the version tells, which is that of the creation until the claim is changed, and it is not changed before it counts.
        let Meta { creation_timestamp, generation, resource_version, .. } = &claim.meta;
        (creation_timestamp, *generation <= 1, resource_version.parse::<u64>().unwrap_or(u64::MAX))
    })
}

/// The node that owns a slot. A node whose Node object is gone owns none.
pub fn owner(blocks: &Blocks, slot: u32) -> Option<&str> {
    let sound = blocks.around(slot)?;
    let run = sound.runs.iter().find(|run| slots(run).contains(slot))?;
    sound.block.owner(&run.node).map(|_| run.node.as_str())
}

/// Who has the slot, as its owner says.
pub fn said<'a>(claim: &'a Address, owner: &str) -> Option<&'a str> {
    let AddressClaimStatus { node, held_by } = &claim.status;
    (node == owner && !held_by.is_empty()).then_some(held_by)
}

/// Is a node among a claim's?
pub fn is_among(nodes: &[String], node: &str) -> bool {
    nodes.iter().any(|one| one == node)
}
