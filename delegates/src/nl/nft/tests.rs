use std::net::UdpSocket;

use super::testing::nft;
use super::*;
use crate::netns::testing::as_host;
use crate::nl::Netlink;
use crate::nl::link::LinkChange;

const TABLE: Table<'_> = Table { family: Family::Inet, name: "meta_cni_test" };
const MEMBERS: Set<'_> = Set { name: "members", key: Key::Ipv4, timeouts: false };
const MEMBERS6: Set<'_> = Set { name: "members6", key: Key::Ipv6, timeouts: true };

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn chain(name: &str, hook: Hook, policy: Option<Policy>) -> Step<'_> {
    Step::AddBaseChain(BaseChain { name, kind: ChainType::Filter, hook, priority: priority::FILTER, policy })
}

fn element(address: &str, seconds: Option<u64>) -> Element {
    Element { address: address.parse().unwrap(), timeout: seconds.map(Duration::from_secs) }
}

fn in_set(set: Set<'_>, negated: bool) -> Condition {
    Condition::SourceInSet { set: set.name.to_owned(), key: set.key, negated }
}

fn udp(port: u16) -> Condition {
    Condition::DestinationPort(libc::IPPROTO_UDP as u8, port)
}

/// What `nft` makes of the steps below.
const LISTED: &str = r#"table inet meta_cni_test {
	set members {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}

	set members6 {
		type ipv6_addr
		flags timeout
		elements = { 2001:db8::1 timeout 1h }
	}

	chain guard {
		udp dport 4789 ip saddr @members accept
		udp dport 4789 ip6 saddr != @members6 drop comment "not a member"
		ip daddr @members return
	}

	chain input {
		type filter hook input priority filter; policy drop;
		jump guard
		goto guard
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		accept
	}
}
"#;

#[test]
fn kernel_on_host_sets_hooks_and_verdicts_are_what_nft_reads() {
    as_host(|| {
        let members = [element("192.0.2.1", None), element("192.0.2.2", None)];
        let members6 = [element("2001:db8::1", Some(3600))];
        let to_member = Condition::DestinationInSet { set: MEMBERS.name.to_owned(), key: MEMBERS.key, negated: false };
        let rules = [
            Rule::new("guard", [udp(4789), in_set(MEMBERS, false)], Action::Accept),
            Rule { comment: "not a member", ..Rule::new("guard", [udp(4789), in_set(MEMBERS6, true)], Action::Drop) },
            Rule::new("guard", [to_member], Action::Return),
            Rule::new("input", [], Action::Jump("guard")),
            Rule::new("input", [], Action::Goto("guard")),
            Rule::new("forward", [], Action::Accept),
        ];
        let steps = || {
            let mut steps = vec![
                Step::AddTable { comment: "" },
                Step::AddSet(MEMBERS),
                Step::AddSet(MEMBERS6),
                Step::AddElements { set: MEMBERS.name, elements: &members },
                Step::AddElements { set: MEMBERS6.name, elements: &members6 },
                Step::AddChain { chain: "guard", comment: "" },
                chain("input", Hook::Input, Some(Policy::Drop)),
                chain("forward", Hook::Forward, None),
            ];
            steps.extend(["guard", "input", "forward"].map(|chain| Step::Flush { chain }));
            steps.extend(rules.iter().cloned().map(Step::AddRule));
            vec![(TABLE, steps)]
        };
        let mut nftables = Nftables::open(soon()).unwrap();
        // What is there already is no error, and stays.
        for _ in 0..2 {
            nftables.commit(&steps()).unwrap();
            let listed = nft(&["list", "ruleset"], "");
            // How long the element stays yet is another text each time.
            let (before, after) = listed.split_once(" expires ").unwrap();
            assert_eq!(format!("{before}{}", &after[after.find(" }").unwrap()..]), LISTED);
            let stored = nftables.rules(TABLE).unwrap();
            let same = |rule: &Rule<'_>| {
                let expected = StoredRule::of(TABLE.family, rule);
                stored.iter().filter(|stored| stored.chain == rule.chain && stored.does_as(&expected)).count()
            };
            assert_eq!(rules.iter().map(same).collect::<Vec<_>>(), [1; 6]);
        }
        nftables.commit(&[(TABLE, vec![Step::DeleteTable])]).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), "");
    });
}

#[test]
fn kernel_on_host_elements_come_and_go_by_themselves_or_by_hand() {
    as_host(|| {
        let mut nftables = Nftables::open(soon()).unwrap();
        assert_eq!(nftables.elements(TABLE, MEMBERS.name).unwrap(), None);
        let many: Vec<Element> =
            (0..1000u32).map(|host| Element::from(std::net::IpAddr::V4((0x0a00_0001 + host).into()))).collect();
        let brief = Element { timeout: Some(Duration::from_millis(50)), ..element("2001:db8::1", None) };
        let forever = element("2001:db8::2", None);
        let (few, addresses) = ([brief, forever], [many[0].address, many[999].address]);
        let mut commit = |steps| nftables.commit(&[(TABLE, steps)]);
        commit(vec![
            Step::AddTable { comment: "" },
            Step::AddSet(MEMBERS),
            Step::AddSet(MEMBERS6),
            Step::AddElements { set: MEMBERS.name, elements: &many },
            Step::AddElements { set: MEMBERS6.name, elements: &few },
        ])
        .unwrap();
        commit(vec![Step::DeleteElements { set: MEMBERS.name, addresses: &addresses }]).unwrap();
        let gone = commit(vec![Step::DeleteElements { set: MEMBERS.name, addresses: &addresses }]).unwrap_err();
        assert_eq!(crate::nl::errno(&gone), Some(Errno::ENOENT));
        let mut left = nftables.elements(TABLE, MEMBERS.name).unwrap().unwrap();
        left.sort_unstable();
        assert_eq!(left, many[1..999]);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(nftables.elements(TABLE, MEMBERS6.name).unwrap().unwrap(), [forever]);
        let mut commit = |steps| nftables.commit(&[(TABLE, steps)]);
        commit(vec![Step::FlushSet { set: MEMBERS.name }, Step::DeleteSet { set: MEMBERS6.name }]).unwrap();
        assert_eq!(nftables.elements(TABLE, MEMBERS.name).unwrap(), Some(Vec::new()));
        assert_eq!(nftables.elements(TABLE, MEMBERS6.name).unwrap(), None);
    });
}

#[test]
fn kernel_on_host_a_port_takes_packets_from_the_addresses_of_a_set_alone() {
    as_host(|| {
        let mut netlink = Netlink::open(soon()).unwrap();
        netlink.set_link(1, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let member = [element("127.0.0.2", None)];
        let mut nftables = Nftables::open(soon()).unwrap();
        let steps = vec![
            Step::AddTable { comment: "" },
            Step::AddSet(MEMBERS),
            Step::AddElements { set: MEMBERS.name, elements: &member },
            chain("input", Hook::Input, Some(Policy::Accept)),
            Step::AddRule(Rule::new("input", [udp(4789), in_set(MEMBERS, true)], Action::Drop)),
        ];
        nftables.commit(&[(TABLE, steps)]).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:4789").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let passes = |from: &str| {
            UdpSocket::bind((from, 0)).unwrap().send_to(b"frame", "127.0.0.1:4789").unwrap();
            receiver.recv(&mut [0; 16]).is_ok()
        };
        assert!(passes("127.0.0.2") && !passes("127.0.0.3"));
        let joined = [element("127.0.0.3", None)];
        let left = [member[0].address];
        let changes = vec![
            Step::AddElements { set: MEMBERS.name, elements: &joined },
            Step::DeleteElements { set: MEMBERS.name, addresses: &left },
        ];
        nftables.commit(&[(TABLE, changes)]).unwrap();
        assert!(!passes("127.0.0.2") && passes("127.0.0.3"));
    });
}
