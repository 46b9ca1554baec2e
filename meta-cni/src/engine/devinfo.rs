//! Device information files (NPWG Device Information Specification 4.2): those of device plugins are copied for an attachment,
//! plugins of the chain write more, the status tells it, DEL removes it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use attachments::bind::{Attachment, DEVICE_INFO_FILE, Device};
use attachments::cni::object::Object;
use attachments::names::ContainerId;
use delegates::ownership::{Owner, Ownership};

use super::log::warn;
use crate::fault::{Fault, Result};

/// The largest file that is read. Those of the specification have some 200 bytes.
const LARGEST: u64 = 64 << 10;
/// Nobody but plugins writes to it, and they replace it.
const MODE: u32 = 0o444;

/// What is known of an attachment's device.
pub struct Known {
    /// The file's content.
    pub info: Option<Object>,
    /// False where the directory cannot be seen from here: a reader on the node may find a file.
    pub is_all: bool,
}

/// Before a chain runs: copies what the device plugin wrote of the attachment's device (R54), and creates the directory where
/// a plugin of the chain may write.
pub fn prepare(attachment: &Attachment) -> Result<()> {
    let Some(path) = attachment.device_info_file.as_ref().map(Path::new) else { return Ok(()) };
    let Some(dir) = path.parent() else { return Ok(()) };
    let theirs = of_device_plugin(dir, attachment.device.as_ref()).filter(|path| path.exists());
    if theirs.is_some() || attachment.plugins.iter().any(|plugin| plugin.declares(DEVICE_INFO_FILE)) {
        fs::create_dir_all(dir).map_err(|e| Fault::Io(format!("cannot create {}: {e}", dir.display())))?;
    }
    let Some(theirs) = theirs else { return Ok(()) };
    match read_file(&theirs) {
        Ok(info) => {
            // Nobody reads it before the chain runs; what an earlier call left goes first.
            let _ = fs::remove_file(path);
            let created = File::options().write(true).create_new(true).mode(MODE).open(path);
            let written = created.and_then(|mut file| file.write_all(info.to_json().as_bytes()));
            written.map_err(|e| Fault::Io(format!("cannot write {}: {e}", path.display())))
        }
        Err(e) => {
            warn(&format!("{}: not used as device information: {e}", theirs.display()));
            Ok(())
        }
    }
}

/// The file of a device plugin about a device (R53), beside the directory of our own.
fn of_device_plugin(dir: &Path, device: Option<&Device>) -> Option<PathBuf> {
    let Device { id, resource } = device?;
    let name = format!("{}-{}-device.json", resource.as_ref()?, id).replace('/', "-");
    Some(dir.parent()?.join("dp").join(name))
}

/// Reads what plugins wrote, if one did.
pub fn read(attachment: &Attachment) -> Known {
    let Some(path) = attachment.device_info_file.as_ref().map(Path::new) else {
        return Known { info: None, is_all: true };
    };
    let info = read_file(path).ok();
    // The directory of all such files, which the agent's container has where it can see them.
    let is_seen = || path.ancestors().nth(3).is_some_and(Path::exists);
    let is_all = info.is_some() || !path.exists() && is_seen();
    Known { info, is_all }
}

fn read_file(path: &Path) -> io::Result<Object> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("got more than {LARGEST} bytes")));
    }
    Object::parse(&text).map_err(|e| io::Error::other(format!("got no JSON object: {e}")))
}

/// Removes the file on DEL. A file that does not exist was never written.
pub fn remove(attachment: &Attachment) {
    if let Some(path) = &attachment.device_info_file {
        let _ = fs::remove_file(path);
    }
}

/// Removes the files of containers that are gone: an attachment's name holds its container's id.
pub fn sweep(dir: &Path, ownership: &Ownership<'_>) {
    let Ok(files) = fs::read_dir(dir) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        let is_of = |container: &&ContainerId| name.contains(&format!("-{container}_"));
        let is_left = |container: &ContainerId| ownership.owner(container) == Owner::Departed;
        let mut owners = ownership.containers().filter(is_of).peekable();
        if owners.peek().is_some() && owners.all(is_left) {
            let _ = fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    const INFO: &str = r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:3b:02.1"}}"#;

    /// An attachment with a device `vendor.com/nic` `a/b`, its file in `dir/cni`.
    fn attachment(dir: &Path) -> Attachment {
        serde_json::from_value(json!({
            "source": {"Definition": {"namespace": "n", "name": "a"}}, "network": "a", "version": "1.0.0",
            "disable_check": false, "disable_gc": false, "ifname": "net1", "plugins": [{"type": "sriov"}],
            "runtime_config": {}, "args": "", "is_default": false,
            "device": {"id": "a/b", "resource": "vendor.com/nic"},
            "device_info_file": dir.join("devinfo/cni/n-a-c1_net1"),
        }))
        .unwrap()
    }

    fn of_plugin(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("devinfo/dp")).unwrap();
        fs::write(dir.join("devinfo/dp/vendor.com-nic-a-b-device.json"), text).unwrap();
    }

    #[test]
    fn what_the_device_plugin_wrote_is_copied_told_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let one = attachment(dir.path());
        assert!(!read(&attachment(&dir.path().join("hidden"))).is_all, "who sees no directory knows of no file");
        of_plugin(dir.path(), INFO);
        prepare(&one).unwrap();
        let told = read(&one);
        assert_eq!((told.info.unwrap().to_json(), told.is_all), (INFO.to_owned(), true));
        let path = dir.path().join("devinfo/cni/n-a-c1_net1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(fs::read_dir(dir.path().join("devinfo/cni")).unwrap().count(), 1);
        // What an earlier call left is replaced.
        of_plugin(dir.path(), "{}");
        prepare(&one).unwrap();
        assert_eq!(read(&one).info.unwrap().to_json(), "{}");
        remove(&one);
        remove(&one);
        assert!(!path.exists() && dir.path().join("devinfo/dp/vendor.com-nic-a-b-device.json").exists());
    }

    #[test]
    fn a_device_of_which_nothing_is_written_or_nonsense_has_no_information() {
        let dir = tempfile::tempdir().unwrap();
        let one = attachment(dir.path());
        prepare(&one).unwrap();
        assert!(!dir.path().join("devinfo").exists(), "nobody writes there");
        let writing = json!({"type": "sriov", "capabilities": {DEVICE_INFO_FILE: true}});
        prepare(&Attachment { plugins: vec![serde_json::from_value(writing).unwrap()], ..one.clone() }).unwrap();
        assert!(dir.path().join("devinfo/cni").exists());
        for text in [None, Some("garbage"), Some("[]"), Some(&*"x".repeat(1 << 20))] {
            text.iter().for_each(|text| of_plugin(dir.path(), text));
            prepare(&one).unwrap();
            let told = read(&one);
            assert!(told.info.is_none() && told.is_all);
        }
        of_plugin(dir.path(), INFO);
        let unallocated = Device { id: "a/b".parse().unwrap(), resource: None };
        let named = Attachment { device: Some(unallocated), ..one };
        prepare(&named).unwrap();
        assert!(read(&named).info.is_none(), "of a device that was not allocated nothing is copied");
    }

    #[test]
    fn files_of_containers_that_are_gone_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["n-a-gone_net1", "n-a-there_net1", "n-a-other_net1", "n-a-back_net1", "n-a-gone-not_net1"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        let ids = |all: &[&str]| all.iter().map(|id| id.parse().unwrap()).collect::<Vec<ContainerId>>();
        let living: BTreeSet<_> = ids(&["there"]).into_iter().collect();
        let departed: HashSet<_> = ids(&["gone", "there", "back"]).into_iter().collect();
        let is_recorded = |container: &ContainerId| container.as_str() == "back";
        sweep(dir.path(), &Ownership { living: &living, departed: &departed, is_recorded: &is_recorded });
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["n-a-back_net1", "n-a-gone-not_net1", "n-a-other_net1", "n-a-there_net1"]);
        sweep(
            &dir.path().join("nowhere"),
            &Ownership { living: &living, departed: &departed, is_recorded: &is_recorded },
        );
    }
}
