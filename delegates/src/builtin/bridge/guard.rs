//! macspoofchk: a port takes frames from the pod's own hardware address only.
//!
//! Table, chains, rules and comments are those of the reference plugin, so that each removes what the other made. The
//! table and its base chain stay, as theirs do. Everything happens in the thread's current namespace, the host's.

use std::time::Instant;

use attachments::names::Mac;

use crate::builtin::check;
use crate::call::Point;
use crate::error::Result;
use crate::nl::nft::{self, Action, Condition, Family, Nftables, Step, StoredRule, Table, again_when_raced};

const TABLE: Table = Table { family: Family::Bridge, name: "nat" };
const BASE: &str = "PREROUTING";

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

    /// Rules of the base chain that lead to the attachment's.
    fn entries<'a>(&'a self, present: &'a [StoredRule]) -> impl Iterator<Item = &'a StoredRule> {
        present.iter().filter(|rule| rule.chain == BASE && rule.target.as_deref() == Some(self.port_chain.as_str()))
    }
}

/// Lets frames of `mac` alone pass that come in by `port`; what an earlier ADD left is replaced.
pub(super) fn add(point: &Point<'_>, port: &str, mac: Mac, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    let comment = names.comment.as_str();
    let (to_port, to_mac) = (Action::Jump(&names.port_chain), Action::Jump(&names.mac_chain));
    let by_port = [Condition::Incoming { name: port.to_owned(), prefix: false, negated: false }];
    let from_mac = [Condition::EtherSource(mac)];
    again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        let present = nftables.rules(TABLE)?;
        let mut steps = vec![
            Step::AddTable { comment: "" },
            Step::AddBridgeFilter { chain: BASE },
            Step::AddChain { chain: &names.port_chain, comment: "" },
            Step::AddChain { chain: &names.mac_chain, comment: "" },
            Step::Flush { chain: &names.port_chain },
            Step::Flush { chain: &names.mac_chain },
        ];
        steps.extend(names.entries(&present).map(|rule| Step::DeleteRule { chain: BASE, handle: rule.handle }));
        for (chain, conditions, action) in [
            (BASE, by_port.as_slice(), to_port),
            (&names.port_chain, &[], to_mac),
            (&names.mac_chain, &from_mac, Action::Return),
            (&names.mac_chain, &[], Action::Drop),
        ] {
            steps.push(Step::AddRule { chain, conditions, action, comment });
        }
        nftables.commit(&[(TABLE, steps)])
    })
}

/// Removes the attachment's chains and rules. Success when there are none, no table, or a kernel without nf_tables.
pub(super) fn remove(point: &Point<'_>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    again_when_raced(deadline, || {
        let listed = Nftables::open(deadline).and_then(|mut nftables| Ok((nftables.rules(TABLE)?, nftables)));
        let (present, mut nftables) = match listed {
            Err(error) if nft::is_missing(&error) => return Ok(()),
            other => other?,
        };
        let mut steps: Vec<Step<'_>> =
            names.entries(&present).map(|rule| Step::DeleteRule { chain: BASE, handle: rule.handle }).collect();
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
pub(super) fn check(point: &Point<'_>, mac: Option<Mac>, deadline: Instant) -> Result<()> {
    let names = Names::of(point);
    let present = Nftables::open(deadline)?.rules(TABLE)?;
    let is_entered = names.entries(&present).next().is_some();
    let leads_on = |rule: &StoredRule| rule.chain == names.port_chain && rule.target.as_ref() == Some(&names.mac_chain);
    let knows = |rule: &StoredRule| {
        rule.chain == names.mac_chain && rule.tests.iter().any(|test| mac.is_some_and(|mac| test.value == mac.0))
    };
    let drop = StoredRule::of(TABLE.family, &[], Action::Drop);
    let drops = |rule: &StoredRule| rule.chain == names.mac_chain && rule.does_as(&drop);
    if is_entered && [&leads_on as &dyn Fn(&StoredRule) -> bool, &knows, &drops].iter().all(|is| present.iter().any(is))
    {
        return Ok(());
    }
    let text = format!("{}: no rules against other hardware addresses in nftables table {TABLE}", point.ifname);
    Err(check::differs(text))
}

/// STATUS: the kernel has nf_tables for bridges.
pub(super) fn status(deadline: Instant) -> Result<()> {
    nft::require(TABLE, "macspoofchk: this kernel has no nf_tables for bridges", deadline)
}
