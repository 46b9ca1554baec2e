//! What the rules of port mappings are, as values.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use attachments::names::ContainerId;
use ipnet::IpNet;

use super::mapping::{Mapping, PortMappings};
use crate::firewall::table::leads;
use crate::firewall::unused::Frame;
use crate::nl::nft::{
    Action, BaseChain, ChainType, Condition, Family, Field, Hook, Rule, Step, StoredRule, Table, Test, priority,
};

const NAME: &str = "cni_hostport";
pub(super) const TABLES: [Table<'_>; 2] =
    [Table { family: Family::Ip, name: NAME }, Table { family: Family::Ip6, name: NAME }];
const COMMENT: &str = "CNI portmap plugin";
pub(super) const PORTS: &str = "hostports";
/// Rules with a host address were here before v1.6 of the reference plugin; it still makes the chain and cleans it.
const OLD_PORTS: &str = "hostip_hostports";
const ALL_PORTS: &str = "hostports_all";
const PREROUTING: BaseChain<'_> = base("prerouting", Hook::Prerouting, priority::DSTNAT);
const OUTPUT: BaseChain<'_> = base("output", Hook::Output, priority::DSTNAT);
const MASQUERADING: BaseChain<'_> = base("masquerading", Hook::Postrouting, priority::SRCNAT);

const fn base(name: &str, hook: Hook, priority: i32) -> BaseChain<'_> {
    BaseChain { name, kind: ChainType::Nat, hook, priority, policy: None }
}

/// The chains whose rules are containers'.
pub(super) const OWNED: [&str; 3] = [PORTS, OLD_PORTS, MASQUERADING.name];

/// The chains that [`is_framed`] looks at.
pub(super) const FRAME: [&str; 3] = [ALL_PORTS, PREROUTING.name, OUTPUT.name];

/// The tables without attachments.
pub(super) fn frames() -> [Frame; 2] {
    const CHAINS: &[&str] = &[PORTS, OLD_PORTS, ALL_PORTS, PREROUTING.name, OUTPUT.name, MASQUERADING.name];
    let bare: [fn(&[StoredRule]) -> bool; 2] = [|rules| is_bare(TABLES[0], rules), |rules| is_bare(TABLES[1], rules)];
    [0, 1].map(|i| Frame { table: TABLES[i], chains: Some(CHAINS), is_bare: bare[i] })
}

fn is_bare(table: Table<'_>, rules: &[StoredRule]) -> bool {
    is_framed(table, rules) && !rules.iter().any(is_owned)
}

/// Bytes of a comment that the kernel keeps.
const COMMENT_MAX: usize = 254;

/// A rule of a container, before it is in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned<'a> {
    pub rule: Rule<'a>,
    /// What it is for, in words.
    pub what: String,
}

/// The table that serves an address.
pub(super) fn table_of(address: IpAddr) -> Table<'static> {
    TABLES[usize::from(address.is_ipv6())]
}

/// The comment that says whose a rule is.
pub(super) fn comment(container: &ContainerId) -> &str {
    let text = container.as_str();
    text.get(..COMMENT_MAX).unwrap_or(text)
}

/// Is a rule some container's, and not the table's?
pub(super) fn is_owned(rule: &StoredRule) -> bool {
    OWNED.contains(&rule.chain.as_str())
}

/// The rules of one address of the pod.
pub(super) fn plan<'a>(wanted: &PortMappings, address: IpAddr, comment: &'a str) -> Vec<Planned<'a>> {
    let pod = IpNet::from(address);
    let conditions = if address.is_ipv4() { &wanted.conditions_v4 } else { &wanted.conditions_v6 };
    let mappings: Vec<&Mapping> = wanted.mappings.iter().filter(|m| m.is_for(address.is_ipv4())).collect();
    let mut rules = Vec::new();
    for mapping in &mappings {
        let target = SocketAddr::new(address, mapping.container_port);
        let mut all = conditions.clone();
        all.extend(mapping.address().map(|ip| Condition::DestinationIn(ip.into())));
        all.push(Condition::DestinationPort(mapping.protocol as u8, mapping.host_port));
        rules.push(Planned {
            rule: Rule { comment, ..Rule::new(PORTS, all, Action::DestinationNat(target)) },
            what: format!("rule for host port {mapping} to {target}"),
        });
    }
    if !wanted.snat || mappings.is_empty() {
        return rules;
    }
    let mut masquerade = |conditions: Vec<Condition>, what: String| {
        let rule = Rule { comment, ..Rule::new(MASQUERADING.name, conditions, Action::Masquerade) };
        rules.push(Planned { rule, what });
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
    for mapping in mappings.iter().filter(|_| wanted.masquerade_all) {
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
pub(super) fn framework(table: Table<'_>, present: &[StoredRule], snat: bool) -> Vec<Step<'static>> {
    let mut steps = Vec::new();
    if !is_framed(table, present) {
        steps.push(Step::AddTable { comment: COMMENT });
        steps.extend([PORTS, OLD_PORTS, ALL_PORTS].map(|chain| Step::AddChain { chain, comment: "" }));
        steps.push(Step::Flush { chain: ALL_PORTS });
        steps.extend(to_mappings().map(Step::AddRule));
        for base in [PREROUTING, OUTPUT] {
            let jump = Step::AddRule(if_local(base));
            steps.extend([Step::AddBaseChain(base), Step::Flush { chain: base.name }, jump]);
        }
    }
    if snat {
        steps.push(Step::AddBaseChain(MASQUERADING));
    }
    steps
}

/// Do the chains lead to the mappings, exactly as we would write it?
pub(super) fn is_framed(table: Table<'_>, present: &[StoredRule]) -> bool {
    let is = |chain, expected: &[Rule<'_>]| leads(table.family, chain, present, expected);
    is(ALL_PORTS, &to_mappings()) && [PREROUTING, OUTPUT].iter().all(|base| is(base.name, &[if_local(*base)]))
}

/// What [`is_framed`] misses, in words.
pub(super) fn frame() -> String {
    format!("jump from {} and {} to {PORTS}", PREROUTING.name, OUTPUT.name)
}

fn to_mappings() -> [Rule<'static>; 2] {
    [OLD_PORTS, PORTS].map(|target| Rule::new(ALL_PORTS, [], Action::Jump(target)))
}

fn if_local(base: BaseChain<'static>) -> Rule<'static> {
    Rule::new(base.name, [Condition::DestinationIsLocal], Action::Jump(ALL_PORTS))
}

/// Is the rule there, with its comment?
pub(super) fn is_present(rule: &Rule<'_>, table: Table<'_>, present: &[StoredRule]) -> bool {
    let wanted = StoredRule::of(table.family, rule);
    let is = |stored: &&StoredRule| stored.chain == rule.chain && stored.comment.as_deref() == Some(rule.comment);
    present.iter().filter(is).any(|stored| stored.does_as(&wanted))
}

/// The first rule of somebody else by which a port leads elsewhere.
pub(super) fn rival<'a>(
    mapping: &Mapping,
    table: Table<'_>,
    present: &'a [StoredRule],
    is_others: impl Fn(&StoredRule) -> bool,
) -> Option<&'a StoredRule> {
    let is_port = |rule: &&StoredRule| [PORTS, OLD_PORTS].contains(&rule.chain.as_str());
    let is_for = mapping.is_for(table.family == Family::Ip);
    present.iter().filter(|_| is_for).filter(is_port).find(|rule| is_others(rule) && takes(rule, mapping))
}

pub(super) fn owner_of(rule: &StoredRule) -> &str {
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
    let is_apart = |test: &Test| test.value.len() == wanted.len() && test.value != wanted;
    same && !value(destination).is_some_and(is_apart)
}
