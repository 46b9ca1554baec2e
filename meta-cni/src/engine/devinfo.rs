//! Device information files (NPWG Device Information Specification 4.2): written by plugins, read into the status, removed
//! on DEL.

use std::fs;
use std::path::Path;

use attachments::bind::Attachment;
use attachments::cni::object::Object;

use crate::fault::{Fault, Result};

/// Creates the directory before a chain runs.
pub fn prepare(attachment: &Attachment) -> Result<()> {
    let Some(path) = &attachment.device_info_file else { return Ok(()) };
    let Some(parent) = Path::new(path).parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(|e| Fault::Io(format!("cannot create {}: {e}", parent.display())))
}

/// Reads what a plugin of the chain wrote, if one did.
pub fn read(attachment: &Attachment) -> Option<Object> {
    let bytes = fs::read(attachment.device_info_file.as_ref()?).ok()?;
    Object::parse(&bytes).ok()
}

/// Removes the file on DEL. A file that does not exist was never written.
pub fn remove(attachment: &Attachment) {
    if let Some(path) = &attachment.device_info_file {
        let _ = fs::remove_file(path);
    }
}
