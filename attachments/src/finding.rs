//! One thing that is wrong with some input, said so that its author can mend it.

use std::fmt;

/// A field, the value that was found there, and what is allowed instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path of the field from the top of the document, for example `plugins[0].vni`.
    pub path: String,
    /// The offending value as it was written, cut to [`Finding::SHOWN`] characters; empty when the field is missing.
    pub value: String,
    /// What would have been accepted, in words that follow "want": `an integer from 1 to 16777215`.
    pub allowed: String,
}

impl Finding {
    /// Longest value quoted in a message, in characters: kubelet's events are cut at 1024.
    pub const SHOWN: usize = 120;

    /// A finding about a value that is present.
    pub fn new(path: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        let value = value.to_string();
        let shown = match value.char_indices().nth(Self::SHOWN) {
            Some((end, _)) => format!("{}...", &value[..end]),
            None => value,
        };
        Self { path: path.into(), value: shown, allowed: allowed.into() }
    }

    /// A finding about a field that is required and absent.
    pub fn missing(path: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { path: path.into(), value: String::new(), allowed: allowed.into() }
    }

    /// The same finding seen from an enclosing document: `prefix` is put in front of the path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix, self.path.as_str()) {
            ("", _) => self.path,
            (_, "") => prefix.to_owned(),
            (_, path) if path.starts_with('[') => format!("{prefix}{path}"),
            (_, path) => format!("{prefix}.{path}"),
        };
        self
    }
}

/// Findings as they are collected: one look at a document shows all that is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one, unless it is said already: several readers may look at one section.
    pub fn push(&mut self, finding: Finding) {
        if !self.0.contains(&finding) {
            self.0.push(finding);
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
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

impl Extend<Finding> for Findings {
    fn extend<I: IntoIterator<Item = Finding>>(&mut self, findings: I) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }
}

impl From<Findings> for Vec<Finding> {
    fn from(findings: Findings) -> Self {
        findings.0
    }
}

/// All findings of a part of a document, seen from the document.
pub fn under(prefix: &str, findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().map(|finding| finding.under(prefix)).collect()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: missing, want {}", self.path, self.allowed)
        } else {
            write!(f, "{}: got {}, want {}", self.path, self.value, self.allowed)
        }
    }
}

impl std::error::Error for Finding {}
