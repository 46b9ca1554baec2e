//! Which keys are known where: for keys that nobody reads, and for keys that are written otherwise than they are read.

use attachments::cni::conf::is_of_runtime;
use attachments::cni::spelling::{Known, OF_RUNTIME, Slip, SlipKind};
use attachments::names::PluginType;
use attachments::rule::Rule;

use super::document::{Node, join, quoted};
use super::nearest::nearest;
use super::plugin::Plugin;
use super::problem::{Kind, Problem};
use crate::builtin::Builtin;
use crate::spelling;

/// A key in another spelling works, for readers take it in any case; two of one key leave open which of them counts. What
/// cannot be read is said by the text's own rules.
pub fn slip(Slip { path, key, kind }: Slip) -> Option<Problem> {
    match kind {
        // Whatever it is spelled, it is ignored, and that is said.
        SlipKind::Other(meant) if OF_RUNTIME.contains(&meant) => None,
        SlipKind::Other(meant) => {
            Some(Problem::remark(Rule::KeySpelling, path, format!("read as {}, write it so", quoted(meant))))
        }
        SlipKind::Twice { meant, before } => {
            let text = format!("stands beside {}, keep one, spelled {}", quoted(&before), quoted(meant));
            Some(Problem::of(Rule::KeySpelling, Kind::Duplicate, path, quoted(&key), text))
        }
        SlipKind::Unreadable => None,
    }
}

/// The top of a list.
pub fn check_list(document: &Node) -> Vec<Problem> {
    let listed = attachments::cni::spelling::LIST;
    let unknown = |(key, _): &(String, Node)| confusing(key, key).filter(|_| listed.meant(key).is_none());
    document.entries().iter().filter_map(unknown).collect()
}

/// Every object of one plugin's configuration.
pub fn check_plugin(plugin: &Plugin<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Ok(kind) = plugin.kind.parse::<PluginType>() else { return problems };
    let reader = Builtin::from_type(&kind).map(|_| plugin.kind);
    spelling::known(&kind, Some(plugin.ipam_kind()), |known| {
        Walk { plugin, problems: &mut problems }.node(plugin.node, "", Some(known), reader);
    });
    problems.into_iter().map(|problem| problem.under(&plugin.at)).collect()
}

struct Walk<'w> {
    plugin: &'w Plugin<'w>,
    problems: &'w mut Vec<Problem>,
}

impl Walk<'_> {
    /// `reader`: who reads the objects there; nobody can be named for a program.
    fn node(&mut self, node: &Node, at: &str, known: Option<&Known<'_>>, reader: Option<&str>) {
        match node {
            Node::Object(_) => self.object(node.entries(), at, known, reader),
            Node::List(nodes) => {
                nodes.iter().enumerate().for_each(|(i, node)| self.node(node, &format!("{at}[{i}]"), known, reader));
            }
            _ => {}
        }
    }

    fn object(&mut self, entries: &[(String, Node)], at: &str, known: Option<&Known<'_>>, reader: Option<&str>) {
        for (key, _) in entries {
            let path = join(at, key);
            if at.is_empty() && is_of_runtime(key) {
                self.problems.push(Problem::remark(Rule::UnknownKey, path, "ignored; only the runtime may set it"));
            } else if known.is_some_and(|known| known.meant(key).is_some()) {
                // It is somebody's.
            } else if let Some(problem) = confusing(key, &path) {
                self.problems.push(problem);
            } else if let (Some(known), Some(reader)) = (known.filter(|known| known.only), reader) {
                self.problems.push(unknown(key, path, reader, known.keys));
            }
        }
        for (key, node) in entries {
            // What is below belongs to nobody here: arguments of any shape, and what is taken out.
            if at.is_empty() && (["args", "capabilities"].contains(&key.as_str()) || is_of_runtime(key)) {
                continue;
            }
            let inside = known.and_then(|known| known.within(key));
            let of_ipam = inside.is_some() && at.is_empty() && key == "ipam";
            let reader = if of_ipam { Some(self.plugin.ipam_kind()) } else { reader };
            self.node(node, &join(at, key), inside, reader);
        }
    }
}

/// A key that nobody reads. The last list is the reader's own.
fn unknown(key: &str, at: String, reader: &str, known: &[&[&'static str]]) -> Problem {
    let own = known.last().copied().unwrap_or_default();
    let text = match nearest(key, own) {
        Some(meant) => format!("did you mean {}?", quoted(meant)),
        None if own.is_empty() => "it has none of its own".to_owned(),
        None => format!("allowed: {}", own.join(", ")),
    };
    Problem::remark(Rule::UnknownKey, at, format!("unknown key for {}; {text}", quoted(reader)))
}

/// Which letters are the same, readers do not agree upon outside of ASCII.
fn confusing(key: &str, at: &str) -> Option<Problem> {
    let text = "keys must be ASCII: readers differ in which letters they take for the same";
    (!key.is_ascii()).then(|| Problem::of(Rule::KeySpelling, Kind::Invalid, at, quoted(key), text))
}
