//! `stateDir/definitions`: files with the texts that this node's pods use. With them pods start while the API server is away, also
//! after a restart of the agent. `NAMESPACE/NAME` is a line of JSON followed by the text.
//!
//! Nothing is synced: a definition whose file a power cut took is read from the API server again, and an incomplete file is
//! removed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachments::names::NetRef;
use meta_cni::atomic_file;
use meta_cni::cluster::wire::Outcome;
use serde::{Deserialize, Serialize};

/// Longest file: a line, and the longest text.
const LONGEST: u64 = 80 << 10;
/// Name of a file that is being written. No definition has such a name.
const UNFINISHED: &str = ".unfinished";

/// The directory of files.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    resource_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    /// Bytes of the text; absent where the definition has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
}

/// A complete file.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The definition.
    pub reference: NetRef,
    /// `metadata.resourceVersion` of the text.
    pub revision: String,
    /// Bytes of the file.
    pub length: usize,
}

impl Shelf {
    /// The directory in a state directory. It is created with its first file.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("definitions") }
    }

    /// All complete files, the oldest first. Incomplete files are removed.
    pub fn load(&self) -> Vec<Found> {
        let mut found: Vec<(SystemTime, Found)> = Vec::new();
        for namespace in entries(&self.dir) {
            for path in entries(&namespace) {
                match self.look(&namespace, &path) {
                    Some(one) => found.push(one),
                    // Harmless if it stays.
                    None => drop(fs::remove_file(&path)),
                }
            }
        }
        found.sort_by_key(|(written, _)| *written);
        found.into_iter().map(|(_, one)| one).collect()
    }

    fn look(&self, namespace: &Path, path: &Path) -> Option<(SystemTime, Found)> {
        let name = |path: &Path| path.file_name()?.to_str()?.parse().ok();
        let reference = NetRef { namespace: name(namespace)?, name: name(path)? };
        let meta = fs::symlink_metadata(path).ok().filter(|meta| meta.is_file() && meta.len() <= LONGEST)?;
        let mut line = Vec::new();
        BufReader::new(fs::File::open(path).ok()?).read_until(b'\n', &mut line).ok()?;
        let head: Head = serde_json::from_slice(&line).ok()?;
        let is_whole = line.len() as u64 + head.length.unwrap_or_default() == meta.len();
        let length = usize::try_from(meta.len()).ok()?;
        is_whole.then_some((meta.modified().ok()?, Found { reference, revision: head.resource_version, length }))
    }

    /// The version and text of a definition, if it has a complete file.
    pub fn read(&self, reference: &NetRef) -> Option<(String, Outcome)> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(reference)).ok()?.take(LONGEST + 1).read_to_end(&mut bytes).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        let text = String::from_utf8(bytes.split_off(end + 1)).ok()?;
        let config = match head.length {
            Some(length) if length == text.len() as u64 => Some(text),
            None if text.is_empty() => None,
            _ => return None,
        };
        Some((head.resource_version, Outcome::Found { config, resource_name: head.resource_name }))
    }

    /// Writes the text of a version in place of another one, and returns the length of the file. A definition that cannot be attached
    /// has no file.
    pub fn write(&self, reference: &NetRef, revision: &str, outcome: &Outcome) -> io::Result<Option<usize>> {
        let Outcome::Found { config, resource_name } = outcome else { return Ok(None) };
        let length = config.as_ref().map(|text| text.len() as u64);
        let head = Head { resource_version: revision.to_owned(), resource_name: resource_name.clone(), length };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(config.as_deref().unwrap_or_default().as_bytes());
        let path = self.path(reference);
        let dir = path.parent().unwrap_or(&self.dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        atomic_file::replace(&path, UNFINISHED, &bytes, 0o644)?;
        Ok(Some(bytes.len()))
    }

    /// Removes a file.
    pub fn remove(&self, reference: &NetRef) {
        let path = self.path(reference);
        // A directory that is not empty stays.
        let _ = fs::remove_file(&path);
        let _ = path.parent().map(fs::remove_dir);
    }

    fn path(&self, reference: &NetRef) -> PathBuf {
        self.dir.join(reference.namespace.as_str()).join(reference.name.as_str())
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(name: &str) -> NetRef {
        NetRef { namespace: "ns".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn found(config: Option<&str>) -> Outcome {
        Outcome::Found { config: config.map(str::to_owned), resource_name: Some("v.com/nic".to_owned()) }
    }

    #[test]
    fn a_text_reads_back_with_its_version_and_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path());
        assert!(shelf.load().is_empty() && shelf.read(&net("lan")).is_none());
        for (revision, text) in [("1", None), ("2", Some("")), ("3", Some("{\n\"type\": \"bridge\"}\n"))] {
            let length = shelf.write(&net("lan"), revision, &found(text)).unwrap().unwrap();
            assert_eq!(shelf.read(&net("lan")), Some((revision.to_owned(), found(text))));
            let one = Found { reference: net("lan"), revision: revision.to_owned(), length };
            assert_eq!(shelf.load(), [one]);
        }
        assert_eq!(shelf.write(&net("bad"), "1", &Outcome::Broken { reason: "7".into() }).unwrap(), None);
        shelf.remove(&net("lan"));
        assert_eq!((shelf.read(&net("lan")), fs::read_dir(shelf.dir).unwrap().count()), (None, 0));
    }

    #[test]
    fn what_is_not_whole_or_no_definitions_is_no_file_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path());
        shelf.write(&net("kept"), "1", &found(Some("{}"))).unwrap();
        shelf.write(&net("torn"), "1", &found(Some("{\"type\": \"bridge\"}"))).unwrap();
        let (torn, place) = (shelf.path(&net("torn")), dir.path().join("definitions/ns"));
        let whole = fs::read(&torn).unwrap();
        fs::write(&torn, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(shelf.read(&net("torn")), None);
        fs::write(place.join("zeros"), vec![0; 100]).unwrap();
        fs::write(place.join("Not-a-name"), "{}").unwrap();
        fs::write(place.join(UNFINISHED), &whole).unwrap();
        fs::write(place.join("huge"), vec![b' '; 100 << 10]).unwrap();
        assert_eq!(shelf.load().iter().map(|one| one.reference.name.as_str()).collect::<Vec<_>>(), ["kept"]);
        assert_eq!(fs::read_dir(place).unwrap().count(), 1);
    }
}
