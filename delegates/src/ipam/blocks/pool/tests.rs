//! What a slot has, as values.

use attachments::cni::object::Object;
use attachments::finding::Finding;

use super::*;
use crate::networks::state::Slots;

fn pool(ipam: &str) -> Pool {
    Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap()
}

fn texts(pool: &Pool, slot: u32) -> Vec<String> {
    pool.addresses(slot).unwrap_or_default().iter().map(|one| one.address.to_string()).collect()
}

fn free(pool: &Pool) -> usize {
    (0..pool.capacity()).filter(|slot| pool.addresses(*slot).is_some()).count()
}

#[test]
fn a_slot_is_a_number_behind_the_subnets_first_address() {
    let pool = pool(r#"{"subnet":"10.42.0.0/24","gateway":"10.42.0.1","exclude":["10.42.0.16/30","10.42.0.9"]}"#);
    assert_eq!((pool.capacity(), pool.block_size()), (256, 64));
    assert_eq!(texts(&pool, 7), ["10.42.0.7/24"]);
    for hole in [0, 1, 9, 16, 19, 255, 256] {
        assert_eq!(pool.addresses(hole), None, "{hole}");
    }
    assert_eq!(pool.mac(7).unwrap().to_string(), "0a:58:0a:2a:00:07");
    assert_eq!(pool.slot_of("10.42.0.16".parse().unwrap()), Some(16));
    assert_eq!(pool.slot_of("10.43.0.16".parse().unwrap()), None);
    assert_eq!(free(&pool), 256 - 8);
}

#[test]
fn a_slot_has_one_address_of_each_set() {
    let pool = pool(
        r#"{"ranges":[[{"subnet":"10.1.0.0/30"},{"subnet":"10.2.0.0/30"}],[{"subnet":"fd00::/64","rangeStart":"fd00::10"}]]}"#,
    );
    assert_eq!(pool.capacity(), 8);
    assert_eq!(texts(&pool, 5), ["10.2.0.1/30", "fd00::15/64"]);
    assert_eq!(pool.slot_of("fd00::15".parse().unwrap()), Some(5));
    let v6 = self::pool(r#"{"subnet":"fd00::/64"}"#);
    assert_eq!((v6.capacity(), v6.mac(258).unwrap().to_string()), (MOST, "0a:59:00:00:01:02".to_owned()));
    assert_eq!((v6.addresses(0), texts(&v6, 1)), (None, vec!["fd00::1/64".to_owned()]));
}

#[test]
fn the_smallest_subnets_are_used_whole() {
    for (subnet, count) in [
        ("10.0.0.0/30", 2),
        ("10.0.0.0/31", 2),
        ("10.0.0.0/32", 1),
        ("fd00::/126", 3),
        ("fd00::/127", 2),
        ("fd00::/128", 1),
    ] {
        assert_eq!(free(&pool(&format!(r#"{{"subnet":"{subnet}"}}"#))), count, "{subnet}");
    }
}

#[test]
fn consecutive_slots_are_as_few_subnets_as_can_be() {
    let dual = pool(
        r#"{"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.250"},{"subnet":"10.2.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#,
    );
    let texts = |first, count| -> Vec<String> {
        dual.subnets_of(Slots { first, count }).iter().map(IpNet::to_string).collect()
    };
    assert_eq!(texts(0, 10), ["10.1.0.250/31", "10.1.0.252/30", "10.2.0.0/30", "fd00::/125", "fd00::8/127"]);
    // Behind the pool's end there is nothing.
    assert_eq!(texts(261, 64), ["10.2.0.255/32", "fd00::105/128"]);
    assert_eq!(texts(262, 64), Vec::<String>::new());
    let whole = pool(r#"{"subnet":"fd00::/64"}"#).subnets_of(Slots { first: 0, count: u32::MAX });
    assert_eq!(whole, ["fd00::/97".parse::<IpNet>().unwrap()]);
}

#[test]
fn a_pool_is_written_and_read_back() {
    let pool = pool(r#"{"subnet":"10.42.0.0/24","exclude":["10.42.0.9"],"blockSize":16}"#);
    let json = serde_json::to_string(&pool).unwrap();
    assert_eq!(serde_json::from_str::<Pool>(&json).unwrap(), pool);
}

#[test]
fn what_nobody_gets_is_skipped_in_one_step_however_much_it_is() {
    let pool = pool(r#"{"subnet":"fd00::/64","exclude":["fd00::/98","fd00::8000:5"],"gateway":"fd00::1"}"#);
    assert_eq!(pool.usable_from(0), Some(1 << 30));
    let pool = self::pool(r#"{"subnet":"10.0.0.0/8","exclude":["10.0.0.0/9","10.255.0.0/16"]}"#);
    let behind = u32::from_be_bytes([0, 128, 0, 0]);
    assert_eq!((pool.usable_from(7), pool.usable_from(behind + 9)), (Some(behind), Some(behind + 9)));
    assert_eq!(pool.usable_from(u32::from_be_bytes([0, 255, 0, 0])), None);
    let dual = self::pool(
        r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]],"exclude":["fd00::/125","10.0.0.8"]}"#,
    );
    assert_eq!((dual.usable_from(0), dual.usable_from(255)), (Some(9), None));
    for slot in 0..256 {
        let slow = (slot..256).find(|slot| dual.addresses(*slot).is_some());
        assert_eq!(dual.usable_from(slot), slow, "{slot}");
    }
}

#[test]
fn parts_of_one_subnet_may_be_ranges_and_the_gateway_is_in_none() {
    let text = r#"{"ranges":[[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9","gateway":"10.0.0.20"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.20","rangeEnd":"10.0.0.22"}]]}"#;
    let pool = pool(text);
    assert_eq!((pool.to_string(), pool.capacity()), ("10.0.0.0-10.0.0.9,10.0.0.20-10.0.0.22".to_owned(), 13));
    assert_eq!(
        (texts(&pool, 9), texts(&pool, 10), texts(&pool, 11)),
        (vec!["10.0.0.9/24".to_owned()], vec![], vec!["10.0.0.21/24".to_owned()])
    );
}

#[test]
fn another_definition_of_the_network_may_keep_more_addresses_and_number_none_otherwise() {
    let ours = pool(r#"{"subnet":"10.0.0.0/24","exclude":["10.0.0.8"]}"#);
    let theirs = pool(r#"{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","exclude":["10.0.0.9"]}"#);
    let both = ours.clone().restricted_by(&theirs).unwrap();
    assert!([1, 8, 9].iter().all(|slot| both.addresses(*slot).is_none()) && both.addresses(10).is_some());
    assert_eq!(both.addresses(10).unwrap()[0].gateway, None, "the result tells what its own definition says");
    for other in [r#"{"subnet":"10.0.0.0/25"}"#, r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.2"}"#] {
        assert_eq!(ours.clone().restricted_by(&pool(other)), None, "{other}");
    }
}

#[test]
fn every_wrong_key_is_named() {
    for (ipam, want) in [
        ("{}", "ipam.subnet: missing, want a subnet"),
        (r#"{"subnet":"10.0.0.0"}"#, "ipam.subnet: got \"10.0.0.0\", want a subnet with a prefix length"),
        (r#"{"subnet":"10.0.0.1/24"}"#, "ipam.subnet: got 10.0.0.1/24, want no host bits: 10.0.0.0/24"),
        (r#"{"subnet":"10.0.0.0/24","rangeStart":"10.1.0.0"}"#, "ipam.rangeStart: got 10.1.0.0, want an address in"),
        (r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"}"#, "ipam.rangeStart: got 10.0.0.9"),
        (r#"{"subnet":"10.0.0.0/24","exclude":["x"]}"#, "ipam.exclude[0]: got \"x\", want an IP address"),
        (r#"{"subnet":"10.0.0.0/24","blockSize":3}"#, "ipam.blockSize: got 3, want a power of two"),
        (
            r#"{"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/16"}]]}"#,
            "ipam.ranges[0][0]: 10.0.0.0/16 overlaps ipam.subnet (10.0.0.0/24)",
        ),
        (r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[]]}"#, "ipam.ranges[1]: got [], want at least one range"),
        (
            r#"{"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]}"#,
            "ipam.ranges[0][1]: got fd00::/64, want one address family in a set: 10.0.0.0/24 came first",
        ),
        (
            r#"{"subnet":"10.0.0.0/30","exclude":["10.0.0.0/24"]}"#,
            "ipam.subnet: got 10.0.0.0/30, want an address for pods beside",
        ),
        (r#"{"subnet":"10.0.0.0/31","gateway":"10.0.0.1","exclude":["10.0.0.0"]}"#, "ipam.subnet: got 10.0.0.0/31"),
    ] {
        let wrong = Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap_err();
        let texts: Vec<String> = wrong.iter().map(Finding::to_string).collect();
        assert!(matches!(texts.as_slice(), [one] if one.starts_with(want)), "{ipam}: {texts:?}");
    }
}

#[test]
fn what_somebody_may_get_is_counted_without_looking_at_each() {
    let all = |pool: &Pool| pool.usable(&[Slots { first: 0, count: pool.capacity() }]);
    for ipam in [
        r#"{"subnet":"10.42.0.0/24","gateway":"10.42.0.1","exclude":["10.42.0.16/30","10.42.0.9"]}"#,
        r#"{"ranges":[[{"subnet":"10.1.0.0/30"},{"subnet":"10.2.0.0/30"}],[{"subnet":"fd00::/64","rangeStart":"fd00::10"}]]}"#,
        r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]],"exclude":["fd00::/125","10.0.0.8","fd00::80/121"]}"#,
        r#"{"ranges":[[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9","gateway":"10.0.0.20"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.20"}]]}"#,
        r#"{"subnet":"10.0.0.0/31"}"#,
        r#"{"subnet":"fd00::/128"}"#,
    ] {
        let pool = pool(ipam);
        assert_eq!(all(&pool) as usize, free(&pool), "{ipam}");
        for first in 0..pool.capacity().min(40) {
            let run = Slots { first, count: 7 };
            let slow = run.iter().filter(|slot| pool.addresses(*slot).is_some()).count();
            assert_eq!(pool.usable(&[run]) as usize, slow, "{ipam} {run:?}");
        }
    }
    // Two thousand millions of them.
    let vast = pool(r#"{"subnet":"fd00::/64","exclude":["fd00::8000:0/98"],"gateway":"fd00::1"}"#);
    assert_eq!(all(&vast), MOST - 2);
    assert_eq!(vast.usable(&[Slots { first: 0, count: 3 }, Slots { first: u32::MAX, count: 9 }]), 1);
}
