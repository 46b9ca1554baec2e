//! Files that other programs read or run at any moment: replaced atomically, synced, and only when they change.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use meta_cni::atomic_file::Unfinished;

use crate::error::{Error, Result};

/// Prefix of files that are being written. No runtime reads them: they have none of its suffixes.
const UNFINISHED: &str = ".meta-cni-unfinished.";

/// The outcome of [`place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The file is new, or has new content.
    Written,
    /// The file had the same content: it was not touched.
    Untouched,
}

/// Writes a file of this content and mode (permission bits) to `path`, by a synced file beside it and a rename: a running
/// program keeps its old file. The directory must exist. A failure leaves `path` as it was, and no file beside it.
pub fn place(path: &Path, content: &[u8], mode: u32) -> Result<Placed> {
    let failed = |what: &str, e: &io::Error| Error::Io(format!("cannot {what} {}: {e}", path.display()));
    let dir = path.parent().ok_or_else(|| failed("write", &io::Error::other("it is no file of a directory")))?;
    if holds(path, content, mode) {
        return Ok(Placed::Untouched);
    }
    sweep(dir);
    let unfinished = dir.join(format!("{UNFINISHED}{}", std::process::id()));
    let unfinished = Unfinished::write(unfinished, content, mode).map_err(|e| failed("write", &e))?;
    unfinished.sync().map_err(|e| failed("write", &e))?;
    if !fs::read(unfinished.path()).is_ok_and(|read| read == content) {
        return Err(failed("write", &io::Error::other("what was written reads back as something else")));
    }
    unfinished.put_in_place(path).map_err(|e| failed("put in place", &e))?;
    sync(dir).map_err(|e| failed("put in place", &e))?;
    Ok(Placed::Written)
}

/// Removes a file durably. False when there was none.
pub fn remove(path: &Path) -> Result<bool> {
    let failed = |e: &io::Error| Error::Io(format!("cannot remove {}: {e}", path.display()));
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        removed => removed.map_err(|e| failed(&e))?,
    }
    path.parent().map_or(Ok(()), sync).map_err(|e| failed(&e))?;
    Ok(true)
}

fn holds(path: &Path, content: &[u8], mode: u32) -> bool {
    // A symbolic link is replaced by the file: its target may belong to another product.
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let alike = meta.is_file() && meta.len() == content.len() as u64 && meta.permissions().mode() & 0o7777 == mode;
    alike && fs::read(path).is_ok_and(|there| there == content)
}

/// Without the sync a power cut may lose the rename.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes what a killed writer left. Only one program writes a directory at a time: the DaemonSet's pod of the node.
pub fn sweep(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_left = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
    for path in entries.map(|entry| entry.path()).filter(is_left) {
        // Harmless if it stays.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_same_bytes_are_left_alone_and_others_come_as_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Written);
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.mode() & 0o7777, 0o755);
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Untouched);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());

        let running = File::open(&path).unwrap();
        assert_eq!(place(&path, b"two", 0o755).unwrap(), Placed::Written);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(io::read_to_string(running).unwrap(), "one");
        assert_eq!(names(dir.path()), ["program"]);
    }

    #[test]
    fn a_wrong_mode_and_a_link_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("program"), dir.path().join("other"));
        fs::write(&other, "one").unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Written);
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Written);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::create_dir(&path).unwrap();
        let fault = place(&path, b"one", 0o755).unwrap_err().to_string();
        assert!(fault.contains("put in place") && fault.contains("program"), "{fault}");
        assert_eq!(names(dir.path()), ["program"]);
        let error = place(&dir.path().join("none/program"), b"one", 0o755).unwrap_err();
        assert!(matches!(error, Error::Io(_)), "{error}");
    }

    #[test]
    fn what_a_killed_writer_left_goes_with_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{UNFINISHED}abc")), "half").unwrap();
        place(&dir.path().join("program"), b"one", 0o755).unwrap();
        assert_eq!(names(dir.path()), ["program"]);
        assert!(remove(&dir.path().join("program")).unwrap());
        assert!(!remove(&dir.path().join("program")).unwrap());
    }
}
