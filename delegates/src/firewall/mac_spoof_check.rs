//! macspoofchk: a port takes frames from the pod's own hardware address only.
//!
//! Table, chains, rules and comments are those of the reference plugin, so that each removes what the other made. The
//! table and its base chain stay, as theirs do. Everything happens in the thread's current namespace, the host's.

use std::time::Instant;

use attachments::names::Mac;

use super::table::{again_when_raced, present, require};
use super::unused::Frame;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::nl::nft::{
    Action, BaseChain, ChainType, Condition, Family, Hook, Nftables, Rule, Step, StoredRule, Table, priority,
};

const TABLE: Table<'_> = Table { family: Family::Bridge, name: "nat" };
const BASE: BaseChain<'_> = BaseChain {
    name: "PREROUTING",
    kind: ChainType::Filter,
    hook: Hook::Prerouting,
    priority: priority::DSTNAT_BRIDGED,
    policy: None,
};

/// The table without attachments.
pub(super) fn frame() -> Frame {
    Frame { table: TABLE, chains: Some(&[BASE.name]), is_bare: |rules| rules.is_empty() }
}

/// The names of an attachment.
struct Names {
    port_chain: String,
    mac_chain: String,
    comment: String,
}

impl Names {
    fn of(point: &Point<'_>) -> Self {
        let id = format!("{}-{}", point.container, point.ifname);
        let port_chain = format!("cni-br-iface-{id}");
        Self { mac_chain: format!("{port_chain}-mac"), port_chain, comment: format!("macspoofchk-{id}") }
    }

    /// The rules that let frames of `mac` alone pass that come in by `port`.
    fn rules(&self, port: &str, mac: Mac) -> [Rule<'_>; 4] {
        let by_port = Condition::Incoming { name: port.to_owned(), prefix: false, negated: false };
        let rules = [
            Rule::new(BASE.name, [by_port], Action::Jump(&self.port_chain)),
            Rule::new(&self.port_chain, [], Action::Jump(&self.mac_chain)),
            Rule::new(&self.mac_chain, [Condition::EtherSource(mac)], Action::Return),
            Rule::new(&self.mac_chain, [], Action::Drop),
        ];
        rules.map(|rule| Rule { comment: &self.comment, ..rule })
    }

    /// Rules of the base chain that lead to the attachment's.
    fn entries<'a>(&'a self, present: &'a [StoredRule]) -> impl Iterator<Item = &'a StoredRule> {
        present
            .iter()
            .filter(|rule| rule.chain == BASE.name && rule.target.as_deref() == Some(self.port_chain.as_str()))
    }
}

/// Lets frames of `mac` alone pass that come in by `port`; what an earlier ADD left is replaced.
pub fn add(point: &Point<'_>, port: &str, mac: Mac, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        let present = nftables.rules(TABLE)?;
        let mut steps = vec![
            Step::AddTable { comment: "" },
            Step::AddBaseChain(BASE),
            Step::AddChain { chain: &names.port_chain, comment: "" },
            Step::AddChain { chain: &names.mac_chain, comment: "" },
            Step::Flush { chain: &names.port_chain },
            Step::Flush { chain: &names.mac_chain },
        ];
        steps.extend(names.entries(&present).map(|rule| Step::DeleteRule { chain: BASE.name, handle: rule.handle }));
        steps.extend(names.rules(port, mac).map(Step::AddRule));
        nftables.commit(&[(TABLE, steps)])
    })
}

/// Removes the attachment's chains and rules. Success when there are none, no table, or a kernel without nf_tables.
pub fn remove(point: &Point<'_>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    again_when_raced(deadline, || {
        let Some((mut nftables, present)) = present(TABLE, deadline)? else { return Ok(()) };
        let mut steps: Vec<Step<'_>> =
            names.entries(&present).map(|rule| Step::DeleteRule { chain: BASE.name, handle: rule.handle }).collect();
        // In this order: no chain goes that another still leads to.
        for chain in [&names.port_chain, &names.mac_chain] {
            if present.iter().any(|rule| rule.chain == *chain) {
                steps.push(Step::DeleteChain { chain });
            }
        }
        if steps.is_empty() { Ok(()) } else { nftables.commit(&[(TABLE, steps)]) }
    })
}

/// CHECK: the base chain leads to the attachment's, which know its address.
pub fn check(point: &Point<'_>, mac: Option<Mac>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    let present = Nftables::open(deadline)?.rules(TABLE)?;
    let is_entered = names.entries(&present).next().is_some();
    let leads_on = |rule: &StoredRule| rule.chain == names.port_chain && rule.target.as_ref() == Some(&names.mac_chain);
    let knows = |rule: &StoredRule| {
        rule.chain == names.mac_chain && rule.tests.iter().any(|test| mac.is_some_and(|mac| test.value == mac.0))
    };
    let drop = StoredRule::of(TABLE.family, &Rule::new(&names.mac_chain, [], Action::Drop));
    let drops = |rule: &StoredRule| rule.chain == names.mac_chain && rule.does_as(&drop);
    if is_entered && [&leads_on as &dyn Fn(&StoredRule) -> bool, &knows, &drops].iter().all(|is| present.iter().any(is))
    {
        return Ok(());
    }
    let text = format!("{}: no rules against other hardware addresses in nftables table {TABLE}", point.ifname);
    Err(Error::Differs(text))
}

/// STATUS: the kernel has nf_tables for bridges.
pub fn status(deadline: Instant) -> Result<()> {
    require(TABLE, "macspoofchk: this kernel has no nf_tables for bridges", deadline)
}
