//! Who may use an overlay, and with which MTU. Pure.

use attachments::api::{ClaimOwner, VniClaimSpec};
use delegates::networks::OverlayNeed;

use super::call::Call;
use super::facts::{Ask, Facts, Owner, Step, Tunnel, fingerprint, reference};
use super::notes::Notes;

/// What an ADD needs before its definition may use the overlay; `None` when it may.
pub fn for_ask(facts: &Facts<'_>, ask: &Ask, overlay: &OverlayNeed) -> Option<Step> {
    let tunnel = match facts.tunnel {
        Some(Ok(tunnel)) => tunnel,
        Some(Err(why)) => return Some(Step::later(format!("{}: {why}", facts.asked()))),
        None => return Some(Step::later(format!("{}: the node's tunnels are not known yet", facts.asked()))),
    };
    if let Some(link) = &tunnel.taken_by {
        return Some(Step::wrong(format!(
            "{}: vni: got {}, want a VNI that no other link has on UDP port {}: link {link} of node {} has it",
            facts.asked(),
            overlay.vni,
            overlay.port,
            facts.node
        )));
    }
    let Some(claim) = &facts.view.claim else {
        if ask.uid.is_empty() {
            return Some(Step::AskDefinition);
        }
        if let Some(refusal) = too_large(facts, overlay.mtu, tunnel) {
            return Some(refusal);
        }
        let owner = ClaimOwner {
            namespace: ask.reference.namespace.to_string(),
            name: ask.reference.name.to_string(),
            uid: ask.uid.clone(),
        };
        return Some(create(overlay.vni, overlay.port, owner, overlay.mtu.unwrap_or(tunnel.mtu)));
    };
    if let Some(refusal) = stranger(facts, ask, overlay, &claim.spec.owner) {
        return Some(refusal);
    }
    mtu(facts, overlay, tunnel).or_else(|| note(facts, ask, overlay, &claim.spec.owner))
}

/// A claim that is gone while the node is in the overlay is made again in its owner's name.
pub fn again(facts: &Facts<'_>) -> Option<Step> {
    let overlay = facts.file?.overlay.as_ref().filter(|_| facts.view.claim.is_none())?;
    let owner = facts.notes?.owner.clone()?;
    let (port, vni) = facts.id.as_str().split_once('-')?;
    Some(create(vni.parse().ok()?, port.parse().ok()?, owner, overlay.mtu))
}

fn create(vni: u32, port: u16, owner: ClaimOwner, mtu: u32) -> Step {
    Call::CreateClaim(VniClaimSpec { vni, port, owner, mtu: Some(mtu) }).into()
}

/// Refuses a definition that neither owns the claim nor shares it.
fn stranger(facts: &Facts<'_>, ask: &Ask, overlay: &OverlayNeed, owner: &ClaimOwner) -> Option<Step> {
    if *ask.reference.namespace.as_str() == owner.namespace && *ask.reference.name.as_str() == owner.name {
        return None;
    }
    let name = format!("{}/{}", owner.namespace, owner.name);
    let pair = format!("vni: got {}, want one that no other definition has on UDP port {}", overlay.vni, overlay.port);
    let refuse = |why: String| Some(Step::wrong(format!("{}: {pair}: {why}", facts.asked())));
    let Some(owning) = reference(owner) else {
        return refuse(format!("VniClaim {} is of {name:?}, which can be no definition", facts.id));
    };
    match &ask.owner {
        None => Some(Step::AskOwner(owning)),
        Some(Owner::There(shared)) if shared.contains(&ask.reference) => None,
        Some(Owner::There(_)) => refuse(format!("{name} owns it, and its sharedWith does not list {}", ask.reference)),
        Some(Owner::Gone) => refuse(match members(facts).as_str() {
            "" => format!("{name} owned it and is gone; VniClaim {} goes with the janitor's next pass", facts.id),
            nodes => format!("{name} owned it and is gone, and node {nodes} still has pods of it"),
        }),
        // It might once, and nobody can say that it may not any more.
        Some(Owner::Unknown(_)) if facts.is_admitted(ask) => None,
        Some(Owner::Unknown(why)) => {
            Some(Step::later(format!("{}: {pair}: whether {name} shares it cannot be asked: {why}", facts.asked())))
        }
    }
}

fn members(facts: &Facts<'_>) -> String {
    let nodes: Vec<&str> = facts.view.members.iter().map(|member| member.spec.node.as_str()).collect();
    nodes.join(", ")
}

/// The MTU is the same on each node, so it is pinned by the first, and changes only while nobody else is in the overlay.
fn mtu(facts: &Facts<'_>, overlay: &OverlayNeed, tunnel: &Tunnel) -> Option<Step> {
    let claim = facts.view.claim.as_ref()?;
    let is_alone = facts.view.members.iter().all(|member| member.spec.node == facts.node);
    let want = overlay.mtu.unwrap_or(tunnel.mtu);
    match claim.spec.mtu {
        Some(pinned) if Some(pinned) == overlay.mtu || (overlay.mtu.is_none() && pinned <= tunnel.mtu) => {
            too_large(facts, Some(pinned), tunnel)
        }
        pinned if pinned.is_none() || (is_alone && facts.file.is_none()) => {
            let version = claim.meta.resource_version.clone();
            too_large(facts, Some(want), tunnel).or_else(|| Some(Call::PinMtu { version, mtu: want }.into()))
        }
        pinned => {
            let pinned = pinned.unwrap_or_default();
            if overlay.mtu.is_none() {
                return too_large(facts, Some(pinned), tunnel);
            }
            Some(Step::wrong(format!(
                "{}: mtu: got {want}, want {pinned}: VniClaim {} pins it until no node is in the overlay",
                facts.asked(),
                facts.id
            )))
        }
    }
}

/// Why the node cannot carry the overlay, for those who look after nodes: no address for its tunnels, or too small an MTU.
pub fn obstacles(facts: &Facts<'_>) -> (Option<String>, Option<String>) {
    let tunnel = match facts.tunnel {
        Some(Err(why)) => return (Some(format!("network {}: {why}", facts.id)), None),
        Some(Ok(tunnel)) => tunnel,
        None => return (None, None),
    };
    let asked = facts.ask.and_then(|ask| ask.need.overlay.as_ref()).and_then(|overlay| overlay.mtu);
    let needs = facts.view.claim.as_ref().and_then(|claim| claim.spec.mtu).or(asked).filter(|mtu| *mtu > tunnel.mtu);
    let mtu = needs.map(|mtu| {
        let (id, underlay, most) = (facts.id, &tunnel.underlay, tunnel.mtu);
        format!("network {id} has MTU {mtu}, and underlay {underlay} leaves {most}: larger packets are lost")
    });
    (None, mtu)
}

fn too_large(facts: &Facts<'_>, mtu: Option<u32>, tunnel: &Tunnel) -> Option<Step> {
    let mtu = mtu.filter(|mtu| *mtu > tunnel.mtu)?;
    let pinned = facts.view.claim.as_ref().and_then(|claim| claim.spec.mtu) == Some(mtu);
    let whose = if pinned { format!("; VniClaim {} pins {mtu}", facts.id) } else { String::new() };
    Some(Step::wrong(format!(
        "{}: mtu: got {mtu}, want at most {}: underlay {} of node {} leaves no more{whose}",
        facts.asked(),
        tunnel.mtu,
        tunnel.underlay,
        facts.node
    )))
}

/// The definition may: so that this is known when the API server is away.
fn note(facts: &Facts<'_>, ask: &Ask, overlay: &OverlayNeed, owner: &ClaimOwner) -> Option<Step> {
    let before = facts.notes.cloned().unwrap_or_default();
    let mut notes = Notes { owner: Some(owner.clone()), ..before.clone() };
    notes.definitions.insert(ask.reference.to_string(), fingerprint(&ask.need));
    if notes.underlay.is_none() {
        notes.underlay = overlay.underlay.as_ref().map(super::tunnel::text);
    }
    (Some(&notes) != facts.notes).then_some(Step::Note(notes))
}
