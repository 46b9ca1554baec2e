//! The next thing to do for a network, as a value. Whoever does it comes back with new facts, until all is as it should be. So every plan
//! begins with what is so, whatever was done, failed or was killed before.

use std::borrow::Cow;

use delegates::ipam::blocks::Pool;
use delegates::networks::state::{FORMAT, NetworkState, PoolState};

use super::call::Call;
use super::facts::{Ask, Facts, Memory, Step, fingerprint};
use super::notes::Notes;
use super::slots::{Blocks, compact, has};
use super::{address_claims, blocks, claim, member, space};

/// Event of the Node: blocks of a network have other addresses than its definition numbers.
const NUMBERED_OTHERWISE: &str = "AddressesNumberedOtherwise";
/// Event of the Node: it has no address where tunnels of an overlay could end.
const NO_ADDRESS: &str = "NoTunnelAddress";
/// Event of the Node: its underlay carries less than an overlay needs.
const MTU_TOO_SMALL: &str = "UnderlayMTUTooSmall";

/// The next step.
pub fn next(facts: &Facts<'_>, memory: &mut Memory) -> Step {
    if facts.is_idle && facts.ask.is_none() {
        return leave(facts, memory);
    }
    if facts.ask.is_none() && facts.file.is_none() {
        return Step::Done;
    }
    if !facts.view.is_listed || memory.is_stale {
        let is_served = match facts.ask {
            Some(ask) => is_served(facts, ask),
            None => !(memory.is_stale || facts.wants && facts.free().is_empty()),
        };
        return if is_served { Step::Done } else { Step::List };
    }
    join(facts, memory)
}

/// Can the ADD go on without asking anybody? What the node has is enough, and an earlier look said that the definition may have it.
pub fn is_served(facts: &Facts<'_>, ask: &Ask) -> bool {
    let Some(file) = facts.file else { return false };
    facts.is_admitted(ask)
        && space::is_noted(facts, ask)
        && (ask.need.overlay.is_none()
            || file.overlay.as_ref().is_some_and(|own| own.routing == member::routing(facts)))
        && match (&ask.need.pool, &file.pool) {
            (None, _) => true,
            (Some(pool), Some(state)) => {
                chosen(facts, ask, pool).as_ref() == &state.pool
                    && match &ask.wanted {
                        None => !facts.free().is_empty(),
                        Some(wanted) => address_claims::is_served(wanted, state),
                    }
            }
            (Some(_), None) => false,
        }
}

fn join(facts: &Facts<'_>, memory: &mut Memory) -> Step {
    // Written down before anything is made.
    if facts.notes.is_none() {
        return Step::Note(Notes::default());
    }
    if let Some(step) = space::note(facts) {
        return step;
    }
    let overlay = facts.ask.and_then(|ask| ask.need.overlay.as_ref().map(|overlay| (ask, overlay)));
    let is_overlay = overlay.is_some() || facts.file.is_some_and(|file| file.overlay.is_some());
    if is_overlay {
        let (address, mtu) = claim::obstacles(facts);
        if let Some(step) = tell(memory, NO_ADDRESS, address).or_else(|| tell(memory, MTU_TOO_SMALL, mtu)) {
            return step;
        }
        let step = match overlay {
            Some((ask, overlay)) => claim::for_ask(facts, ask, overlay),
            None => claim::again(facts),
        };
        if let Some(step) = step.or_else(|| member::next(facts, memory)) {
            return step;
        }
    } else if let Some(step) = admit(facts) {
        return step;
    }
    let asked = facts.ask.and_then(|ask| ask.need.pool.as_ref().map(|pool| chosen(facts, ask, pool)));
    let pool = asked.or_else(|| facts.file?.pool.as_ref().map(|state| Cow::Borrowed(&state.pool)));
    if pool.is_some()
        && let Some(step) = space::look(facts, memory)
    {
        return step;
    }
    let read = Blocks::read(facts.id, pool.as_deref(), &facts.view.blocks);
    memory.wrong = strangers(facts).chain(read.wrong.iter().cloned()).collect();
    if facts.ask.is_some_and(|ask| ask.need.pool.is_some()) {
        let numbering = read.misnumbered.as_ref().map(|why| format!("{}: {why}", facts.asked()));
        if let Some(step) = tell(memory, NUMBERED_OTHERWISE, numbering) {
            return step;
        }
    }
    if let Some(why) = &read.misnumbered
        && facts.ask.is_some_and(|ask| ask.need.pool.is_some())
    {
        return Step::wrong(format!(
            "{}: ipam: got {}, want the addresses that the network has: {why}",
            facts.asked(),
            pool.as_deref().map(ToString::to_string).unwrap_or_default()
        ));
    }
    if let Some(step) = pool.as_deref().and_then(|_| blocks::settle(facts, memory, &read)) {
        return step;
    }
    if let Some(step) = space::held_twice(facts, memory) {
        return step;
    }
    if let Some(step) = write(facts, memory, &read, pool.as_deref()) {
        return step;
    }
    if let Some(step) = pool.as_deref().and_then(|pool| address_claims::next(facts, memory, &read, pool)) {
        return step;
    }
    // What was asked for is there.
    if facts.ask.is_some_and(|ask| ask.wanted.is_some()) && !address_claims::needs_any(facts) {
        return write(facts, memory, &read, pool.as_deref()).unwrap_or(Step::Done);
    }
    let needs_slots = facts.ask.is_none_or(|ask| ask.need.pool.is_some());
    let step = pool.as_deref().filter(|_| needs_slots).and_then(|pool| blocks::next(facts, memory, &read, pool));
    match step {
        // Why there is none may be to be written down.
        Some(Step::Done) | None => write(facts, memory, &read, pool.as_deref()).unwrap_or(Step::Done),
        Some(step) => step,
    }
}

/// What is wrong is told of on the Node once, and again when it was right meanwhile or is another thing.
fn tell(memory: &mut Memory, reason: &'static str, text: Option<String>) -> Option<Step> {
    match text {
        None => {
            memory.told_on_node.remove(reason);
            None
        }
        Some(text) if memory.told_on_node.get(reason) == Some(&text) => None,
        Some(text) => {
            memory.told_on_node.insert(reason, text.clone());
            Some(Step::Tell { reason, text })
        }
    }
}

/// Members and claims that make no sense.
fn strangers<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = String> + 'a {
    let members = facts.view.members.iter().filter_map(|member| {
        let why = member::wrong(facts.id, member)?;
        Some(format!("overlaymember {}: ignored: {why}", member.meta.name))
    });
    let claims = facts.view.addresses.iter().filter(|claim| !address_claims::is_sound(facts.id, claim));
    members
        .chain(claims.map(|claim| format!("addressclaim {}: ignored: its name is not NETWORK.aSLOT", claim.meta.name)))
}

/// A network that is there without us belongs to its definition.
fn admit(facts: &Facts<'_>) -> Option<Step> {
    let (ask, notes) = (facts.ask?, facts.notes?);
    if facts.is_admitted(ask) {
        return None;
    }
    let mut notes = notes.clone();
    notes.definitions.insert(ask.reference.to_string(), fingerprint(&ask.need));
    Some(Step::Note(notes))
}

/// The pool of the network. Where several definitions share it, no pod gets what one of them excludes.
fn chosen<'a>(facts: &Facts<'_>, ask: &Ask, pool: &'a Pool) -> Cow<'a, Pool> {
    let others = facts
        .notes
        .is_some_and(|notes| notes.definitions.keys().any(|definition| *definition != ask.reference.to_string()));
    let before = facts.file.and_then(|file| file.pool.as_ref()).filter(|_| others);
    let both = before.and_then(|before| before.pool.clone().restricted_by(pool));
    both.map_or(Cow::Borrowed(pool), Cow::Owned)
}

fn write(facts: &Facts<'_>, memory: &mut Memory, read: &Blocks, pool: Option<&Pool>) -> Option<Step> {
    let state = compose(facts, memory, read, pool)?;
    if Some(&state) == facts.file {
        return None;
    }
    // Blocks and claims are heard of one by one: nobody may get a slot that is kept for somebody.
    if !memory.is_checked && gains(facts.file, &state) {
        return Some(Step::ListAddresses);
    }
    memory.is_checked = false;
    Some(Step::Write(Box::new(state)))
}

/// Are there slots in the new state that were not there before?
fn gains(before: Option<&NetworkState>, new: &NetworkState) -> bool {
    let of = |state: &NetworkState| state.pool.as_ref().map(|pool| pool.slots.clone()).unwrap_or_default();
    let before = before.map(of).unwrap_or_default();
    of(new).iter().flat_map(|run| run.iter()).any(|slot| !has(&before, slot))
}

/// What `network.json` is to say.
fn compose(facts: &Facts<'_>, memory: &Memory, read: &Blocks, pool: Option<&Pool>) -> Option<NetworkState> {
    let is_overlay = super::tunnel::pair(facts.id).is_some();
    let overlay = if is_overlay { Some(member::membership(facts, read)?) } else { None };
    let pool = pool.map(|pool| {
        let own = read.of(facts.node).into_iter().flat_map(|run| run.iter().collect::<Vec<_>>());
        let slots = compact(own.filter(|slot| !memory.giving.contains_key(slot)));
        let is_own = |slot| has(&slots, slot);
        PoolState {
            pool: pool.clone(),
            claimed: address_claims::promises(facts, memory, read, is_own),
            slots,
            exhausted: memory.exhausted.clone(),
        }
    });
    Some(NetworkState { format: FORMAT, node: facts.node.to_owned(), overlay, pool })
}

/// The node has nothing to do with the network any more: first the plugin and the data path hear of it, then the objects go.
fn leave(facts: &Facts<'_>, memory: &mut Memory) -> Step {
    if facts.file.is_some() {
        return Step::Leave;
    }
    if facts.notes.is_none() {
        return Step::Done;
    }
    if !facts.view.is_listed || memory.is_stale {
        return Step::List;
    }
    if let Some(own) = member::own(facts) {
        return Call::DeleteMember { uid: own.meta.uid.clone() }.into();
    }
    if let Some(step) = address_claims::leave(facts) {
        return step;
    }
    let read = Blocks::read(facts.id, None, &facts.view.blocks);
    for sound in &read.sound {
        let own = sound.of(facts.node);
        memory.giving = own.map(|slot| (slot, None)).collect();
        let asks = sound.block.spec.requests.iter().any(|request| request.node == facts.node);
        if memory.giving.is_empty() && !asks {
            continue;
        }
        let meta = &sound.block.meta;
        let (name, version) = (meta.name.clone(), meta.resource_version.clone());
        let runs = sound.moved(&memory.giving);
        if runs.is_empty() {
            return Call::DeleteBlock { name, uid: meta.uid.clone(), version }.into();
        }
        let mut requests = sound.block.spec.requests.clone();
        requests.retain(|request| request.node != facts.node);
        return Call::ChangeBlock { name, version, runs, requests, is_ours: false }.into();
    }
    *memory = Memory::default();
    Step::Forget
}
