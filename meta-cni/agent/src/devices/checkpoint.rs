//! The checkpoint of the kubelet's device manager: which devices each pod has, by the pod's uid.
//!
//! The file is the kubelet's own and has no promised format. It is written before a pod's sandbox is made. An allocation's
//! devices were a list until Kubernetes 1.20, and are listed by NUMA node since.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::pod_resources::ByResource;

/// Where the kubelet keeps it, below its directory.
pub const FILE: &str = "device-plugins/kubelet_internal_checkpoint";
/// The largest file that is read, in bytes.
const LARGEST: u64 = 8 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    /// null without one.
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<DeviceIds>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum DeviceIds {
    ByNode(BTreeMap<String, Option<Vec<String>>>),
    List(Vec<String>),
}

/// The allocations that the file holds.
#[derive(Debug)]
pub struct Allocations(Vec<Entry>);

/// Reads the file. An error says why it cannot be used.
pub fn read(path: &Path) -> Result<Allocations, String> {
    let at = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text));
    read.map_err(|e| at(&e))?;
    if text.len() as u64 > LARGEST {
        return Err(at(&format_args!("got more than {LARGEST} bytes")));
    }
    let Checkpoint { data } = serde_json::from_slice(&text)
        .map_err(|e| at(&format_args!("no checkpoint of a kubelet that is known here: {e}")))?;
    Ok(Allocations(data.pod_device_entries.unwrap_or_default()))
}

impl Allocations {
    /// The devices of a pod, each once, sorted: the file has its entries in any order.
    pub fn of(&self, uid: &str) -> ByResource {
        let mut devices = ByResource::new();
        for entry in self.0.iter().filter(|entry| entry.pod_uid == uid) {
            let known = devices.entry(entry.resource_name.clone()).or_default();
            match &entry.device_ids {
                Some(DeviceIds::ByNode(nodes)) => known.extend(nodes.values().flatten().flatten().cloned()),
                Some(DeviceIds::List(ids)) => known.extend(ids.iter().cloned()),
                None => {}
            }
        }
        for ids in devices.values_mut() {
            ids.sort();
            ids.dedup();
        }
        devices
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(text: &str, uid: &str) -> Result<ByResource, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        fs::write(&path, text).unwrap();
        Ok(read(&path)?.of(uid))
    }

    fn entry(uid: &str, resource: &str, ids: &str) -> String {
        format!(
            r#"{{"PodUID":"{uid}","ContainerName":"c","ResourceName":"{resource}","DeviceIDs":{ids},"AllocResp":"CgA="}}"#
        )
    }

    fn file(entries: &[String]) -> String {
        format!(
            r#"{{"Data":{{"PodDeviceEntries":[{}],"RegisteredDevices":{{"v/nic":["d1"]}}}},"Checksum":7}}"#,
            entries.join(",")
        )
    }

    #[test]
    fn devices_are_those_of_the_uid_in_the_layout_of_either_kubelet() {
        let both = file(&[
            entry("u1", "v/nic", r#"{"1":["d3"],"-1":["d2","d1"]}"#),
            entry("u2", "v/nic", r#"{"0":["d4"]}"#),
            entry("u1", "v/gpu", r#"["g1"]"#),
            entry("u1", "v/nic", r#"{"0":["d3"]}"#),
        ]);
        let found = of(&both, "u1").unwrap();
        assert_eq!(found["v/nic"], ["d1", "d2", "d3"]);
        assert_eq!(found["v/gpu"], ["g1"]);
        assert_eq!(of(&both, "u2").unwrap()["v/nic"], ["d4"]);
        assert!(of(&both, "u3").unwrap().is_empty());
    }

    #[test]
    fn a_kubelet_without_devices_writes_null() {
        let empty = r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":7}"#;
        assert!(of(empty, "u1").unwrap().is_empty());
        assert!(of(&file(&[entry("u1", "v/nic", "null")]), "u1").unwrap()["v/nic"].is_empty());
    }

    #[test]
    fn another_layout_is_said_to_be_one() {
        for other in ["", "garbage", "[]", r#"{"Data":{"PodDeviceEntries":[{"PodUID":"u1"}]}}"#, r#"{"V2":{}}"#] {
            let error = of(other, "u1").unwrap_err();
            assert!(error.contains("no checkpoint of a kubelet that is known here"), "{other}: {error}");
        }
        assert!(read(Path::new("/nonexistent/checkpoint")).unwrap_err().starts_with("/nonexistent/checkpoint: "));
    }
}
