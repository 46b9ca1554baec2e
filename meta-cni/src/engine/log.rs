//! The plugin's log: lines on stderr, which the runtime takes into its own. The agent's log gets them too.

use std::io::{Write, stderr};

use attachments::text::printable;

use super::notes;

/// A line for the node's log: stderr reaches the runtime's log and never the result.
pub fn warn(text: &str) {
    // A runtime that does not read on gets its networks all the same.
    let _ = writeln!(stderr(), "meta-cni: {}", printable(text));
    notes::warned(text);
}
