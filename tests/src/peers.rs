//! What this project is compared with: the reference plugins and Multus, built from their modules.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::program;

/// The directory that holds them, as `tests/peers/build` prints it; builds them when they are not there.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/build");
        let output = program::command(&script).stdin(std::process::Stdio::null()).output();
        let output = output.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}

/// One of them.
pub fn program(name: &str) -> PathBuf {
    let path = dir().join(name);
    assert!(path.is_file(), "{} is missing: is it a tool in tests/peers/go.mod?", path.display());
    path
}
