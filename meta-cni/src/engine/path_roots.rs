//! The paths in tenants' definitions with the node's symbolic links resolved.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use attachments::bind::{BindError, TenantPath};
use attachments::finding::Finding;

use crate::fault::Result;

/// A tenant's path must lie below a root after symbolic links are resolved, too.
pub(super) fn hold_to_roots(paths: &[TenantPath], roots: &[PathBuf]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut known = BTreeMap::new();
    let resolved_roots: Vec<PathBuf> = roots.iter().map(|root| follow_links(root, &mut known)).collect();
    for TenantPath { path, field } in paths {
        let resolved = follow_links(Path::new(path), &mut known);
        if !resolved_roots.iter().any(|root| resolved.starts_with(root)) {
            let listed: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            let (end, listed) = (resolved.display(), listed.join(", "));
            let allowed = format!("a path that does not lead to {end}, but stays under one of pathRoots ({listed})");
            return Err(BindError::Invalid(Finding::new(field, format_args!("{path:?}"), allowed)).into());
        }
    }
    Ok(())
}

/// Resolves the symbolic links of the part of a path that exists. What was resolved before is `known`: the paths of a pod's
/// definitions have most of their directories in common.
fn follow_links(path: &Path, known: &mut BTreeMap<PathBuf, PathBuf>) -> PathBuf {
    if let Some(resolved) = known.get(path) {
        return resolved.clone();
    }
    let resolved = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let here = follow_links(parent, known).join(name);
            if fs::read_link(&here).is_ok() { fs::canonicalize(&here).unwrap_or(here) } else { here }
        }
        // The root, or a path that goes up again.
        _ => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
    };
    known.insert(path.to_owned(), resolved.clone());
    resolved
}
