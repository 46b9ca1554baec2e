//! The shape of a configuration or list: versions, names, and which plugins there are (rules N07 to N20).

use std::collections::HashSet;

use attachments::cni::conf::is_of_runtime;
use attachments::cni::object::{Object, fold};
use attachments::cni::version::Version;
use attachments::finding::{Allowed, Finding, Findings};
use attachments::meta_plugins::is_meta;
use attachments::names::{NetworkName, PluginType};
use attachments::rule::Rule;

use super::document::{Node, join, quoted};
use super::nearest::nearest;
use super::plugin::Plugin;
use super::problem::{Kind, Problem};
use super::{advice, judge, keys, reach};
use crate::builtin::Builtin;
use crate::ipam;

/// Types of programs that are well known, and whether they need a plugin before them.
const PROGRAMS: [(&str, bool); 2] = [("sriov", false), ("firewall", true)];

/// The types that are known, built in or not, and whether they need a plugin before them.
fn known_types() -> impl Iterator<Item = (&'static str, bool)> {
    Builtin::all().map(|builtin| (builtin.kind(), builtin.is_chained())).chain(PROGRAMS)
}

const NO_META: &str = "an attachment cannot delegate to a meta-plugin";

/// More plugins than any chain has.
const MOST: usize = 16;

/// Where a configuration stands: what may be left out depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a NetworkAttachmentDefinition, whose name the network has when it says none.
    Definition,
    /// In a file of the node, whose list may be completed by a directory beside it.
    File,
}

/// Everything about a document but its syntax.
pub fn check(document: &Node, top: Object, origin: Origin) -> Vec<Problem> {
    let mut problems = Vec::new();
    let version = version(document, &mut problems);
    name(document, origin, &mut problems);
    flags(document, &mut problems);
    match document.get("plugins") {
        Some(list) => {
            if document.get("type").is_some() {
                let text = "\"type\" and \"plugins\" together; move the plugin into \"plugins\"";
                problems.push(Problem::of(Rule::TypeAndPlugins, Kind::Forbidden, "", "", text));
            }
            problems.extend(keys::check_list(document));
            chain(document, list, &top, version, &mut problems);
        }
        None if is_completed_elsewhere(document, origin) => problems.extend(keys::check_list(document)),
        None => plugin(document, (document, top), "", 0, version, &mut problems),
    }
    if origin == Origin::Definition {
        problems.extend(plugins(document).iter().flat_map(advice::check));
    }
    // Several plugins may blame the one version that they share.
    let mut said = HashSet::with_capacity(problems.len());
    let is_new: Vec<bool> = problems.iter().map(|problem| said.insert(problem)).collect();
    let news = problems.into_iter().zip(is_new).filter(|(_, is_new)| *is_new);
    news.map(|(problem, _)| problem).collect()
}

/// The plugins that have a type.
fn plugins(document: &Node) -> Vec<Plugin<'_>> {
    let one = |at: String, node| match Node::get(node, "type") {
        Some(Node::Text(kind)) => Some(Plugin { at, kind, node }),
        _ => None,
    };
    match document.get("plugins") {
        Some(Node::List(nodes)) => {
            let each = |(i, node)| one(format!("plugins[{i}]"), node);
            nodes.iter().take(MOST).enumerate().filter_map(each).collect()
        }
        _ => one(String::new(), document).into_iter().collect(),
    }
}

/// The version that plugins are spoken to in, as well as it can be known.
fn version(document: &Node, problems: &mut Vec<Problem>) -> Version {
    let supported = || {
        let versions: Vec<String> = Version::ALL.iter().map(|version| quoted(version.as_str())).collect();
        format!("supported values: {}", versions.join(", "))
    };
    let mut read = |path: String, node: &Node| match node {
        Node::Text(text) => text.parse::<Version>().ok(),
        other => {
            problems.push(judge::wrong_type(&path, other, &Allowed::STRING));
            Some(Version::NEWEST)
        }
    };
    let (single, list) = (document.get("cniVersion"), document.get("cniVersions"));
    let offered: Vec<Version> = match list {
        Some(Node::List(nodes)) => {
            nodes.iter().enumerate().filter_map(|(i, node)| read(format!("cniVersions[{i}]"), node)).collect()
        }
        Some(other) => read("cniVersions".to_owned(), other).into_iter().collect(),
        None => Vec::new(),
    };
    let single_version = single.and_then(|node| read("cniVersion".to_owned(), node));
    match (single, offered.iter().copied().chain(single_version).max()) {
        (_, Some(version)) => return version,
        (Some(node), None) => {
            let value = node.scalar().unwrap_or_default();
            problems.push(Problem::of(Rule::CniVersion, Kind::Unsupported, "cniVersion", value, supported()));
        }
        (None, None) if list.is_some() => {
            problems.push(Problem::of(Rule::CniVersion, Kind::Unsupported, "cniVersions", "", supported()));
        }
        (None, None) => {
            let text = "assumed \"0.1.0\", which reports one address per family; set \"1.0.0\"";
            problems.push(Problem::of(Rule::NoCniVersion, Kind::Required, "cniVersion", "", text));
        }
    }
    Version::V0_1_0
}

fn name(document: &Node, origin: Origin, problems: &mut Vec<Problem>) {
    match document.get("name") {
        Some(Node::Text(name)) if name.is_empty() || name.parse::<NetworkName>().is_ok() => {}
        Some(Node::Text(name)) => {
            let text = "must start with a letter or digit and contain only letters, digits, \".\", \"_\" or \"-\"";
            problems.push(Problem::of(Rule::NetworkName, Kind::Invalid, "name", quoted(name), text));
        }
        Some(other) => problems.push(judge::wrong_type("name", other, &Allowed::STRING)),
        None if origin == Origin::File => {
            problems.push(Problem::of(Rule::NetworkName, Kind::Required, "name", "", "name of the network"));
        }
        None => {}
    }
}

/// The three booleans that libcni also reads as strings.
fn flags(document: &Node, problems: &mut Vec<Problem>) {
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        match document.get(key) {
            None | Some(Node::Bool(_)) => {}
            Some(Node::Text(text)) if ["true", "false"].contains(&text.to_ascii_lowercase().as_str()) => {}
            Some(other) => problems.push(judge::wrong_type(key, other, &Allowed::BOOLEAN)),
        }
    }
}

/// A list on disk may have all of its plugins in a directory of its name (CNI SPEC 1.1.0, section 1).
fn is_completed_elsewhere(document: &Node, origin: Origin) -> bool {
    origin == Origin::File
        && document.get("type").is_none()
        && document.get("name").is_some()
        && !matches!(document.get("loadOnlyInlinedPlugins"), Some(Node::Bool(true)))
}

fn chain(document: &Node, list: &Node, top: &Object, version: Version, problems: &mut Vec<Problem>) {
    let Node::List(nodes) = list else {
        problems.push(Problem::of(
            Rule::PluginsShape,
            Kind::Invalid,
            "plugins",
            list.kind(),
            "must be a list of objects",
        ));
        return;
    };
    if nodes.is_empty() {
        problems.push(Problem::of(Rule::NoPlugins, Kind::Required, "plugins", "", "must list at least one plugin"));
    }
    if nodes.len() > MOST {
        let text = format!("must have at most {MOST}");
        problems.push(Problem::of(Rule::ConfigSize, Kind::TooMany, "plugins", nodes.len(), text));
        return;
    }
    let objects = top.elements("plugins", &mut Findings::default());
    for (i, node) in nodes.iter().enumerate() {
        let at = format!("plugins[{i}]");
        match objects.iter().find(|(place, _)| *place == i) {
            Some((_, object)) if matches!(node, Node::Object(_)) => {
                plugin(document, (node, object.clone()), &at, i, version, problems);
            }
            _ => problems.push(Problem::of(Rule::PluginsShape, Kind::Invalid, at, node.kind(), "must be an object")),
        }
    }
}

fn plugin(
    document: &Node,
    (node, object): (&Node, Object),
    at: &str,
    place: usize,
    version: Version,
    problems: &mut Vec<Problem>,
) {
    let kind = match node.get("type") {
        Some(Node::Text(kind)) if !kind.is_empty() => kind,
        Some(other) if other.text().is_none() => {
            problems.push(judge::wrong_type("type", other, &Allowed::STRING).under(at));
            return;
        }
        _ => {
            let text = "name of the CNI plugin, for example \"macvlan\"";
            problems.push(Problem::of(Rule::NoType, Kind::Required, "type", "", text).under(at));
            return;
        }
    };
    problems.extend(type_problem(kind, place).map(|problem| problem.under(at)));
    problems.extend(inner_types(node).into_iter().map(|problem| problem.under(at)));
    let plugin = Plugin { at: at.to_owned(), kind, node };
    problems.extend(keys::check_plugin(&plugin));
    capabilities(&plugin, problems);
    let request = request(object, version);
    let findings = match kind.parse().ok().and_then(|kind: PluginType| Builtin::from_type(&kind)) {
        Some(builtin) => builtin.validate(&request),
        // Whoever makes the interface: the addresses are ours to check where the IPAM is one of ours.
        None => ipam::validate(&request),
    };
    problems.extend(findings.into_iter().map(|finding| judge::problem(seen_from_document(finding, at), document)));
    problems.extend(reach::check(&plugin));
}

/// The version is the network's: a list has it at its top.
fn seen_from_document(finding: Finding, at: &str) -> Finding {
    if finding.path == "cniVersion" { finding } else { finding.under(at) }
}

fn type_problem(kind: &str, place: usize) -> Option<Problem> {
    let say = |rule, problem, text: &str| Some(Problem::of(rule, problem, "type", quoted(kind), text));
    if kind.parse::<PluginType>().is_err() || kind.contains("..") || kind.contains(char::is_whitespace) {
        return say(Rule::TypeName, Kind::Invalid, "must be a plugin name, not a path");
    }
    if is_meta(kind) {
        return say(Rule::MetaPlugin, Kind::Forbidden, NO_META);
    }
    let known = known_types().find(|(known, _)| *known == kind);
    if place == 0 && known.is_some_and(|(_, is_chained)| is_chained) {
        return say(Rule::ChainedFirst, Kind::Forbidden, "needs a previous plugin, move it after the interface plugin");
    }
    if known.is_some() {
        return None;
    }
    // Which programs the nodes have is not in the text; a type that is one slip away from a known one is a guess.
    let meant = nearest(kind, &known_types().map(|(known, _)| known).collect::<Vec<_>>())?;
    let text = format!("not built in; did you mean {}?", quoted(meant));
    say(Rule::UnknownType, Kind::NotFound, &text)
}

/// Types further down: of address management, and of the delegates of a plugin that has some.
fn inner_types(plugin: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    plugin.visit("", &mut |path, entries| {
        // A plugin's own type has its own words, unless the key is spelled so that only some readers take it for it.
        let types = entries.iter().filter(|(key, _)| fold(key) == "type" && !(path.is_empty() && key == "type"));
        for (key, kind) in types.filter_map(|(key, node)| Some((key, node.text()?))).filter(|(_, kind)| is_meta(kind)) {
            problems.push(Problem::of(Rule::MetaPlugin, Kind::Forbidden, join(path, key), quoted(kind), NO_META));
        }
    });
    problems
}

/// `capabilities` says of each whether the plugin has it.
fn capabilities(plugin: &Plugin<'_>, problems: &mut Vec<Problem>) {
    match plugin.node.get("capabilities") {
        None => {}
        Some(object @ Node::Object(_)) => {
            for (key, node) in object.entries().iter().filter(|(_, node)| !matches!(node, Node::Bool(_))) {
                let path = format!("capabilities.{key}");
                problems.push(judge::wrong_type(&path, node, &Allowed::BOOLEAN).under(&plugin.at));
            }
        }
        Some(other) => problems.push(judge::wrong_type("capabilities", other, &Allowed::OBJECT).under(&plugin.at)),
    }
}

/// What a delegate would be given: nothing of what only a runtime may say, and the network's version.
fn request(mut object: Object, version: Version) -> Object {
    object.retain(|key| !is_of_runtime(key));
    object.set("cniVersion", &version.as_str());
    object
}
