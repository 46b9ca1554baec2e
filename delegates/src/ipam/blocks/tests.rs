//! Pods that come and go on a node that is alone, and on one whose agent says what it has.

mod faults;
mod property;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::thread;
use std::time::Duration;

use attachments::cni::version::Version;
use proptest::prelude::*;

use super::super::tests::{Bench, Small, read, run};
use super::super::{allocate, check, gc, release, status};
use super::journal::{HISTORY, Journal};
use super::*;
use crate::networks::state::{FORMAT, Member, Membership};

impl Bench {
    fn id(&self) -> NetworkId {
        self.with(&conf(SMALL), "x net1", |_, call| network(call))
    }

    fn file(&self) -> std::path::PathBuf {
        self.id().dir(self.dir.path()).join(FILE)
    }

    /// `address container` of each lease, oldest first.
    fn leases(&self) -> Vec<String> {
        let held = Held::read(self.dir.path(), &self.id()).unwrap();
        held.leases().iter().map(|lease| format!("{} {}", listed(&lease.addresses), lease.holder.container)).collect()
    }

    /// A node with an agent: a network in which it has these slots.
    fn with_agent(slots: &[(u32, u32)]) -> Self {
        let bench = Self { is_alone: false, definition: Some("shop/lan"), ..Self::new() };
        bench.has(slots, |_| {});
        bench
    }

    fn has(&self, slots: &[(u32, u32)], change: impl FnOnce(&mut PoolState)) {
        let slots = slots.iter().map(|(first, count)| Slots { first: *first, count: *count }).collect();
        let pool = pool_of(&Object::parse(conf(SMALL).as_bytes()).unwrap()).unwrap().unwrap();
        let mut pool = PoolState { pool, slots, claimed: Default::default(), exhausted: None };
        change(&mut pool);
        let state = NetworkState { format: FORMAT, node: "n1".to_owned(), overlay: None, pool: Some(pool) };
        state.write(self.dir.path(), &self.id()).unwrap();
    }
}

/// Slots 2 to 14 are for pods.
const SMALL: &str = r#""subnet":"10.0.0.0/28","gateway":"10.0.0.1""#;

fn conf(ipam: &str) -> String {
    format!(r#"{{"type":"bridge","ipam":{{"type":"blocks",{ipam}}}}}"#)
}

#[test]
fn a_node_that_is_alone_has_the_whole_pool_and_the_last_address_too() {
    let bench = Bench::new();
    let conf = conf(r#""subnet":"10.0.0.0/29","exclude":["10.0.0.3"],"gateway":"10.0.0.1""#);
    for (pod, address) in [("a", "2"), ("b", "4"), ("c", "5")] {
        assert_eq!(bench.add(&conf, &format!("{pod} net1")), format!("10.0.0.{address}/29"));
    }
    assert!(bench.with(&conf, "x net1", status).is_ok());
    assert_eq!(bench.add(&conf, "d net1"), "10.0.0.6/29");
    assert_eq!(bench.add(&conf, "e net1"), "no address is left in 10.0.0.0/29: all 4 are taken");
    let not_ready = bench.with(&conf, "x net1", status).unwrap_err();
    assert!(matches!(&not_ready, Error::NotReady(text) if text == "no address is left in 10.0.0.0/29"), "{not_ready}");
    bench.del(&conf, "b net1");
    assert_eq!(bench.add(&conf, "e net1"), "10.0.0.4/29");
    assert_eq!(read(&bench.file()).lines().count(), 7, "a header, and a line for each change");
}

#[test]
fn a_slot_has_one_address_of_each_family_and_a_mac_that_follows() {
    let mut bench = Bench::new();
    let conf = conf(
        r#""ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.16","gateway":"10.0.0.1"}],[{"subnet":"fd00::/64","rangeStart":"fd00::100"}]],"routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.1"}]"#,
    );
    let leased = bench.with(&conf, "a net1", allocate).unwrap();
    assert_eq!(
        leased.result.encode(Version::V1_0_0).unwrap().to_json(),
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.16/24","gateway":"10.0.0.1"},{"address":"fd00::100/64"}],"routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.1"}]}"#
    );
    assert_eq!(leased.mac.unwrap().to_string(), "0a:58:0a:00:00:10");
    assert_eq!(bench.leases(), ["10.0.0.16, fd00::100 a"]);
    // Requests: either family names the slot, both must name the same.
    assert_eq!(bench.add(&conf, "b net1 IP=fd00::105"), "10.0.0.21/24 fd00::105/64");
    assert_eq!(bench.add(&conf, "c net1 IP=10.0.0.22,fd00::106/64"), "10.0.0.22/24 fd00::106/64");
    assert_eq!(
        bench.add(&conf, "d net1 IP=10.0.0.23,fd00::108"),
        "CNI_ARGS IP: got fd00::108, want fd00::107, which comes with 10.0.0.23: one number gives the address of each range set"
    );
    bench.version = Version::V0_2_0;
    assert_eq!(bench.add(&conf, "d net1"), "10.0.0.23/24 fd00::107/64");
    let two = self::conf(r#""ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/24"}]]"#);
    assert!(bench.add(&two, "e net1").starts_with("cniVersion: got 0.2.0"));
}

#[test]
fn a_slot_that_nobody_had_comes_first_then_the_one_given_back_longest_ago() {
    let bench = Bench::new();
    let conf = conf(r#""subnet":"10.0.0.0/29""#);
    let add = |who: &str| bench.add(&conf, &format!("{who} net1")).replace("/29", "").replace("10.0.0.", "");
    let del = |who: &str| bench.del(&conf, &format!("{who} net1"));
    assert_eq!([add("a"), add("b"), add("c")], ["1", "2", "3"]);
    del("b");
    del("a");
    assert_eq!([add("d"), add("e"), add("f")], ["4", "5", "6"]);
    del("f");
    assert_eq!([add("g"), add("h"), add("i")], ["2", "1", "6"]);
    del("c");
    assert_eq!(add("j"), "3", "one that has just been given back, when nothing else is left");
}

#[test]
fn an_attachment_holds_one_slot_and_del_is_always_possible() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    bench.del(&conf, "a net1");
    assert!(!bench.file().exists(), "a DEL makes nothing");
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/28");
    assert_eq!(bench.add(&conf, "a net1"), "this attachment holds 10.0.0.2 of network node..net already");
    assert_eq!(bench.add(&conf, "a net2"), "10.0.0.3/28");
    bench.del(&self::conf(r#""subnet":"edited""#), "a net1");
    bench.del(&conf, "a net1");
    assert_eq!(bench.leases(), ["10.0.0.3 a"]);
    assert!(bench.with(&conf, "a net1", release).is_ok());
}

#[test]
fn check_compares_the_result_with_the_lease() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    let result = bench.with(&conf, "a net1", allocate).unwrap().result;
    let check = |who: &str, result: &CniResult| {
        bench.with(&conf, who, |node, call| check(node, &Call { prev_result: Some(result), ..call.clone() }))
    };
    assert!(check("a net1", &result).is_ok());
    let differs = |result: Result<()>| match result {
        Err(Error::Differs(text)) => text.replace(bench.dir.path().to_str().unwrap(), ""),
        other => panic!("{other:?}"),
    };
    assert_eq!(differs(check("a net2", &result)), "no address in /networks/node..net/leases belongs to a net2");
    let mut other = result.clone();
    other.ips[0].address = "10.0.0.3/28".parse().unwrap();
    assert!(differs(check("a net1", &other)).starts_with("no lease of 10.0.0.3 in "));
    // What another plugin of the chain added is none of ours.
    other.ips[0].address = "10.9.0.3/28".parse().unwrap();
    assert!(check("a net1", &other).is_ok());
}

#[test]
fn gc_takes_what_the_departed_hold_and_tells_of_strangers() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    for who in ["living", "gone", "stranger"] {
        bench.add(&conf, &format!("{who} net1 K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"));
    }
    let living = BTreeSet::from(["living".parse().unwrap()]);
    let departed = HashSet::from(["gone".parse().unwrap()]);
    let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
    let told = bench.with(&conf, "x net1", |node, call| gc(node, call, &ownership)).unwrap();
    let want = format!("address 10.0.0.4 of pod shop/web-1, container stranger net1 in {}", bench.file().display());
    assert_eq!(told, [want]);
    assert_eq!(bench.leases(), ["10.0.0.2 living", "10.0.0.4 stranger"]);
    // The same without a configuration that leads there.
    let departed = HashSet::from(["stranger".parse().unwrap()]);
    let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
    let soon = Instant::now() + Duration::from_secs(20);
    sweep(bench.dir.path(), &ownership, soon).unwrap();
    assert_eq!(bench.leases(), ["10.0.0.2 living"]);
    // A network of an earlier boot, in which the node is not any more.
    let boot = crate::boot::current().unwrap();
    fs::write(bench.file(), read(&bench.file()).replace(&boot, "earlier")).unwrap();
    sweep(bench.dir.path(), &ownership, soon).unwrap();
    assert!(!bench.file().parent().unwrap().exists());
    sweep(bench.dir.path(), &ownership, soon).unwrap();
}

#[test]
fn requested_addresses_are_the_nodes_own_and_free() {
    let bench = Bench::with_agent(&[(0, 8)]);
    let conf = conf(SMALL);
    let pod = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1";
    assert_eq!(bench.add(&conf, &format!("a net1 IP=10.0.0.5;{pod}")), "10.0.0.5/28");
    let with = |key: &str| format!("{},{key}}}", conf.strip_suffix('}').unwrap());
    assert_eq!(bench.add(&with(r#""args":{"cni":{"ips":["10.0.0.6/24"]}}"#), "b net1"), "10.0.0.6/28");
    assert_eq!(bench.add(&with(r#""runtimeConfig":{"ips":["10.0.0.7"]}"#), "c net1"), "10.0.0.7/28");
    for (request, why) in [
        ("10.0.0.5", "requested address 10.0.0.5 is taken by pod shop/web-1, container a net1"),
        ("10.0.0.6", "requested address 10.0.0.6 is taken by container b net1"),
        ("10.1.0.5", "CNI_ARGS IP: got 10.1.0.5, want an address of 10.0.0.0/28"),
        ("10.0.0.1", "CNI_ARGS IP: got 10.0.0.1, want an address that pods may have"),
        ("10.0.0.0", "CNI_ARGS IP: got 10.0.0.0, want an address that pods may have"),
        ("10.0.0.3,10.0.0.4", "CNI_ARGS IP: got 10.0.0.4, want 10.0.0.3, which comes with 10.0.0.3"),
        ("10.0.0.9", "requested address 10.0.0.9 is in block shop.lan.b0, which is not this node's"),
        ("x", "CNI_ARGS IP: got \"x\", want an IP address"),
    ] {
        let refused = bench.add(&conf, &format!("d net1 IP={request}"));
        assert!(refused.starts_with(why), "{refused}");
    }
    assert_eq!(bench.add(&conf, "d net1 IP=10.0.0.2,10.0.0.2"), "10.0.0.2/28", "the same twice");
}

#[test]
fn a_requested_address_of_another_node_is_told_with_the_node() {
    let bench = Bench::with_agent(&[]);
    let vxlan = format!(r#"{{"type":"vxlan","vni":7,"ipam":{{"type":"blocks",{SMALL},"blockSize":4}}}}"#);
    let id = bench.with(&vxlan, "x net1", |_, call| network(call));
    let pool = pool_of(&Object::parse(vxlan.as_bytes()).unwrap()).unwrap().unwrap();
    let member = Member {
        node: "n2".to_owned(),
        vtep: "192.0.2.2".parse().unwrap(),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        slots: vec![Slots { first: 8, count: 4 }],
        endpoints: Vec::new(),
    };
    let overlay = Membership {
        vtep: "192.0.2.1".parse().unwrap(),
        mac: member.mac,
        mtu: 1450,
        members: vec![member],
        routing: Default::default(),
    };
    let slots = vec![Slots { first: 4, count: 4 }];
    let pool = PoolState { pool, slots, claimed: Default::default(), exhausted: None };
    let state = NetworkState { format: FORMAT, node: "n1".to_owned(), overlay: Some(overlay), pool: Some(pool) };
    state.write(bench.dir.path(), &id).unwrap();
    assert_eq!(
        bench.add(&vxlan, "a net1 IP=10.0.0.9"),
        "requested address 10.0.0.9 is in block 4789-7.b8, which is node n2's: want an address of a block of this node, or one that ips of the pod's annotation asks for"
    );
    // Another definition of the overlay: one lease file.
    assert_eq!(bench.add(&vxlan, "a net1"), "10.0.0.4/28");
    let shared = Bench { definition: Some("other/lan"), ..bench };
    let leased = shared.with(&vxlan, "b net1", allocate).unwrap();
    assert_eq!(leased.mac.unwrap().to_string(), "0a:58:0a:00:00:05");
    let wider = vxlan.replace("10.0.0.0/28", "10.0.0.0/27");
    let refused = shared.with(&wider, "c net1", allocate).unwrap_err();
    let want = "ipam: got 10.0.0.0/27, want 10.0.0.0/28, by which the nodes of network 4789-7 number its addresses";
    assert!(matches!(&refused, Error::Parent(_)) && refused.to_string() == want, "{refused}");
}

#[test]
fn the_nodes_runs_are_used_up_and_promised_slots_are_not() {
    let bench = Bench::with_agent(&[]);
    let conf = conf(SMALL);
    let promise = |state: &mut PoolState| {
        state.claimed.extend([(9, "shop/db-0".to_owned()), (3, "shop/db-1".to_owned())]);
        state.exhausted = Some("10.0.0.0/28 has 13 addresses; n2 has 9".to_owned());
    };
    bench.has(&[(8, 2), (2, 2)], promise);
    let db = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0";
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/28");
    assert_eq!(bench.add(&conf, "b net1"), "10.0.0.8/28");
    let why = "no address is left for network shop.lan on this node: 10.0.0.0/28 has 13 addresses; n2 has 9";
    assert_eq!(bench.add(&conf, "c net1"), why);
    let not_ready = bench.with(&conf, "c net1", status).unwrap_err();
    assert!(matches!(&not_ready, Error::NotReady(text) if text == why), "{not_ready}");
    assert_eq!(bench.add(&conf, "c net1 IP=10.0.0.9"), "requested address 10.0.0.9 is kept for shop/db-0");
    assert_eq!(
        bench.add(&conf, &format!("c net1 IP=10.0.0.3;{db}")),
        "requested address 10.0.0.3 is kept for shop/db-1"
    );
    assert_eq!(bench.add(&conf, &format!("c net1 {db}")), why, "another attachment of the pod asked for it");
    assert_eq!(bench.add(&conf, &format!("c net1 IP=10.0.0.9;{db}")), "10.0.0.9/28");
    let held = Held::read(bench.dir.path(), &bench.id()).unwrap();
    let state = NetworkState::read_pool(bench.dir.path(), &bench.id()).unwrap().unwrap();
    let slots: Vec<String> =
        held.slots(&state.pool).iter().map(|(slot, by)| format!("{slot} {}", by.container)).collect();
    assert_eq!(slots, ["2 a", "8 b", "9 c"]);
    assert_eq!(held.free(&state).collect::<Vec<_>>(), Vec::<u32>::new());
    bench.del(&conf, "b net1");
    let held = Held::read(bench.dir.path(), &bench.id()).unwrap();
    assert_eq!(held.free(&state).collect::<Vec<_>>(), [8]);
}

#[test]
fn pods_of_an_ipam_claim_have_its_slot_one_after_the_other_and_both_at_once() {
    let bench = Bench::with_agent(&[]);
    let conf = conf(SMALL);
    // Slot 12 is another node's, for as long as a pod there has it.
    let promise = |state: &mut PoolState| {
        state.claimed.extend([(9, "IPAMClaim shop/vm".to_owned()), (12, "IPAMClaim shop/far".to_owned())]);
        state.claimed.insert(3, "IPAMClaim other/vm".to_owned());
    };
    bench.has(&[(8, 2), (2, 2)], promise);
    let of = |name: &str| format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
    let add = |container: &str, claim: &str| bench.add(&conf, &format!("{container} net1 {} {claim}", of(container)));
    assert_eq!(add("a", "vm"), "10.0.0.9/28");
    assert_eq!(
        bench.add(&conf, &format!("a net2 {} vm", of("a"))),
        "this pod has the address of IPAMClaim shop/vm in network shop.lan already"
    );
    assert_eq!(add("b", "vm"), "10.0.0.9/28", "it takes over from the first one");
    assert_eq!(add("c", "far"), "10.0.0.12/28");
    let missing = bench.with(&conf, &format!("d net1 {} none", of("d")), allocate).unwrap_err();
    assert!(matches!(&missing, Error::Busy(text) if text.contains("no address of IPAMClaim shop/none")), "{missing}");
    assert_eq!(
        bench.add(&conf, "d net1 - vm"),
        "ipam-claim-reference: got vm, want none: the runtime does not say which pod it is"
    );
    // Nobody else gets any of them.
    assert_eq!(bench.add(&conf, "e net1"), "10.0.0.2/28");
    assert_eq!(bench.add(&conf, "f net1"), "10.0.0.8/28");
    assert_eq!(
        bench.add(&conf, "g net1 IP=10.0.0.9"),
        "requested address 10.0.0.9 is taken by pod shop/a, container a net1"
    );
    assert_eq!(bench.leases(), ["10.0.0.9 a", "10.0.0.9 b", "10.0.0.12 c", "10.0.0.2 e", "10.0.0.8 f"]);
    for pod in ["a", "b"] {
        bench.with(&conf, &format!("{pod} net1"), check).unwrap();
    }
    // The first goes, and the second has it alone; and the other way about.
    bench.del(&conf, "a net1");
    assert_eq!(bench.leases()[0], "10.0.0.9 b");
    bench.with(&conf, "b net1", check).unwrap();
    assert_eq!(add("h", "vm"), "10.0.0.9/28");
    bench.del(&conf, "h net1");
    bench.with(&conf, "b net1", check).unwrap();
    bench.del(&conf, "b net1");
    assert_eq!(bench.leases(), ["10.0.0.12 c", "10.0.0.2 e", "10.0.0.8 f"]);
    // The IPAMClaim is gone: the slot is one as any other.
    bench.has(&[(8, 2), (2, 1)], |_| {});
    assert_eq!(bench.add(&conf, "i net1"), "10.0.0.9/28");
    let alone = Bench { is_alone: true, ..bench };
    let refused = alone.add(&conf, &format!("j net1 {} vm", of("j")));
    assert!(refused.starts_with("ipam-claim-reference: got vm, want none: without an API server"), "{refused}");
}

#[test]
fn a_lease_beside_another_one_survives_a_full_disk_and_a_text_written_anew() {
    let text = "leases 1 boot\n+10.0.0.9 a net1 shop/a\n+10.0.0.9 b net1 shop/b\n";
    let live = |text: &str| {
        let (journal, wrong) = Journal::read(text.as_bytes(), "boot");
        assert_eq!(wrong, None, "{text}");
        let again = Journal::read(journal.rewritten("boot").as_bytes(), "boot").0;
        let of =
            |journal: &Journal| journal.live.iter().map(|line| line.lease.holder.container.clone()).collect::<Vec<_>>();
        assert_eq!((of(&again), &again.freed), (of(&journal), &journal.freed));
        (of(&journal).join(" "), journal.freed.len())
    };
    assert_eq!(live(text), ("a b".to_owned(), 0));
    assert_eq!(live(&format!("{text}-10.0.0.9 a net1 shop/a\n")), ("b".to_owned(), 0));
    assert_eq!(live(&format!("{text}-10.0.0.9 b net1 shop/b\n")), ("a".to_owned(), 0));
    assert_eq!(live(&format!("{text}-10.0.0.9\n")), (String::new(), 1));
    // A byte of either lease was overwritten where it stands.
    assert_eq!(live(&text.replace("+10.0.0.9 a", "~10.0.0.9 a")), ("b".to_owned(), 0));
    assert_eq!(live(&text.replace("+10.0.0.9 b", "~10.0.0.9 b")), ("a".to_owned(), 0));
    assert_eq!(live(&text.replace('+', "~")), (String::new(), 1));
}

#[test]
fn a_pod_waits_for_slots_until_there_are_some() {
    let mut bench = Bench::with_agent(&[(2, 1)]);
    let conf = conf(SMALL);
    let wanted = bench.file().with_file_name(WANTED);
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/28");
    assert!(bench.with(&conf, "x net1", status).is_ok(), "more can be had");
    assert!(!wanted.exists());
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..2)
            .map(|i| {
                scope.spawn({
                    let (bench, conf) = (&bench, &conf);
                    move || bench.add(conf, &format!("w{i} net1"))
                })
            })
            .collect();
        let soon = Instant::now() + Duration::from_secs(20);
        let appears = || {
            while !wanted.exists() {
                assert!(Instant::now() < soon);
                thread::yield_now()
            }
        };
        appears();
        // Nobody is locked out while they wait.
        assert!(Leases::open(bench.dir.path(), &bench.id(), soon).unwrap().is_some());
        fs::remove_file(&wanted).unwrap();
        bench.has(&[(2, 2)], |_| {});
        // The one that got nothing asks again.
        appears();
        bench.has(&[(2, 3)], |_| {});
        let mut given: Vec<String> = waiting.into_iter().map(|waiting| waiting.join().unwrap()).collect();
        given.sort();
        assert_eq!(given, ["10.0.0.3/28", "10.0.0.4/28"]);
    });
    bench.millis = 1000;
    let late = bench.with(&conf, "c net1", allocate).unwrap_err();
    assert!(matches!(&late, Error::Late(text) if text.contains("network shop.lan, of which all 3")), "{late}");
}

#[test]
fn a_network_that_the_node_is_not_in_is_for_later() {
    let mut bench = Bench::with_agent(&[]);
    let conf = conf(SMALL);
    NetworkState::remove(bench.dir.path(), &bench.id()).unwrap();
    let busy = bench.with(&conf, "a net1", allocate).unwrap_err();
    assert!(
        matches!(&busy, Error::Busy(text) if text.starts_with("network shop.lan has no addresses on this node: the node agent has not joined it")),
        "{busy}"
    );
    assert!(bench.with(&conf, "a net1", status).is_ok(), "the node can join");
    bench.del(&conf, "a net1");
    bench.definition = None;
    let refused = bench.add(&conf, "a net1");
    assert!(refused.starts_with("ipam.type: got \"blocks\", want another type: only a Network"), "{refused}");
}

#[test]
fn a_pool_that_changes_under_running_pods_gives_no_address_twice() {
    let bench = Bench::new();
    let add = |ipam: &str, who: &str| bench.add(&conf(ipam), &format!("{who} net1"));
    assert_eq!(add(r#""subnet":"10.0.0.0/28""#, "a"), "10.0.0.1/28");
    assert_eq!(add(r#""subnet":"10.0.0.0/28""#, "b"), "10.0.0.2/28");
    assert_eq!(add(r#""subnet":"10.0.0.0/28","rangeStart":"10.0.0.1","rangeEnd":"10.0.0.3""#, "c"), "10.0.0.3/28");
    let full = add(r#""subnet":"10.0.0.0/28","rangeStart":"10.0.0.1","rangeEnd":"10.0.0.3""#, "d");
    assert!(full.starts_with("no address is left in 10.0.0.1-10.0.0.3"), "{full}");
    bench.del(&conf(r#""subnet":"10.7.0.0/28""#), "a net1");
    assert_eq!(add(r#""subnet":"10.0.0.0/28","rangeStart":"10.0.0.1","rangeEnd":"10.0.0.3""#, "d"), "10.0.0.1/28");
}

#[test]
fn a_deadline_ends_the_search() {
    let mut bench = Bench::new();
    let conf = conf(SMALL);
    bench.add(&conf, "a net1");
    let lock = Leases::open(bench.dir.path(), &bench.id(), Instant::now()).unwrap().unwrap();
    bench.millis = 50;
    let late = bench.with(&conf, "b net1", allocate).unwrap_err();
    assert!(matches!(&late, Error::Late(text) if text.contains("/leases")), "{late}");
    drop(lock);
    bench.millis = 0;
    assert!(matches!(bench.with(&conf, "b net1", allocate), Err(Error::Late(_))));
    assert_eq!(bench.leases(), ["10.0.0.2 a"]);
}

/// Quadratic work would not end within a test's patience.
#[test]
fn thousands_of_ranges_and_exclusions_are_passed() {
    let ranges: Vec<String> = (0..2000).map(|i| format!(r#"{{"subnet":"10.{}.{}.0/24"}}"#, i / 200, i % 200)).collect();
    let exclude: Vec<String> = (0..2000).map(|i| format!(r#""10.{}.{}.0/25""#, i / 200, i % 200)).collect();
    let many = format!(r#""ranges":[[{}]],"exclude":[{}]"#, ranges.join(","), exclude.join(","));
    let bench = Bench::new();
    assert_eq!(bench.add(&conf(&many), "a net1"), "10.0.0.128/24");
    assert_eq!(bench.add(&conf(&many), "b net1 IP=10.9.199.200"), "10.9.199.200/24");
    assert_eq!(bench.add(&conf(&many), "c net1"), "10.9.199.201/24");
    let twice = conf(&format!(r#""ranges":[[{}]]"#, vec![r#"{"subnet":"10.0.0.0/24"}"#; 2000].join(",")));
    assert_eq!(super::super::validate(&Object::parse(twice.as_bytes()).unwrap()).len(), 1999);
}
