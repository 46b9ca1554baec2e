//! Which boot of the node this is: what the kernel holds, sandboxes and links alike, outlives none.

use std::fs;

/// proc_sys_kernel(5): a random UUID for each boot.
const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The boot that the node is in; nothing where the kernel does not say.
pub fn current() -> Option<String> {
    let text = fs::read_to_string(FILE).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
