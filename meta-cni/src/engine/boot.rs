//! Which boot of the node a record belongs to: no sandbox outlives one, and after it paths and inode numbers start anew.

use std::fs;

use super::record::Intent;

/// proc_sys_kernel(5): a random UUID for each boot.
const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The boot that the node is in; nothing where the kernel does not say.
pub fn current() -> Option<String> {
    let text = fs::read_to_string(FILE).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Was the node restarted since this intent was written? Without the two to compare, nobody can say so.
pub fn is_over(intent: &Intent) -> bool {
    intent.boot.is_some() && current().is_some_and(|now| intent.boot.as_ref() != Some(&now))
}
