//! The record of one attachment set: the intent, saved state, the results, and what is undone.
//!
//! One append-only file per set. Every entry carries its length and checksum, so a torn tail is detected and dropped, and a
//! damaged entry is never taken for a good one. The layout:
//!
//! ```text
//! meta-cni record 1
//! intent 1234 89abcdef
//! {...}
//! done 567 01234567
//! {...}
//! ```
//!
//! Layout 2 is what a hot-plug makes of it: a settled record that grows and shrinks. `grow` appends attachments to the intent, `grown`
//! says their results and which others are taken away. What was never hot-plugged stays in layout 1, which an
//! earlier version of the program reads; a record in layout 2 it refuses by its number.
//!
//! This module is pure: bytes in, bytes out.

// Also where this file is a module of another crate, as in the fuzz targets.
#[path = "record/growth.rs"]
mod growth;

use std::fmt;
use std::path::PathBuf;

use attachments::bind::Attachment;
use attachments::cni::object::Object;
use attachments::names::{ContainerId, IfName, NetworkName, PluginType, PodRef};
use delegates::spec::LinkId;
use serde::{Deserialize, Serialize};

pub use growth::{Grow, Grown};

/// Newest version of the layout. Readers accept this version and the one before.
pub const VERSION: u32 = 2;

/// Version of a record that was never hot-plugged.
const PLAIN: u32 = 1;

const HEADER: &str = "meta-cni record ";

/// The key of a record: the node network, the sandbox, the interface name that the runtime chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `name` of the node's configuration.
    pub network: NetworkName,
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_IFNAME of the default network.
    pub ifname: IfName,
}

/// The name of its file.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.network, self.container, self.ifname)
    }
}

impl Key {
    /// The link group of every link that we create in the pod. Never 0 (the kernel's default) nor a small number, which people
    /// use by hand, and positive as the kernel reads it.
    pub fn group(&self) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        for part in [self.network.as_str(), self.container.as_str(), self.ifname.as_str()] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        (hash.finalize() & 0x3fff_ffff) | 0x4000_0000
    }
}

/// Everything that an undo needs. Written and synced before the first delegate runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// The key of the record.
    pub key: Key,
    /// The pod, where the runtime is a Kubernetes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// CNI_NETNS as given.
    pub netns: String,
    /// Device and inode of the namespace. Different numbers prove that the path leads to another namespace now. Equal numbers
    /// prove nothing: the kernel reuses them at once.
    pub netns_id: (u64, u64),
    /// The boot of the node. Absent in a made-up record, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Directories that were searched for plugins.
    pub plugin_dirs: Vec<PathBuf>,
    /// `builtin` of the node's configuration: the delegate that attached also undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Vec<PluginType>>,
    /// `strict` of the node's configuration: how the pod's status is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// The attachments in order, the default network first.
    pub attachments: Vec<Attachment>,
    /// The [`digest`] of the annotation that they were made from. Absent in a made-up record, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
}

/// A name for the text of a pod's networks annotation; the absent annotation is the empty one.
pub fn digest(networks: Option<&str>) -> String {
    let text = networks.unwrap_or_default();
    format!("{:08x}-{}", crc32fast::hash(text.as_bytes()), text.len())
}

/// What an undo needs of an attachment beside its result: old state that a delegate changed, handles of rules that it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Index of the attachment.
    pub attachment: usize,
    /// What the delegate needs of it; its own format.
    pub state: Object,
}

impl Saved {
    /// What was saved for one attachment, oldest first.
    pub fn of(saved: &[Self], attachment: usize) -> Vec<&Object> {
        saved.iter().filter(|saved| saved.attachment == attachment).map(|saved| &saved.state).collect()
    }
}

/// Written before the runtime is told of success.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// One for each attachment, in order.
    pub attached: Vec<RecordedAttachment>,
}

/// What is recorded of an attachment that is in place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordedAttachment {
    /// The final result of its chain, as 1.1.0.
    pub result: Object,
    /// The links that built-in delegates made in the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkId>,
    /// The result as the chain gave it, where another attachment has taken its default routes since. They come back when that one is
    /// hot-unplugged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<Object>,
}

/// Marks an attachment as undone: the next attempt skips it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Index of the attachment.
    pub attachment: usize,
}

/// An entry to write.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// See [`Intent`].
    Intent(&'a Intent),
    /// See [`Saved`].
    Saved(&'a Saved),
    /// See [`Done`].
    Done(&'a Done),
    /// See [`Undone`].
    Undone(&'a Undone),
    /// See [`Grow`].
    Grow(&'a Grow),
    /// See [`Grown`].
    Grown(&'a Grown),
}

impl Entry<'_> {
    /// The bytes of the entry; a record's first entry follows [`header`].
    pub fn encode(&self) -> Vec<u8> {
        let (kind, json) = match self {
            Self::Intent(entry) => ("intent", serde_json::to_vec(entry)),
            Self::Saved(entry) => ("saved", serde_json::to_vec(entry)),
            Self::Done(entry) => ("done", serde_json::to_vec(entry)),
            Self::Undone(entry) => ("undone", serde_json::to_vec(entry)),
            Self::Grow(entry) => ("grow", serde_json::to_vec(entry)),
            Self::Grown(entry) => ("grown", serde_json::to_vec(entry)),
        };
        // Plain data with string keys always serialises.
        let json = json.unwrap_or_default();
        let mut bytes = format!("{kind} {} {:08x}\n", json.len(), crc32fast::hash(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        bytes
    }
}

/// The first line of a record that was never hot-plugged.
pub fn header() -> Vec<u8> {
    format!("{HEADER}{PLAIN}\n").into_bytes()
}

/// Where the version stands in a record, and the version of one that is hot-plugged.
pub fn hot_plugged() -> (u64, String) {
    (HEADER.len() as u64, VERSION.to_string())
}

/// The content of a record's file.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Absent when the first write was torn: then nothing was attached.
    pub intent: Option<Intent>,
    /// In the order of writing.
    pub saved: Vec<Saved>,
    /// Present once the ADD has succeeded.
    pub done: Option<Done>,
    /// Attachments that are undone.
    pub undone: Vec<usize>,
    /// Attachments that a hot-plug takes away.
    pub leaving: Vec<usize>,
    /// True when an entry is damaged, so that something is lost. A torn last entry is no damage.
    pub damaged: bool,
    /// The bytes that belong to no intact entry.
    pub debris: Vec<u8>,
}

/// Why a record cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another program or an unknown version wrote it.
    #[error("layout version {0:?}, want {VERSION} or the one before it")]
    Version(String),
}

impl Record {
    /// Reads a record. A torn last entry is dropped: its write was never reported as done. Any other damage is flagged, and the
    /// intact entries are kept.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record = Self::default();
        let Some((first, mut rest)) = split_line(bytes) else {
            // Not even the first line is complete.
            record.damaged = !header().starts_with(bytes) && !bytes.contains(&0);
            record.debris = bytes.to_owned();
            return Ok(record);
        };
        let version = std::str::from_utf8(first).ok().and_then(|line| line.strip_prefix(HEADER));
        match version.map(str::parse::<u32>) {
            Some(Ok(version)) if version == VERSION || version + 1 == VERSION => {}
            Some(_) => return Err(RecordError::Version(version.unwrap_or_default().to_owned())),
            None => record.damaged = true,
        }
        while !rest.is_empty() {
            match next_entry(rest) {
                Some((kind, json, after)) => {
                    if !record.take(kind, json) {
                        record.damaged = true;
                        record.debris.extend_from_slice(&rest[..rest.len() - after.len()]);
                    }
                    rest = after;
                }
                None => {
                    // An incomplete entry. If another entry follows, this is damage and not a torn tail.
                    let next = find_entry(rest).unwrap_or_default();
                    let lost = &rest[..rest.len() - next.len()];
                    record.damaged |= !next.is_empty() || !is_torn(lost);
                    record.debris.extend_from_slice(lost);
                    rest = next;
                }
            }
        }
        Ok(record)
    }

    /// Is something lost that the undo needs? It needs the intent and saved state, not the results.
    pub fn is_undo_incomplete(&self) -> bool {
        let holds = |words: &str| self.debris.windows(words.len()).any(|part| part == words.as_bytes());
        let is_result = (holds("done ") || holds("\"attached\":[")) && !holds("saved ") && !holds("\"state\":");
        self.damaged && (self.intent.is_none() || !(self.debris.is_empty() || is_result))
    }

    fn take(&mut self, kind: &str, json: &[u8]) -> bool {
        fn read<T: for<'de> Deserialize<'de>>(json: &[u8], put: impl FnOnce(T)) -> bool {
            serde_json::from_slice(json).map(put).is_ok()
        }
        match kind {
            "intent" => read(json, |entry| self.intent = Some(entry)),
            "saved" => read(json, |entry| self.saved.push(entry)),
            "done" => read(json, |entry| self.done = Some(entry)),
            "undone" => read(json, |entry: Undone| self.undone.push(entry.attachment)),
            "grow" => serde_json::from_slice(json).is_ok_and(|entry| self.grow(entry)),
            "grown" => serde_json::from_slice(json).is_ok_and(|entry| self.grown(entry)),
            _ => false,
        }
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The intact entry at the start of `bytes`, and the bytes behind it.
fn next_entry(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (head, rest) = split_line(bytes)?;
    let mut words = std::str::from_utf8(head).ok()?.split(' ');
    let (kind, length, checksum) = (words.next()?, words.next()?, words.next()?);
    let length: usize = length.parse().ok()?;
    let json = rest.get(..length)?;
    let intact = rest.get(length) == Some(&b'\n') && format!("{:08x}", crc32fast::hash(json)) == checksum;
    intact.then(|| (kind, json, &rest[length + 1..]))
}

/// Is this an interrupted write? Then the end is missing, or a power cut has left zeros, which no entry holds.
fn is_torn(tail: &[u8]) -> bool {
    !tail.ends_with(b"}\n") || tail.contains(&0)
}

/// The next intact entry behind a damaged one.
fn find_entry(bytes: &[u8]) -> Option<&[u8]> {
    let starts = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| &bytes[i + 1..]);
    starts.into_iter().find(|rest| next_entry(rest).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { network: "node".parse().unwrap(), container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() }
    }

    pub(super) fn intent() -> Intent {
        Intent {
            key: key(),
            pod: None,
            netns: "/run/netns/a".into(),
            netns_id: (4, 4_026_531_840),
            boot: None,
            plugin_dirs: vec!["/opt/cni/bin".into()],
            builtin: None,
            strict: false,
            attachments: Vec::new(),
            asked: None,
        }
    }

    pub(super) fn saved() -> Saved {
        Saved { attachment: 1, state: Object::parse(br#"{"mtu":1500,"big":12345678901234567890}"#).unwrap() }
    }

    fn whole() -> Vec<u8> {
        let mut bytes = header();
        bytes.extend(Entry::Intent(&intent()).encode());
        bytes.extend(Entry::Saved(&saved()).encode());
        bytes.extend(Entry::Done(&Done { attached: vec![RecordedAttachment::default()] }).encode());
        bytes.extend(Entry::Undone(&Undone { attachment: 0 }).encode());
        bytes
    }

    #[test]
    fn all_four_kinds_come_back() {
        let record = Record::decode(&whole()).unwrap();
        assert!(!record.damaged);
        assert_eq!(record.intent.unwrap().key, key());
        assert_eq!(record.saved, [saved()]);
        assert_eq!(record.done.unwrap().attached.len(), 1);
        assert_eq!(record.undone, [0]);
    }

    #[test]
    fn every_truncation_reads_as_a_shorter_record() {
        let bytes = whole();
        for end in 0..bytes.len() {
            let record = Record::decode(&bytes[..end]).unwrap();
            assert!(!record.damaged, "cut at {end}");
            assert!(record.undone.is_empty(), "cut at {end}");
        }
    }

    #[test]
    fn every_flipped_byte_is_seen_or_harmless() {
        let bytes = whole();
        let last = bytes.len() - Entry::Undone(&Undone { attachment: 0 }).encode().len();
        for at in header().len()..last {
            let mut broken = bytes.clone();
            broken[at] ^= 0x11;
            let record = Record::decode(&broken).unwrap();
            let complete = record.intent.is_some() && record.done.is_some() && record.saved.len() == 1;
            assert!(record.damaged && !complete, "flip at {at}");
        }
    }

    #[test]
    fn a_damaged_last_entry_is_told_from_one_that_was_never_written_whole() {
        let intent = [header(), Entry::Intent(&intent()).encode()].concat();
        let mut flipped = intent.clone();
        flipped[header().len() + 40] ^= 4;
        let record = Record::decode(&flipped).unwrap();
        assert!(record.damaged && record.is_undo_incomplete());
        assert_eq!(record.debris, flipped[header().len()..]);
        // A power cut leaves zeros where a write was on its way.
        let mut zeros = intent.clone();
        zeros[header().len() + 40..].fill(0);
        assert!(!Record::decode(&zeros).unwrap().damaged);
        assert!(Record::decode(b"noise without a line").unwrap().damaged);
    }

    #[test]
    fn a_lost_result_is_no_loss_for_an_undo_and_lost_old_state_is() {
        let (text, saved_at) = (whole(), [header(), Entry::Intent(&intent()).encode()].concat().len());
        let done_at = saved_at + Entry::Saved(&saved()).encode().len();
        for (at, is_incomplete) in
            [(saved_at + 20, true), (saved_at + 2, true), (done_at + 2, false), (done_at + 20, false)]
        {
            let mut flipped = text.clone();
            flipped[at] ^= 4;
            let record = Record::decode(&flipped).unwrap();
            assert!(record.damaged && record.intent.is_some(), "flip at {at}");
            assert_eq!(record.is_undo_incomplete(), is_incomplete, "flip at {at}");
        }
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let text = String::from_utf8(whole()).unwrap();
        for version in ["0", "3", "x"] {
            let other = text.replacen("record 1", &format!("record {version}"), 1);
            let error = Record::decode(other.as_bytes()).unwrap_err();
            assert_eq!(error, RecordError::Version(version.to_owned()));
        }
        assert!(Record::decode(text.replacen("record 1", "record 2", 1).as_bytes()).is_ok());
    }

    #[test]
    fn groups_are_high_and_differ_by_key() {
        let mut other = key();
        other.container = "c2".parse().unwrap();
        assert_ne!(key().group(), other.group());
        assert!(key().group() >= 0x4000_0000 && key().group() < 0x8000_0000);
    }
}
