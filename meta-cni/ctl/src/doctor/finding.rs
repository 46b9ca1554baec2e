//! What doctor found: an id that stays the same, what is so, and what to do.

use std::fmt::Write;

use attachments::text::printable;
use serde::Serialize;
use serde_json::json;

use crate::style::{Style, Tone};

/// All ids. docs/cli.md says of each what it means.
pub const IDS: [&str; 28] = [
    "D01", "D02", "D03", "D10", "D11", "D12", "D13", "D20", "D21", "D22", "D23", "D24", "D25", "D30", "D31", "D32",
    "D33", "D34", "D40", "D41", "D42", "D43", "D44", "D45", "D46", "D50", "D51", "D60",
];

/// How bad it is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Pods do not get their networks, or something is not released.
    Error,
    /// Some networks do not work, or some will not.
    Warning,
    /// Good to know.
    Info,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its id.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is so.
    pub found: String,
    /// What to do.
    #[serde(rename = "do")]
    pub advice: String,
}

impl Finding {
    /// A finding.
    pub fn new(id: &'static str, severity: Severity, found: impl Into<String>, advice: impl Into<String>) -> Self {
        debug_assert!(IDS.contains(&id), "{id} is not listed");
        Self { id, severity, found: found.into(), advice: advice.into() }
    }
}

/// For people.
pub fn text(findings: &[Finding], style: Style) -> String {
    let mut out = String::new();
    for Finding { id, severity, found, advice } in findings {
        let word = match severity {
            Severity::Error => style.paint(Tone::Bad, "error"),
            Severity::Warning => style.paint(Tone::Warning, "warning"),
            Severity::Info => style.paint(Tone::Strong, "info"),
        };
        let _ = writeln!(out, "{id} {word}: {}\n    {}", printable(found), printable(advice));
    }
    let count = |severity: Severity| findings.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let verdict = match (errors, warnings) {
        (0, 0) => style.paint(Tone::Good, "fit"),
        (0, _) => style.paint(Tone::Warning, "fit, with warnings"),
        _ => style.paint(Tone::Bad, "not fit"),
    };
    let _ = writeln!(out, "{verdict}: {errors} errors, {warnings} warnings");
    out
}

/// For programs.
pub fn json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(&json!({ "findings": findings })).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_two_lines_each_and_a_verdict() {
        let all = [
            Finding::new("D30", Severity::Error, "no\u{1b}[31m file", "make one"),
            Finding::new("D10", Severity::Warning, "off", "on"),
        ];
        let want =
            "D30 error: no\\u001b[31m file\n    make one\nD10 warning: off\n    on\nnot fit: 1 errors, 1 warnings\n";
        assert_eq!(text(&all, Style::Plain), want);
        assert_eq!(text(&all[1..], Style::Plain).lines().last(), Some("fit, with warnings: 0 errors, 1 warnings"));
        assert_eq!(text(&[], Style::Plain), "fit: 0 errors, 0 warnings\n");
    }
}
