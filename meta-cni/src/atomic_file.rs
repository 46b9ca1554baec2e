//! Replacing a file whole: a reader finds the old content or the new one, never half of either.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file with the new content that is not in its place yet. Dropping it removes it.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    file: File,
    is_in_place: bool,
}

impl Unfinished {
    /// Writes the content to a file of its own at `path`, with this mode (permission bits) whatever the process's mask is.
    /// What a killed writer left there goes first.
    pub fn write(path: PathBuf, content: &[u8], mode: u32) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = File::options().write(true).create_new(true).mode(mode).open(&path)?;
        let mut this = Self { path, file, is_in_place: false };
        this.file.write_all(content)?;
        this.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(this)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the content: after a power cut the file is whole.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Renames the file to `target`, which is in the same directory.
    pub fn put_in_place(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Harmless if it stays: the next writer removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces `target` by a file of this content and mode, by way of a file beside it. `unfinished` is that file's name, which
/// one writer at a time may use. Nothing is synced.
pub fn replace(target: &Path, unfinished: &str, content: &[u8], mode: u32) -> io::Result<()> {
    Unfinished::write(target.with_file_name(unfinished), content, mode)?.put_in_place(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_what_fails_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        fs::write(&target, "old").unwrap();
        fs::write(dir.path().join(".new"), "half of what a killed writer wrote").unwrap();
        replace(&target, ".new", b"new", 0o640).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o640);
        let in_the_way = dir.path().join("directory");
        fs::create_dir(&in_the_way).unwrap();
        assert!(replace(&in_the_way, ".new", b"new", 0o640).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
