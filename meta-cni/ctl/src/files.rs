//! The files that a command is given.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::lint::Source;

/// The text of a file; - is stdin.
pub fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        return io::stdin().lock().read_to_string(&mut text).map(|_| text);
    }
    fs::read_to_string(path)
}

/// The files that can be read, and those that cannot, each with the reason.
pub fn sources(paths: &[PathBuf]) -> (Vec<Source>, Vec<(String, String)>) {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => sources.push(Source { name, text }),
            Err(error) => unreadable.push((name, error.to_string())),
        }
    }
    (sources, unreadable)
}

/// Manifests: of a directory its .yaml, .yml and .json files, as in directory mode. The first that cannot be read is an error.
pub fn manifests(paths: &[PathBuf]) -> Result<Vec<Source>, String> {
    let mut all = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => all.extend(listed(path, &["yaml", "yml", "json"])?),
            false => all.push(path.clone()),
        }
    }
    let (sources, unreadable) = sources(&all);
    match unreadable.first() {
        Some((name, error)) => Err(format!("{name}: {error}")),
        None => Ok(sources),
    }
}

/// The files of a directory with one of these endings, by name.
pub fn listed(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, String> {
    let failed = |e: io::Error| format!("{}: {e}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().and_then(|end| end.to_str()).is_some_and(|end| endings.contains(&end)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
