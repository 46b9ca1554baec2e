//! Routing policy: which table a packet's route is looked up in.

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;

// linux/fib_rules.h
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;

/// A rule that looks routes up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv4, or for IPv6.
    pub ipv4: bool,
    /// What the packet's source must be in; `None` for every packet.
    pub source: Option<IpNet>,
    /// The table.
    pub table: u32,
    /// Lower ones come first; when one is added, `None` puts it before all but the local table's.
    pub priority: Option<u32>,
}

impl Rule {
    /// Packets from one network look up in one table.
    pub fn from(source: IpNet, table: u32) -> Self {
        Self { ipv4: source.addr().is_ipv4(), source: Some(source), table, priority: None }
    }
}

impl Netlink {
    /// Adds a rule, also beside an equal one of another priority.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.acknowledged(subject(libc::RTM_NEWRULE, flags, rule), || format!("add {}", words(rule)))
    }

    /// Deletes a rule that agrees with every field. `false` when there is none.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<bool> {
        match self.acknowledged(subject(libc::RTM_DELRULE, 0, rule), || format!("delete {}", words(rule))) {
            Ok(()) => Ok(true),
            // A namespace without IPv6 has no rules of that family.
            Err(error) => match super::errno(&error) {
                Some(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The rules of both families that look up in tables.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = Request::new(libc::RTM_GETRULE, libc::NLM_F_DUMP, &header(family, 0, 0, 0));
            match self.dump(&request, || "list routing rules".to_owned(), decode) {
                Err(error) if matches!(super::errno(&error), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {}
                rules => found.extend(rules?),
            }
        }
        Ok(found)
    }
}

/// `struct fib_rule_hdr`; the table is told by its attribute.
fn header(family: i32, source_bits: u8, table: u8, action: u8) -> [u8; HEADER] {
    [family as u8, 0, source_bits, 0, table, 0, 0, action, 0, 0, 0, 0]
}

fn subject(kind: u16, flags: i32, rule: &Rule) -> Request {
    let family = if rule.ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let bits = rule.source.map_or(0, |source| source.prefix_len());
    let mut request = Request::new(kind, flags | libc::NLM_F_ACK, &header(family, bits, 0, FR_ACT_TO_TBL));
    if let Some(source) = rule.source {
        request.ip(FRA_SRC, source.network());
    }
    request.u32(FRA_TABLE, rule.table);
    if let Some(priority) = rule.priority {
        request.u32(FRA_PRIORITY, priority);
    }
    request
}

/// A rule in words, for the error.
fn words(rule: &Rule) -> String {
    let source = rule.source.map_or_else(|| "all".to_owned(), |source| source.to_string());
    format!("rule from {source} to table {}", rule.table)
}

fn decode(message: &Message<'_>) -> Decoded<Option<Rule>> {
    let [family, _, bits, _, table, _, _, action, ..]: [u8; HEADER] = wire::fixed(message.body)?;
    if action != FR_ACT_TO_TBL {
        return Ok(None);
    }
    let ipv4 = i32::from(family) == libc::AF_INET;
    let mut rule = Rule { ipv4, source: None, table: table.into(), priority: None };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            FRA_SRC => rule.source = Some(IpNet::new(wire::ip(value)?, bits).map_err(|_| wire::Malformed)?),
            FRA_TABLE => rule.table = wire::u32(value)?,
            FRA_PRIORITY => rule.priority = Some(wire::u32(value)?),
            _ => {}
        }
    }
    Ok(Some(rule))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::netns::testing::as_host;

    #[test]
    fn kernel_a_rule_is_added_told_and_deleted() {
        as_host(|| {
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let before = netlink.rules().unwrap();
            assert!(
                before.contains(&Rule { ipv4: true, source: None, table: 254, priority: Some(32766) }),
                "{before:?}"
            );
            for rule in [("10.0.0.0/24", 100), ("fd00::1/128", 100_000)] {
                let rule = Rule::from(rule.0.parse().unwrap(), rule.1);
                netlink.add_rule(&rule).unwrap();
                let added = Rule { priority: Some(32765), ..rule };
                let again = netlink.add_rule(&added).unwrap_err();
                assert_eq!(super::super::errno(&again), Some(Errno::EEXIST));
                assert!(netlink.rules().unwrap().contains(&added));
                assert!(netlink.delete_rule(&rule).unwrap());
                assert!(!netlink.delete_rule(&rule).unwrap());
            }
            assert_eq!(netlink.rules().unwrap(), before);
        });
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Message { kind: 0, flags: 0, sequence: 0, body: &body });
        }
    }
}
