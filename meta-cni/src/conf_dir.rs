//! Network configurations in a directory, read as libcni and the runtimes read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachments::cni::conf::{NetworkConf, PluginConf};
use attachments::finding::Finding;

/// The file that a path of the node's configuration means: itself, or the first file of a directory.
pub fn file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() { paths(path).into_iter().next() } else { Some(path.to_owned()) }
}

/// The files of a directory that a runtime reads, in the runtime's order.
pub fn paths(dir: &Path) -> Vec<PathBuf> {
    let is_conf = |path: &PathBuf| {
        path.extension().is_some_and(|ext| ["conflist", "conf", "json"].iter().any(|known| ext == *known))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_conf).collect();
    paths.sort();
    paths
}

/// Reads a file and appends the plugins of its sibling directory (C6).
pub fn read(path: &Path) -> Result<NetworkConf, Finding> {
    let mut conf = parse(path)?;
    let is_list = path.extension().is_some_and(|ext| ext == "conflist");
    if let (Some(name), true, false) = (&conf.name, is_list, conf.load_only_inlined) {
        conf.plugins.extend(plugins(&path.with_file_name(name.as_str()))?);
    }
    conf.require_plugins()?;
    Ok(conf)
}

/// The plugins of the directory beside a list: its .conf files. Findings name the file.
pub fn plugins(dir: &Path) -> Result<Vec<PluginConf>, Finding> {
    let mut plugins = Vec::new();
    for path in paths(dir).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "conf")) {
        let conf = parse(&path).and_then(|conf| conf.require_plugins().map(|()| conf));
        plugins.extend(conf.map_err(|e| e.under(&path.display().to_string()))?.plugins);
    }
    Ok(plugins)
}

fn parse(path: &Path) -> Result<NetworkConf, Finding> {
    let unreadable = |e: io::Error| Finding::new("", format_args!("an unreadable file ({e})"), "a CNI configuration");
    NetworkConf::parse(&fs::read(path).map_err(unreadable)?)
}
