//! `nft`, the judge of what we wrote.
#![expect(clippy::disallowed_methods, reason = "`nft` is the judge of what we wrote")]

use std::io::Write;
use std::process::{Command, Stdio};

/// What `nft` prints in the thread's namespace.
pub(crate) fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}
