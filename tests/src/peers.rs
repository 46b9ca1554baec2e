//! What this project is compared with: the reference plugins, the flannel plugin and Multus, built from their modules.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::program;

/// The directory that holds them, as `tests/peers/build` prints it; builds them when they are not there.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let script = script();
        let output = program::command(&script).stdin(std::process::Stdio::null()).output();
        let output = output.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}

/// What builds them.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/build")
}

/// One of them.
pub fn program(name: &str) -> PathBuf {
    find(dir(), name).unwrap_or_else(|missing| panic!("{missing}"))
}

/// One of those in `dir`, or what is missing and how to get it.
pub fn find(dir: &Path, name: &str) -> Result<PathBuf, String> {
    let path = dir.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let dir = dir.display();
    Err(format!(
        "the reference plugin {name} is missing in {dir}: remove that directory and run tests/peers/build, which builds \
         every tool of tests/peers/go.mod and tests/peers/flannel/go.mod"
    ))
}
