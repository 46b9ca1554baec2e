//! Network configurations in a directory, as the Go library and the runtimes read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachments::cni::conf::NetworkConf;
use attachments::finding::Finding;

/// The files of a directory that a runtime would read, in its order.
pub fn paths(dir: &Path) -> Vec<PathBuf> {
    let is_conf = |path: &PathBuf| {
        path.extension().is_some_and(|ext| ["conflist", "conf", "json"].iter().any(|known| ext == *known))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_conf).collect();
    paths.sort();
    paths
}

/// A file with the plugins of its sibling directory appended (C6).
pub fn read(path: &Path) -> Result<NetworkConf, Finding> {
    let unreadable = |e: io::Error| Finding::new("", format_args!("an unreadable file ({e})"), "a CNI configuration");
    let bytes = fs::read(path).map_err(unreadable)?;
    let mut conf = NetworkConf::parse(&bytes)?;
    let is_list = path.extension().is_some_and(|ext| ext == "conflist");
    if let (Some(name), true, false) = (&conf.name, is_list, conf.load_only_inlined) {
        for extra in paths(&path.with_file_name(name.as_str())) {
            if extra.extension().is_some_and(|ext| ext == "conf") {
                let single = NetworkConf::parse(&fs::read(&extra).map_err(unreadable)?)?;
                conf.plugins.extend(single.plugins);
            }
        }
    }
    conf.require_plugins()?;
    Ok(conf)
}
