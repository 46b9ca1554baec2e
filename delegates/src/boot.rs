//! Which boot of the node this is: what the kernel holds, sandboxes and links alike, outlives none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// proc_sys_kernel(5): a random UUID for each boot.
const FILE: &str = "proc/sys/kernel/random/boot_id";

/// Where the node's `/proc` is; `/` unless somebody says otherwise.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Says where the node's own files are, for a program in a container: its `/proc` need not be the one that the node's programs see.
/// Counts once, before anybody asks.
pub fn of_node(root: &Path) {
    let _ = ROOT.set(root.to_owned());
}

/// The boot that the node is in; nothing where the kernel does not say.
pub fn current() -> Option<String> {
    let root = ROOT.get().map_or(Path::new("/"), PathBuf::as_path);
    let text = fs::read_to_string(root.join(FILE)).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
