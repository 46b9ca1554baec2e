//! One thing that is wrong with some input, said so that its author can mend it.

mod allowed;

use std::collections::HashSet;
use std::fmt;

pub use allowed::{Allowed, Conflict, JsonType};

use crate::rule::Rule;

/// A field, the value that was found there, what is allowed instead, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Path of the field from the top of the document, for example `plugins[0].vni`.
    pub path: String,
    /// The offending value as it was written, its middle cut out beyond [`Finding::SHOWN`] characters; empty when the field
    /// is missing.
    pub value: String,
    /// What would have been accepted. Boxed, for results carry findings by value.
    pub allowed: Box<Allowed>,
    /// The rule that it breaks; absent where a delegate speaks of what no rule is about.
    pub rule: Option<Rule>,
}

impl Finding {
    /// Longest value quoted in a message, in characters. People see the beginning of an event: network, field, value and
    /// the first words of what is allowed stand within 200.
    pub const SHOWN: usize = 60;

    /// A finding about a value that is present.
    pub fn new(path: impl Into<String>, value: impl fmt::Display, allowed: impl Into<Allowed>) -> Self {
        let value = shortened(&value.to_string(), Self::SHOWN);
        Self { path: path.into(), value, allowed: Box::new(allowed.into()), rule: None }
    }

    /// A finding about a value that could not be read as what it should be. A value of another JSON type than what is allowed
    /// breaks the rule about types.
    pub fn unread(path: impl Into<String>, json: &str, allowed: impl Into<Allowed>) -> Self {
        let finding = Self::new(path, json, allowed);
        let is_of_type = finding.allowed.json_type().is_none_or(|kind| kind == JsonType::of(json));
        if is_of_type { finding } else { finding.of(Rule::JsonType) }
    }

    /// A finding about a field that is required and absent.
    pub fn missing(path: impl Into<String>, allowed: impl Into<Allowed>) -> Self {
        Self { path: path.into(), value: String::new(), allowed: Box::new(allowed.into()), rule: None }
    }

    /// Names the rule that it breaks, unless that is known already: a reader knows what is wrong with a value's type before its
    /// caller knows what the value is for.
    #[must_use]
    pub fn of(mut self, rule: Rule) -> Self {
        self.rule = self.rule.or(Some(rule));
        self
    }

    /// Names the rule that it breaks, whatever its reader took it for: the fields of an annotation have rules of their own.
    #[must_use]
    pub fn by(self, rule: Rule) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// The same finding seen from an enclosing document: `prefix` is put in front of the path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix, self.path.as_str()) {
            ("", _) => self.path,
            (_, "") => prefix.to_owned(),
            (_, path) if path.starts_with('[') => format!("{prefix}{path}"),
            // A file that belongs to the document.
            (_, path) if path.starts_with('/') => format!("{prefix}: {path}"),
            (_, path) => format!("{prefix}.{path}"),
        };
        self
    }
}

/// A text of at most so many characters, three at least: of a longer one the beginning and, for a cause often comes last,
/// a longer end.
pub fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(3);
    let (head, tail) = (kept * 2 / 5, kept - kept * 2 / 5);
    text.chars().take(head).chain("...".chars()).chain(text.chars().skip(length - tail)).collect()
}

/// Findings as they are collected: one look at a document shows all that is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    said: HashSet<Finding>,
}

impl Findings {
    /// Nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one, unless it is said already: several readers may look at one section.
    pub fn push(&mut self, finding: Finding) {
        if self.said.insert(finding.clone()) {
            self.list.push(finding);
        }
    }

    /// Takes what was read, or its default when it was wrong; the finding is kept.
    pub fn keep<T: Default>(&mut self, read: Result<T, Finding>) -> T {
        self.keep_all(read.map_err(|finding| vec![finding]))
    }

    /// The same for a part that collects its own findings.
    pub fn keep_all<T: Default>(&mut self, read: Result<T, Vec<Finding>>) -> T {
        read.unwrap_or_else(|findings| {
            self.extend(findings);
            T::default()
        })
    }

    /// The value, if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<Finding>> {
        if self.list.is_empty() { Ok(value) } else { Err(self.list) }
    }
}

impl Extend<Finding> for Findings {
    fn extend<I: IntoIterator<Item = Finding>>(&mut self, findings: I) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }
}

impl From<Findings> for Vec<Finding> {
    fn from(findings: Findings) -> Self {
        findings.list
    }
}

/// All findings of a part of a document, seen from the document.
pub fn under(prefix: &str, findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().map(|finding| finding.under(prefix)).collect()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Allowed::Conflict(conflict) = &*self.allowed {
            match conflict {
                Conflict::Overlaps(_) => write!(f, "{}: {} {conflict}", self.path, self.value),
                Conflict::With(_) | Conflict::Requires { .. } => write!(f, "{} {conflict}", self.path),
            }
        } else if self.value.is_empty() {
            write!(f, "{}: missing, want {}", self.path, self.allowed)
        } else {
            write!(f, "{}: got {}, want {}", self.path, self.value, self.allowed)
        }
    }
}

impl std::error::Error for Finding {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("0123456789abcdef", 13), "0123...abcdef");
        assert_eq!(shortened(&"ä".repeat(9), 8), "ää...äää");
        let value = format!("\"{}\"", "x".repeat(5000));
        let text = Finding::new("plugins[0].vni", value, "an integer").under("/etc/x").to_string();
        assert!(
            text.starts_with("/etc/x.plugins[0].vni: got \"xxx") && text.ends_with("xxx\", want an integer"),
            "{text}"
        );
        assert!(text.len() < 120, "{text}");
    }

    #[test]
    fn a_conflict_has_a_form_of_its_own() {
        let said = |allowed| Finding::new("a", "7-9", allowed).under("conf").to_string();
        assert_eq!(said(Allowed::without("b")), "conf.a cannot be combined with b");
        assert_eq!(said(Allowed::requires("b", "a path")), "conf.a requires b to be a path");
        assert_eq!(said(Allowed::apart_from("8-12")), "conf.a: 7-9 overlaps 8-12");
    }

    #[test]
    fn a_value_of_another_type_breaks_the_rule_about_types_whatever_it_is_for() {
        let read = |json| Finding::unread("vni", json, Allowed::Integer(1, 9)).of(Rule::Vni).rule;
        assert_eq!(read("\"5\""), Some(Rule::JsonType));
        assert_eq!(read("1.5"), Some(Rule::Vni));
    }

    #[test]
    fn a_file_is_named_behind_what_it_belongs_to() {
        let finding = Finding::missing("type", "a name").under("/etc/x.conf").under("clusterNetwork");
        assert_eq!(finding.path, "clusterNetwork: /etc/x.conf.type");
    }
}
