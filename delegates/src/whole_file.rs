//! Small files for root alone that are replaced whole: a reader finds the old content or the new one, never half of either. They are not
//! synced: what they tell of goes with the power too.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// Puts `content`, as JSON, in the place of `path` by way of the file `new`, which one writer at a time may use. Directories of both that
/// are missing are made.
pub(crate) fn replace(path: &Path, new: &Path, content: &impl Serialize) -> Result<()> {
    // Plain data with string keys always serialises.
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
        file.write_all(&bytes)?;
        fs::rename(new, path)
    };
    let written = match write() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_parent(new).and_then(|()| make_parent(path)).and_then(|()| write())
        }
        other => other,
    };
    written.map_err(|error| {
        // A full disk: half a file helps nobody.
        let _ = fs::remove_file(new);
        Error::io(format!("write {}", path.display()))(error)
    })
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| DirBuilder::new().recursive(true).mode(0o700).create(dir))
}

/// Removes a file; one that is gone is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
