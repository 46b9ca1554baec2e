//! What an overlay takes from a pod's port: frames from the pod's own hardware address, and not more than so many a second for
//! many.
//!
//! Each port has a chain of its own that the kernel calls for that link alone (family netdev). So a frame passes the one or two
//! rules of its port however many pods the node has, and is dropped before the bridge has seen it. Everything happens in the
//! thread's current namespace, the host's.

use std::time::Instant;

use attachments::names::Mac;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::table::{again_when_raced, leads};
use super::unused::Frame;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::nl;
use crate::nl::nft::{Action, Condition, Family, Nftables, Rule, Step, StoredRule, Table, is_missing};

/// Name of the table.
pub const NAME: &str = "meta_cni_ports";
const TABLE: Table<'_> = Table { family: Family::Netdev, name: NAME };
const COMMENT: &str = "What overlays of meta-cni take from the ports of pods";

/// The table is ours alone.
pub(super) fn frame() -> Frame {
    Frame { table: TABLE, chains: None, is_bare: |_| true }
}

/// What a port is guarded against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// `macspoofchk`: the one hardware address that frames may come from.
    pub mac: Option<Mac>,
    /// `bumRate`: so many broadcast and multicast frames a second.
    pub to_many: Option<u32>,
}

impl Guard {
    fn rules<'a>(&self, port: &'a str, comment: &'a str) -> Vec<Rule<'a>> {
        let spoofed =
            self.mac.map(|mac| Rule::new(port, [Condition::ByEthernet, Condition::EtherSourceNot(mac)], Action::Drop));
        let storm = self.to_many.map(|rate| {
            Rule::new(port, [Condition::ByEthernet, Condition::EtherToMany, Condition::Faster(rate)], Action::Drop)
        });
        [spoofed, storm].into_iter().flatten().map(|rule| Rule { comment, ..rule }).collect()
    }
}

/// Guards a port; what an earlier ADD left under its name is replaced. The chain has the port's name.
pub fn add(point: &Point<'_>, port: &str, guard: &Guard, deadline: Instant) -> Result<()> {
    let comment = comment(point);
    let rules = guard.rules(port, &comment);
    if rules.is_empty() {
        return Ok(());
    }
    again_when_raced(deadline, || {
        let mut steps = vec![
            Step::AddTable { comment: COMMENT },
            Step::AddIngressChain { chain: port, link: port },
            Step::Flush { chain: port },
        ];
        steps.extend(rules.iter().cloned().map(Step::AddRule));
        Nftables::open(deadline)?.commit(&[(TABLE, steps)])
    })
}

/// Removes a port's chain, and the table with its last one. Success when there is none, no table, or a kernel without nf_tables; on
/// some kernels a chain goes with the link.
pub fn remove(port: &str, deadline: Instant) -> Result<()> {
    let removed = again_when_raced(deadline, || {
        let mut nftables = Nftables::open(deadline)?;
        or_gone(nftables.commit(&[(TABLE, vec![Step::DeleteChain { chain: port }])]))?;
        // Between this number and the commit nobody else makes a chain.
        let generation = nftables.generation()?;
        if !nftables.rules(TABLE)?.is_empty() {
            return Ok(());
        }
        or_gone(nftables.commit_at(generation, &[(TABLE, vec![Step::DeleteTable])]).map(drop))
    });
    match removed {
        Err(error) if is_missing(&error) => Ok(()),
        other => other,
    }
}

/// What is gone already is no error.
fn or_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if nl::errno(&error) == Some(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// CHECK: the port's chain holds the rules of the guard.
pub fn check(point: &Point<'_>, port: &str, guard: &Guard, deadline: Instant) -> Result<()> {
    let rules = guard.rules(port, "");
    if rules.is_empty() {
        return Ok(());
    }
    let present = Nftables::open(deadline)?.rules(TABLE)?;
    if leads(TABLE.family, port, &present, &rules) {
        return Ok(());
    }
    Err(Error::Differs(format!(
        "{}: chain {port} of nftables table {TABLE} does not hold the rules of its port",
        point.ifname
    )))
}

/// What a port's chain was seen to hold, for who is to bring it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    mac: Option<Mac>,
    to_many: Option<u32>,
    comment: String,
}

impl Rules {
    /// What the chain holds, as far as it is what [`add`] makes.
    fn of(port: &str, present: &[StoredRule]) -> Self {
        let mut seen = Self::default();
        for rule in present.iter().filter(|rule| rule.chain == port) {
            let spoofed =
                rule.tests.iter().find(|test| !test.equal).and_then(|test| test.value.as_slice().try_into().ok());
            seen.mac = seen.mac.or(spoofed.map(Mac));
            seen.to_many = seen.to_many.or(rule.rates.first().and_then(|rate| u32::try_from(*rate).ok()));
            seen.comment = rule.comment.clone().unwrap_or_default();
        }
        let rules = Guard { mac: seen.mac, to_many: seen.to_many }.rules(port, "");
        if leads(TABLE.family, port, present, &rules) { seen } else { Self::default() }
    }
}

/// Brings the chains of ports back to what they were seen to hold, and looks at those that were not seen yet. How many were brought back.
pub fn keep<'a>(ports: &mut dyn Iterator<Item = (&'a str, &'a mut Rules)>, deadline: Instant) -> Result<usize> {
    let Some((mut nftables, present)) = super::table::present(TABLE, deadline)? else { return Ok(0) };
    let mut brought = 0;
    for (port, seen) in ports {
        if *seen == Rules::default() {
            *seen = Rules::of(port, &present);
            continue;
        }
        let rules = Guard { mac: seen.mac, to_many: seen.to_many }.rules(port, &seen.comment);
        if leads(TABLE.family, port, &present, &rules) {
            continue;
        }
        let mut steps = vec![
            Step::AddTable { comment: COMMENT },
            Step::AddIngressChain { chain: port, link: port },
            Step::Flush { chain: port },
        ];
        steps.extend(rules.into_iter().map(Step::AddRule));
        // The port may be gone by now, and its chain with it.
        or_gone(nftables.commit(&[(TABLE, steps)]))?;
        brought += 1;
    }
    Ok(brought)
}

/// Removes the chains of ports that are gone; `is_there` says which links the node has.
pub fn sweep(is_there: impl Fn(&str) -> bool, deadline: Instant) -> Result<()> {
    let Some((_, present)) = super::table::present(TABLE, deadline)? else { return Ok(()) };
    let mut chains: Vec<String> = present.into_iter().map(|rule| rule.chain).filter(|chain| !is_there(chain)).collect();
    chains.dedup();
    chains.iter().try_for_each(|chain| remove(chain, deadline))
}

/// Could a port be guarded? A kernel without nf_tables, or without its family netdev, cannot.
pub fn is_supported(deadline: Instant) -> Result<bool> {
    let mut nftables = match Nftables::open(deadline) {
        Err(error) if is_missing(&error) => return Ok(false),
        opened => opened?,
    };
    let mut supported = false;
    again_when_raced(deadline, || nftables.could_make(TABLE).map(|could| supported = could))?;
    Ok(supported)
}

fn comment(point: &Point<'_>) -> String {
    // The kernel keeps 254 bytes.
    let mut text = format!("{}-{}", point.container, point.ifname);
    while text.len() > 254 {
        text.pop();
    }
    text
}
