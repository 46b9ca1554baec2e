//! ipMasq: source NAT for what leaves a pod's subnet, in the nftables form of the reference plugins.
//!
//! Table, chains, rules and comments are those of `cni_plugins_masquerade` (containernetworking/plugins), so that their
//! `bridge` with `ipMasqBackend: nftables` and ours undo each other. The table and its chains stay, as theirs do; the
//! rules go with their attachment. Everything happens in the thread's current namespace, the host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use attachments::names::{ContainerId, IfName, NetworkName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha512};

use crate::error::{Error, Result};
use crate::nl::nft::{self, Action, Condition, Family, Hook, Nftables, Step, StoredRule, Table, again_when_raced};
use crate::ownership::{Owner, Ownership};

const TABLE: Table = Table { family: Family::Inet, name: "cni_plugins_masquerade" };
const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const RULES: &str = "masq_checks";
const RULES_COMMENT: &str = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
const HOOK: &str = "postrouting";
const MULTICAST: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];
/// Longest comment that the reference plugins write.
const COMMENT_MAX: usize = 128;

/// Masquerades traffic from each address of an attachment to outside its subnet; what an earlier ADD left is replaced.
pub fn add(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    addresses: &[IpNet],
    deadline: Instant,
) -> Result<()> {
    let comment = comment(network, container, ifname);
    let conditions: Vec<[Condition; 2]> = addresses
        .iter()
        .map(|net| [Condition::SourceIn(IpNet::from(net.addr())), Condition::DestinationNotIn(net.trunc())])
        .collect();
    let mark = mark(network, container, ifname);
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        let present = nftables.rules(TABLE)?;
        let multicast = MULTICAST.map(|net| [Condition::DestinationIn(net)]);
        let mut steps = Vec::new();
        if !is_hooked(&present) {
            steps.extend([
                Step::AddTable { comment: TABLE_COMMENT },
                Step::AddChain { chain: RULES, comment: RULES_COMMENT },
                Step::AddNatChain { chain: HOOK, hook: Hook::Postrouting },
                Step::Flush { chain: HOOK },
            ]);
            for conditions in &multicast {
                steps.push(Step::AddRule { chain: HOOK, conditions, action: Action::Return, comment: "" });
            }
            steps.push(Step::AddRule { chain: HOOK, conditions: &[], action: Action::Goto(RULES), comment: "" });
        }
        steps.extend(deletions(&present, &mark));
        for conditions in &conditions {
            let action = Action::Masquerade;
            steps.push(Step::AddRule { chain: RULES, conditions, action, comment: &comment });
        }
        nftables.commit(&[(TABLE, steps)])
    })
}

/// Removes the attachment's rules. Success when there are none, no table, or a kernel without nf_tables.
pub fn remove(network: &NetworkName, container: &ContainerId, ifname: &IfName, deadline: Instant) -> Result<()> {
    let mark = mark(network, container, ifname);
    again_when_raced(deadline, || {
        let listed = Nftables::open(deadline).and_then(|mut nftables| Ok((nftables.rules(TABLE)?, nftables)));
        let (present, mut nftables) = match listed {
            Err(error) if nft::is_missing(&error) => return Ok(()),
            other => other?,
        };
        let steps: Vec<_> = deletions(&present, &mark).collect();
        if steps.is_empty() { Ok(()) } else { nftables.commit(&[(TABLE, steps)]) }
    })
}

/// Removes the rules of containers that are gone, those of one network or all, and tells of those of unknown.
pub fn sweep(network: Option<&NetworkName>, ownership: &Ownership<'_>, deadline: Instant) -> Result<Vec<String>> {
    let of_network = network.map_or_else(String::new, |network| format!("{}-", short_hash(network.as_str())));
    let mut unknown = Vec::new();
    again_when_raced(deadline, || {
        unknown.clear();
        let listed = Nftables::open(deadline).and_then(|mut nftables| Ok((nftables.rules(TABLE)?, nftables)));
        let (present, mut nftables) = match listed {
            Err(error) if nft::is_missing(&error) => return Ok(()),
            other => other?,
        };
        let mut steps = Vec::new();
        for rule in present.iter().filter(|rule| belongs(rule, &of_network)) {
            let comment = rule.comment.as_deref().unwrap_or_default();
            match owner(comment, ownership) {
                Owner::Living => {}
                Owner::Departed => steps.push(Step::DeleteRule { chain: RULES, handle: rule.handle }),
                Owner::Unknown => unknown.push(format!("masquerade rule {comment:?} in nftables table {TABLE}")),
            }
        }
        if steps.is_empty() { Ok(()) } else { nftables.commit(&[(TABLE, steps)]) }
    })?;
    // An attachment has a rule for each of its addresses.
    unknown.dedup();
    Ok(unknown)
}

/// Whose rule it is. The kernel keeps 128 bytes of a comment: where the id is cut off, the mark tells it from others that
/// begin alike.
fn owner(comment: &str, ownership: &Ownership<'_>) -> Owner {
    let parts = comment.split_once(", net: ").and_then(|(mark, rest)| {
        let (rest, id) = rest.rsplit_once(", id: ")?;
        let (_, ifname) = rest.rsplit_once(", if: ")?;
        Some((mark.split_once('-')?.1, ifname, id))
    });
    let Some((hash, ifname, id)) = parts else { return Owner::Unknown };
    if comment.len() < COMMENT_MAX {
        return ownership.owner_of(id);
    }
    let is_it = |container: &&ContainerId| {
        container.as_str().starts_with(id) && short_hash(&format!("{ifname}:{container}")) == hash
    };
    ownership.containers().find(is_it).map_or(Owner::Unknown, |container| ownership.owner(container))
}

/// [`Error::Differs`] unless every address has its rule.
pub fn check(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    addresses: &[IpNet],
    deadline: Instant,
) -> Result<()> {
    let mark = mark(network, container, ifname);
    let mut rules = Nftables::open(deadline)?.rules(TABLE)?;
    if !addresses.is_empty() && !is_hooked(&rules) {
        return Err(Error::Differs(format!("{ifname}: {HOOK} does not lead to {RULES} in nftables table {TABLE}")));
    }
    rules.retain(|rule| belongs(rule, &mark));
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    match addresses
        .iter()
        .find(|net| !rules.iter().any(|rule| rule.tests.iter().any(|test| test.value == octets(net.addr()))))
    {
        None => Ok(()),
        Some(net) => Err(Error::Differs(format!("{ifname}: no masquerade rule for {net} in nftables table {TABLE}"))),
    }
}

/// STATUS: the kernel has nf_tables.
pub fn status(deadline: Instant) -> Result<()> {
    nft::require(TABLE, "ipMasq: this kernel has no nf_tables for IPv4 and IPv6", deadline)
}

/// Does the hook lead to our chain, exactly as we would write it? To write it again would delete rules, and a deletion
/// waits for the kernel's readers: 10 ms and more.
fn is_hooked(present: &[StoredRule]) -> bool {
    let rule = |conditions: &[Condition], action| StoredRule::of(TABLE.family, conditions, action);
    let [v4, v6] = MULTICAST.map(|net| rule(&[Condition::DestinationIn(net)], Action::Return));
    let expected = [v4, v6, rule(&[], Action::Goto(RULES))];
    let hooked: Vec<_> = present.iter().filter(|rule| rule.chain == HOOK).collect();
    hooked.len() == expected.len() && hooked.iter().zip(&expected).all(|(rule, expected)| rule.does_as(expected))
}

fn belongs(rule: &StoredRule, mark: &str) -> bool {
    rule.chain == RULES && rule.comment.as_deref().is_some_and(|comment| comment.starts_with(mark))
}

fn deletions<'a>(present: &'a [StoredRule], mark: &'a str) -> impl Iterator<Item = Step<'a>> {
    let own = present.iter().filter(move |rule| belongs(rule, mark));
    own.map(|rule| Step::DeleteRule { chain: RULES, handle: rule.handle })
}

/// What the comment of an attachment's rules begins with, and no other's.
fn mark(network: &NetworkName, container: &ContainerId, ifname: &IfName) -> String {
    format!("{}-{}", short_hash(network.as_str()), short_hash(&format!("{ifname}:{container}")))
}

fn comment(network: &NetworkName, container: &ContainerId, ifname: &IfName) -> String {
    let mark = mark(network, container, ifname);
    let mut text = format!("{mark}, net: {network}, if: {ifname}, id: {container}").replace('"', "");
    // A name in UTF-8 may straddle the limit.
    while text.len() > COMMENT_MAX {
        text.pop();
    }
    text
}

/// The first 16 hex digits of SHA-512.
fn short_hash(text: &str) -> String {
    Sha512::digest(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "`nft` is the judge of what we wrote")]

    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::netns::testing::as_host;

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

    fn nft(arguments: &[&str], input: &str) -> String {
        let mut child =
            Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "nft {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The transaction of the reference plugins for one attachment, as they hand it to `nft`.
    fn reference(rules: &[(&str, &str, &str)], comment: &str) -> String {
        let mut text = format!(
            "add table {TABLE} {{ comment \"{TABLE_COMMENT}\" ; }}
             add chain {TABLE} {RULES} {{ comment \"{RULES_COMMENT}\" ; }}
             add chain {TABLE} {HOOK} {{ type nat hook postrouting priority 100 ; }}
             flush chain {TABLE} {HOOK}
             add rule {TABLE} {HOOK} ip daddr == 224.0.0.0/4 return
             add rule {TABLE} {HOOK} ip6 daddr == ff00::/8 return
             add rule {TABLE} {HOOK} goto {RULES}\n"
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
            check(&network, &container, &ifname, &nets(&["10.1.2.3/24", "fd00::3/64"]), soon()).unwrap();
            remove(&network, &container, &ifname, soon()).unwrap();
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
            let both = nft(&["list", "ruleset"], "");
            add(&network, &container, &ifname, &addresses, soon()).unwrap();
            let again = nft(&["list", "ruleset"], "");
            assert_eq!(both.lines().count(), again.lines().count());
            check(&network, &container, &ifname, &addresses, soon()).unwrap();
            remove(&network, &container, &ifname, soon()).unwrap();
            remove(&network, &container, &ifname, soon()).unwrap();
            check(&network, &other, &ifname, &addresses, soon()).unwrap();
            let differs = check(&network, &container, &ifname, &addresses, soon()).unwrap_err();
            assert_eq!(
                differs.to_string(),
                "eth0: no masquerade rule for 10.1.2.3/24 in nftables table inet cni_plugins_masquerade"
            );
            remove(&network, &other, &ifname, soon()).unwrap();
            assert_eq!(nft(&["list", "ruleset"], "").matches("masquerade comment").count(), 0);
        });
    }

    #[test]
    fn kernel_on_host_a_sweep_takes_the_rules_of_departed_containers_and_tells_of_strangers() {
        as_host(|| {
            // The comments of such names are cut within the id.
            let long = |name: &str| format!("{name}{}", "0".repeat(60));
            for name in
                ["living".to_owned(), "departed".to_owned(), "stranger".to_owned(), long("living"), long("dead")]
            {
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
            assert_eq!(
                (count("id: departed"), count("net: other")),
                (1, 1),
                "another network's rules are not looked at"
            );
            assert_eq!(sweep(Some(&network), &ownership, soon()).unwrap(), unknown);
        });
    }

    #[test]
    fn kernel_on_host_nothing_to_remove_is_success() {
        as_host(|| {
            let (network, container, ifname) = names("net", CONTAINER, "eth0");
            remove(&network, &container, &ifname, soon()).unwrap();
            assert_eq!(nft(&["list", "ruleset"], ""), "");
        });
    }

    /// The kernel of User Mode Linux lacks family inet and NAT.
    #[test]
    fn kernel_on_uml_without_nat_removing_succeeds_and_adding_fails() {
        as_host(|| {
            let (network, container, ifname) = names("net", CONTAINER, "eth0");
            remove(&network, &container, &ifname, soon()).unwrap();
            let error = add(&network, &container, &ifname, &nets(&["10.1.2.3/24"]), soon()).unwrap_err();
            assert_eq!(error.to_string(), "change nftables table inet cni_plugins_masquerade: Operation not supported");
        });
    }

    #[test]
    fn kernel_on_host_the_hook_is_written_again_only_when_it_was_changed() {
        as_host(|| {
            let (network, container, ifname) = names("mynet", CONTAINER, "eth0");
            let addresses = nets(&["10.1.2.3/24", "fd00::3/64"]);
            let hook = || nft(&["-a", "list", "chain", "inet", TABLE.name, HOOK], "");
            add(&network, &container, &ifname, &addresses, soon()).unwrap();
            let (_, other, _) = names("mynet", "other", "eth0");
            let before = hook();
            add(&network, &other, &ifname, &addresses, soon()).unwrap();
            assert_eq!(hook(), before);
            remove(&network, &other, &ifname, soon()).unwrap();
            let hook = format!("{TABLE} {HOOK}");
            for tampering in [format!("flush chain {hook}"), format!("insert rule {hook} return")] {
                nft(&["-f", "-"], &tampering);
                add(&network, &container, &ifname, &addresses, soon()).unwrap();
                assert_eq!(nft(&["list", "ruleset"], ""), OF_BRIDGE_1_9_1);
            }
        });
    }

    #[test]
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
                            remove(&network, &container, &ifname, soon()).unwrap();
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
}
