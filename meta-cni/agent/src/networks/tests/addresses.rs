//! Addresses that are asked for: wherever they are, whoever has them, whatever is killed.

use attachments::api::{AddressClaimSpec, ClaimHolder, HolderKind};
use delegates::networks::state::PoolState;

use super::super::address_claims::UNUSED;
use super::super::facts::Wanted;
use super::*;

fn wanted(kind: HolderKind, name: &str, slot: Option<u32>) -> Ask {
    let holder = ClaimHolder { kind, namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") };
    let address = slot.map(|slot| format!("10.0.0.{slot}")).unwrap_or_default();
    Ask { wanted: Some(Wanted { holder, slot, address, set: None }), ..lan("10.0.0.0/27") }
}

/// A pod that asks for 10.0.0.SLOT.
pub(super) fn pod(name: &str, slot: u32) -> Ask {
    wanted(HolderKind::Pod, name, Some(slot))
}

/// A pod of an IPAMClaim.
fn vm(name: &str) -> Ask {
    wanted(HolderKind::IpamClaim, name, None)
}

/// Nodes that are in the network, each with a block of 8: a has the slots from 0 on or others, whichever its name leads to.
pub(super) fn joined(nodes: &[&str]) -> World {
    let ask = lan("10.0.0.0/27");
    let mut world = World::new(&ask.need.id, nodes);
    for node in nodes {
        world.run(node, Some(ask.clone())).unwrap();
    }
    world
}

impl World {
    pub(super) fn pool(&self, node: &str) -> &PoolState {
        self.nodes[node].file.as_ref().unwrap().pool.as_ref().unwrap()
    }

    pub(super) fn owns(&self, node: &str, slot: u32) -> bool {
        has(&self.pool(node).slots, slot)
    }

    /// A slot of a node that pods may have.
    fn slot_of(&self, node: &str) -> u32 {
        *self.free(node).first().unwrap()
    }

    pub(super) fn others(&mut self, node: &str) {
        let names: Vec<String> = self.nodes.keys().filter(|name| *name != node).cloned().collect();
        for other in names {
            if self.nodes[&other].notes.is_some() {
                self.hear(&other);
                self.run(&other, None).unwrap();
            }
        }
        if !node.is_empty() {
            self.hear(node);
        }
    }

    /// What an ADD is answered. The other agents hear of everything.
    pub(super) fn asks(&mut self, node: &str, ask: &Ask) -> Result<(), String> {
        for _ in 0..20 {
            match self.run(node, Some(ask.clone())) {
                Err(why) if why == "waits" => self.others(node),
                done => return done,
            }
            self.now += Duration::from_secs(1);
        }
        panic!("it waits for ever")
    }

    /// The plugin's part: the slot that is asked for, or that is kept for the IPAMClaim.
    fn attach(&mut self, node: &str, ask: &Ask) -> Result<u32, String> {
        self.asks(node, ask)?;
        let wanted = ask.wanted.as_ref().unwrap();
        let text = address_claims::promise(&wanted.holder);
        let pool = self.pool(node);
        let promised = pool.claimed.iter().find(|(_, who)| **who == text).map(|(slot, _)| *slot);
        let slot = match wanted.holder.kind {
            HolderKind::IpamClaim => promised.ok_or("nothing is kept")?,
            HolderKind::Pod => wanted.slot.unwrap(),
            HolderKind::AddressSet => unreachable!(),
        };
        let leased = &self.nodes[node].leased;
        if let Some(by) = leased.get(&slot).filter(|_| wanted.holder.kind == HolderKind::Pod) {
            return Err(format!("taken by {by}"));
        }
        let is_own = has(&pool.slots, slot);
        assert!(is_own || wanted.holder.kind == HolderKind::IpamClaim, "{slot} is another node's");
        assert!(pool.claimed.get(&slot).is_none_or(|who| *who == text), "{:?}", pool.claimed);
        self.nodes.get_mut(node).unwrap().leased.insert(slot, format!("pod shop/{}", wanted.holder.name));
        // The agent hears of the lease.
        self.run(node, None).unwrap();
        Ok(slot)
    }

    pub(super) fn detach(&mut self, node: &str, slot: u32) {
        self.nodes.get_mut(node).unwrap().leased.remove(&slot).unwrap();
        self.settle();
    }

    /// Everybody hears of everything until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            self.others("");
        }
    }

    /// The claim of a pod that another program attached: it names no node.
    fn claim(&mut self, name: &str, slot: u32) {
        let holder = pod(name, slot).wanted.unwrap().holder;
        let addresses = vec![format!("10.0.0.{slot}").parse().unwrap()];
        let network = self.id.to_string();
        let spec = AddressClaimSpec { network, slot, addresses, holder, nodes: Vec::new(), pod: None };
        let name = address_claims::name(&self.id, slot);
        let meta = Meta { name: name.clone(), uid: name.clone(), ..Meta::default() };
        let stored = Stored::<attachments::api::AddressClaim> { meta, spec, status: Default::default() };
        self.server.addresses.insert(name, Arc::new(stored));
    }

    fn claims(&self) -> Vec<(u32, String, Vec<String>)> {
        let of = |claim: &Arc<Address>| (claim.spec.slot, claim.spec.holder.to_string(), claim.spec.nodes.clone());
        self.server.addresses.values().map(of).collect()
    }
}

#[test]
fn an_address_of_the_nodes_own_costs_no_claim() {
    let mut world = joined(&["a", "b"]);
    let slot = world.slot_of("a");
    assert_eq!(world.attach("a", &pod("web", slot)), Ok(slot));
    assert!(world.server.addresses.is_empty());
    // What nobody may have is the plugin's to refuse.
    world.asks("a", &pod("web", 0)).unwrap();
    world.asks("a", &pod("web", 31)).unwrap();
    assert!(world.server.addresses.is_empty());
}

#[test]
fn an_address_in_no_block_is_had_alone_and_another_node_is_told_whose_it_is() {
    let mut world = joined(&["a", "b"]);
    let slot = (1..31).find(|slot| !world.owns("a", *slot) && !world.owns("b", *slot)).unwrap();
    assert_eq!(world.attach("a", &pod("web", slot)), Ok(slot));
    let block = world.server.blocks.values().find(|block| block.spec.first == slot / 8 * 8).unwrap();
    assert_eq!((block.spec.runs.len(), block.spec.runs[0].first, block.spec.runs[0].count), (1, slot, 1));
    assert_eq!(world.claims(), [(slot, "pod shop/web".to_owned(), vec!["a".to_owned()])]);
    let why = world.attach("b", &pod("db", slot)).unwrap_err();
    let words = format!("requested address 10.0.0.{slot} is kept for pod shop/web (AddressClaim shop.lan.a{slot})");
    assert!(why.contains(&words) && why.contains("shop/lan"), "{why}");
    // No other pod gets it, and it goes with the lease.
    assert!(!world.free("a").contains(&slot), "leased");
    world.detach("a", slot);
    assert!(world.claims().is_empty());
    assert_eq!(world.attach("b", &pod("db", slot)), Ok(slot));
    assert!(!world.owns("a", slot) && world.owns("b", slot));
}

#[test]
fn an_address_of_another_node_is_given_unless_a_pod_there_has_it() {
    let mut world = joined(&["a", "b"]);
    let slot = world.slot_of("b");
    assert_eq!(world.attach("a", &pod("web", slot)), Ok(slot));
    assert!(world.owns("a", slot) && !world.owns("b", slot));
    let next = world.slot_of("b");
    world.nodes.get_mut("b").unwrap().leased.insert(next, "pod shop/db-0, container c1 net1".to_owned());
    let why = world.attach("a", &pod("other", next)).unwrap_err();
    let words = format!("requested address 10.0.0.{next} is taken on node b by pod shop/db-0");
    assert!(why.contains(&words), "{why}");
    assert_eq!(world.claims().len(), 1, "what cannot be had is not claimed for ever");
    // The owner's agent is away.
    let last = *world.free("b").last().unwrap();
    for _ in 0..3 {
        assert_eq!(world.run("a", Some(pod("other", last))), Err("waits".to_owned()));
        world.now += Duration::from_secs(1);
    }
    let why = world.run("a", Some(pod("other", last))).unwrap_err();
    assert!(why.contains("node b, whose agent does not answer"), "{why}");
    assert_eq!(world.claims().len(), 1);
}

#[test]
fn of_nodes_that_race_for_an_address_exactly_one_gets_it() {
    for owner in [None, Some("c")] {
        let mut world = joined(&["a", "b", "c"]);
        let nobodys = |slot: &u32| ["a", "b", "c"].iter().all(|node| !world.owns(node, *slot));
        let slot = owner.map_or_else(|| (1..31).find(nobodys).unwrap(), |owner| world.slot_of(owner));
        // Both know the same, and neither knows of the other.
        let asks = [("a", pod("web", slot)), ("b", pod("db", slot))];
        let first = world.run(asks[0].0, Some(asks[0].1.clone()));
        let second = world.run(asks[1].0, Some(asks[1].1.clone()));
        assert!(second.unwrap_err().contains("kept for pod shop/web"));
        assert_eq!(first.is_ok(), owner.is_none());
        assert_eq!(world.attach("a", &asks[0].1), Ok(slot));
        assert!(world.attach("b", &asks[1].1).is_err());
        world.settle();
        assert_eq!(world.claims().len(), 1);
    }
}

#[test]
fn nodes_that_want_something_of_one_another_get_it() {
    let mut world = joined(&["a", "b"]);
    let (of_a, of_b) = (world.slot_of("a"), world.slot_of("b"));
    assert_eq!(world.run("a", Some(pod("web", of_b))), Err("waits".to_owned()));
    world.hear("b");
    assert_eq!(world.run("b", Some(pod("db", of_a))), Err("waits".to_owned()));
    world.hear("a");
    assert_eq!(world.run("a", Some(pod("web", of_b))), Ok(()));
    world.hear("b");
    assert_eq!(world.run("b", Some(pod("db", of_a))), Ok(()));
    assert!(world.owns("a", of_b) && world.owns("b", of_a));
}

#[test]
fn an_address_that_no_pod_took_is_let_go_after_a_while() {
    let mut world = joined(&["a", "b"]);
    let slot = world.slot_of("b");
    world.asks("a", &pod("web", slot)).unwrap();
    world.now += UNUSED - Duration::from_secs(1);
    world.settle();
    assert_eq!(world.claims().len(), 1, "its ADD may be under way");
    let promised = world.pool("a").claimed.get(&slot).cloned();
    assert_eq!(promised.as_deref(), Some("shop/web"));
    world.now += Duration::from_secs(2);
    world.settle();
    assert!(world.claims().is_empty() && world.pool("a").claimed.is_empty());
    assert!(world.owns("a", slot), "an ordinary slot from now on");
}

/// As `migrate danm` makes it: another program attached the pod, and no lease is of it.
#[test]
fn an_address_of_a_pod_that_others_attached_is_kept_until_its_claim_goes() {
    let mut world = joined(&["a", "b"]);
    let (here, there) = (world.slot_of("a"), world.slot_of("b"));
    world.claim("old-0", here);
    world.claim("old-1", there);
    world.settle();
    world.now += UNUSED * 2;
    world.settle();
    assert_eq!(world.claims().len(), 2, "no agent ends them");
    let kept = |pod: &str| Some(format!("shop/{pod}"));
    assert_eq!(world.pool("a").claimed.get(&here).cloned(), kept("old-0"));
    assert_eq!(world.pool("b").claimed.get(&there).cloned(), kept("old-1"));
    let why = world.asks("a", &pod("web", there)).unwrap_err();
    assert!(why.contains("is kept for pod shop/old-1"), "{why}");
    // A sandbox that is made anew, here or on another node, asks for what its pod has.
    assert_eq!(world.attach("a", &pod("old-0", here)), Ok(here));
    assert_eq!(world.attach("a", &pod("old-1", there)), Ok(there));
    world.detach("a", there);
    let kept = address_claims::name(&world.id, here);
    assert_eq!(world.server.addresses.keys().collect::<Vec<_>>(), [&kept]);
}

#[test]
fn an_ipam_claim_keeps_its_address_without_a_pod_and_on_every_node() {
    let mut world = joined(&["a", "b"]);
    let slot = world.attach("a", &vm("one")).unwrap();
    assert_eq!(world.claims(), [(slot, "IPAMClaim shop/one".to_owned(), vec!["a".to_owned()])]);
    world.detach("a", slot);
    world.now += 2 * UNUSED;
    world.settle();
    // Every other address of the pool is taken, and that one is not.
    let ask = lan("10.0.0.0/27");
    let mut taken = Vec::new();
    while let Ok(()) = world.asks("b", &ask) {
        let claimed = world.pool("b").claimed.clone();
        let Some(free) = world.free("b").into_iter().find(|free| !claimed.contains_key(free)) else { break };
        world.nodes.get_mut("b").unwrap().leased.insert(free, format!("pod {free}"));
        taken.push(free);
    }
    assert!(taken.len() == 29 && !taken.contains(&slot), "{taken:?}");
    assert_eq!(world.attach("b", &vm("one")), Ok(slot));
    world.settle();
    assert!(world.owns("b", slot) && !world.owns("a", slot));
    assert_eq!(world.claims(), [(slot, "IPAMClaim shop/one".to_owned(), vec!["b".to_owned()])]);
    let why = world.attach("a", &pod("thief", slot)).unwrap_err();
    assert!(why.contains("kept for IPAMClaim shop/one"), "{why}");
}

#[test]
fn a_pod_that_takes_over_has_the_address_beside_the_first_one_and_then_alone() {
    let mut world = joined(&["a", "b", "c"]);
    let slot = world.attach("a", &vm("one")).unwrap();
    assert_eq!(world.attach("b", &vm("one")), Ok(slot));
    assert!(world.owns("a", slot) && !world.owns("b", slot), "others are led to the first one");
    world.settle();
    assert_eq!(world.claims()[0].2, ["a", "b"]);
    world.now += 2 * UNUSED;
    world.settle();
    assert!(world.owns("a", slot) && world.nodes["b"].leased.contains_key(&slot));
    // The first one goes.
    world.detach("a", slot);
    assert!(world.owns("b", slot) && !world.owns("a", slot));
    assert_eq!(world.claims()[0].2, ["b"]);
    assert!(!world.pool("a").claimed.contains_key(&slot));
    // The other way about: the one that was to take over fails.
    assert_eq!(world.attach("c", &vm("one")), Ok(slot));
    world.settle();
    world.detach("c", slot);
    assert!(world.owns("b", slot) && !world.pool("c").claimed.contains_key(&slot));
    assert_eq!(world.claims()[0].2, ["b"]);
}

#[test]
fn of_two_nodes_that_make_a_claim_for_one_holder_at_once_the_first_one_counts() {
    for kill in 0..12 {
        let mut world = joined(&["a", "b"]);
        // Neither knows of the other's, and the first one is at any point of its way.
        let first = world.steps("a", Some(vm("one")), kill).is_some();
        let slot = world.attach("b", &vm("one")).unwrap();
        if !first {
            world.restart("a");
        }
        assert_eq!(world.attach("a", &vm("one")), Ok(slot), "{kill}");
        world.settle();
        assert_eq!(world.claims().len(), 1, "{kill}");
        assert_eq!(world.pool("a").claimed.len() + world.pool("b").claimed.len(), 2, "{kill}");
    }
}

#[test]
fn a_node_that_is_gone_leaves_its_claims_addresses_to_the_next() {
    let mut world = joined(&["a", "b"]);
    let slot = world.attach("a", &vm("one")).unwrap();
    let mine = world.slot_of("a");
    // The Node object is deleted: the API server takes what was its alone.
    world.is_unfair = true;
    world.nodes.remove("a");
    let gone = world.server.blocks.iter().filter(|(_, block)| block.spec.runs[0].node == "a");
    for name in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        world.server.blocks.remove(&name);
    }
    world.hear("b");
    assert_eq!(world.attach("b", &vm("one")), Ok(slot));
    assert_eq!(world.attach("b", &pod("web", mine)), Ok(mine));
    assert!(world.owns("b", slot) && world.owns("b", mine));
}

#[test]
fn a_claim_made_anew_under_its_name_is_another_one() {
    let mut world = joined(&["a"]);
    let slot = world.attach("a", &vm("one")).unwrap();
    let mut again = vm("one");
    again.wanted.as_mut().unwrap().holder.uid = "another".to_owned();
    let other = world.attach("a", &again).unwrap();
    assert_ne!(slot, other);
    assert_eq!(world.pool("a").claimed.len(), 2);
    let why = { world.attach("a", &wanted(HolderKind::IpamClaim, "two", Some(slot))).unwrap_err() };
    assert!(why.contains("kept for IPAMClaim shop/one"), "{why}");
}

#[test]
fn a_node_that_leaves_takes_no_claim_with_it_but_its_pods_own() {
    let mut world = joined(&["a", "b"]);
    let kept = world.attach("a", &vm("one")).unwrap();
    let slot = world.slot_of("b");
    world.attach("a", &pod("web", slot)).unwrap();
    world.detach("a", slot);
    world.detach("a", kept);
    world.asks("a", &pod("web", slot)).unwrap();
    world.nodes.get_mut("a").unwrap().is_idle = true;
    world.hear("a");
    world.run("a", None).unwrap();
    assert!(world.nodes["a"].notes.is_none());
    assert_eq!(world.claims(), [(kept, "IPAMClaim shop/one".to_owned(), Vec::new())]);
    assert_eq!(world.attach("b", &vm("one")), Ok(kept));
}

#[test]
fn objects_of_nonsense_are_in_nobodys_way_but_their_own() {
    let mut world = joined(&["a", "b"]);
    let slot = world.slot_of("b");
    world.attach("a", &pod("web", slot)).unwrap();
    let claim = world.server.addresses.values().next().unwrap().clone();
    let forged = |name: &str, slot: u32| {
        let meta = Meta { name: name.to_owned(), uid: "x".to_owned(), ..claim.meta.clone() };
        let mut spec = claim.spec.clone();
        (spec.slot, spec.nodes) = (slot, vec!["b".to_owned()]);
        Arc::new(Stored::<attachments::api::AddressClaim> { meta, spec, status: Default::default() })
    };
    // Its name is another slot's: nothing of a's is given away.
    let free = *world.free("a").iter().find(|free| **free != slot).unwrap();
    world.server.addresses.insert("shop.lan.a999".to_owned(), forged("shop.lan.a999", free));
    let in_the_way = world.slot_of("b");
    let name = address_claims::name(&world.id, in_the_way);
    world.server.addresses.insert(name.clone(), forged(&name, 3000));
    world.settle();
    assert!(world.owns("a", free) && !world.pool("a").claimed.contains_key(&free));
    let why = world.attach("a", &pod("db", in_the_way)).unwrap_err();
    assert!(why.contains(&format!("AddressClaim {name} makes no sense: remove it")), "{why}");
    // A slot far behind the pool's end.
    let far = address_claims::name(&world.id, u32::MAX);
    world.server.addresses.insert(far.clone(), forged(&far, u32::MAX));
    world.settle();
}

#[test]
fn an_agent_that_ends_behind_any_step_comes_to_the_same_end() {
    for (victim, kill) in ["a", "b"].into_iter().flat_map(|victim| (0..16).map(move |kill| (victim, kill))) {
        let mut begun = joined(&["a", "b"]);
        let (slot, kept) = (begun.slot_of("b"), begun.attach("b", &vm("one")).unwrap());
        begun.detach("b", kept);
        for (ask, slot) in [(pod("web", slot), slot), (vm("one"), kept)] {
            let mut world = begun.clone();
            let (mut left, mut rounds) = (kill, 0);
            let mut is_done = false;
            while !is_done {
                for node in ["a", "b"] {
                    world.hear(node);
                    let asked = (node == "a").then(|| ask.clone());
                    let most = if node == victim { left } else { usize::MAX };
                    match world.steps(node, asked, most) {
                        None => {
                            world.restart(node);
                            world.check();
                            left = usize::MAX;
                        }
                        Some(done) => is_done |= node == "a" && done.is_ok(),
                    }
                }
                world.now += Duration::from_secs(1);
                rounds += 1;
                assert!(rounds < 30, "{victim} killed behind step {kill}");
            }
            assert_eq!(world.attach("a", &ask), Ok(slot), "{victim} killed behind step {kill}");
            world.settle();
            // What a killed agent forgot takes a while.
            world.now += UNUSED;
            world.settle();
            assert!(world.owns("a", slot), "{victim} killed behind step {kill}");
            assert_eq!(world.claims().iter().find(|claim| claim.0 == slot).unwrap().2, ["a"]);
        }
    }
}
