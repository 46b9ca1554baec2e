//! Which keys are known where: for keys that nobody reads, and for keys that only some readers take for another one.

use attachments::cni::object::fold;
use attachments::cni::result::Dns;
use attachments::names::PluginType;

use super::Problem;
use super::document::{Node, join, quoted};
use super::network::{Plugin, nearest};
use crate::builtin::Builtin;
use crate::ipam;
use crate::lint::Kind;

/// Keys of a list.
const LIST: [&str; 8] =
    ["cniVersion", "cniVersions", "name", "type", "plugins", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"];

/// Keys that every plugin's configuration may have; `lockedArgs` is ours, read from a definition.
const COMMON: [&str; 9] =
    ["cniVersion", "cniVersions", "name", "type", "args", "capabilities", "disableCheck", "disableGC", "lockedArgs"];

/// Keys that most plugins and IPAM programs share, whatever else they read.
const USUAL: [&str; 5] = ["ipam", "dns", "master", "mode", "mtu"];
const USUAL_IPAM: [&str; 8] = ["type", "subnet", "ranges", "range", "routes", "gateway", "dataDir", "resolvConf"];

/// Keys of which only the runtime may speak; they are taken out before a plugin sees them.
const OF_RUNTIME: [&str; 2] = ["runtimeconfig", "prevresult"];

/// The top of a list.
pub fn check_list(document: &Node) -> Vec<Problem> {
    let listed = &LIST[..];
    document.entries().iter().filter_map(|(key, _)| confusing(key, key, &[listed])).collect()
}

/// Every object of one plugin's configuration.
pub fn check_plugin(plugin: &Plugin<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    plugin.node.visit("", &mut |path, entries| {
        let place = without_indexes(path);
        let top = place.split('.').next().unwrap_or_default();
        // What is below belongs to nobody here: arguments of any shape, and what is taken out.
        if top == "args" || top == "capabilities" || is_of_runtime(top) {
            return;
        }
        let known = known(plugin, &place);
        for (key, _) in entries {
            let at = join(path, key);
            if place.is_empty() && is_of_runtime(key) {
                problems.push(Problem::remark("N18", at, "ignored; only the runtime may set it"));
            } else if let Some(problem) = confusing(key, &at, &known.keys) {
                problems.push(problem);
            } else if let Some(reader) = known.reader
                && !known.keys.iter().any(|keys| keys.contains(&key.as_str()))
            {
                problems.push(unknown(key, at, reader, &known.keys));
            }
        }
    });
    problems.into_iter().map(|problem| problem.under(&plugin.at)).collect()
}

/// A key that nobody reads. The last list is the reader's own.
fn unknown(key: &str, at: String, reader: &str, known: &[&[&str]]) -> Problem {
    let own = known.last().copied().unwrap_or_default();
    let text = match nearest(key, own) {
        Some(meant) => format!("did you mean {}?", quoted(meant)),
        None if own.is_empty() => "it has none of its own".to_owned(),
        None => format!("allowed: {}", own.join(", ")),
    };
    Problem::remark("N18", at, format!("unknown key for {}; {text}", quoted(reader)))
}

/// The keys of one object.
struct Known<'a> {
    keys: Vec<&'a [&'a str]>,
    /// Who reads the object and nothing but these keys; absent where that is not known.
    reader: Option<&'a str>,
}

fn known<'a>(plugin: &Plugin<'a>, place: &str) -> Known<'a> {
    let builtin = plugin.kind.parse().ok().and_then(|kind: PluginType| Builtin::from_type(&kind));
    let ipam_kind = plugin.ipam_kind();
    let in_ipam = match place {
        "ipam" => Some(""),
        other => other.strip_prefix("ipam."),
    };
    match (place, in_ipam, builtin) {
        ("", _, Some(builtin)) => Known { keys: vec![&COMMON, &LIST, builtin.keys()], reader: Some(plugin.kind) },
        ("", _, None) => Known { keys: vec![&COMMON, &LIST, &USUAL], reader: None },
        (_, Some(place), _) => match ipam::keys(ipam_kind, place) {
            Some(keys) => Known { keys: vec![keys], reader: Some(ipam_kind) },
            None if place.is_empty() => Known { keys: vec![&USUAL_IPAM], reader: None },
            None => Known { keys: Vec::new(), reader: None },
        },
        ("vlanTrunk", _, Some(Builtin::Bridge)) => Known { keys: vec![&TRUNK], reader: Some(plugin.kind) },
        ("dns", _, Some(_)) => Known { keys: vec![&DNS], reader: Some(plugin.kind) },
        _ => Known { keys: Vec::new(), reader: None },
    }
}

const DNS: [&str; 4] = Dns::KEYS;
const TRUNK: [&str; 3] = ["id", "minID", "maxID"];

/// Go takes `Master` and `maſter` for `master`; we do not, and neither does a policy.
fn confusing(key: &str, at: &str, known: &[&[&str]]) -> Option<Problem> {
    let mut keys = known.iter().copied().flatten();
    if keys.clone().any(|known| *known == key) {
        return None;
    }
    let folded = fold(key);
    let text = match keys.find(|known| fold(known) == folded) {
        Some(meant) => format!("keys are case-sensitive, use {}", quoted(meant)),
        None if !key.is_ascii() => {
            "keys must be ASCII: readers differ in which letters they take for the same".to_owned()
        }
        None => return None,
    };
    Some(Problem::deny("N05", Kind::Invalid, at, quoted(key), text))
}

fn is_of_runtime(key: &str) -> bool {
    let key = fold(key);
    OF_RUNTIME.contains(&key.as_str()) || key.starts_with("cni.dev/")
}

/// `ipam.ranges[0][1]` is of the same kind as `ipam.ranges`.
pub fn without_indexes(path: &str) -> String {
    let steps = path.split('.').map(|step| step.split('[').next().unwrap_or_default());
    steps.collect::<Vec<_>>().join(".")
}
