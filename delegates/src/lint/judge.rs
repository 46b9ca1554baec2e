//! Findings of delegates and parsers as problems: the same field, value and rule, in the words of admission.

use attachments::finding::{Allowed, Conflict, Finding, JsonType};
use attachments::rule::Rule;

use super::document::{Node, quoted};
use super::problem::{Kind, Problem};

/// A finding about an object that is none of a delegate's.
pub fn found(finding: Finding) -> Problem {
    problem(finding, &Node::Null)
}

/// A finding by its path in the document.
pub fn problem(finding: Finding, document: &Node) -> Problem {
    let node = document.at(&finding.path);
    if let (Some(Rule::JsonType), Some(node)) = (finding.rule, node) {
        return wrong_type(&finding.path, node, &finding.allowed);
    }
    let Finding { path, value, allowed, rule } = finding;
    let kind = kind(&value, &allowed, rule);
    let shown = match kind {
        Kind::Required => String::new(),
        _ => node.and_then(Node::scalar).unwrap_or_else(|| as_json(value)),
    };
    let text = text(&allowed, kind);
    match rule {
        Some(rule) => Problem::of(rule, kind, path, shown, text),
        None => Problem::unruled(kind, path, shown, text),
    }
}

/// A value of another JSON type than its key has.
pub fn wrong_type(path: &str, node: &Node, allowed: &Allowed) -> Problem {
    let quotes = |words: &str| format!("must be {words}, remove the quotes");
    let text = match (node, allowed.json_type()) {
        (Node::Text(text), Some(JsonType::Number)) if text.parse::<f64>().is_ok() => quotes("a number"),
        (Node::Text(text), Some(JsonType::Boolean)) if text == "true" || text == "false" => quotes("true or false"),
        _ => format!("must be {allowed}"),
    };
    let value = node.scalar().unwrap_or_else(|| node.kind().to_owned());
    Problem::of(Rule::JsonType, Kind::Invalid, path, value, text)
}

fn kind(value: &str, allowed: &Allowed, rule: Option<Rule>) -> Kind {
    match allowed {
        _ if value.is_empty() => Kind::Required,
        _ if rule == Some(Rule::InterfaceLength) => Kind::TooLong,
        Allowed::OneOf(_) => Kind::Unsupported,
        Allowed::Conflict(Conflict::With(_) | Conflict::Requires { .. }) => Kind::Forbidden,
        Allowed::Words(_)
        | Allowed::Told { .. }
        | Allowed::Typed(..)
        | Allowed::Integer(..)
        | Allowed::AddressIn(_)
        | Allowed::Conflict(Conflict::Overlaps(_)) => Kind::Invalid,
    }
}

fn text(allowed: &Allowed, kind: Kind) -> String {
    match allowed {
        Allowed::Told { told, .. } => told.clone().into_owned(),
        // What a field is to hold, without a value that it must not be.
        _ if kind == Kind::Required => allowed.to_string(),
        Allowed::OneOf(words) => {
            let mut words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            words.sort();
            format!("supported values: {}", words.join(", "))
        }
        Allowed::AddressIn(subnet) => format!("must be inside {subnet}"),
        // The other one stands in the same section.
        Allowed::Conflict(Conflict::Overlaps(other)) => {
            format!("overlaps {}", other.strip_prefix("ipam.").unwrap_or(other))
        }
        Allowed::Conflict(conflict) => conflict.to_string(),
        Allowed::Words(_) | Allowed::Typed(..) | Allowed::Integer(..) => format!("must be {allowed}"),
    }
}

/// Delegates quote what is text in JSON and nothing else.
fn as_json(value: String) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok();
    if is_json { value } else { quoted(&value) }
}
