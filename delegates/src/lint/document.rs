//! The text of a configuration as a tree that still knows what JSON readers forget: keys that occur twice.

use std::collections::HashMap;

use attachments::cni::object::Entries;
use attachments::definition::LONGEST;
use attachments::finding::{Finding, JsonType, shortened};
use attachments::rule::Rule;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};

/// Deepest nesting of objects and lists.
const DEEPEST: usize = 32;

/// Characters of the text that a syntax error shows.
const SHOWN: usize = 40;

/// The members of an object, with their places by key where there are many: a finding is looked up by its path, and one
/// object may have thousands.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    entries: Vec<(String, Node)>,
    places: Option<HashMap<String, usize>>,
}

impl Members {
    /// More members than are searched one by one.
    const FEW: usize = 16;

    fn of(entries: Vec<(String, Node)>) -> Self {
        let many = entries.len() > Self::FEW;
        let places = many.then(|| entries.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect());
        Self { entries, places }
    }

    fn get(&self, key: &str) -> Option<&Node> {
        let place = match &self.places {
            Some(places) => places.get(key).copied(),
            None => self.entries.iter().position(|(k, _)| k == key),
        };
        place.and_then(|place| self.entries.get(place)).map(|(_, node)| node)
    }
}

/// A value of the document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Keys in their order, each once, the last value as Go's readers take it.
    Object(Members),
    /// A list.
    List(Vec<Node>),
    /// A string.
    Text(String),
    /// A number as written.
    Number(String),
    /// A boolean.
    Bool(bool),
    /// `null`, which Go takes for absent.
    Null,
}

/// Reads a text. What keeps it from being read at all is the one problem; else the problems are duplicate keys and
/// nesting that is too deep, below which nothing is read.
pub fn read(text: &str) -> Result<(Node, Vec<Problem>), Problem> {
    if text.len() > LONGEST {
        let allowed = format!("must be at most {LONGEST} bytes");
        return Err(Problem::of(Rule::ConfigSize, Kind::TooLong, "", text.len(), allowed));
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(syntax(Rule::NoJson, text, &error));
    }
    let mut problems = Vec::new();
    let node = node(text, "", DEEPEST, &mut problems);
    match node {
        Node::Object(_) => Ok((node, problems)),
        other => Err(Problem::of(Rule::NoObject, Kind::Invalid, "", other.kind(), "must be a JSON object")),
    }
}

impl Node {
    /// The keys of an object; of anything else, none.
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => &members.entries,
            _ => &[],
        }
    }

    /// A value of an object; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(key).filter(|node| **node != Self::Null),
            _ => None,
        }
    }

    /// The value at a path as findings have it: `ipam.ranges[0][1].subnet`.
    pub fn at(&self, path: &str) -> Option<&Self> {
        let mut node = self;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            node = match (node, step.strip_suffix(']')) {
                (Self::List(nodes), Some(index)) => nodes.get(index.parse::<usize>().ok()?)?,
                (other, _) => other.get(step)?,
            };
        }
        Some(node)
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, in JSON's words.
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Self::Object(_) => JsonType::Object,
            Self::List(_) => JsonType::Array,
            Self::Text(_) => JsonType::String,
            Self::Number(_) => JsonType::Number,
            Self::Bool(_) => JsonType::Boolean,
            Self::Null => JsonType::Null,
        };
        kind.as_str()
    }

    /// The value as JSON where it has no inside.
    pub fn scalar(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(quoted(text)),
            Self::Number(number) => Some(number.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Null => Some("null".to_owned()),
            Self::Object(_) | Self::List(_) => None,
        }
    }

    fn has_inside(&self) -> bool {
        matches!(self, Self::Object(_) | Self::List(_))
    }

    /// Shows every object with its path, the outermost first.
    pub fn visit<'a>(&'a self, path: &str, see: &mut impl FnMut(&str, &'a [(String, Self)])) {
        match self {
            Self::Object(Members { entries, .. }) => {
                see(path, entries);
                // A path is only written for what has an inside.
                let inner = entries.iter().filter(|(_, node)| node.has_inside());
                inner.for_each(|(key, node)| node.visit(&join(path, key), see));
            }
            Self::List(nodes) => {
                let inner = nodes.iter().enumerate().filter(|(_, node)| node.has_inside());
                inner.for_each(|(i, node)| node.visit(&format!("{path}[{i}]"), see));
            }
            _ => {}
        }
    }
}

/// The path of a key of the object at `path`. A long key is cut: it would be written once for each value below it.
pub fn join(path: &str, key: &str) -> String {
    let key = shortened(key, Finding::SHOWN);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// A text as JSON has it.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn node(text: &str, path: &str, depth: usize, problems: &mut Vec<Problem>) -> Node {
    let text = text.trim_ascii();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => {
            let allowed = format!("must be at most {DEEPEST} levels");
            problems.push(Problem::of(Rule::ConfigSize, Kind::Invalid, path, "deeper nesting", allowed));
            Node::Null
        }
        Some(b'{') => match serde_json::from_str(text) {
            Ok(Entries(entries)) => object(entries, path, depth, problems),
            Err(_) => unreadable(text, path, problems),
        },
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            let each =
                |(i, value): (usize, &&RawValue)| node(value.get(), &format!("{path}[{i}]"), depth - 1, problems);
            Node::List(elements.iter().enumerate().map(each).collect())
        }
        Some(b'"') => match serde_json::from_str(text) {
            Ok(text) => Node::Text(text),
            Err(_) => unreadable(text, path, problems),
        },
        Some(b't') => Node::Bool(true),
        Some(b'f') => Node::Bool(false),
        Some(b'n') | None => Node::Null,
        Some(_) => Node::Number(text.to_owned()),
    }
}

fn object(entries: Vec<(String, &RawValue)>, path: &str, depth: usize, problems: &mut Vec<Problem>) -> Node {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    entries.iter().for_each(|(key, _)| *counts.entry(key).or_default() += 1);
    let mut nodes: Vec<(String, Node)> = Vec::with_capacity(counts.len());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (key, value) in &entries {
        let count = counts.get(key.as_str()).copied().unwrap_or_default();
        let turn = seen.entry(key).or_default();
        *turn += 1;
        if *turn < count {
            continue;
        }
        let at = join(path, key);
        if count > 1 {
            let text = format!("appears {count} times in one object, keep one");
            problems.push(Problem::of(Rule::KeyTwice, Kind::Duplicate, at.as_str(), quoted(key), text));
        }
        nodes.push((key.clone(), node(value.get(), &at, depth - 1, problems)));
    }
    Node::Object(Members::of(nodes))
}

/// A lone surrogate passes as JSON, and readers differ in what they make of it.
fn unreadable(text: &str, path: &str, problems: &mut Vec<Problem>) -> Node {
    problems.push(Problem::of(Rule::NoJson, Kind::Invalid, path, text, "must be JSON whose strings are Unicode"));
    Node::Null
}

/// Where the text stops being JSON: line, column, and what stands there.
pub fn syntax(rule: Rule, text: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let whole: Vec<char> = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().chars().collect();
    // The column counts bytes.
    let bytes = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().as_bytes();
    let at = String::from_utf8_lossy(&bytes[..column.saturating_sub(1).min(bytes.len())]).chars().count();
    let start = at.saturating_sub(SHOWN / 2).min(whole.len());
    let near: String = whole[start..].iter().take(SHOWN).collect();
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or_default().replace('`', "\"");
    let value = format!("line {line} column {} near {}", at + 1, quoted(near.trim()));
    Problem::of(rule, Kind::Invalid, "", value, format!("not valid JSON, {reason}"))
}
