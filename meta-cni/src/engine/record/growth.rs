//! What a hot-plug adds to a settled record and takes from it: layout 2.

use std::collections::BTreeMap;

use attachments::bind::Attachment;
use serde::{Deserialize, Serialize};

use super::{Done, Entry, Intent, Record, RecordedAttachment, Saved, header};

/// The most undone attachments that a record carries along: with more, what is in place is written anew.
const MOST_UNDONE: usize = 16;

/// Further attachments of a settled set. Written and synced before the first of their delegates runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grow {
    /// They follow those that the intent has by then.
    pub attachments: Vec<Attachment>,
}

/// A hot-plug has attached what it was to attach, and goes on to what it takes away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grown {
    /// The results, by index of the attachment: those of the new ones, and of others whose routes have changed.
    pub attached: BTreeMap<usize, RecordedAttachment>,
    /// The attachments that are taken away, by index. Their undo begins after this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<usize>,
    /// See [`Intent::asked`].
    pub asked: String,
}

impl Record {
    /// Takes in what a hot-plug is about to attach. False without an intent, which is lost then.
    pub fn grow(&mut self, entry: Grow) -> bool {
        let Some(intent) = &mut self.intent else { return false };
        intent.attachments.extend(entry.attachments);
        true
    }

    /// Takes in what a hot-plug has attached. False for attachments that the record does not have.
    pub fn grown(&mut self, entry: Grown) -> bool {
        let (Some(intent), Some(done)) = (&mut self.intent, &mut self.done) else { return false };
        let all = intent.attachments.len();
        if entry.attached.keys().chain(&entry.leaving).any(|i| *i >= all) {
            return false;
        }
        intent.asked = Some(entry.asked);
        self.leaving.extend(entry.leaving);
        for (i, one) in entry.attached {
            if done.attached.len() <= i {
                done.attached.resize(i + 1, RecordedAttachment::default());
            }
            done.attached[i] = one;
        }
        true
    }

    /// The attachments of a settled record that the pod has, by index.
    pub fn in_place(&self) -> Vec<usize> {
        let done = self.done.as_ref().map_or(0, |done| done.attached.len());
        (0..done).filter(|i| !self.undone.contains(i) && !self.leaving.contains(i)).collect()
    }

    /// The attachments of a settled record that a hot-plug has neither made nor taken away in whole, by index.
    pub fn unfinished(&self) -> Vec<usize> {
        let all = self.intent.as_ref().map_or(0, |intent| intent.attachments.len());
        let in_place = self.in_place();
        (0..all).filter(|i| !self.undone.contains(i) && !in_place.contains(i)).collect()
    }

    /// The attachments that the pod has, with what each was given.
    pub fn attached(&self) -> Vec<(&Attachment, &RecordedAttachment)> {
        let (Some(intent), Some(done)) = (&self.intent, &self.done) else { return Vec::new() };
        let each = |i: usize| Some((intent.attachments.get(i)?, done.attached.get(i)?));
        self.in_place().into_iter().filter_map(each).collect()
    }

    /// The record of what is in place alone, in layout 1, when the record carries much that is undone.
    pub fn shortened(&self) -> Option<(Self, Vec<u8>)> {
        let (intent, done) = (self.intent.as_ref()?, self.done.as_ref()?);
        if self.undone.len() <= MOST_UNDONE || self.damaged || !self.unfinished().is_empty() {
            return None;
        }
        let stay = self.in_place();
        let place = |old: usize| stay.iter().position(|i| *i == old);
        let of = |i: &usize| intent.attachments.get(*i).cloned();
        let intent = Intent { attachments: stay.iter().filter_map(of).collect(), ..intent.clone() };
        let done = Done { attached: stay.iter().filter_map(|i| done.attached.get(*i).cloned()).collect() };
        let moved = |one: &Saved| Some(Saved { attachment: place(one.attachment)?, state: one.state.clone() });
        let saved: Vec<Saved> = self.saved.iter().filter_map(moved).collect();
        let mut bytes = header();
        bytes.extend(Entry::Intent(&intent).encode());
        saved.iter().for_each(|one| bytes.extend(Entry::Saved(one).encode()));
        bytes.extend(Entry::Done(&done).encode());
        Some((Self { intent: Some(intent), saved, done: Some(done), ..Self::default() }, bytes))
    }
}

#[cfg(test)]
mod tests {
    use attachments::cni::object::Object;

    use super::super::tests::{intent, saved};
    use super::super::{Undone, digest, hot_plugged};
    use super::*;

    fn attachment(ifname: &str) -> Attachment {
        let text = format!(
            r#"{{"source":{{"Node":"n"}},"network":"n","version":"1.0.0","disable_check":false,"disable_gc":false,
                "ifname":"{ifname}","plugins":[],"runtime_config":{{}},"args":"","is_default":{}}}"#,
            ifname == "eth0"
        );
        serde_json::from_str(&text).unwrap()
    }

    fn result(number: usize) -> RecordedAttachment {
        let result = Object::parse(format!(r#"{{"number":{number}}}"#).as_bytes()).unwrap();
        RecordedAttachment { result, ..RecordedAttachment::default() }
    }

    /// A record of eth0 to which net1 was added.
    fn grown() -> Vec<u8> {
        let mut bytes = header();
        let (at, version) = hot_plugged();
        bytes[usize::try_from(at).unwrap()..][..version.len()].copy_from_slice(version.as_bytes());
        bytes.extend(Entry::Intent(&Intent { attachments: vec![attachment("eth0")], ..intent() }).encode());
        bytes.extend(Entry::Done(&Done { attached: vec![result(0)] }).encode());
        bytes.extend(Entry::Grow(&Grow { attachments: vec![attachment("net1")] }).encode());
        bytes.extend(Entry::Saved(&saved()).encode());
        let attached = BTreeMap::from([(0, result(7)), (1, result(1))]);
        bytes.extend(Entry::Grown(&Grown { attached, leaving: Vec::new(), asked: digest(Some("a")) }).encode());
        bytes
    }

    fn leaving(leaving: Vec<usize>) -> Vec<u8> {
        Entry::Grown(&Grown { attached: BTreeMap::new(), leaving, asked: digest(None) }).encode()
    }

    #[test]
    fn a_hot_plug_shows_how_far_it_got_wherever_it_ends() {
        let bytes = grown();
        let start = [header(), Entry::Intent(&Intent { attachments: vec![attachment("eth0")], ..intent() }).encode()];
        let start = start.concat().len() + Entry::Done(&Done { attached: vec![result(0)] }).encode().len();
        let grow = start + Entry::Grow(&Grow { attachments: vec![attachment("net1")] }).encode().len();
        for end in start..=bytes.len() {
            let record = Record::decode(&bytes[..end]).unwrap();
            let (in_place, unfinished) = match end {
                _ if end < grow => (vec![0], vec![]),
                _ if end < bytes.len() => (vec![0], vec![1]),
                _ => (vec![0, 1], vec![]),
            };
            assert_eq!((record.in_place(), record.unfinished()), (in_place, unfinished), "cut at {end}");
            assert!(!record.damaged, "cut at {end}");
        }
        let record = Record::decode(&bytes).unwrap();
        assert_eq!(record.intent.unwrap().asked, Some(digest(Some("a"))));
        assert_eq!(record.done.unwrap().attached[0].result, result(7).result, "its routes have changed");
    }

    #[test]
    fn results_of_attachments_that_are_not_there_are_damage() {
        let attached = BTreeMap::from([(usize::MAX, result(1))]);
        let far = Entry::Grown(&Grown { attached, leaving: Vec::new(), asked: digest(None) }).encode();
        for lost in [far, leaving(vec![7])] {
            let record = Record::decode(&[grown(), lost].concat()).unwrap();
            assert!(record.damaged);
            assert_eq!((record.in_place(), record.unfinished()), (vec![0, 1], vec![]));
        }
        let grow = Entry::Grow(&Grow { attachments: Vec::new() }).encode();
        assert!(Record::decode(&[header(), grow].concat()).unwrap().damaged);
    }

    #[test]
    fn what_leaves_is_not_in_place_and_is_finished_once_it_is_undone() {
        let mut bytes = grown();
        bytes.extend(leaving(vec![1]));
        let record = Record::decode(&bytes).unwrap();
        assert_eq!((record.in_place(), record.unfinished()), (vec![0], vec![1]));
        bytes.extend(Entry::Undone(&Undone { attachment: 1 }).encode());
        let record = Record::decode(&bytes).unwrap();
        assert_eq!((record.in_place(), record.unfinished()), (vec![0], vec![]));
        assert!(record.shortened().is_none(), "it is short");
    }

    #[test]
    fn a_record_of_many_hot_plugs_is_written_anew_in_the_layout_that_all_read() {
        let mut bytes = grown();
        for i in 2..20 {
            bytes.extend(Entry::Grow(&Grow { attachments: vec![attachment(&format!("net{i}"))] }).encode());
            let attached = BTreeMap::from([(i, result(i))]);
            bytes.extend(Entry::Grown(&Grown { attached, leaving: Vec::new(), asked: digest(None) }).encode());
            bytes.extend(Entry::Saved(&Saved { attachment: i, ..saved() }).encode());
        }
        bytes.extend(leaving((1..19).collect()));
        for attachment in 1..19 {
            bytes.extend(Entry::Undone(&Undone { attachment }).encode());
        }
        let (short, text) = Record::decode(&bytes).unwrap().shortened().unwrap();
        assert!(text.starts_with(&header()) && text.len() < bytes.len() / 4);
        let read = Record::decode(&text).unwrap();
        assert!(!read.damaged && read.unfinished().is_empty() && read.undone.is_empty());
        let (intent, done) = (read.intent.unwrap(), read.done.unwrap());
        let names: Vec<String> = intent.attachments.iter().map(|one| one.ifname.to_string()).collect();
        assert_eq!(names, ["eth0", "net19"]);
        assert_eq!(
            (done.attached[0].result.clone(), done.attached[1].result.clone()),
            (result(7).result, result(19).result)
        );
        assert_eq!(read.saved, [saved()]);
        assert_eq!((short.saved, intent.asked), (vec![saved()], Some(digest(None))));
    }
}
