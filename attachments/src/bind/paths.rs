//! Paths in a definition are a tenant's words about the node's files: they must lie below the node's roots.

use std::path::{Component, Path};

use serde_json::value::RawValue;

use super::Chosen;
use crate::cni::object::{Entries, fold};
use crate::finding::Finding;

/// A path that a definition's configuration holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPath {
    /// The path as written: absolute, without `..`.
    pub path: String,
    /// Where it was found, for a [`Finding`].
    pub field: String,
}

const PATH_KEYS: [&str; 4] = ["datadir", "resolvconf", "kernelpath", "subnetfile"];

/// Deeper nesting than any plugin's; beyond it a search would cost a tenant nothing and us the stack.
const DEEPEST: usize = 32;

/// Every path of a configuration, at any depth, held against the roots as text. Symbolic links are the caller's part.
pub(super) fn check(chosen: &Chosen, roots: &[String]) -> Result<Vec<TenantPath>, Finding> {
    let mut paths = Vec::new();
    for (i, plugin) in chosen.conf.plugins.iter().enumerate() {
        // What only a runtime may say is taken out before a plugin sees it.
        for (key, value) in plugin.object.iter().filter(|(key, _)| !matches!(*key, "runtimeConfig" | "prevResult")) {
            search(key, value, &format!("{}.{key}", chosen.plugin_field(i)), DEEPEST, &mut paths)?;
        }
    }
    match paths.iter().find(|path| !lies_below(&path.path, roots)) {
        None => Ok(paths),
        Some(outside) => Err(Finding::new(
            &outside.field,
            format_args!("{:?}", outside.path),
            format!("an absolute path without '..' below one of the pathRoots: {}", roots.join(", ")),
        )),
    }
}

fn search(key: &str, value: &RawValue, at: &str, depth: usize, paths: &mut Vec<TenantPath>) -> Result<(), Finding> {
    let text = value.get();
    let too_deep = || Finding::new(at, "deeper nesting", format!("at most {DEEPEST} levels"));
    // A lone surrogate passes as JSON, and Go reads it as U+FFFD: what we cannot read, nobody shall.
    let unreadable = |_| Finding::new(at, text, "JSON whose strings are Unicode");
    match text.as_bytes().first() {
        Some(b'{') => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            let Entries(entries) = serde_json::from_str(text).map_err(unreadable)?;
            entries.iter().try_for_each(|(key, value)| search(key, value, &format!("{at}.{key}"), depth, paths))
        }
        Some(b'[') => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            elements
                .iter()
                .enumerate()
                .try_for_each(|(i, value)| search(key, value, &format!("{at}[{i}]"), depth, paths))
        }
        Some(b'"') if PATH_KEYS.contains(&fold(key).as_str()) => {
            let path: String = serde_json::from_str(text).map_err(unreadable)?;
            if !path.is_empty() {
                paths.push(TenantPath { path, field: at.to_owned() });
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn lies_below(path: &str, roots: &[String]) -> bool {
    let path = Path::new(path);
    let no_way_up = !path.components().any(|part| part == Component::ParentDir);
    path.is_absolute() && no_way_up && roots.iter().any(|root| path.starts_with(root))
}
