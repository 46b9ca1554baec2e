//! The rules of port mappings, in the form of the reference plugin's nftables backend.
//!
//! Tables `ip cni_hostport` and `ip6 cni_hostport`, their chains, rules and comments are those of `portmap` v1.9.1, so that
//! it and ours undo each other. Only conditions stand elsewhere: in the rules of the container that they are for, and not
//! in the chains that all networks share. Tables and chains stay; the rules go with their container.

mod mapping;
mod plan;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::names::ContainerId;

pub use self::mapping::{Mapping, PortMappings, Protocol};
use self::plan::{
    FRAME, OWNED, Planned, TABLES, comment, frame, framework, is_framed, is_owned, is_present, owner_of, plan, rival,
    table_of,
};
use super::noted;
use super::table::{again_when_raced, open, require};
use super::unused::Frame;
use crate::error::{Error, Result};
use crate::nl::nft::{AddedRule, Nftables, Step, StoredRule, Table, is_missing};
use crate::ownership::{Owner, Ownership};

/// Who has a port that a mapping wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival<'a> {
    /// Rules of the same container, which another network of it has made.
    SamePod,
    /// Another container, by the comment of its rule.
    Container(&'a str),
}

/// The tables without attachments.
pub(super) fn frames() -> [Frame; 2] {
    plan::frames()
}

/// Tables with their rules.
type Held = Vec<(Table<'static>, Vec<StoredRule>)>;

/// The rules of both tables as they were at one moment.
pub struct Rules(Held);

impl Rules {
    /// There are none where the kernel has no nf_tables.
    pub fn present(deadline: Instant) -> Result<Self> {
        present(deadline).map(Self)
    }

    /// Which other container has a port that a mapping wants.
    pub fn owner(&self, mapping: &Mapping, container: &ContainerId) -> Option<&str> {
        let is_others = |rule: &StoredRule| rule.comment.as_deref() != Some(comment(container));
        self.0.iter().find_map(|(table, rules)| rival(mapping, *table, rules, is_others)).map(owner_of)
    }
}

/// Adds the rules for the pod's addresses, at most one of each family. All of them are there afterwards or none. A port that
/// somebody has is an error, in the words of `refuse`, which gets the mapping's place in the list. `is_default`: what is left of
/// the container's own default network is replaced. Gives the rules for [`noted::note`].
pub fn add(
    wanted: &PortMappings,
    container: &ContainerId,
    addresses: &[IpAddr],
    is_default: bool,
    refuse: &dyn Fn(usize, &Mapping, Rival<'_>) -> Error,
    deadline: Instant,
) -> Result<Vec<AddedRule>> {
    let comment = comment(container);
    let plans: Vec<_> = addresses.iter().map(|address| (table_of(*address), plan(wanted, *address, comment))).collect();
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        // Between this number and the commit nobody else takes a port.
        let generation = nftables.generation()?;
        let (mut changes, mut are_all_new) = (Vec::new(), true);
        for (table, planned) in &plans {
            let present = nftables.rules(*table)?;
            if let Some((i, mapping, rival)) = taken(wanted, (*table, planned), &present, comment, is_default) {
                return Err(refuse(i, mapping, rival));
            }
            let mut steps = framework(*table, &present, wanted.snat);
            let missing: Vec<_> =
                planned.iter().filter(|planned| !is_present(&planned.rule, *table, &present)).collect();
            are_all_new &= missing.len() == planned.len();
            steps.extend(missing.into_iter().map(|planned| Step::AddRule(planned.rule.clone())));
            changes.push((*table, steps));
        }
        let mut added = nftables.commit_at(generation, &changes)?;
        // Notes of some of the rules would hide the others from the DEL.
        added.retain(|rule| are_all_new && OWNED.contains(&rule.chain.as_str()));
        Ok(added)
    })
}

/// What both tables hold. Nothing where the kernel has no nf_tables.
fn present(deadline: Instant) -> Result<Held> {
    let Some(mut nftables) = open(deadline)? else { return Ok(Held::new()) };
    let mut present = Vec::new();
    for table in TABLES {
        match nftables.rules(table) {
            Err(error) if is_missing(&error) => {}
            rules => present.push((table, rules?)),
        }
    }
    Ok(present)
}

/// Is the rule a container's, by the comment of its rules?
fn is_of(rule: &StoredRule, comment: &str) -> bool {
    rule.comment.as_deref() == Some(comment) && is_owned(rule)
}

/// Removes every rule of a container but for those that `staying` states note; `saved` as for [`noted::own`]. Success when there are
/// none, no table, or a kernel without nf_tables.
pub fn remove(container: &ContainerId, saved: Option<&[&Object]>, staying: &[Object], deadline: Instant) -> Result<()> {
    let comment = comment(container);
    TABLES
        .map(|table| {
            again_when_raced(deadline, || {
                let is_own = |rule: &StoredRule| is_of(rule, comment) && !noted::has(staying, table, rule);
                let own = noted::own(table, saved, &is_own, deadline)?;
                let Some((mut nftables, rules)) = own.filter(|(_, rules)| !rules.is_empty()) else { return Ok(()) };
                let steps =
                    rules.iter().map(|rule| Step::DeleteRule { chain: &rule.chain, handle: rule.handle }).collect();
                nftables.commit(&[(table, steps)])
            })
        })
        .into_iter()
        .fold(Ok(()), Result::and)
}

/// Removes the rules of containers that are gone, and lists those of unknown containers: the tables are the node's, not a
/// network's.
pub fn sweep(ownership: &Ownership<'_>, deadline: Instant) -> Result<Vec<String>> {
    let owned = present(deadline)?.into_iter().flat_map(|(_, rules)| rules).filter(is_owned);
    let names: BTreeSet<String> = owned.filter_map(|rule| rule.comment).collect();
    let mut unknown = Vec::new();
    for name in names {
        // An id that fills the comment may be cut off; nobody has such long ones.
        match (ownership.owner_of(&name), name.parse()) {
            (Owner::Departed, Ok(container)) => remove(&container, None, &[], deadline)?,
            (Owner::Living, _) => {}
            _ => unknown.push(format!("port mappings of {name} in nftables")),
        }
    }
    Ok(unknown)
}

/// [`Error::Differs`] unless every rule is there.
pub fn check(
    wanted: &PortMappings,
    container: &ContainerId,
    addresses: &[IpAddr],
    saved: Option<&[&Object]>,
    deadline: Instant,
) -> Result<()> {
    let comment = comment(container);
    for address in addresses {
        let table = table_of(*address);
        let own = noted::own(table, saved, &|rule| is_of(rule, comment), deadline)?;
        let Some((mut nftables, mut present)) = own else { return status(deadline) };
        for chain in FRAME {
            present.extend(nftables.rules_of(table, chain)?);
        }
        let differs = |what: &str| Err(Error::Differs(format!("no {what} in nftables table {table}")));
        if !is_framed(table, &present) {
            return differs(&frame());
        }
        for planned in plan(wanted, *address, comment) {
            if !is_present(&planned.rule, table, &present) {
                return differs(&planned.what);
            }
        }
    }
    Ok(())
}

/// [`Error::NotReady`] when the kernel lacks what the rules need.
pub fn status(deadline: Instant) -> Result<()> {
    require(TABLES[0], "portmap: this kernel has no nf_tables for IPv4", deadline)
}

/// The first mapping whose port somebody has, and who. A port that another container has would go on leading there: the
/// first rule decides. So would one that another network of the container has; what is left of the container's own default
/// network is replaced as ever.
fn taken<'a>(
    wanted: &'a PortMappings,
    (table, planned): (Table<'_>, &[Planned<'_>]),
    present: &'a [StoredRule],
    comment: &str,
    is_default: bool,
) -> Option<(usize, &'a Mapping, Rival<'a>)> {
    let is_planned =
        |rule: &StoredRule| planned.iter().any(|planned| rule.does_as(&StoredRule::of(table.family, &planned.rule)));
    let is_own = |rule: &StoredRule| rule.comment.as_deref() == Some(comment);
    let is_rivals = |rule: &StoredRule| !is_own(rule) || !(is_default || is_planned(rule));
    wanted.mappings.iter().enumerate().find_map(|(i, mapping)| {
        let rule = rival(mapping, table, present, is_rivals)?;
        let rival = if is_own(rule) { Rival::SamePod } else { Rival::Container(owner_of(rule)) };
        Some((i, mapping, rival))
    })
}

/// The UDP connections to mapped ports of the pod's families are forgotten: their packets would go on to where the first one
/// went, whatever the rules say now. New connections work all the same, and old ones end by their timeout: nothing that fails
/// here is an error.
pub fn forget_udp(wanted: &PortMappings, addresses: &[IpAddr], deadline: Instant) {
    for is_ipv4 in addresses.iter().map(IpAddr::is_ipv4) {
        let udp = wanted.mappings.iter().filter(|m| m.protocol == Protocol::Udp && m.is_for(is_ipv4));
        let ports: Vec<u16> = udp.map(|mapping| mapping.host_port).collect();
        if !ports.is_empty() {
            let _ = Nftables::open(deadline).and_then(|mut nftables| nftables.forget_udp(is_ipv4, &ports));
        }
    }
}
