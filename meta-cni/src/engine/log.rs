//! The plugin's log: lines on stderr, which the runtime takes into its own.

use attachments::text::printable;

/// A line for the node's log: stderr reaches the runtime's log and never the result.
pub fn warn(text: &str) {
    eprintln!("meta-cni: {}", printable(text));
}
