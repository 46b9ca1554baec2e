//! Routing policy: which table a packet's route is looked up in.

use attachments::names::IfName;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;

// linux/fib_rules.h
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

/// A rule that looks routes up in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// For IPv4, or for IPv6.
    pub ipv4: bool,
    /// What the packet's source must be in; `None` for every packet.
    pub source: Option<IpNet>,
    /// What its destination must be in; `None` for every packet.
    pub destination: Option<IpNet>,
    /// The name of the link that it came in by, whether there is one of that name or not.
    pub incoming: Option<IfName>,
    /// The table.
    pub table: u32,
    /// Lower ones come first; when one is added, `None` puts it before all but the local table's.
    pub priority: Option<u32>,
    /// `RTPROT_*`: who made it; 0 where nobody said, and before Linux 4.17.
    pub protocol: u8,
}

impl Rule {
    /// Packets from one network look up in one table.
    pub fn from(source: IpNet, table: u32) -> Self {
        Self { ipv4: source.addr().is_ipv4(), source: Some(source), table, ..Self::default() }
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
            let request = Request::new(libc::RTM_GETRULE, libc::NLM_F_DUMP, &header(family, [0; 2], 0, 0));
            match self.dump(&request, || "list routing rules".to_owned(), decode) {
                Err(error) if matches!(super::errno(&error), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {}
                rules => found.extend(rules?),
            }
        }
        Ok(found)
    }
}

/// `struct fib_rule_hdr`; the table is told by its attribute.
fn header(family: i32, [to_bits, from_bits]: [u8; 2], table: u8, action: u8) -> [u8; HEADER] {
    [family as u8, to_bits, from_bits, 0, table, 0, 0, action, 0, 0, 0, 0]
}

fn subject(kind: u16, flags: i32, rule: &Rule) -> Request {
    let family = if rule.ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let bits = [rule.destination, rule.source].map(|net| net.map_or(0, |net| net.prefix_len()));
    let mut request = Request::new(kind, flags | libc::NLM_F_ACK, &header(family, bits, 0, FR_ACT_TO_TBL));
    if let Some(source) = rule.source {
        request.ip(FRA_SRC, source.network());
    }
    if let Some(destination) = rule.destination {
        request.ip(FRA_DST, destination.network());
    }
    if let Some(link) = &rule.incoming {
        request.text(FRA_IIFNAME, link.as_str());
    }
    if rule.protocol != 0 {
        request.bytes(FRA_PROTOCOL, &[rule.protocol]);
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
    let [family, to_bits, bits, _, table, _, _, action, ..]: [u8; HEADER] = wire::fixed(message.body)?;
    if action != FR_ACT_TO_TBL {
        return Ok(None);
    }
    let ipv4 = i32::from(family) == libc::AF_INET;
    let mut rule = Rule { ipv4, table: table.into(), ..Rule::default() };
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            FRA_SRC => rule.source = Some(IpNet::new(wire::ip(value)?, bits).map_err(|_| wire::Malformed)?),
            FRA_DST => rule.destination = Some(IpNet::new(wire::ip(value)?, to_bits).map_err(|_| wire::Malformed)?),
            // A name that breaks the rules of ours is nobody's whom we look for.
            FRA_IIFNAME => rule.incoming = wire::text(value).parse().ok(),
            FRA_PROTOCOL => rule.protocol = wire::u8(value)?,
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
                before.contains(&Rule {
                    ipv4: true,
                    table: 254,
                    priority: Some(32766),
                    protocol: 2,
                    ..Rule::default()
                }),
                "{before:?}"
            );
            for rule in [("10.0.0.0/24", 100), ("fd00::1/128", 100_000)] {
                let rule = Rule::from(rule.0.parse().unwrap(), rule.1);
                netlink.add_rule(&rule).unwrap();
                let added = Rule { priority: Some(32765), ..rule.clone() };
                let again = netlink.add_rule(&added).unwrap_err();
                assert_eq!(super::super::errno(&again), Some(Errno::EEXIST));
                assert!(netlink.rules().unwrap().contains(&added));
                assert!(netlink.delete_rule(&rule).unwrap());
                assert!(!netlink.delete_rule(&rule).unwrap());
            }
            assert_eq!(netlink.rules().unwrap(), before);
        });
    }

    #[test]
    fn kernel_a_rule_may_be_about_a_link_by_name_and_about_both_ends() {
        as_host(|| {
            let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
            let before = netlink.rules().unwrap();
            for net in ["10.0.0.0/24", "fd00::/64"] {
                let net: IpNet = net.parse().unwrap();
                let rule = Rule {
                    ipv4: net.addr().is_ipv4(),
                    incoming: Some("not-there".parse().unwrap()),
                    source: Some(net),
                    destination: Some(net),
                    table: 1 << 31 | 7,
                    priority: Some(4789),
                    protocol: 121,
                };
                netlink.add_rule(&rule).unwrap();
                assert!(netlink.rules().unwrap().contains(&rule), "{:?}", netlink.rules());
                assert!(
                    !netlink.delete_rule(&Rule { incoming: Some("other".parse().unwrap()), ..rule.clone() }).unwrap()
                );
                assert!(netlink.delete_rule(&rule).unwrap());
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
