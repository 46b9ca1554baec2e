//! macspoofchk: a port takes frames from the pod's own hardware address only.
//!
//! Table, chains, rules and comments are those of the reference plugin, so that each removes what the other made. The
//! table and its base chain stay, as theirs do. Everything happens in the thread's current namespace, the host's.

use std::time::Instant;

use attachments::cni::object::Object;
use attachments::names::Mac;

use super::noted;
use super::table::{again_when_raced, require};
use super::unused::Frame;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::nl::nft::{
    Action, AddedRule, BaseChain, ChainType, Condition, Family, Hook, Nftables, Rule, Step, StoredRule, Table, priority,
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

    /// Does a rule of the base chain lead to the attachment's?
    fn is_entry(&self, rule: &StoredRule) -> bool {
        rule.chain == BASE.name && rule.target.as_deref() == Some(self.port_chain.as_str())
    }
}

/// Lets frames of `mac` alone pass that come in by `port`; what an earlier ADD left is replaced. Gives the rule of the chain that all
/// pods share, for [`noted::note`].
pub fn add(point: &Point<'_>, port: &str, mac: Mac, deadline: Instant) -> Result<Vec<AddedRule>> {
    let names = Names::of(point);
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        let mut steps = vec![
            Step::AddTable { comment: "" },
            Step::AddBaseChain(BASE),
            Step::AddChain { chain: &names.port_chain, comment: "" },
            Step::AddChain { chain: &names.mac_chain, comment: "" },
            Step::Flush { chain: &names.port_chain },
            Step::Flush { chain: &names.mac_chain },
        ];
        // A rule leads to a chain that is there.
        if !nftables.rules_of(TABLE, &names.port_chain)?.is_empty() {
            let left = nftables.rules_of(TABLE, BASE.name)?.into_iter().filter(|rule| names.is_entry(rule));
            steps.extend(left.map(|rule| Step::DeleteRule { chain: BASE.name, handle: rule.handle }));
        }
        steps.extend(names.rules(port, mac).map(Step::AddRule));
        let mut added = nftables.commit_telling(&[(TABLE, steps)])?;
        added.retain(|rule| rule.chain == BASE.name);
        Ok(added)
    })
}

/// Removes the attachment's chains and rules; `saved` as for [`noted::own`]. Success when there are none, no table, or a kernel without
/// nf_tables.
pub fn remove(point: &Point<'_>, saved: Option<&[&Object]>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    again_when_raced(deadline, || {
        let own = noted::own(TABLE, saved, &|rule| names.is_entry(rule), deadline)?;
        let Some((mut nftables, entries)) = own else { return Ok(()) };
        let mut steps: Vec<Step<'_>> =
            entries.iter().map(|rule| Step::DeleteRule { chain: BASE.name, handle: rule.handle }).collect();
        // In this order: no chain goes that another still leads to.
        for chain in [&names.port_chain, &names.mac_chain] {
            if !nftables.rules_of(TABLE, chain)?.is_empty() {
                steps.push(Step::DeleteChain { chain });
            }
        }
        if steps.is_empty() { Ok(()) } else { nftables.commit(&[(TABLE, steps)]) }
    })
}

/// CHECK: the base chain leads to the attachment's, which know its address.
pub fn check(point: &Point<'_>, mac: Option<Mac>, saved: Option<&[&Object]>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    let own = noted::own(TABLE, saved, &|rule| names.is_entry(rule), deadline)?;
    let Some((mut nftables, entries)) = own else { return status(deadline) };
    let mut present = nftables.rules_of(TABLE, &names.port_chain)?;
    present.extend(nftables.rules_of(TABLE, &names.mac_chain)?);
    let leads_on = |rule: &StoredRule| rule.chain == names.port_chain && rule.target.as_ref() == Some(&names.mac_chain);
    let knows = |rule: &StoredRule| {
        rule.chain == names.mac_chain && rule.tests.iter().any(|test| mac.is_some_and(|mac| test.value == mac.0))
    };
    let drop = StoredRule::of(TABLE.family, &Rule::new(&names.mac_chain, [], Action::Drop));
    let drops = |rule: &StoredRule| rule.chain == names.mac_chain && rule.does_as(&drop);
    if !entries.is_empty()
        && [&leads_on as &dyn Fn(&StoredRule) -> bool, &knows, &drops].iter().all(|is| present.iter().any(is))
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
