//! Reads a delegate's keys and collects every finding, so that one look at a configuration mends all of it.
//!
//! Keys that a delegate does not know are accepted: configurations carry keys for other tools, and the reference plugins
//! ignore them too.

use std::ops::RangeInclusive;
use std::str::FromStr;

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::{Finding, Findings};

use crate::ipam;

/// A configuration that is being read.
pub(super) struct ConfReader<'a> {
    conf: &'a Object,
    findings: Vec<Finding>,
}

impl<'a> ConfReader<'a> {
    pub(super) fn of(conf: &'a Object) -> Self {
        Self { conf, findings: Vec::new() }
    }

    /// Takes what was read, or its default when it was wrong; the finding is kept.
    pub(super) fn keep<T: Default>(&mut self, read: Result<T, Finding>) -> T {
        read.unwrap_or_else(|finding| {
            self.refuse(finding);
            T::default()
        })
    }

    /// Adds a finding.
    pub(super) fn refuse(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A boolean; absent is false.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.keep(self.conf.flag(key))
    }

    /// A string that follows a type's rule; absent and empty are `None`.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, allowed: &str) -> Option<T> {
        self.keep(self.conf.parsed(key, allowed))
    }

    /// The same, where a delegate cannot do without it: absent and empty are a finding.
    pub(super) fn required<T: FromStr>(&mut self, key: &str, allowed: &str) -> Option<T> {
        match self.conf.parsed(key, allowed) {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                self.refuse(Finding::missing(key, allowed));
                None
            }
            Err(finding) => {
                self.refuse(finding);
                None
            }
        }
    }

    /// A string that a function understands; absent and empty are `None`.
    pub(super) fn checked<T>(&mut self, key: &str, allowed: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.keep(self.conf.decode::<String>(key, allowed)).filter(|text| !text.is_empty())?;
        let value = read(&text);
        if value.is_none() {
            self.refuse(Finding::new(key, format_args!("{text:?}"), allowed));
        }
        value
    }

    /// An integer within a range.
    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        self.keep(integer(self.conf, key, range))
    }

    /// The objects of a list, with their indexes.
    pub(super) fn elements(&mut self, conf: &Object, key: &str) -> Vec<(usize, Object)> {
        let mut findings = Findings::default();
        let elements = conf.elements(key, &mut findings);
        self.findings.extend(Vec::from(findings));
        elements
    }

    /// An MTU in bytes; absent and 0 are `None` and mean the delegate's default.
    pub(super) fn mtu(&mut self) -> Option<u32> {
        const ALLOWED: &str = "0 for the default, or an integer from 68 to 65535";
        match self.keep(self.conf.decode::<i64>("mtu", ALLOWED)) {
            None | Some(0) => None,
            // RFC 791: every link carries 68 bytes. The kernel's limits per kind are within these bounds.
            Some(bytes @ 68..=65_535) => u32::try_from(bytes).ok(),
            Some(other) => {
                self.refuse(Finding::new("mtu", other, ALLOWED));
                None
            }
        }
    }

    /// One word of a table; absent and empty are the first.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, table: &[(&str, T)], default: T) -> T {
        let words = table.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let allowed = format!("one of {words}");
        let read = self.conf.decode::<String>(key, &allowed);
        match self.keep(read) {
            None => default,
            Some(text) if text.is_empty() => default,
            Some(text) => match table.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => *value,
                None => {
                    self.refuse(Finding::new(key, format_args!("{text:?}"), allowed));
                    default
                }
            },
        }
    }

    /// `dns`: what the configuration says about name resolution.
    pub(super) fn dns(&mut self) -> Dns {
        Dns::read(self.conf).unwrap_or_else(|findings| {
            self.findings.extend(findings);
            Dns::default()
        })
    }

    /// `ipMasqBackend`: masquerading is always nftables, in process; a configuration that names a tool still works.
    pub(super) fn masquerade_backend(&mut self) {
        self.choice("ipMasqBackend", &[("iptables", ()), ("nftables", ())], ());
    }

    /// `ipam.type`, where a delegate cannot do without addresses.
    pub(super) fn addresses(&mut self) {
        // What is wrong with the section itself, its own validation says.
        if ipam::configured(self.conf) == Ok(false) {
            self.refuse(Finding::missing("ipam.type", "an IPAM type"));
        }
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Finding>> {
        if self.findings.is_empty() { Ok(value) } else { Err(self.findings) }
    }
}

fn integer(conf: &Object, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Finding> {
    let allowed = format!("an integer from {} to {}", range.start(), range.end());
    let Some(number) = conf.decode::<i64>(key, &allowed)? else { return Ok(None) };
    match u32::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(Finding::new(key, number, allowed)),
    }
}
