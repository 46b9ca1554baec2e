//! ipMasq: source NAT for what leaves a pod's subnet, in the nftables form of the reference plugins.
//!
//! Table, chains, rules and comments are those of `cni_plugins_masquerade` (containernetworking/plugins), so that their
//! `bridge` with `ipMasqBackend: nftables` and ours undo each other. The table and its chains stay, as theirs do; the
//! rules go with their attachment. Everything happens in the thread's current namespace, the host's.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::names::{ContainerId, IfName, NetworkName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha512};

use super::noted;
use super::table::{again_when_raced, leads, present, require};
use super::unused::Frame;
use crate::error::{Error, Result};
use crate::nl::nft::{
    Action, AddedRule, BaseChain, ChainType, Condition, Family, Hook, Nftables, Rule, Step, StoredRule, Table, priority,
};
use crate::ownership::{Owner, Ownership};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "cni_plugins_masquerade" };
const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const RULES: &str = "masq_checks";
const RULES_COMMENT: &str = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
const HOOK: BaseChain<'_> = BaseChain {
    name: "postrouting",
    kind: ChainType::Nat,
    hook: Hook::Postrouting,
    priority: priority::SRCNAT,
    policy: None,
};
const MULTICAST: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];
/// Longest comment that the reference plugins write.
const COMMENT_MAX: usize = 128;

/// Masquerades traffic from each address of an attachment to outside its subnet. Gives the rules for [`noted::note`].
pub fn add(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    addresses: &[IpNet],
    deadline: Instant,
) -> Result<Vec<AddedRule>> {
    let comment = comment(network, container, ifname);
    let rules = rules(addresses, &comment);
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        let mut steps = Vec::new();
        if !is_hooked(&nftables.rules_of(TABLE, HOOK.name)?) {
            steps.extend([
                Step::AddTable { comment: TABLE_COMMENT },
                Step::AddChain { chain: RULES, comment: RULES_COMMENT },
                Step::AddBaseChain(HOOK),
                Step::Flush { chain: HOOK.name },
            ]);
            steps.extend(hook().map(Step::AddRule));
        }
        steps.extend(rules.iter().cloned().map(Step::AddRule));
        let mut added = nftables.commit_telling(&[(TABLE, steps)])?;
        added.retain(|rule| rule.chain == RULES);
        Ok(added)
    })
}

/// Removes the attachment's rules; `saved` as for [`noted::own`]. Success when there are none, no table, or a kernel without
/// nf_tables.
pub fn remove(
    network: &NetworkName,
    container: &ContainerId,
    ifname: &IfName,
    saved: Option<&[&Object]>,
    deadline: Instant,
) -> Result<()> {
    let mark = mark(network, container, ifname);
    again_when_raced(deadline, || {
        let own = noted::own(TABLE, saved, &|rule| belongs(rule, &mark), deadline)?;
        let Some((mut nftables, rules)) = own.filter(|(_, rules)| !rules.is_empty()) else { return Ok(()) };
        let steps = rules.iter().map(|rule| Step::DeleteRule { chain: RULES, handle: rule.handle }).collect();
        nftables.commit(&[(TABLE, steps)])
    })
}

/// Removes the rules of containers that are gone, those of one network or all, and lists those of unknown containers.
pub fn sweep(network: Option<&NetworkName>, ownership: &Ownership<'_>, deadline: Instant) -> Result<Vec<String>> {
    let of_network = network.map_or_else(String::new, |network| format!("{}-", short_hash(network.as_str())));
    let mut unknown = Vec::new();
    again_when_raced(deadline, || {
        unknown.clear();
        let Some((mut nftables, present)) = present(TABLE, deadline)? else { return Ok(()) };
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
    saved: Option<&[&Object]>,
    deadline: Instant,
) -> Result<()> {
    let mark = mark(network, container, ifname);
    let own = noted::own(TABLE, saved, &|rule| belongs(rule, &mark), deadline)?;
    let Some((mut nftables, rules)) = own else { return status(deadline) };
    if !addresses.is_empty() && !is_hooked(&nftables.rules_of(TABLE, HOOK.name)?) {
        return Err(Error::Differs(format!(
            "{ifname}: {} does not lead to {RULES} in nftables table {TABLE}",
            HOOK.name
        )));
    }
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
    require(TABLE, "ipMasq: this kernel has no nf_tables for IPv4 and IPv6", deadline)
}

/// The rules of the base chain: the same for all attachments.
fn hook() -> [Rule<'static>; 3] {
    let [v4, v6] = MULTICAST.map(|net| Rule::new(HOOK.name, [Condition::DestinationIn(net)], Action::Return));
    [v4, v6, Rule::new(HOOK.name, [], Action::Goto(RULES))]
}

/// The rules of an attachment, one for each of its addresses.
fn rules<'a>(addresses: &[IpNet], comment: &'a str) -> Vec<Rule<'a>> {
    let rule = |net: &IpNet| {
        let conditions = [Condition::SourceIn(IpNet::from(net.addr())), Condition::DestinationNotIn(net.trunc())];
        Rule { comment, ..Rule::new(RULES, conditions, Action::Masquerade) }
    };
    addresses.iter().map(rule).collect()
}

/// The table without attachments.
pub(super) fn frame() -> Frame {
    let is_bare = |rules: &[StoredRule]| is_hooked(rules) && rules.iter().all(|rule| rule.chain == HOOK.name);
    Frame { table: TABLE, chains: Some(&[HOOK.name, RULES]), is_bare }
}

fn is_hooked(present: &[StoredRule]) -> bool {
    leads(TABLE.family, HOOK.name, present, &hook())
}

fn belongs(rule: &StoredRule, mark: &str) -> bool {
    rule.chain == RULES && rule.comment.as_deref().is_some_and(|comment| comment.starts_with(mark))
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
