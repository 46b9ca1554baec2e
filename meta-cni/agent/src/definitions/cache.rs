//! The definitions that somebody on this node asked for, as a value: what is known of each, and what is dropped when there
//! is no room. No I/O, no clock.
//!
//! What nobody asked for is not here, however much the cluster holds; the watch only says what of this is out of date. Two
//! budgets, one for texts in memory and one for files, are shared out among namespaces: room is made by whichever has most.

use std::collections::BTreeMap;
use std::sync::Arc;

use attachments::names::{NetRef, ObjectName};
use meta_cni::cluster::wire::Outcome;

/// Texts in memory, in bytes.
pub const IN_MEMORY: usize = 8 << 20;
/// Texts in files, in bytes, and their number.
pub const IN_FILES: (usize, usize) = (32 << 20, 1024);
/// What an entry takes beside its text.
const OVERHEAD: usize = 512;
/// Definitions that are remembered not to exist.
const ABSENT: usize = 1024;

/// What is known of one definition.
#[derive(Debug)]
struct Entry {
    revision: Box<str>,
    /// In memory.
    outcome: Option<Arc<Outcome>>,
    /// In a file, and how long it is.
    filed: Option<usize>,
    is_confirmed: bool,
    used: u64,
    list: u32,
}

/// What can be said of a definition without asking the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The last that the watch told of. The text is in a file when it is not here.
    Current(Option<Arc<Outcome>>),
    /// It is in a file of an agent before this one; the watch has not come to it yet.
    Unconfirmed,
    /// It did not exist when it was asked for, and the watch has not told of it since.
    Absent,
    /// Nothing.
    Nothing,
}

/// Definitions and their bounds.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<NetRef, Entry>,
    absent: BTreeMap<NetRef, u64>,
    /// Reads under way, and the version that the watch told of meanwhile; empty for a deletion.
    reading: BTreeMap<NetRef, Option<Box<str>>>,
    in_memory: usize,
    clock: u64,
    list: u32,
    complete: bool,
}

impl Cache {
    /// Has the watch told of all definitions once?
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// A file of an agent before this one.
    pub fn found_file(&mut self, reference: NetRef, revision: Box<str>, length: usize) {
        let used = self.tick();
        let (list, filed) = (self.list, Some(length));
        self.entries.insert(reference, Entry { revision, outcome: None, filed, is_confirmed: false, used, list });
    }

    /// What is known of a definition, which is used now.
    pub fn look(&mut self, reference: &NetRef) -> Known {
        let now = self.tick();
        match self.entries.get_mut(reference) {
            Some(entry) => {
                entry.used = now;
                if entry.is_confirmed { Known::Current(entry.outcome.clone()) } else { Known::Unconfirmed }
            }
            None => match self.absent.get_mut(reference).filter(|_| self.complete) {
                Some(used) => {
                    *used = now;
                    Known::Absent
                }
                None => Known::Nothing,
            },
        }
    }

    /// A read of the API server begins.
    pub fn begin_read(&mut self, reference: &NetRef) {
        self.reading.insert(reference.clone(), None);
    }

    /// A read has brought nothing.
    pub fn end_read(&mut self, reference: &NetRef) {
        self.reading.remove(reference);
    }

    /// A read has brought a version. True when it is kept; false when the watch told of another meanwhile.
    pub fn put(&mut self, reference: &NetRef, revision: &str, outcome: Arc<Outcome>) -> bool {
        let told = self.reading.remove(reference).flatten();
        self.remove(reference);
        self.absent.remove(reference);
        if told.is_some_and(|told| *told != *revision) {
            return false;
        }
        self.in_memory += weight(&outcome);
        let (used, list) = (self.tick(), self.list);
        let entry =
            Entry { revision: revision.into(), outcome: Some(outcome), filed: None, is_confirmed: true, used, list };
        self.entries.insert(reference.clone(), entry);
        self.make_room();
        true
    }

    /// A text that was read from its file.
    pub fn put_back(&mut self, reference: &NetRef, outcome: &Arc<Outcome>) {
        if let Some(entry) = self.entries.get_mut(reference).filter(|entry| entry.outcome.is_none()) {
            self.in_memory += weight(outcome);
            entry.outcome = Some(Arc::clone(outcome));
            self.make_room();
        }
    }

    /// A read has found that it does not exist, which is worth remembering for some.
    pub fn put_absent(&mut self, reference: &NetRef, is_remembered: bool) {
        let told = self.reading.remove(reference).flatten();
        self.remove(reference);
        if !is_remembered || told.is_some_and(|told| !told.is_empty()) {
            return;
        }
        let now = self.tick();
        self.absent.insert(reference.clone(), now);
        if self.absent.len() > ABSENT
            && let Some(oldest) =
                self.absent.iter().min_by_key(|(_, used)| **used).map(|(reference, _)| reference.clone())
        {
            self.absent.remove(&oldest);
        }
    }

    /// A list of the watch begins.
    pub fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The watch tells of a version. True when what was known is out of date, and forgotten.
    pub fn told(&mut self, reference: &NetRef, revision: &str) -> bool {
        self.absent.remove(reference);
        if let Some(told) = self.reading.get_mut(reference) {
            *told = Some(revision.into());
        }
        let list = self.list;
        match self.entries.get_mut(reference) {
            Some(entry) if *entry.revision == *revision => {
                (entry.is_confirmed, entry.list) = (true, list);
                false
            }
            Some(_) => {
                self.remove(reference);
                true
            }
            None => false,
        }
    }

    /// The watch tells of a deletion. True when something was known.
    pub fn gone(&mut self, reference: &NetRef) -> bool {
        if let Some(told) = self.reading.get_mut(reference) {
            *told = Some("".into());
        }
        self.remove(reference)
    }

    /// The list of the watch is at its end: what it did not hold is gone, and given here.
    pub fn end(&mut self) -> Vec<NetRef> {
        self.complete = true;
        let gone: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.list != self.list).map(|(name, _)| name.clone()).collect();
        for reference in &gone {
            self.remove(reference);
        }
        gone
    }

    /// A file was written. Gives those that must go for it: first what `is_used` does not hold for.
    pub fn filed(&mut self, reference: &NetRef, length: usize, is_used: impl Fn(&NetRef) -> bool) -> Vec<NetRef> {
        if let Some(entry) = self.entries.get_mut(reference) {
            entry.filed = Some(length);
        }
        let mut gone = Vec::new();
        loop {
            let files = self.entries.values().filter_map(|entry| entry.filed);
            let (bytes, number) = files.fold((0, 0), |(bytes, number), length| (bytes + length, number + 1));
            if bytes <= IN_FILES.0 && number <= IN_FILES.1 {
                return gone;
            }
            let size = |entry: &Entry| entry.filed.map(|length| length + OVERHEAD);
            let Some(victim) = self.victim(size, |one| one != reference && !is_used(one)) else { return gone };
            self.unfile(&victim);
            gone.push(victim);
        }
    }

    /// A file is not there, or cannot be read.
    pub fn unfile(&mut self, reference: &NetRef) {
        if let Some(entry) = self.entries.get_mut(reference) {
            entry.filed = None;
            if entry.outcome.is_none() {
                self.remove(reference);
            }
        }
    }

    fn make_room(&mut self) {
        while self.in_memory > IN_MEMORY {
            let size = |entry: &Entry| entry.outcome.as_deref().map(weight);
            let Some(victim) = self.victim(size, |_| true) else { return };
            let Some(entry) = self.entries.get_mut(&victim) else { return };
            self.in_memory -= entry.outcome.take().as_deref().map(weight).unwrap_or_default();
            if entry.filed.is_none() {
                self.entries.remove(&victim);
            }
        }
    }

    /// Of the namespace that has most, the one used longest ago; one that is not idle only where there is no other.
    fn victim(&self, size: impl Fn(&Entry) -> Option<usize>, is_idle: impl Fn(&NetRef) -> bool) -> Option<NetRef> {
        let mut shares: BTreeMap<&ObjectName, usize> = BTreeMap::new();
        for (reference, entry) in &self.entries {
            if let Some(size) = size(entry) {
                *shares.entry(&reference.namespace).or_default() += size;
            }
        }
        let (fullest, _) = shares.into_iter().max_by_key(|(_, share)| *share)?;
        let of_it = self.entries.iter().filter(|(name, entry)| name.namespace == *fullest && size(entry).is_some());
        of_it.min_by_key(|(name, entry)| (!is_idle(name), entry.used)).map(|(name, _)| name.clone())
    }

    fn remove(&mut self, reference: &NetRef) -> bool {
        let removed = self.entries.remove(reference);
        if let Some(outcome) = removed.as_ref().and_then(|entry| entry.outcome.as_deref()) {
            self.in_memory -= weight(outcome);
        }
        removed.is_some()
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// Bytes that an outcome takes.
pub fn weight(outcome: &Outcome) -> usize {
    let text = match outcome {
        Outcome::Found { config, resource_name } => {
            config.as_ref().map_or(0, String::len) + resource_name.as_ref().map_or(0, String::len)
        }
        Outcome::Broken { reason } | Outcome::Unreachable { reason } => reason.len(),
        Outcome::TooLarge { .. } | Outcome::Missing | Outcome::Unheard => 0,
    };
    text + OVERHEAD
}

#[cfg(test)]
mod tests;
