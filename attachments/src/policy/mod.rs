//! What administrators forbid tenants beyond what is wrong anyway: AttachmentPolicies, and the levels of namespaces, which are policies
//! too. Pure.
//!
//! [`spec`] holds the objects as people write them, `canon` turns a definition or a pod's attachment into the [`Document`] that a rule
//! sees, [`compile()`] reads the rules once, [`Violation`] says what breaks them. [`Verdict`] is all of it for one pod, from the facts that
//! a node has at ADD. Admission, lint and ADD use the same functions, so one rule has one meaning and one text.
//!
//! A JSONPath only selects; a typed operator asserts. The paths are read by the crate `jsonpath-rust` and walked here: its own
//! walk knows no bound, tells keys apart that Go's decoder takes for the same, applies a filter within `||` to the wrong nodes, and would
//! bring a second engine of regular expressions into the plugin.

mod assertion;
mod canon;
mod compile;
mod document;
mod level;
mod path;
mod select;
mod selector;
pub mod spec;
mod strict;
mod subnets;
#[cfg(test)]
mod tests;
mod verdict;
mod violation;

pub use compile::{CompiledPolicy, Flaw, compile};
pub use document::{Document, Labels, Nad, Pod, Request};
pub use level::{LEVEL, Level};
pub use verdict::{Facts, Judged, PolicyError, Verdict};
pub use violation::{Kind, PolicyName, Violation};
