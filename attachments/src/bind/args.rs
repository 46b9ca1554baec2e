//! Arguments reach a plugin in two ways: CNI_ARGS, and `args.cni` in its configuration (C17, A5, A29).

use std::collections::HashSet;

use super::Chosen;
use crate::cni::conf::PluginConf;
use crate::cni::object::{Object, fold};
use crate::finding::Finding;
use crate::selection::NetworkSelection;

/// CNI_ARGS: the given pairs in order, each key once with its last value; `added` replaces a pair or is appended.
pub(super) fn cni_args(incoming: &[(String, String)], added: &[(&str, String)]) -> String {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(incoming.len() + added.len());
    let given = incoming.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in given.chain(added.iter().map(|(key, value)| (*key, value.as_str()))) {
        match pairs.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => *slot = value,
            None => pairs.push((key, value)),
        }
    }
    // Plugins refuse unknown keys without IgnoreUnknown, and our key may be unknown.
    if !added.is_empty() && !pairs.iter().any(|(key, _)| *key == "IgnoreUnknown") {
        pairs.insert(0, ("IgnoreUnknown", "1"));
    }
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}

/// R18: `cni-args` go into `args.cni` of every plugin and win over the configuration. False when the pod gives none.
pub(super) fn merge(chosen: &mut Chosen, selected: &NetworkSelection, field: &str) -> Result<bool, Finding> {
    let Some(args) = &selected.cni_args else { return Ok(false) };
    let locked: HashSet<String> = chosen.locked_args.iter().map(|locked| fold(locked)).collect();
    let folded: HashSet<String> = args.iter().map(|(key, _)| fold(key)).collect();
    for (key, value) in args.iter().filter(|_| !locked.is_empty()) {
        // Go's decoder takes keys in any case: `IPS` sets what `ips` sets.
        if locked.contains(&fold(key)) {
            let allowed = format!("no argument that {} locks: {}", chosen.source, chosen.locked_args.join(", "));
            return Err(Finding::new(format!("{field}.cni-args.{key}"), value.get(), allowed));
        }
    }
    for i in 0..chosen.conf.plugins.len() {
        let field = chosen.plugin_field(i);
        merge_into(&mut chosen.conf.plugins[i], args, &folded).map_err(|e| e.under(&field))?;
    }
    Ok(true)
}

/// A given key replaces the configuration's key in any spelling: a plugin must not read both.
fn merge_into(plugin: &mut PluginConf, given: &Object, folded: &HashSet<String>) -> Result<(), Finding> {
    let exact: HashSet<&str> = given.iter().map(|(key, _)| key).collect();
    plugin.object.respell("args");
    let mut args = plugin.object.object("args")?.unwrap_or_default();
    args.respell("cni");
    let mut cni = args.object("cni").map_err(|e| e.under("args"))?.unwrap_or_default();
    cni.retain(|key| exact.contains(key) || !folded.contains(&fold(key)));
    cni.extend(given);
    args.set("cni", &cni);
    plugin.object.set("args", &args);
    Ok(())
}
