//! What breaks a rule, and its words: the same at `kubectl apply`, in lint and at ADD.

use std::fmt;

use super::level::Level;
use super::spec::Mode;

/// Whose rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyName {
    /// An AttachmentPolicy.
    Policy(String),
    /// The level of the namespace.
    Level(Level),
}

impl PolicyName {
    /// Is it a rule of the namespace's level?
    pub fn is_of_level(&self) -> bool {
        matches!(self, Self::Level(_))
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "policy {name:?}"),
            Self::Level(level) => write!(f, "level {:?}", level.as_str()),
        }
    }
}

/// The kind of a violation, as Kubernetes names those of field errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The value may not be so.
    Forbidden,
    /// There must be a value.
    Required,
    /// There are too many values.
    TooMany,
    /// There are too few values.
    Invalid,
    /// The value is there before.
    Duplicate,
}

impl Kind {
    /// The words of Kubernetes' field errors.
    pub fn words(self) -> &'static str {
        match self {
            Self::Forbidden => "Forbidden",
            Self::Required => "Required value",
            Self::TooMany => "Too many",
            Self::Invalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
        }
    }
}

/// One rule that does not hold. Prints as `spec.config.plugins[0].vni: Forbidden: 5000: policy "tenant-a" rule "vni-pool" allows
/// 4000-4099`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Path of the offending field from the top of the object.
    pub path: String,
    /// What is wrong with it.
    pub kind: Kind,
    /// Its value as JSON, cut; empty where there is none.
    pub value: String,
    /// Whose rule.
    pub policy: PolicyName,
    /// The rule's name.
    pub rule: String,
    /// What is allowed.
    pub allowed: String,
    /// The rule's own sentence.
    pub message: Option<String>,
    /// What follows.
    pub mode: Mode,
}

impl Violation {
    /// What is behind the value: whose rule it is and what is allowed.
    pub fn text(&self) -> String {
        let message = self.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        format!("{} rule {:?} allows {}{message}", self.policy, self.rule, self.allowed)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.path, self.kind.words())?;
        if !self.value.is_empty() {
            write!(f, "{}: ", self.value)?;
        }
        f.write_str(&self.text())
    }
}
