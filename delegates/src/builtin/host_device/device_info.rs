//! What a program must know of a device that has no link: NPWG Device Information Specification, type `pci`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use attachments::cni::object::Object;

use crate::error::{Error, Result};

/// The capability by which a runtime asks for the file, and says which.
const FILE: &str = "CNIDeviceInfoFile";

/// Tells of a PCI device where the runtime asks for it. What a device plugin has written there already knows more.
pub(super) fn write(conf: &Object, address: &str) -> Result<()> {
    let Some(path) = conf.object("runtimeConfig")?.map(|runtime| runtime.text(FILE)).transpose()?.flatten() else {
        return Ok(());
    };
    // An address is digits, and needs no quoting.
    let info = format!(r#"{{"type":"pci","version":"1.1.0","pci":{{"pci-address":"{address}"}}}}"#);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
    match opened.and_then(|mut file| file.write_all(info.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        written => written.map_err(Error::io(format!("write {path}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_file_is_written_where_it_is_asked_for_and_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let conf = Object::parse(json!({"runtimeConfig": {FILE: path}}).to_string().as_bytes()).unwrap();
        write(&conf, "0000:3b:02.1").unwrap();
        let told = r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:3b:02.1"}}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), told);
        write(&conf, "0000:3b:02.2").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), told);
        for nowhere in ["{}", r#"{"runtimeConfig":{}}"#] {
            write(&Object::parse(nowhere.as_bytes()).unwrap(), "0000:3b:02.1").unwrap();
        }
        let conf = Object::parse(br#"{"runtimeConfig":{"CNIDeviceInfoFile":"/proc/no/file"}}"#).unwrap();
        let error = write(&conf, "0000:3b:02.1").unwrap_err().to_string();
        assert!(error.starts_with("write /proc/no/file: "), "{error}");
    }
}
