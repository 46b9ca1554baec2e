//! The file `wanted` in a network's directory: a pod waits for a slot. The node agent, which watches the directory, takes the file
//! away before it looks for slots; a plugin that still finds none makes the file again.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::networks::NetworkId;

/// Name of the file in the network's directory. It is empty.
pub const WANTED: &str = "wanted";

/// Makes the file, if it is not there. On a full disk too: an inode may be left, and what cannot be made is the answer.
pub fn ask(state_dir: &Path, id: &NetworkId) -> Result<()> {
    let path = id.dir(state_dir).join(WANTED);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io(format!("create {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
