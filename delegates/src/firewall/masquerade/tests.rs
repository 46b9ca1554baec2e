use std::time::Duration;

use super::*;
use crate::netns::testing::as_host;
use crate::nl::nft::testing::nft;

const CONTAINER: &str = "cnitool-f2ba5ef1b2d2d3f4a5b6";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn names(network: &str, container: &str, ifname: &str) -> (NetworkName, ContainerId, IfName) {
    (network.parse().unwrap(), container.parse().unwrap(), ifname.parse().unwrap())
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The transaction of the reference plugins for one attachment, as they hand it to `nft`.
fn reference(rules: &[(&str, &str, &str)], comment: &str) -> String {
    let hook = HOOK.name;
    let mut text = format!(
        "add table {TABLE} {{ comment \"{TABLE_COMMENT}\" ; }}
         add chain {TABLE} {RULES} {{ comment \"{RULES_COMMENT}\" ; }}
         add chain {TABLE} {hook} {{ type nat hook postrouting priority 100 ; }}
         flush chain {TABLE} {hook}
         add rule {TABLE} {hook} ip daddr == 224.0.0.0/4 return
         add rule {TABLE} {hook} ip6 daddr == ff00::/8 return
         add rule {TABLE} {hook} goto {RULES}\n"
    );
    for (family, source, subnet) in rules {
        text += &format!(
            "add rule {TABLE} {RULES} {family} saddr == {source} {family} daddr != {subnet} masquerade comment \"{comment}\"\n"
        );
    }
    text
}

#[test]
fn kernel_on_host_the_ruleset_is_the_reference_plugins_to_the_byte() {
    let (network, container, ifname) = names("mynet", CONTAINER, "eth0");
    let addresses = [
        ("ip", "10.1.2.3", "10.1.2.0/24"),
        ("ip", "10.1.2.3", "10.1.0.0/20"),
        ("ip", "10.1.2.3", "10.1.2.3/32"),
        ("ip", "10.9.2.3", "10.0.0.0/8"),
        ("ip", "10.9.2.3", "10.9.2.2/31"),
        ("ip6", "fd00::3", "fd00::/64"),
        ("ip6", "fd00::3", "fd00::/60"),
        ("ip6", "fd00::3", "fd00::3/128"),
    ];
    let ours = as_host(|| {
        let nets: Vec<IpNet> = addresses
            .iter()
            .map(|(_, ip, subnet)| format!("{ip}/{}", subnet.split_once('/').unwrap().1).parse().unwrap())
            .collect();
        add(&network, &container, &ifname, &nets, soon()).unwrap();
        nft(&["-a", "list", "ruleset"], "")
    });
    let theirs = as_host(|| {
        nft(&["-f", "-"], &reference(&addresses, &super::comment(&network, &container, &ifname)));
        nft(&["-a", "list", "ruleset"], "")
    });
    assert_eq!(ours, theirs);
    assert!(ours.contains("ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade"), "{ours}");
}

/// What `bridge` v1.9.1 leaves for network "mynet" with a static address of each family.
const OF_BRIDGE_1_9_1: &str = r#"table inet cni_plugins_masquerade {
	comment "Masquerading for plugins from github.com/containernetworking/plugins"
	chain masq_checks {
		comment "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
		ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment "d23676b4f2d9fe04-0f309d59866abdcd, net: mynet, if: eth0, id: cnitool-f2ba5ef1b2d2d3f4a5b6"
		ip6 saddr fd00::3 ip6 daddr != fd00::/64 masquerade comment "d23676b4f2d9fe04-0f309d59866abdcd, net: mynet, if: eth0, id: cnitool-f2ba5ef1b2d2d3f4a5b6"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip daddr 224.0.0.0/4 return
		ip6 daddr ff00::/8 return
		goto masq_checks
	}
}
"#;

#[test]
fn kernel_on_host_the_comment_is_the_reference_bridges() {
    as_host(|| {
        let (network, container, ifname) = names("mynet", CONTAINER, "eth0");
        add(&network, &container, &ifname, &nets(&["10.1.2.3/24", "fd00::3/64"]), soon()).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), OF_BRIDGE_1_9_1);
    });
}

#[test]
fn kernel_on_host_what_the_reference_bridge_left_is_checked_and_removed() {
    as_host(|| {
        let (network, container, ifname) = names("mynet", CONTAINER, "eth0");
        nft(&["-f", "-"], OF_BRIDGE_1_9_1);
        check(&network, &container, &ifname, &nets(&["10.1.2.3/24", "fd00::3/64"]), None, soon()).unwrap();
        remove(&network, &container, &ifname, None, soon()).unwrap();
        let left: Vec<&str> = OF_BRIDGE_1_9_1.lines().filter(|line| !line.contains("masquerade comment")).collect();
        assert_eq!(nft(&["list", "ruleset"], "").lines().collect::<Vec<_>>(), left);
    });
}

#[test]
fn kernel_on_host_an_attachment_loses_its_own_rules_and_the_table_stays() {
    as_host(|| {
        let (network, container, ifname) = names("net", CONTAINER, "eth0");
        let (_, other, _) = names("net", "other", "eth0");
        let addresses = nets(&["10.1.2.3/24", "fd00::3/64"]);
        add(&network, &container, &ifname, &addresses, soon()).unwrap();
        add(&network, &other, &ifname, &addresses, soon()).unwrap();
        check(&network, &container, &ifname, &addresses, None, soon()).unwrap();
        remove(&network, &container, &ifname, None, soon()).unwrap();
        remove(&network, &container, &ifname, None, soon()).unwrap();
        check(&network, &other, &ifname, &addresses, None, soon()).unwrap();
        let differs = check(&network, &container, &ifname, &addresses, None, soon()).unwrap_err();
        assert_eq!(
            differs.to_string(),
            "eth0: no masquerade rule for 10.1.2.3/24 in nftables table inet cni_plugins_masquerade"
        );
        remove(&network, &other, &ifname, None, soon()).unwrap();
        assert_eq!(nft(&["list", "ruleset"], "").matches("masquerade comment").count(), 0);
    });
}

#[test]
fn kernel_on_host_a_sweep_takes_the_rules_of_departed_containers_and_tells_of_strangers() {
    as_host(|| {
        // The comments of such names are cut within the id.
        let long = |name: &str| format!("{name}{}", "0".repeat(60));
        for name in ["living".to_owned(), "departed".to_owned(), "stranger".to_owned(), long("living"), long("dead")] {
            let (network, container, ifname) = names(&"n".repeat(40), &name, "eth0");
            add(&network, &container, &ifname, &nets(&["10.1.2.3/24", "fd00::3/64"]), soon()).unwrap();
        }
        let (other, container, ifname) = names("other", "departed", "eth0");
        add(&other, &container, &ifname, &nets(&["10.1.2.3/24"]), soon()).unwrap();
        let ids = |names: &[String]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<ContainerId>>();
        let living = ids(&["living".to_owned(), long("living")]).into_iter().collect();
        let departed = ids(&["departed".to_owned(), long("dead")]).into_iter().collect();
        let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
        let network = "n".repeat(40).parse().unwrap();
        let unknown = sweep(Some(&network), &ownership, soon()).unwrap();
        assert!(matches!(unknown.as_slice(), [one] if one.contains("id: stranger")), "{unknown:?}");
        let ruleset = nft(&["list", "ruleset"], "");
        let count = |text: &str| ruleset.matches(text).count();
        assert_eq!((count("id: living"), count("id: stranger"), count("id: dead")), (4, 2, 0), "{ruleset}");
        assert_eq!((count("id: departed"), count("net: other")), (1, 1), "another network's rules are not looked at");
        assert_eq!(sweep(Some(&network), &ownership, soon()).unwrap(), unknown);
    });
}

/// A note leads to the attachment's own rules or to none: then a listing finds them.
#[test]
fn kernel_on_host_rules_are_found_by_their_handles_as_long_as_these_are_theirs() {
    as_host(|| {
        let (network, container, ifname) = names("net", CONTAINER, "eth0");
        let (_, other, _) = names("net", "other", "eth0");
        let addresses = nets(&["10.1.2.3/24", "fd00::3/64"]);
        let added = add(&network, &container, &ifname, &addresses, soon()).unwrap();
        assert_eq!(added.len(), 2, "one for each address, and none of the table's own: {added:?}");
        let note = noted::note(&added);
        let saved = [&note];
        let remove = || remove(&network, &container, &ifname, Some(&saved), soon()).unwrap();
        let check = |container| check(&network, container, &ifname, &addresses, Some(&saved), soon());
        let own = || noted::own(TABLE, Some(&saved), &|rule| rule.chain == RULES, soon()).unwrap().unwrap().1.len();
        add(&network, &other, &ifname, &addresses, soon()).unwrap();
        assert_eq!(own(), 2, "of four rules, those of the note");
        check(&container).unwrap();
        remove();
        check(&other).unwrap();
        // In a table that was made anew the handles are another's.
        nft(&["delete", "table", "inet", TABLE.name], "");
        let again = add(&network, &other, &ifname, &addresses, soon()).unwrap();
        assert_eq!(again, added);
        remove();
        check(&other).unwrap();
        assert!(check(&container).is_err());
        // There ours have others too: as when somebody has saved and restored the ruleset.
        nft(&["delete", "table", "inet", TABLE.name], "");
        add(&network, &other, &ifname, &addresses, soon()).unwrap();
        add(&network, &container, &ifname, &addresses, soon()).unwrap();
        check(&container).unwrap();
        remove();
        assert_eq!(nft(&["list", "ruleset"], "").matches("masquerade comment").count(), 2);
        check(&other).unwrap();
    });
}

#[test]
fn kernel_on_host_nothing_to_remove_is_success() {
    as_host(|| {
        let (network, container, ifname) = names("net", CONTAINER, "eth0");
        remove(&network, &container, &ifname, None, soon()).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), "");
    });
}

/// The kernel of User Mode Linux lacks family inet and NAT.
#[test]
fn kernel_on_uml_without_nat_removing_succeeds_and_adding_fails() {
    as_host(|| {
        let (network, container, ifname) = names("net", CONTAINER, "eth0");
        remove(&network, &container, &ifname, None, soon()).unwrap();
        let error = add(&network, &container, &ifname, &nets(&["10.1.2.3/24"]), soon()).unwrap_err();
        assert_eq!(error.to_string(), "change nftables table inet cni_plugins_masquerade: Operation not supported");
    });
}

#[test]
fn kernel_on_host_the_hook_is_written_again_only_when_it_was_changed() {
    as_host(|| {
        let (network, container, ifname) = names("mynet", CONTAINER, "eth0");
        let addresses = nets(&["10.1.2.3/24", "fd00::3/64"]);
        let hook = || nft(&["-a", "list", "chain", "inet", TABLE.name, HOOK.name], "");
        add(&network, &container, &ifname, &addresses, soon()).unwrap();
        let (_, other, _) = names("mynet", "other", "eth0");
        let before = hook();
        add(&network, &other, &ifname, &addresses, soon()).unwrap();
        assert_eq!(hook(), before);
        remove(&network, &other, &ifname, None, soon()).unwrap();
        let hook = format!("{TABLE} {}", HOOK.name);
        for tampering in [format!("flush chain {hook}"), format!("insert rule {hook} return")] {
            nft(&["-f", "-"], &tampering);
            remove(&network, &container, &ifname, None, soon()).unwrap();
            add(&network, &container, &ifname, &addresses, soon()).unwrap();
            assert_eq!(nft(&["list", "ruleset"], ""), OF_BRIDGE_1_9_1);
        }
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fifty threads go where the test is")]
fn kernel_on_host_fifty_at_once_all_succeed() {
    as_host(|| {
        let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            for pod in 0..50u8 {
                let home = &home;
                scope.spawn(move || {
                    nix::sched::setns(home, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    let (network, container, ifname) = names("net", &format!("pod{pod}"), "eth0");
                    let addresses = nets(&[&format!("10.1.2.{pod}/24")]);
                    add(&network, &container, &ifname, &addresses, soon()).unwrap();
                    if pod % 2 == 0 {
                        remove(&network, &container, &ifname, None, soon()).unwrap();
                    }
                });
            }
        });
        let ruleset = nft(&["list", "ruleset"], "");
        assert_eq!(ruleset.matches("masquerade comment").count(), 25, "{ruleset}");
        assert_eq!(ruleset.matches("goto masq_checks").count(), 1);
    });
}

#[test]
fn a_long_comment_is_cut_where_the_reference_cuts_it() {
    let (network, container, ifname) = names(&"n".repeat(60), &"c".repeat(64), "eth0");
    let comment = comment(&network, &container, &ifname);
    assert_eq!(comment.len(), 128);
    assert!(comment.ends_with("if: eth0, id: cccccccccccc"), "{comment}");
}
