//! Reads a delegate's keys and collects every finding, so that one look at a configuration mends all of it.
//!
//! Keys that a delegate does not know are accepted: configurations carry keys for other tools, and the reference plugins
//! ignore them too.

use std::ops::RangeInclusive;
use std::str::FromStr;

use attachments::cni::object::Object;
use attachments::cni::result::Dns;
use attachments::finding::{Allowed, Finding, Findings};
use attachments::rule::Rule;

use crate::ipam;

/// A configuration that is being read.
pub(super) struct ConfReader<'a> {
    conf: &'a Object,
    findings: Findings,
}

/// A key, and the rule that its value breaks when it is wrong, where there is one: `"port"`, or `("vni", Rule::Vni)`.
#[derive(Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    rule: Option<Rule>,
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Self {
        Self { name, rule: None }
    }
}

impl From<(&'static str, Rule)> for Key {
    fn from((name, rule): (&'static str, Rule)) -> Self {
        Self { name, rule: Some(rule) }
    }
}

impl Key {
    fn wrong(self, finding: Finding) -> Finding {
        match self.rule {
            Some(rule) => finding.of(rule),
            None => finding,
        }
    }
}

impl<'a> ConfReader<'a> {
    pub(super) fn of(conf: &'a Object) -> Self {
        Self { conf, findings: Findings::default() }
    }

    /// Takes what was read, or its default when it was wrong; the finding is kept.
    pub(super) fn keep<T: Default>(&mut self, read: Result<T, Finding>) -> T {
        self.findings.keep(read)
    }

    /// The same for a part that collects its own findings.
    pub(super) fn keep_all<T: Default>(&mut self, read: Result<T, Vec<Finding>>) -> T {
        self.findings.keep_all(read)
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
    pub(super) fn parsed<T: FromStr>(&mut self, key: impl Into<Key>, allowed: impl Into<Allowed>) -> Option<T> {
        let key = key.into();
        self.keep(self.conf.parsed(key.name, allowed).map_err(|finding| key.wrong(finding)))
    }

    /// Is the key there?
    pub(super) fn has(&self, key: &str) -> bool {
        self.conf.get(key).is_some()
    }

    /// The same, where a delegate cannot do without it: absent and empty are a finding.
    pub(super) fn required<T: FromStr>(&mut self, key: impl Into<Key>, allowed: &'static str) -> Option<T> {
        let key = key.into();
        let read = self.conf.parsed(key.name, allowed);
        let read = read.and_then(|read| read.ok_or_else(|| Finding::missing(key.name, allowed)));
        self.keep(read.map(Some).map_err(|finding| key.wrong(finding)))
    }

    /// A string that a function understands; absent and empty are `None`.
    pub(super) fn checked<T>(
        &mut self,
        key: &'static str,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.keep(self.conf.decode::<String>(key, allowed)).filter(|text| !text.is_empty())?;
        let value = read(&text);
        if value.is_none() {
            self.refuse(Finding::new(key, format_args!("{text:?}"), allowed));
        }
        value
    }

    /// An integer within a range.
    pub(super) fn integer(&mut self, key: impl Into<Key>, range: RangeInclusive<u32>) -> Option<u32> {
        let key = key.into();
        self.keep(integer(self.conf, key.name, range).map_err(|finding| key.wrong(finding)))
    }

    /// The objects of a list, with their indexes.
    pub(super) fn elements(&mut self, conf: &Object, key: &str) -> Vec<(usize, Object)> {
        conf.elements(key, &mut self.findings)
    }

    /// An MTU in bytes; absent and 0 are `None` and mean the delegate's default.
    pub(super) fn mtu(&mut self) -> Option<u32> {
        const ALLOWED: Allowed = Allowed::number("0 for the default, or an integer from 68 to 65535");
        let read = match self.conf.decode::<i64>("mtu", ALLOWED) {
            Ok(None | Some(0)) => Ok(None),
            // RFC 791: every link carries 68 bytes. The kernel's limits per kind are within these bounds.
            Ok(Some(bytes @ 68..=65_535)) => Ok(u32::try_from(bytes).ok()),
            Ok(Some(other)) => Err(Finding::new("mtu", other, ALLOWED)),
            Err(finding) => Err(finding),
        };
        self.keep(read.map_err(|finding| finding.of(Rule::Mtu)))
    }

    /// One word of a table; absent and empty are the default.
    pub(super) fn choice<T: Copy>(&mut self, key: impl Into<Key>, table: &[(&'static str, T)], default: T) -> T {
        let key = key.into();
        let Some(value) = self.conf.get(key.name) else { return default };
        let text = serde_json::from_str::<String>(value.get()).ok();
        let found = match text.as_deref() {
            Some("") => Some(default),
            Some(text) => table.iter().find(|(word, _)| *word == text).map(|(_, value)| *value),
            None => None,
        };
        found.unwrap_or_else(|| {
            let shown = text.map_or_else(|| value.get().to_owned(), |text| format!("{text:?}"));
            let allowed = Allowed::OneOf(table.iter().map(|(word, _)| *word).collect());
            self.refuse(key.wrong(Finding::new(key.name, shown, allowed)));
            default
        })
    }

    /// `dns`: what the configuration says about name resolution.
    pub(super) fn dns(&mut self) -> Dns {
        self.keep_all(Dns::read(self.conf))
    }

    /// `ipMasqBackend`: masquerading is always nftables, in process; a configuration that names a tool still works.
    pub(super) fn masquerade_backend(&mut self) {
        self.choice("ipMasqBackend", &[("iptables", ()), ("nftables", ())], ());
    }

    /// `ipam.type`, where a delegate cannot do without addresses.
    pub(super) fn addresses(&mut self) {
        const ALLOWED: Allowed =
            Allowed::told("an IPAM type", "the plugin needs addresses: an IPAM type, for example \"host-local\"");
        // What is wrong with the section itself, its own validation says.
        if ipam::configured(self.conf) == Ok(false) {
            self.refuse(Finding::missing("ipam.type", ALLOWED).of(Rule::NoAddresses));
        }
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Finding>> {
        self.findings.finish(value)
    }

    /// The value, if nothing was wrong. What a required key lacks is found already.
    pub(super) fn finish_required<T>(self, value: Option<T>) -> Result<T, Vec<Finding>> {
        match value {
            Some(value) => self.finish(value),
            None => Err(self.findings.into()),
        }
    }
}

fn integer(conf: &Object, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Finding> {
    let allowed = || Allowed::Integer((*range.start()).into(), (*range.end()).into());
    let Some(number) = conf.decode::<i64>(key, allowed())? else { return Ok(None) };
    match u32::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(Finding::new(key, number, allowed())),
    }
}
