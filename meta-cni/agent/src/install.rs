//! `meta-cnid install`: puts the plugin on the node.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::durable_file::{Placed, place};
use crate::error::{Error, Result};

/// The program that the runtime starts.
pub(crate) const PLUGIN: &str = "meta-cni";

/// What to install, and where.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Directory of the program to install; default the directory of this one.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Where the runtime looks for plugins.
    #[arg(long, env = "META_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
}

/// Installs the plugin. Calls of the runtime go on meanwhile, with the old program or the new one.
pub fn install(options: &Options) -> Result<()> {
    let source = options.from.clone().map_or_else(own_directory, Ok)?.join(PLUGIN);
    let program = fs::read(&source).map_err(|e| Error::Io(format!("--from: cannot read {}: {e}", source.display())))?;
    require_runnable(&options.cni_bin_dir)?;
    let path = options.cni_bin_dir.join(PLUGIN);
    match place(&path, &program, 0o755)? {
        Placed::Written => tracing::info!(path = %path.display(), bytes = program.len(), "the plugin is in place"),
        Placed::Untouched => tracing::info!(path = %path.display(), "the plugin was in place already"),
    }
    Ok(())
}

fn own_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|e| Error::Io(format!("--from: cannot tell where this is: {e}")))?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

fn require_runnable(dir: &Path) -> Result<()> {
    let wrong = |why: &str| Err(Error::Io(format!("--cni-bin-dir: {}: {why}", dir.display())));
    if !dir.is_dir() {
        return wrong("no such directory; name the one where the runtime looks for plugins");
    }
    match statvfs(dir) {
        Ok(fs) if fs.flags().contains(FsFlags::ST_NOEXEC) => wrong("mounted noexec; want one that programs run from"),
        Ok(fs) if fs.flags().contains(FsFlags::ST_RDONLY) => {
            wrong("mounted read-only; want one that can be written to")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["image", "bin"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("image").join(PLUGIN), "program").unwrap();
        let options = Options { from: Some(dir.path().join("image")), cni_bin_dir: dir.path().join("bin") };
        (dir, options)
    }

    #[test]
    fn the_program_is_put_in_place_once() {
        let (dir, options) = node();
        install(&options).unwrap();
        install(&options).unwrap();
        assert_eq!(fs::read(dir.path().join("bin/meta-cni")).unwrap(), b"program");
    }

    #[test]
    fn a_missing_directory_or_program_is_named() {
        let (dir, mut options) = node();
        options.cni_bin_dir = dir.path().join("nowhere");
        let fault = install(&options).unwrap_err().to_string();
        assert!(fault.starts_with("--cni-bin-dir: ") && fault.contains("no such directory"), "{fault}");
        options.from = Some(dir.path().join("nowhere"));
        assert!(install(&options).unwrap_err().to_string().starts_with("--from: cannot read"));
    }
}
