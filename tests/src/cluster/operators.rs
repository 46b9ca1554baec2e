//! Programs that operators have and the tests build once: helm, kubeconform, promtool.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::program;

/// A program, as `tests/operate/build` makes it.
pub fn operators(name: &str) -> PathBuf {
    built_by("operate/build", name)
}

/// A program that a script of `tests/` builds where it is not there yet; the script prints the directory.
pub(super) fn built_by(script: &str, name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut build = program::command(&script);
    let output = build.arg(name).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(output.status.success(), "{}: {}; its words are on stderr", script.display(), output.status);
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(name)
}
