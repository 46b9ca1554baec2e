//! What a rule says about a field, as Kubernetes says what is wrong with one.

use std::fmt;

use attachments::finding::Finding;
use attachments::rule::{Rule, Severity};

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
    /// The rule; absent where a delegate speaks of what no rule is about.
    pub rule: Option<Rule>,
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
    /// A problem of the rule's severity.
    pub fn of(
        rule: Rule,
        kind: Kind,
        path: impl Into<String>,
        value: impl fmt::Display,
        text: impl Into<String>,
    ) -> Self {
        Self { rule: Some(rule), severity: rule.severity(), ..Self::unruled(kind, path, value, text) }
    }

    /// A problem that no rule is about: it denies.
    pub fn unruled(kind: Kind, path: impl Into<String>, value: impl fmt::Display, text: impl Into<String>) -> Self {
        // Findings know how much of a value is shown.
        let Finding { path, value, .. } = Finding::new(path, value, "");
        Self { rule: None, severity: Severity::Deny, kind, path, value, text: text.into() }
    }

    /// A remark that warns.
    pub fn remark(rule: Rule, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::of(rule, Kind::Remark, path, "", text).warns()
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
        match self.rule {
            Some(rule) => format!("{text} [{}]", rule.id()),
            None => text,
        }
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
