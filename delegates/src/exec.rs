//! Runs an external CNI plugin: the only module that starts a program.

use std::path::{Path, PathBuf};

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::names::PluginType;

use crate::call::{Call, Node, Verb};
use crate::error::{Error, Result};

/// The program of a plugin type: the first directory that holds a regular file of that name (C4).
pub fn find(kind: &PluginType, dirs: &[PathBuf]) -> Result<PathBuf> {
    let candidates = dirs.iter().map(|dir| dir.join(kind.as_str()));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NoPlugin { kind: kind.to_string(), dirs: search_path(dirs) })
}

/// Runs one verb of one plugin and gives what it printed on stdout. The plugin has exited with 0.
pub fn run(node: &Node<'_>, kind: &PluginType, _verb: Verb, _call: &Call<'_>) -> Result<Vec<u8>> {
    let _program: &Path = &find(kind, node.plugin_dirs)?;
    Err(Error::BadAnswer { kind: kind.to_string(), what: "to be written".to_owned() })
}

/// Reads the result of an ADD; `asked` is the version of the configuration, which a result without one has (C45).
pub fn add_result(kind: &PluginType, stdout: &[u8], asked: Version) -> Result<CniResult> {
    CniResult::parse(stdout, asked).map_err(|e| Error::BadAnswer { kind: kind.to_string(), what: e.to_string() })
}

fn search_path(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":")
}
