//! What is wrong with a network's configuration, as far as its text shows it: for `meta-cnictl lint` and for admission.
//!
//! Pure. The rules and their numbers are in docs/lint.md. [`document`] reads the text, [`network`] checks the shape of a
//! configuration or list, every plugin that is built in validates its own part, and [`words`] puts what it says into the
//! words of the rules. What passes without a denial is what [`NetworkConf::parse`] and the delegates accept.

mod document;
mod keys;
mod network;
mod pod;
mod reach;
#[cfg(test)]
mod tests;
mod words;
#[cfg(test)]
mod worst;

use std::fmt;

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::is_label;
use serde::Serialize;
use serde_json::Value;

pub use pod::annotations;

use crate::spelling;

/// Where a definition has its configuration.
pub const CONFIG: &str = "spec.config";

/// What follows from a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, and probably not as meant.
    Warn,
    /// No pod could be attached, or not to what was meant.
    Deny,
}

/// The kind of a problem, as Kubernetes names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A field is missing.
    Required,
    /// A value does not follow its rule.
    Invalid,
    /// A value is none of a list.
    Unsupported,
    /// A key occurs twice, in one spelling or in two.
    Duplicate,
    /// A value that could be, and must not.
    Forbidden,
    /// A name that leads nowhere.
    NotFound,
    /// A list that is too long.
    TooMany,
    /// A text that is too long.
    TooLong,
    /// A remark: the text alone.
    Remark,
}

/// One thing that a rule says about a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The rule of docs/lint.md, for example "N07"; empty where a delegate speaks of what no rule is about.
    pub rule: &'static str,
    /// What follows.
    pub severity: Severity,
    /// What kind of problem it is.
    pub kind: Kind,
    /// Path of the field; empty for the document itself.
    pub path: String,
    /// The value as JSON, cut; empty where there is none or it tells nothing.
    pub value: String,
    /// What is allowed, or what to do.
    pub text: String,
}

impl Kind {
    /// The words of Kubernetes' field errors.
    pub fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid => "Invalid value",
            Self::Unsupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not found",
            Self::TooMany => "Too many",
            Self::TooLong => "Too long",
            Self::Remark => "",
        }
    }

    /// The reason of a cause in a Status object (`metav1.CauseType`).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid | Self::Remark => "FieldValueInvalid",
            Self::Unsupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TooMany => "FieldValueTooMany",
            Self::TooLong => "FieldValueTooLong",
        }
    }
}

impl Problem {
    /// A problem that denies.
    pub fn deny(
        rule: &'static str,
        kind: Kind,
        path: impl Into<String>,
        value: impl fmt::Display,
        text: impl Into<String>,
    ) -> Self {
        // Findings know how much of a value is shown.
        let Finding { path, value, allowed: text } = Finding::new(path, value, text);
        Self { rule, severity: Severity::Deny, kind, path, value, text }
    }

    /// A remark that warns.
    pub fn remark(rule: &'static str, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, ..Self::deny(rule, Kind::Remark, path, "", text) }
    }

    /// The same problem, which only warns.
    #[must_use]
    pub(crate) fn warns(self) -> Self {
        Self { severity: Severity::Warn, ..self }
    }

    /// The same problem seen from an enclosing document.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        let Finding { path, .. } = Finding::missing(self.path, "").under(prefix);
        Self { path, ..self }
    }

    /// Everything but the field: `Invalid value: "x": must be a number [N19]`.
    pub fn message(&self) -> String {
        let parts = [self.kind.words(), &self.value, &self.text].into_iter().filter(|part| !part.is_empty());
        let text = parts.collect::<Vec<_>>().join(": ");
        if self.rule.is_empty() { text } else { format!("{text} [{}]", self.rule) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message()),
            path => write!(f, "{path}: {}", self.message()),
        }
    }
}

/// Where a configuration stands: what may be left out depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a NetworkAttachmentDefinition, whose name the network has when it says none.
    Definition,
    /// In a file of the node, whose list may be completed by a directory beside it.
    File,
}

/// Everything that is wrong with a configuration or a list.
pub fn config(text: &str, origin: Origin) -> Vec<Problem> {
    let (document, mut problems) = match document::read(text) {
        Ok(read) => read,
        Err(problem) => return vec![problem],
    };
    if problems.iter().any(|problem| problem.rule == document::SYNTAX) {
        return problems;
    }
    let written = Object::parse(text.as_bytes()).unwrap_or_default();
    let respelled = spelling::respell_document(&written, &mut |slip| problems.extend(keys::slip(slip)));
    // From here on keys are what their readers take them for.
    let document = match &respelled {
        Some(respelled) => document::read(&respelled.to_json()).map_or(document, |(document, _)| document),
        None => document,
    };
    problems.extend(network::check(&document, respelled.unwrap_or(written), origin));
    let is_denied = problems.iter().any(|problem| problem.severity == Severity::Deny);
    // No rule denies it: then the engine must be able to read it, whatever the rules have overlooked.
    if !is_denied && let Err(finding) = NetworkConf::parse(text.as_bytes()) {
        problems.push(words::plain(finding, &document));
    }
    problems
}

/// Everything that is wrong with a NetworkAttachmentDefinition, by paths of the object. `name` is absent while the API
/// server has not made one up yet; `spec` is as the object has it.
pub fn definition(name: Option<&str>, spec: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(name) = name.filter(|name| !is_label(name)) {
        let text = "pods must use the JSON form; a-z, 0-9 and \"-\" also work in the short form";
        problems.push(Problem::deny("N10", Kind::Invalid, "metadata.name", document::quoted(name), text).warns());
    }
    let wrong = |path, value: &Value, text| {
        let shown = if value.is_object() || value.is_array() { String::new() } else { value.to_string() };
        Problem::deny("N19", Kind::Invalid, path, shown, text)
    };
    match (spec, &spec["config"]) {
        (Value::Object(_), Value::String(text)) if !text.trim().is_empty() => {
            problems.extend(config(text, Origin::Definition).into_iter().map(|problem| problem.under(CONFIG)));
        }
        (Value::Object(_) | Value::Null, Value::String(_) | Value::Null) => {
            let text = "put the CNI configuration here; an empty value loads a file from each node";
            problems.push(Problem::deny("N01", Kind::Required, CONFIG, "", text).warns());
        }
        (Value::Object(_), other) => problems.push(wrong(CONFIG, other, "must be a string that holds JSON")),
        _ => problems.push(wrong("spec", spec, "must be an object")),
    }
    problems
}
