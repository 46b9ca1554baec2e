//! What is wrong with a network's configuration, as far as its text shows it: for `meta-cnictl lint` and for admission.
//!
//! Pure. The rules are [`attachments::rule`]; docs/lint.md lists them. `document` reads the text, `network` checks the shape
//! of a configuration or list, every plugin that is built in validates its own part, and `judge` puts its findings into the
//! words of admission. What passes without a denial is what [`NetworkConf::parse`] and the delegates accept.

mod advice;
mod document;
mod judge;
mod keys;
mod nearest;
mod network;
mod plugin;
mod pod;
mod problem;
mod reach;
#[cfg(test)]
mod tests;

pub use advice::resource;
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::names::is_label;
pub use attachments::rule::{Rule, Severity};
pub use judge::found;
pub use nearest::nearest;
pub use network::Origin;
pub use pod::{annotations, annotations_within};
pub use problem::{Kind, Problem};
use serde_json::Value;

use crate::spelling;

/// Where a definition has its configuration.
pub const CONFIG: &str = "spec.config";

/// Everything that is wrong with a configuration or a list.
///
/// ```
/// use delegates::lint::{self, Origin};
///
/// let problems = lint::config(r#"{"cniVersion": "1.0.0", "name": "lan", "type": "ipvlan", "mode": "l4"}"#, Origin::File);
/// let ids: Vec<&str> = problems.iter().filter_map(|problem| problem.rule).map(|rule| rule.id()).collect();
/// assert!(ids.contains(&"N22"), "{ids:?}");
/// ```
pub fn config(text: &str, origin: Origin) -> Vec<Problem> {
    let (document, mut problems) = match document::read(text) {
        Ok(read) => read,
        Err(problem) => return vec![problem],
    };
    if problems.iter().any(|problem| problem.rule == Some(Rule::NoJson)) {
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
        problems.push(judge::problem(finding, &document));
    }
    problems
}

/// Everything that is wrong with a NetworkAttachmentDefinition, by paths of the object. `name` is absent while the API
/// server has not made one up yet; `spec` is as the object has it.
pub fn definition(name: Option<&str>, spec: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(name) = name.filter(|name| !is_label(name)) {
        let text = "pods must use the JSON form; a-z, 0-9 and \"-\" also work in the short form";
        problems.push(Problem::of(Rule::DefinitionName, Kind::Invalid, "metadata.name", document::quoted(name), text));
    }
    let wrong = |path, value: &Value, text| {
        let shown = if value.is_object() || value.is_array() { String::new() } else { value.to_string() };
        Problem::of(Rule::JsonType, Kind::Invalid, path, shown, text)
    };
    match (spec, &spec["config"]) {
        (Value::Object(_), Value::String(text)) if !text.trim().is_empty() => {
            problems.extend(config(text, Origin::Definition).into_iter().map(|problem| problem.under(CONFIG)));
        }
        (Value::Object(_) | Value::Null, Value::String(_) | Value::Null) => {
            let text = "put the CNI configuration here; an empty value loads a file from each node";
            problems.push(Problem::of(Rule::EmptyConfig, Kind::Required, CONFIG, "", text));
        }
        (Value::Object(_), other) => problems.push(wrong(CONFIG, other, "must be a string that holds JSON")),
        _ => problems.push(wrong("spec", spec, "must be an object")),
    }
    problems
}
