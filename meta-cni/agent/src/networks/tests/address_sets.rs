//! AddressSets: pods take members in turn, whatever order they come in and whatever is killed, and no member has two pods.

use attachments::api::{ClaimHolder, HolderKind};
use delegates::ipam::blocks::set_promise;

use super::super::facts::{Members, SetRequest, Wanted};
use super::addresses::joined;
use super::*;

/// A pod of the set; `uid` tells pods of one name apart.
fn pod(name: &str, uid: &str, members: &Members) -> Ask {
    let of = |kind, name: &str, uid: &str| ClaimHolder {
        kind,
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.to_owned(),
    };
    let set = SetRequest { members: members.clone(), pod: of(HolderKind::Pod, name, uid) };
    let holder = of(HolderKind::AddressSet, "web", "uid-of-set");
    Ask { wanted: Some(Wanted { holder, slot: None, address: String::new(), set: Some(set) }), ..lan("10.0.0.0/27") }
}

fn listed() -> Members {
    Members::Slots(vec![20, 9, 3])
}

impl World {
    /// The whole of an ADD: what the agent says, and the plugin's lease of what is promised to the pod.
    fn attach_member(&mut self, node: &str, ask: &Ask) -> Result<u32, String> {
        self.asks(node, ask)?;
        self.lease_member(node, ask)
    }

    fn lease_member(&mut self, node: &str, ask: &Ask) -> Result<u32, String> {
        let pod = &ask.wanted.as_ref().unwrap().set.as_ref().unwrap().pod;
        let name = format!("shop/{}", pod.name);
        let text = set_promise("web", &name);
        let pool = self.pool(node);
        let slot = *pool.claimed.iter().find(|(_, who)| **who == text).ok_or("nothing is promised")?.0;
        assert!(has(&pool.slots, slot), "{slot} is another node's");
        for (other, there) in &self.nodes {
            assert!(!there.leased.contains_key(&slot), "{slot} has a pod on {other}: {:?}", there.leased);
        }
        self.nodes.get_mut(node).unwrap().leased.insert(slot, format!("pod {name}"));
        self.run(node, None).unwrap();
        Ok(slot)
    }

    /// Each member: its slot, its nodes, and the pod that has it or had it last.
    fn members(&self) -> Vec<(u32, Vec<String>, String)> {
        let of = |claim: &Arc<Address>| {
            let pod = claim.spec.pod.as_ref().map(|pod| pod.name.clone()).unwrap_or_default();
            (claim.spec.slot, claim.spec.nodes.clone(), pod)
        };
        let mut all: Vec<_> = self.server.addresses.values().map(of).collect();
        all.sort();
        all
    }
}

#[test]
fn pods_take_members_in_the_order_of_the_set_and_a_full_set_says_who_has_them() {
    let mut world = joined(&["a", "b"]);
    let take = |world: &mut World, node: &str, name: &str| world.attach_member(node, &pod(name, name, &listed()));
    assert_eq!(take(&mut world, "a", "p1"), Ok(20));
    world.settle();
    assert_eq!(take(&mut world, "b", "p2"), Ok(9));
    world.settle();
    assert_eq!(take(&mut world, "a", "p3"), Ok(3));
    world.settle();
    let why = take(&mut world, "b", "p4").unwrap_err();
    let want = "all 3 addresses of AddressSet shop/web are in use by shop/p1, shop/p2, shop/p3";
    assert!(why.starts_with("network-attachment-definition shop/lan: ") && why.contains(want), "{why}");
    // The first that comes free is the next one's, on whatever node it is.
    world.detach("a", 20);
    assert_eq!(take(&mut world, "b", "p4"), Ok(20));
    assert_eq!(world.server.addresses.len(), 3);
}

#[test]
fn a_member_that_is_free_is_nobody_elses_and_a_pod_of_the_name_gets_its_last_one_back() {
    let mut world = joined(&["a", "b"]);
    for (name, slot) in [("web-0", 20), ("web-1", 9), ("web-2", 3)] {
        assert_eq!(world.attach_member("a", &pod(name, "first", &listed())), Ok(slot));
    }
    for slot in [20, 9, 3] {
        world.detach("a", slot);
    }
    assert!(world.members().iter().all(|(_, nodes, pod)| nodes.is_empty() && !pod.is_empty()), "{:?}", world.members());
    for (slot, node) in [20, 9, 3].into_iter().flat_map(|slot| [(slot, "a"), (slot, "b")]) {
        let pool = world.pool(node);
        let kept = pool.claimed.get(&slot).map(String::as_str);
        assert!(!has(&pool.slots, slot) || kept == Some("AddressSet shop/web"), "{slot} on {node}: {pool:?}");
    }
    // In another order, and on another node.
    assert_eq!(world.attach_member("b", &pod("web-2", "second", &listed())), Ok(3));
    world.settle();
    assert_eq!(world.attach_member("a", &pod("web-1", "second", &listed())), Ok(9));
    world.settle();
    // A stranger takes the first that is free, and the pod that had it takes another one then.
    assert_eq!(world.attach_member("a", &pod("other", "x", &listed())), Ok(20));
    world.settle();
    world.detach("b", 3);
    assert_eq!(world.attach_member("b", &pod("web-0", "second", &listed())), Ok(3));
}

#[test]
fn a_set_with_a_size_draws_its_members_once_and_keeps_them() {
    let mut world = joined(&["a", "b"]);
    let size = Members::Size(3);
    let mut slots = BTreeSet::new();
    for name in ["p1", "p2", "p3"] {
        slots.insert(world.attach_member("a", &pod(name, name, &size)).unwrap());
        world.settle();
    }
    assert_eq!(slots.len(), 3);
    let why = world.attach_member("b", &pod("p4", "p4", &size)).unwrap_err();
    assert!(why.contains("all 3 addresses of AddressSet shop/web are in use by"), "{why}");
    // Twenty rollouts, from node to node.
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let mut again = BTreeSet::new();
        for (i, slot) in slots.clone().into_iter().enumerate() {
            world.detach(from, slot);
            let name = format!("p{round}-{i}");
            again.insert(world.attach_member(to, &pod(&name, &name, &size)).unwrap());
            world.settle();
        }
        assert_eq!(again, slots, "round {round}");
    }
    assert_eq!(world.server.addresses.len(), 3);
}

#[test]
fn of_two_pods_that_are_after_the_last_member_one_gets_it() {
    let one = Members::Slots(vec![20]);
    let mut world = joined(&["a", "b"]);
    world.attach_member("a", &pod("p0", "p0", &one)).unwrap();
    world.detach("a", 20);
    for first in [1, 2, 3, 4, 5] {
        let mut world = world.clone();
        let (a, b) = (pod("pa", "pa", &one), pod("pb", "pb", &one));
        // One of them goes some steps, then the other goes all of them, and then the one goes on.
        let _ = world.steps("a", Some(a.clone()), first);
        let got_b = world.attach_member("b", &b);
        world.settle();
        let got_a = world.attach_member("a", &a);
        let outcome = [got_a.is_ok(), got_b.is_ok()];
        assert_eq!(outcome.iter().filter(|got| **got).count(), 1, "after {first} steps: {got_a:?} {got_b:?}");
        assert_eq!(world.members().len(), 1);
    }
}

#[test]
fn a_hand_over_goes_on_wherever_the_agent_is_killed() {
    let one = Members::Slots(vec![20]);
    let mut world = joined(&["a", "b"]);
    world.attach_member("a", &pod("p0", "p0", &one)).unwrap();
    let before = world.clone();
    for steps in 0..12 {
        // The one that takes.
        let mut world = before.clone();
        world.detach("a", 20);
        let next = pod("p1", "p1", &one);
        let _ = world.steps("b", Some(next.clone()), steps);
        world.restart("b");
        assert_eq!(world.attach_member("b", &next), Ok(20), "killed after {steps} steps");
        // The one that gives: it was killed before it had said that its pod is gone.
        let mut world = before.clone();
        world.nodes.get_mut("a").unwrap().leased.clear();
        let _ = world.steps("a", None, steps);
        world.restart("a");
        world.now += super::super::address_claims::UNUSED * 2;
        world.settle();
        world.now += super::super::address_claims::UNUSED * 2;
        world.settle();
        assert_eq!(world.attach_member("b", &next), Ok(20), "killed after {steps} steps");
        assert_eq!(world.members().len(), 1);
    }
}

#[test]
fn a_member_whose_pod_never_came_is_free_after_a_while() {
    let one = Members::Slots(vec![20]);
    let mut world = joined(&["a", "b"]);
    world.asks("a", &pod("p0", "p0", &one)).unwrap();
    world.settle();
    assert_eq!(world.members(), [(20, vec!["a".to_owned()], "p0".to_owned())]);
    world.now += super::super::address_claims::UNUSED * 2;
    world.settle();
    assert_eq!(world.members(), [(20, Vec::new(), "p0".to_owned())]);
    assert_eq!(world.attach_member("b", &pod("p1", "p1", &one)), Ok(20));
}

#[test]
fn an_address_that_another_pod_has_is_no_member_until_it_goes() {
    let mut world = joined(&["a", "b"]);
    let taken = *world.free("a").first().unwrap();
    world.nodes.get_mut("a").unwrap().leased.insert(taken, "pod shop/stranger".to_owned());
    let members = Members::Slots(vec![taken]);
    let why = world.attach_member("b", &pod("p1", "p1", &members)).unwrap_err();
    assert!(why.contains("is taken on node a by pod shop/stranger"), "{why}");
    world.settle();
    world.detach("a", taken);
    assert_eq!(world.attach_member("b", &pod("p1", "p1", &members)), Ok(taken));
}
