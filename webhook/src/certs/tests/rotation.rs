//! Years of rotations.

use proptest::prelude::*;

use super::*;

#[test]
fn a_first_start_takes_four_steps_and_then_there_is_nothing_to_do() {
    let mut world = World::new();
    assert_eq!(world.settle(), ["mint", "publish", "note", "issue"]);
    world.serve();
    world.heard = world.published.clone();
    world.check().unwrap();
    assert_eq!(world.published.len(), 1);
    let leaf = world.stored_leaf().sound().unwrap().clone();
    let facts = &leaf.pair.facts;
    assert_eq!((facts.not_before, facts.not_after), (BEGIN - 60 * MINUTE, BEGIN + 90 * DAY));
    assert_eq!(facts.names, ["hook.ns", "hook.ns.svc", "hook.ns.svc.cluster.local"]);
    assert!(!facts.is_authority);
    let signing = &world.stored().sound().unwrap().signing.facts.clone();
    assert!(signing.is_authority && signing.not_after == BEGIN + 730 * DAY);
    world.now += 30 * DAY;
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_and_not_all_on_one_day() {
    let mut days = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let mut world = World::settled();
        let first = world.stored_leaf().sound().unwrap().pair.facts.serial.clone();
        let mut day = 0;
        while world.settle().is_empty() {
            world.now += DAY / 4;
            day += 1;
        }
        let renewed = world.stored_leaf().sound().unwrap().pair.facts.serial.clone();
        assert_ne!(first, renewed);
        assert!((55 * 4..=60 * 4).contains(&day), "after {day} quarters of a day");
        days.insert(day);
    }
    assert!(days.len() > 1, "{days:?}");
}

#[test]
fn a_new_authority_is_published_then_used_and_the_old_one_goes_last() {
    let mut world = World::settled();
    let first = world.published.clone();
    // Certificates are renewed on the way, under the same authority.
    while world.now < BEGIN + 440 * DAY {
        world.now += DAY;
        assert!(matches!(world.settle()[..], [] | ["issue"]));
        world.serve();
    }
    let mut day = 440;
    let taken = loop {
        world.now += DAY;
        day += 1;
        let taken = world.settle();
        world.serve();
        if taken.contains(&"mint") {
            break taken;
        }
    };
    assert!((440..=487).contains(&day), "on day {day}");
    assert_eq!(taken, ["mint", "publish", "note"]);
    assert_eq!((world.published.len(), world.published[1] == first[0]), (2, true));
    // API servers have not heard of it, and trust what is served.
    world.check().unwrap();
    world.now += MINUTE;
    assert_eq!(world.settle(), [""; 0]);
    world.heard = world.published.clone();
    world.now += MINUTE;
    assert_eq!(world.settle(), ["issue"]);
    // One replica hears later: both certificates are good.
    let late = world.replicas[1].serving.clone();
    world.serve();
    world.replicas[1].serving = late.clone();
    world.check().unwrap();
    // The earlier certificate lives for 90 days at most; the bundle has both until then.
    for _ in 0..89 {
        world.now += DAY;
        assert!(matches!(world.settle()[..], [] | ["issue"]));
        assert_eq!(world.published.len(), 2);
    }
    world.now += DAY;
    world.replicas[1].serving = late;
    assert_eq!(world.settle(), [""; 0], "a replica serves a certificate of the old one");
    world.serve();
    assert_eq!(world.settle(), ["drop", "publish"]);
    assert_eq!(world.published.len(), 1);
    world.heard = world.published.clone();
    world.check().unwrap();
}

#[test]
fn a_wrong_bundle_is_repaired_and_nothing_else_is_done() {
    let mut world = World::settled();
    let right = world.published.clone();
    let other = mint::authority(BEGIN, Lifetimes::default().authority).unwrap();
    for wrong in [vec![], vec![other.certificate()], vec![other.certificate(), right[0].clone()]] {
        world.published = wrong;
        assert_eq!(world.settle(), ["publish"]);
        assert_eq!(world.published, right);
    }
}

#[test]
fn two_leaders_at_once_make_one_authority() {
    let mut world = World::new();
    let (one, other) = (world.next().unwrap(), world.next().unwrap());
    assert_eq!((called(&one), called(&other)), ("mint", "mint"));
    world.take(one);
    let stored = world.authorities.clone();
    // The other's create is answered AlreadyExists: it reads, and goes on from there.
    assert_eq!(world.settle(), ["publish", "note", "issue"]);
    let signing =
        |secret: Option<Secret>| Authorities::read(secret.as_ref()).sound().unwrap().signing.facts.serial.clone();
    assert_eq!(signing(world.authorities.clone()), signing(stored));
}

#[test]
fn a_clock_that_was_wrong_and_is_set_right_leaves_a_certificate_that_is_valid() {
    let mut world = World::new();
    world.now = BEGIN + 4000 * DAY;
    world.settle();
    world.serve();
    world.now = BEGIN;
    let taken = world.settle();
    assert_eq!(taken, ["mint", "publish", "note", "issue"]);
    world.serve();
    world.heard = world.published.clone();
    world.check().unwrap();
}

#[test]
fn whoever_was_switched_off_for_years_starts_anew() {
    let mut world = World::settled();
    world.now += 2000 * DAY;
    assert_eq!(world.settle(), ["mint", "publish", "note", "issue"]);
    assert_eq!(world.published.len(), 1, "what has expired is not trusted");
    world.serve();
    world.heard = world.published.clone();
    world.check().unwrap();
}

#[derive(Clone, Debug)]
enum Event {
    /// Time goes by, in seconds.
    Later(Unix),
    /// The leader takes so many steps and dies.
    Steps(usize),
    /// A replica hears of what is stored.
    Heard(usize),
    /// A replica is replaced by a new one.
    Restarted(usize),
    LostAuthorities,
    LostLeaf,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1i64..10).prop_map(|hours| Event::Later(hours * 60 * MINUTE)),
        4 => (1i64..25).prop_map(|days| Event::Later(days * DAY)),
        6 => (1usize..4).prop_map(Event::Steps),
        4 => (0usize..2).prop_map(Event::Heard),
        1 => (0usize..2).prop_map(Event::Restarted),
        1 => Just(Event::LostAuthorities),
        1 => Just(Event::LostLeaf),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is lost, whoever dies and however long it takes: what a replica serves is trusted by API servers that are up to a
    /// minute behind, as long as it is looked after once every few days.
    #[test]
    fn api_servers_trust_every_replica_at_any_time(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::settled();
        for event in events {
            match event {
                Event::Later(time) => {
                    // A look at least every six hours, of somebody who completes what is due, and replicas that hear of it.
                    let end = world.now + time;
                    while world.now < end {
                        world.now = (world.now + 6 * 60 * MINUTE).min(end);
                        world.settle();
                        world.now += MINUTE;
                        world.heard = world.published.clone();
                        world.serve();
                        prop_assert_eq!(world.check(), Ok(()));
                    }
                }
                Event::Steps(count) => {
                    for _ in 0..count {
                        if let Some(step) = world.next() {
                            world.take(step);
                        }
                        prop_assert_eq!(world.check(), Ok(()));
                    }
                }
                Event::Heard(replica) => {
                    if let Some(leaf) = world.stored_leaf().sound() {
                        let trusted = x509::verify(&leaf.pair.chain, &world.published, &name().called(), world.now);
                        if trusted.is_ok() {
                            world.replicas[replica].serving = Some(leaf.pair.clone());
                        }
                    }
                    // What was published before is heard of within the spread; here, before the next certificate is served.
                    world.heard = world.published.clone();
                    prop_assert_eq!(world.check(), Ok(()));
                }
                Event::Restarted(replica) => world.replicas[replica].serving = None,
                Event::LostAuthorities => world.authorities = None,
                Event::LostLeaf => world.leaf = None,
            }
        }
    }
}
