//! The records of a state directory, as people look at them. Nothing is changed, and no lock is taken.

use std::path::Path;
use std::time::Duration;

use attachments::bind::Attachment;
use attachments::cni::object::Object;
use attachments::names::PodRef;
use delegates::spec::LinkId;

use super::boot;
use super::record::{Key, Record};
use super::recorded_status::recorded_status;
use super::store::{Place, Store};
use crate::fault::Result;

/// How far a set of attachments is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The ADD began, and its success is not recorded: a call runs, or it was killed.
    Intent,
    /// Attached.
    Done,
    /// Being undone, or what a failed undo left.
    Undoing,
    /// Given up.
    Abandoned,
}

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Undoing => "undoing",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One record.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Name of its file: the node's network, the container, the interface.
    pub file: String,
    /// CNI_CONTAINERID.
    pub container: String,
    /// The pod, where there is one.
    pub pod: Option<PodRef>,
    /// CNI_NETNS.
    pub netns: String,
    /// How far it is.
    pub state: State,
    /// Time since it was last written.
    pub idle: Duration,
    /// The node was started anew since.
    pub is_of_earlier_boot: bool,
    /// What is wrong with the file.
    pub damage: Option<String>,
    /// The group of the links that are made for it.
    pub group: u32,
    /// Its attachments in order.
    pub attachments: Vec<InspectedAttachment>,
    /// The `network-status` that it tells; none unless it is done.
    pub status: Option<String>,
}

/// One attachment of a record.
#[derive(Clone, Debug)]
pub struct InspectedAttachment {
    /// What was bound.
    pub attachment: Attachment,
    /// The result of its ADD, as 1.1.0.
    pub result: Option<Object>,
    /// The links that were made in the pod.
    pub links: Vec<LinkId>,
    /// Is it undone?
    pub is_undone: bool,
}

/// All records of a state directory; none where there is no directory.
pub fn inspect(state_dir: &Path) -> Result<Vec<Inspected>> {
    let store = Store::new(state_dir);
    let mut found: Vec<Inspected> = Vec::new();
    for place in [Place::Pending, Place::Attached, Place::Abandoned] {
        for (key, idle, opened) in store.look(place)? {
            match opened {
                Ok(Some(file)) => found.push(inspected(&key, place, idle, &file.record, None)),
                // It went away meanwhile.
                Ok(None) => {}
                Err(fault) => found.push(inspected(&key, place, idle, &Record::default(), Some(fault.to_string()))),
            }
        }
    }
    // One that moved while the directories were read is seen twice; the later place counts.
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found.dedup_by(|later, earlier| {
        let is_same = later.file == earlier.file;
        if is_same {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    Ok(found)
}

fn inspected(key: &Key, place: Place, idle: Duration, record: &Record, unreadable: Option<String>) -> Inspected {
    let intent = record.intent.as_ref();
    let state = match place {
        Place::Attached => State::Done,
        Place::Abandoned => State::Abandoned,
        Place::Pending if record.undone.is_empty() && record.done.is_none() => State::Intent,
        Place::Pending => State::Undoing,
    };
    let damaged = record.damaged.then(|| "an entry of it is damaged".to_owned());
    let attachments = intent.map(|intent| intent.attachments.as_slice()).unwrap_or_default();
    let attached = record.done.as_ref().map(|done| done.attached.as_slice()).unwrap_or_default();
    let each = |(i, attachment): (usize, &Attachment)| InspectedAttachment {
        attachment: attachment.clone(),
        result: attached.get(i).map(|one| one.result.clone()),
        links: attached.get(i).map(|one| one.links.clone()).unwrap_or_default(),
        is_undone: record.undone.contains(&i),
    };
    // What a hot-plug took away from a living sandbox is history.
    let is_told = |one: &InspectedAttachment| place != Place::Attached || !one.is_undone;
    let status = recorded_status(record, idle).ok().flatten().filter(|_| state == State::Done);
    Inspected {
        file: key.to_string(),
        container: key.container.to_string(),
        pod: intent.and_then(|intent| intent.pod.clone()),
        netns: intent.map(|intent| intent.netns.clone()).unwrap_or_default(),
        state,
        idle,
        is_of_earlier_boot: intent.is_some_and(boot::is_over),
        damage: unreadable.or(damaged),
        group: key.group(),
        attachments: attachments.iter().enumerate().map(each).filter(is_told).collect(),
        status: status.map(|recorded| recorded.status),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::record::{Done, Entry, Intent, RecordedAttachment, Undone, header};
    use super::*;

    fn record(entries: &[Entry<'_>]) -> Vec<u8> {
        entries.iter().fold(header(), |mut bytes, entry| {
            bytes.extend(entry.encode());
            bytes
        })
    }

    #[test]
    fn every_record_has_its_state_and_a_damaged_one_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(inspect(dir.path()).unwrap().is_empty());
        let intent = |container: &str| Intent {
            key: Key {
                network: "node".parse().unwrap(),
                container: container.parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            },
            pod: Some(PodRef { namespace: "shop".parse().unwrap(), name: "web".parse().unwrap(), uid: None }),
            netns: "/run/netns/a".into(),
            netns_id: (4, 5),
            boot: Some("earlier".into()),
            plugin_dirs: Vec::new(),
            builtin: None,
            strict: false,
            attachments: Vec::new(),
            asked: None,
        };
        let done = Done { attached: vec![RecordedAttachment::default()] };
        let files = [
            ("attached", "c1", record(&[Entry::Intent(&intent("c1")), Entry::Done(&done)])),
            ("pending", "c2", record(&[Entry::Intent(&intent("c2"))])),
            ("pending", "c3", record(&[Entry::Intent(&intent("c3")), Entry::Undone(&Undone { attachment: 0 })])),
            ("abandoned", "c4", record(&[Entry::Intent(&intent("c4"))])),
            ("attached", "c5", b"noise without a line".to_vec()),
            ("pending", "c6", b"meta-cni record 99\n".to_vec()),
            // It moved while we read.
            ("pending", "c1", record(&[Entry::Intent(&intent("c1"))])),
        ];
        for (place, container, bytes) in &files {
            fs::create_dir_all(dir.path().join(place)).unwrap();
            fs::write(dir.path().join(place).join(format!("node,{container},eth0")), bytes).unwrap();
        }
        let found = inspect(dir.path()).unwrap();
        let states: Vec<(&str, &str, bool)> =
            found.iter().map(|one| (one.container.as_str(), one.state.as_str(), one.damage.is_some())).collect();
        let want = [
            ("c1", "done", false),
            ("c2", "intent", false),
            ("c3", "undoing", false),
            ("c4", "abandoned", false),
            ("c5", "done", true),
            ("c6", "intent", true),
        ];
        assert_eq!(states, want);
        assert_eq!(found[0].pod.as_ref().unwrap().to_string(), "shop/web");
        assert!(found[0].is_of_earlier_boot && found[0].group >= 0x4000_0000);
        assert!(found[5].damage.as_deref().unwrap().contains("layout version \"99\""), "{:?}", found[5].damage);
    }
}
