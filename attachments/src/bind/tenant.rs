//! Checks a tenant's text: it must not start a meta plugin or a program that is not in the node's list, nor touch a file of
//! the node outside the roots.

use std::fmt;
use std::path::{Component, Path};

use serde_json::value::RawValue;

use super::Rules;
use crate::cni::conf::PluginConf;
use crate::cni::object::{Entries, Object, fold};
use crate::finding::{Finding, shortened};
use crate::meta_plugins::{is_meta, is_ours};
use crate::rule::Rule;

/// A plugin or address management type that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The type.
    pub kind: &'static str,
    /// The keys whose values are paths of the node.
    pub path_keys: &'static [&'static str],
    /// The node runs the type in process. Otherwise it is an external program, which may take any text for a path.
    pub is_on: bool,
}

/// A path in a definition's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPath {
    /// The path as written: absolute, without `..`.
    pub path: String,
    /// Its field, for a [`Finding`].
    pub field: String,
}

/// Deeper nesting than any plugin's. A recursive search needs a limit, or a tenant could exhaust the stack.
const DEEPEST: usize = 32;

/// Keys of objects, and of lists of objects, that configure another plugin.
const DELEGATES: [&str; 4] = ["ipam", "delegate", "delegates", "plugins"];

/// Checks one plugin's configuration against the rules. Its paths lie below the roots as text; the caller resolves symbolic
/// links.
pub(super) fn check(plugin: &PluginConf, at: &str, rules: &Rules) -> Result<Vec<TenantPath>, Finding> {
    let mut reader = Reader::of(&[plugin], rules);
    reader.kind("type", plugin.kind.as_str(), true).map_err(|finding| finding.under(at))?;
    for (key, value) in plugin.object.iter().filter(|(key, _)| !is_of_runtime(key)) {
        reader.read(value, &At::top(at, key), DEEPEST, true)?;
    }
    Ok(reader.paths)
}

/// Checks the arguments that a pod gives to a chain: they are a tenant's text also for the node's own configuration.
pub(super) fn check_args(
    args: &Object,
    plugins: &[PluginConf],
    at: &str,
    rules: &Rules,
) -> Result<Vec<TenantPath>, Finding> {
    let mut reader = Reader::of(&plugins.iter().collect::<Vec<_>>(), rules);
    for (key, value) in args.iter() {
        reader.read(value, &At::top(at, key), DEEPEST, false)?;
    }
    Ok(reader.paths)
}

/// The node's own configuration may name any plugin except our own programs, which would call themselves.
pub(super) fn check_own(plugin: &PluginConf) -> Result<(), Finding> {
    match kinds(plugin).into_iter().find(|(_, kind)| is_ours(kind)) {
        None => Ok(()),
        Some((field, kind)) => Err(meta(field, &kind)),
    }
}

fn meta(field: impl Into<String>, kind: &str) -> Finding {
    Finding::new(field, format_args!("{kind:?}"), "a plugin that is no meta plugin: an attachment does not call those")
        .of(Rule::MetaPlugin)
}

/// Keys that only a runtime may set are removed before a plugin sees them.
fn is_of_runtime(key: &str) -> bool {
    matches!(fold(key).as_str(), "runtimeconfig" | "prevresult")
}

/// The types that a configuration starts: the plugin, its address management, flannel's delegate, and that one's address
/// management.
fn kinds(plugin: &PluginConf) -> Vec<(&'static str, String)> {
    let folded = |object: &Object, key: &str| object.iter().find(|(k, _)| fold(k) == key).map(|(_, v)| v.to_owned());
    let object = |object: &Object, key: &str| {
        folded(object, key).and_then(|value| serde_json::from_str::<Object>(value.get()).ok()).unwrap_or_default()
    };
    let kind = |object: &Object| folded(object, "type").and_then(|value| serde_json::from_str(value.get()).ok());
    let delegate = object(&plugin.object, "delegate");
    let found = [
        ("type", Some(plugin.kind.to_string())),
        ("ipam.type", kind(&object(&plugin.object, "ipam"))),
        ("delegate.type", kind(&delegate)),
        ("delegate.ipam.type", kind(&object(&delegate, "ipam"))),
    ];
    found.into_iter().filter_map(|(field, kind)| Some((field, kind?))).collect()
}

/// The path to a value, as a linked list from the last step. It is written out for a finding only.
struct At<'a> {
    outer: Option<&'a At<'a>>,
    root: &'a str,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    fn top(root: &'a str, key: &'a str) -> Self {
        Self { outer: None, root, step: Step::Key(key) }
    }

    fn then<'b>(&'b self, step: Step<'b>) -> At<'b> {
        At { outer: Some(self), root: self.root, step }
    }

    /// The key whose value this is, or whose list contains the value.
    fn key(&self) -> &str {
        match (&self.step, self.outer) {
            (Step::Key(key), _) => key,
            (Step::Index(_), Some(outer)) => outer.key(),
            (Step::Index(_), None) => "",
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outer {
            Some(outer) => outer.fmt(f)?,
            None => f.write_str(self.root)?,
        }
        match self.step {
            Step::Key(key) => write!(f, ".{}", shortened(key, Finding::SHOWN)),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

struct Reader<'a> {
    rules: &'a Rules,
    /// An external program reads the text.
    has_program: bool,
    /// The keys that hold paths, folded.
    path_keys: Vec<String>,
    paths: Vec<TenantPath>,
}

impl<'a> Reader<'a> {
    fn of(plugins: &[&PluginConf], rules: &'a Rules) -> Self {
        let kinds: Vec<String> = plugins.iter().flat_map(|plugin| kinds(plugin)).map(|(_, kind)| kind).collect();
        let has_program = kinds.iter().any(|kind| rules.in_process(kind).is_none());
        let opens = |known: &&BuiltIn| has_program || kinds.iter().any(|kind| kind == known.kind);
        let path_keys = rules.built_in.iter().filter(opens).flat_map(|known| known.path_keys);
        Self { rules, has_program, path_keys: path_keys.map(|key| fold(key)).collect(), paths: Vec::new() }
    }

    /// `configures`: an object here is the configuration of a plugin.
    fn read(&mut self, value: &RawValue, at: &At<'_>, depth: usize, configures: bool) -> Result<(), Finding> {
        let text = value.get();
        let too_deep =
            || Finding::new(at.to_string(), "deeper nesting", format!("at most {DEEPEST} levels")).of(Rule::ConfigSize);
        // A lone surrogate is valid JSON that we cannot read, and Go reads it as U+FFFD: refuse it.
        let unreadable = |_| Finding::new(at.to_string(), text, "JSON whose strings are Unicode");
        match text.as_bytes().first() {
            Some(b'{') => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                let Entries(entries) = serde_json::from_str(text).map_err(unreadable)?;
                let configures = DELEGATES.contains(&fold(at.key()).as_str());
                entries
                    .iter()
                    .try_for_each(|(key, value)| self.read(value, &at.then(Step::Key(key)), depth, configures))
            }
            Some(b'[') => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
                let mut each = elements.iter().enumerate();
                each.try_for_each(|(i, value)| self.read(value, &at.then(Step::Index(i)), depth, configures))
            }
            Some(b'"') => {
                let told: String = serde_json::from_str(text).map_err(unreadable)?;
                self.text(told, at, configures)
            }
            _ => Ok(()),
        }
    }

    fn text(&mut self, text: String, at: &At<'_>, configures: bool) -> Result<(), Finding> {
        let key = fold(at.key());
        if key == "type" {
            self.kind(at, &text, configures)?;
        }
        let is_known = !text.is_empty() && self.path_keys.contains(&key);
        let is_path = is_known || (self.has_program && text.starts_with('/'));
        if !is_path {
            return Ok(());
        }
        let roots = &self.rules.path_roots;
        if !lies_below(&text, roots) {
            let allowed = format!("an absolute path without '..' below one of the pathRoots: {}", roots.join(", "));
            return Err(Finding::new(at.to_string(), format_args!("{text:?}"), allowed));
        }
        self.paths.push(TenantPath { path: text, field: at.to_string() });
        Ok(())
    }

    /// Checks a type. `starts`: the text starts this type.
    fn kind(&self, at: impl fmt::Display, kind: &str, starts: bool) -> Result<(), Finding> {
        if is_meta(kind) {
            return Err(meta(at.to_string(), kind));
        }
        let Some(programs) = self.rules.programs.as_ref().filter(|_| starts && !kind.is_empty()) else { return Ok(()) };
        if self.rules.in_process(kind).is_some() || programs.iter().any(|program| program.as_str() == kind) {
            return Ok(());
        }
        let listed: Vec<&str> = programs.iter().map(|program| program.as_str()).collect();
        let allowed = format!("a type that is built in, or one of the node's programs: {}", listed.join(", "));
        Err(Finding::new(at.to_string(), format_args!("{kind:?}"), allowed))
    }
}

fn lies_below(path: &str, roots: &[String]) -> bool {
    let path = Path::new(path);
    let no_way_up = !path.components().any(|part| part == Component::ParentDir);
    path.is_absolute() && no_way_up && roots.iter().any(|root| path.starts_with(root))
}
