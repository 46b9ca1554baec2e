//! The rules of port mappings, in the form of the reference plugin's nftables backend.
//!
//! Tables `ip cni_hostport` and `ip6 cni_hostport`, their chains, rules and comments are those of `portmap` v1.9.1, so that
//! it and ours undo each other. Only conditions stand elsewhere: in the rules of the container that they are for, and not
//! in the chains that all networks share. Tables and chains stay; the rules go with their container.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use attachments::names::ContainerId;
use ipnet::IpNet;
use nix::libc;

use super::config::{Config, Mapping, Protocol};
use super::host_ports::{Holder, refused};
use crate::error::{Error, Result};
use crate::nl::nft::{
    self, Action, Condition, Family, Field, Hook, Nftables, Step, StoredRule, Table, again_when_raced,
};
use crate::ownership::{Owner, Ownership};

const NAME: &str = "cni_hostport";
const TABLES: [Table; 2] = [Table { family: Family::Ip, name: NAME }, Table { family: Family::Ip6, name: NAME }];
const COMMENT: &str = "CNI portmap plugin";
const PORTS: &str = "hostports";
/// Rules with a host address were here before v1.6 of the reference plugin; it still makes the chain and cleans it.
const OLD_PORTS: &str = "hostip_hostports";
const ALL_PORTS: &str = "hostports_all";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const MASQUERADING: &str = "masquerading";

/// The chains whose rules are containers'.
const OWNED: [&str; 3] = [PORTS, OLD_PORTS, MASQUERADING];

/// Bytes of a comment that the kernel keeps.
const COMMENT_MAX: usize = 254;

/// A rule of a container, before it is in the kernel.
#[derive(Clone, Debug, PartialEq)]
struct Planned {
    chain: &'static str,
    conditions: Vec<Condition>,
    action: Action<'static>,
    /// What it is for, in words.
    what: String,
}

/// Tables with their rules.
type Held = Vec<(Table, Vec<StoredRule>)>;

/// The rules of both tables as they were at one moment.
pub(super) struct Rules(Held);

impl Rules {
    /// There are none where the kernel has no nf_tables.
    pub fn present(deadline: Instant) -> Result<Self> {
        Ok(Self(present(deadline)?.map(|(_, rules)| rules).unwrap_or_default()))
    }

    /// Which other container has a port that a mapping wants.
    pub fn owner(&self, mapping: &Mapping, container: &ContainerId) -> Option<&str> {
        let is_others = |rule: &StoredRule| rule.comment.as_deref() != Some(comment(container));
        self.0.iter().find_map(|(table, rules)| rival(mapping, *table, rules, is_others)).map(owner_of)
    }
}

/// Adds the rules for the pod's addresses, at most one of each family. All of them are there afterwards or none.
pub(super) fn add(
    config: &Config,
    container: &ContainerId,
    addresses: &[IpAddr],
    is_default: bool,
    deadline: Instant,
) -> Result<()> {
    let plans: Vec<_> = addresses.iter().map(|address| (table_of(*address), plan(config, *address))).collect();
    let comment = comment(container);
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        // Between this number and the commit nobody else takes a port.
        let generation = nftables.generation()?;
        let mut changes = Vec::new();
        for (table, planned) in &plans {
            let present = nftables.rules(*table)?;
            refuse_taken(config, (*table, planned), &present, comment, is_default)?;
            let mut steps = framework(*table, &present, config.snat);
            for rule in planned.iter().filter(|rule| !is_present(rule, *table, &present, comment)) {
                let Planned { chain, conditions, action, .. } = rule;
                steps.push(Step::AddRule { chain, conditions, action: *action, comment });
            }
            changes.push((*table, steps));
        }
        nftables.commit_at(generation, &changes)
    })
}

/// What both tables hold, and the socket that told it. `None` where the kernel has no nf_tables.
fn present(deadline: Instant) -> Result<Option<(Nftables, Held)>> {
    let mut nftables = match Nftables::open(deadline) {
        Err(error) if nft::is_missing(&error) => return Ok(None),
        opened => opened?,
    };
    let mut present = Vec::new();
    for table in TABLES {
        match nftables.rules(table) {
            Err(error) if nft::is_missing(&error) => {}
            rules => present.push((table, rules?)),
        }
    }
    Ok(Some((nftables, present)))
}

/// Removes every rule of a container. Success when there are none, no table, or a kernel without nf_tables.
pub(super) fn remove(container: &ContainerId, deadline: Instant) -> Result<()> {
    let comment = comment(container);
    again_when_raced(deadline, || {
        let Some((mut nftables, present)) = present(deadline)? else { return Ok(()) };
        let own = |rule: &&StoredRule| rule.comment.as_deref() == Some(comment) && OWNED.contains(&rule.chain.as_str());
        let deletions = |rules| -> Vec<Step<'_>> {
            let rules: &Vec<StoredRule> = rules;
            rules.iter().filter(own).map(|rule| Step::DeleteRule { chain: &rule.chain, handle: rule.handle }).collect()
        };
        let changes: Vec<_> = present.iter().map(|(table, rules)| (*table, deletions(rules))).collect();
        if changes.iter().all(|(_, steps)| steps.is_empty()) { Ok(()) } else { nftables.commit(&changes) }
    })
}

/// Removes the rules of containers that are gone, and tells of those of strangers: the tables are the node's, not a
/// network's.
pub(super) fn sweep(ownership: &Ownership<'_>, deadline: Instant) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for table in TABLES {
        match Nftables::open(deadline).and_then(|mut nftables| nftables.rules(table)) {
            Err(error) if nft::is_missing(&error) => {}
            rules => {
                let mut rules = rules?;
                rules.retain(|rule| OWNED.contains(&rule.chain.as_str()));
                names.extend(rules.into_iter().filter_map(|rule| rule.comment));
            }
        }
    }
    let mut strangers = Vec::new();
    for name in names {
        // An id that fills the comment may be cut off; nobody has such long ones.
        match (ownership.owner_of(&name), name.parse()) {
            (Owner::Departed, Ok(container)) => remove(&container, deadline)?,
            (Owner::Living, _) => {}
            _ => strangers.push(format!("port mappings of {name} in nftables")),
        }
    }
    Ok(strangers)
}

/// [`Error::Differs`] unless every rule is there.
pub(super) fn check(config: &Config, container: &ContainerId, addresses: &[IpAddr], deadline: Instant) -> Result<()> {
    let mut nftables = Nftables::open(deadline)?;
    for address in addresses {
        let table = table_of(*address);
        let present = nftables.rules(table)?;
        let differs = |what: &str| Err(Error::Differs(format!("no {what} in nftables table {table}")));
        if !is_framed(table, &present) {
            return differs(&format!("jump from {PREROUTING} and {OUTPUT} to {PORTS}"));
        }
        for rule in plan(config, *address) {
            if !is_present(&rule, table, &present, comment(container)) {
                return differs(&rule.what);
            }
        }
    }
    Ok(())
}

/// [`Error::NotReady`] when the kernel lacks what the rules need.
pub(super) fn status(deadline: Instant) -> Result<()> {
    nft::require(TABLES[0], "portmap: this kernel has no nf_tables for IPv4", deadline)
}

fn table_of(address: IpAddr) -> Table {
    TABLES[usize::from(address.is_ipv6())]
}

fn comment(container: &ContainerId) -> &str {
    let text = container.as_str();
    text.get(..COMMENT_MAX).unwrap_or(text)
}

/// The rules of one address of the pod.
fn plan(config: &Config, address: IpAddr) -> Vec<Planned> {
    let pod = IpNet::from(address);
    let conditions = if address.is_ipv4() { &config.conditions_v4 } else { &config.conditions_v6 };
    let mappings: Vec<&Mapping> = config.mappings.iter().filter(|m| m.is_for(address.is_ipv4())).collect();
    let mut rules = Vec::new();
    for mapping in &mappings {
        let target = SocketAddr::new(address, mapping.container_port);
        let mut all = conditions.clone();
        all.extend(mapping.address().map(|ip| Condition::DestinationIn(ip.into())));
        all.push(Condition::DestinationPort(mapping.protocol as u8, mapping.host_port));
        rules.push(Planned {
            chain: PORTS,
            conditions: all,
            action: Action::DestinationNat(target),
            what: format!("rule for host port {mapping} to {target}"),
        });
    }
    if !config.snat || mappings.is_empty() {
        return rules;
    }
    let mut masquerade = |conditions: Vec<Condition>, what: String| {
        rules.push(Planned { chain: MASQUERADING, conditions, action: Action::Masquerade, what });
    };
    masquerade(
        vec![Condition::SourceIn(pod), Condition::DestinationIn(pod)],
        format!("masquerade rule for {address} to itself"),
    );
    if address.is_ipv4() {
        let localhost = IpNet::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        masquerade(
            vec![Condition::SourceIn(localhost), Condition::DestinationIn(pod)],
            format!("masquerade rule for 127.0.0.1 to {address}"),
        );
    }
    for mapping in mappings.iter().filter(|_| config.masquerade_all) {
        let protocol = mapping.protocol as u8;
        masquerade(
            vec![
                Condition::DestinationIn(pod),
                Condition::DestinationPort(protocol, mapping.container_port),
                Condition::Translated,
                Condition::OriginalPort(mapping.host_port),
            ],
            format!("masquerade rule for all connections to host port {mapping}"),
        );
    }
    rules
}

/// Table, chains and the jumps between them. The jumps are written again only where they differ: that deletes rules, and
/// a deletion waits for the kernel's readers.
fn framework(table: Table, present: &[StoredRule], snat: bool) -> Vec<Step<'static>> {
    const TO_PORTS: &[Condition] = &[Condition::DestinationIsLocal];
    let mut steps = Vec::new();
    if !is_framed(table, present) {
        steps.push(Step::AddTable { comment: COMMENT });
        steps.extend([PORTS, OLD_PORTS, ALL_PORTS].map(|chain| Step::AddChain { chain, comment: "" }));
        let jump =
            |chain, conditions, target| Step::AddRule { chain, conditions, action: Action::Jump(target), comment: "" };
        steps.push(Step::Flush { chain: ALL_PORTS });
        steps.extend([OLD_PORTS, PORTS].map(|target| jump(ALL_PORTS, &[], target)));
        for (chain, hook) in [(PREROUTING, Hook::Prerouting), (OUTPUT, Hook::Output)] {
            steps.extend([Step::AddNatChain { chain, hook }, Step::Flush { chain }, jump(chain, TO_PORTS, ALL_PORTS)]);
        }
    }
    if snat {
        steps.push(Step::AddNatChain { chain: MASQUERADING, hook: Hook::Postrouting });
    }
    steps
}

/// Do the chains lead to the mappings, exactly as we would write it?
fn is_framed(table: Table, present: &[StoredRule]) -> bool {
    let jump = |conditions: &[Condition], target| StoredRule::of(table.family, conditions, Action::Jump(target));
    let local = jump(&[Condition::DestinationIsLocal], ALL_PORTS);
    let is = |chain: &str, expected: &[StoredRule]| {
        let rules: Vec<_> = present.iter().filter(|rule| rule.chain == chain).collect();
        rules.len() == expected.len() && rules.iter().zip(expected).all(|(rule, expected)| rule.does_as(expected))
    };
    is(ALL_PORTS, &[jump(&[], OLD_PORTS), jump(&[], PORTS)])
        && is(PREROUTING, std::slice::from_ref(&local))
        && is(OUTPUT, std::slice::from_ref(&local))
}

fn is_present(rule: &Planned, table: Table, present: &[StoredRule], comment: &str) -> bool {
    let wanted = StoredRule::of(table.family, &rule.conditions, rule.action);
    let is = |stored: &&StoredRule| stored.chain == rule.chain && stored.comment.as_deref() == Some(comment);
    present.iter().filter(is).any(|stored| stored.does_as(&wanted))
}

/// A port that another container has would go on leading there: the first rule decides. So would one that another network
/// of the container has; what is left of the container's own default network is replaced as ever.
fn refuse_taken(
    config: &Config,
    (table, planned): (Table, &Vec<Planned>),
    present: &[StoredRule],
    comment: &str,
    is_default: bool,
) -> Result<()> {
    let is_planned = |rule: &StoredRule| {
        planned.iter().any(|planned| rule.does_as(&StoredRule::of(table.family, &planned.conditions, planned.action)))
    };
    let is_own = |rule: &StoredRule| rule.comment.as_deref() == Some(comment);
    let is_rivals = |rule: &StoredRule| !is_own(rule) || !(is_default || is_planned(rule));
    for (i, mapping) in config.mappings.iter().enumerate() {
        match rival(mapping, table, present, is_rivals) {
            None => {}
            Some(rule) if is_own(rule) => return Err(refused(i, mapping, &Holder::SamePod).into()),
            Some(rule) if !is_default => return Err(refused(i, mapping, &Holder::Container(owner_of(rule))).into()),
            Some(rule) => {
                let owner = owner_of(rule);
                let want = format!("{owner} has it, want a port that no other container has");
                return Err(Error::Kernel {
                    op: format!("map host port {mapping}"),
                    errno: libc::EADDRINUSE,
                    detail: format!("runtimeConfig.portMappings[{i}].hostPort: {want}"),
                });
            }
        }
    }
    Ok(())
}

/// The first rule of somebody else by which a port leads elsewhere.
fn rival<'a>(
    mapping: &Mapping,
    table: Table,
    present: &'a [StoredRule],
    is_others: impl Fn(&StoredRule) -> bool,
) -> Option<&'a StoredRule> {
    let is_port = |rule: &&StoredRule| [PORTS, OLD_PORTS].contains(&rule.chain.as_str());
    let is_for = mapping.is_for(table.family == Family::Ip);
    present.iter().filter(|_| is_for).filter(is_port).find(|rule| is_others(rule) && takes(rule, mapping))
}

fn owner_of(rule: &StoredRule) -> &str {
    rule.comment.as_deref().unwrap_or("without a name")
}

/// Does a rule match what a mapping wants?
fn takes(rule: &StoredRule, mapping: &Mapping) -> bool {
    let value = |field: Field| rule.tests.iter().find(|test| test.field == field && test.equal && test.mask.is_empty());
    let protocol = [mapping.protocol as u8];
    let same = value(Field::Protocol).is_some_and(|test| test.value == protocol)
        && value(Field::DestinationPort).is_some_and(|test| test.value == mapping.host_port.to_be_bytes());
    let (destination, wanted) = match mapping.address() {
        None => return same,
        Some(IpAddr::V4(ip)) => (Field::Address(16), ip.octets().to_vec()),
        Some(IpAddr::V6(ip)) => (Field::Address(24), ip.octets().to_vec()),
    };
    let is_apart = |test: &nft::Test| test.value.len() == wanted.len() && test.value != wanted;
    same && !value(destination).is_some_and(is_apart)
}

/// The host ports of a family whose UDP connections must be decided anew.
pub(super) fn udp_ports(config: &Config, ipv4: bool) -> Vec<u16> {
    let udp = config.mappings.iter().filter(|m| m.protocol == Protocol::Udp && m.is_for(ipv4));
    udp.map(|mapping| mapping.host_port).collect()
}
