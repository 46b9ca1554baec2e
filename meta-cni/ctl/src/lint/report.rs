//! The findings of lint, as text and as JSON.

use std::fmt::Write as _;

use attachments::selection::NETWORKS;
use attachments::text::printable;
use delegates::lint::{CONFIG, Problem, Severity};
use serde::Serialize;

/// The findings in all files.
#[derive(Clone, Debug)]
pub struct LintReport {
    /// The number of files that were checked.
    pub files: usize,
    /// In the order of files and documents.
    pub remarks: Vec<LintedProblem>,
}

/// One problem and its place.
#[derive(Clone, Debug)]
pub struct LintedProblem {
    /// The file as it was named.
    pub file: String,
    /// The object as `namespace/name`; absent for a CNI configuration.
    pub object: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

impl LintReport {
    /// How many problems deny.
    pub fn denied(&self) -> usize {
        self.count(Severity::Deny)
    }

    /// How many problems only warn.
    pub fn warned(&self) -> usize {
        self.count(Severity::Warn)
    }

    fn count(&self, severity: Severity) -> usize {
        self.remarks.iter().filter(|remark| remark.problem.severity == severity).count()
    }

    /// A line for each problem: file, object, field, problem.
    pub fn human(&self) -> String {
        let networks = format!("metadata.annotations[{NETWORKS}]");
        let mut text = String::new();
        for LintedProblem { file, object, problem } in &self.remarks {
            let object = object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
            let warning = if problem.severity == Severity::Warn { "warning: " } else { "" };
            // The two most frequent fields have short names.
            let problem = match problem.path.strip_prefix(CONFIG) {
                Some(inside) => Problem { path: format!("cfg{inside}"), ..problem.clone() },
                None => Problem { path: problem.path.replace(&networks, "nets"), ..problem.clone() },
            };
            let _ = writeln!(text, "{}", printable(&format!("{file}: {object}{warning}{problem}")));
        }
        text
    }

    /// One JSON object; `unreadable` are files that are not in the report, each with the reason.
    pub fn json(&self, unreadable: &[(String, String)]) -> String {
        let findings = self.remarks.iter().map(|LintedProblem { file, object, problem }| Finding {
            file,
            object: object.as_deref(),
            field: &problem.path,
            rule: problem.rule,
            severity: problem.severity,
            message: problem.message(),
        });
        let unreadable = unreadable.iter().map(|(file, error)| Unreadable { file, error });
        let output = Output {
            files: self.files,
            denied: self.denied(),
            warned: self.warned(),
            findings: findings.collect(),
            unreadable: unreadable.collect(),
        };
        // Plain data with string keys always serialises.
        serde_json::to_string_pretty(&output).unwrap_or_default() + "\n"
    }
}

#[derive(Serialize)]
struct Output<'a> {
    files: usize,
    denied: usize,
    warned: usize,
    findings: Vec<Finding<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<Unreadable<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    field: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'a str,
    severity: Severity,
    message: String,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    file: &'a str,
    error: &'a str,
}
