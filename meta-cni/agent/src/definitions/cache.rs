//! The cache of the definitions that this node asked for: what is known of each, and which is dropped when memory is short.
//! A value without I/O and clock.
//!
//! Definitions that this node never asked for are not cached, however many the cluster has; the watch only invalidates
//! entries. There are two budgets, for texts in memory and in files. When one is exceeded, the namespace with the largest
//! share loses an entry.

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
/// The most definitions that are remembered not to exist.
const ABSENT: usize = 1024;

/// What is known of one definition.
#[derive(Debug)]
struct Entry {
    revision: Box<str>,
    /// The text in memory.
    outcome: Option<Arc<Outcome>>,
    /// The length of its file.
    filed: Option<usize>,
    is_confirmed: bool,
    used: u64,
    list: u32,
}

/// What the cache knows of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The last version that the watch reported. Without a text here it is in the file.
    Current(Option<Arc<Outcome>>),
    /// A file of an earlier agent; the watch has not confirmed its version yet.
    Unconfirmed,
    /// It did not exist when it was read, and the watch has not reported it since.
    Absent,
    /// Nothing.
    Nothing,
}

/// Definitions and their bounds.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<NetRef, Entry>,
    absent: BTreeMap<NetRef, u64>,
    /// Reads under way, and the version that the watch reported meanwhile; empty for a deletion.
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

    /// Number of entries, and the bytes of their texts in memory.
    pub fn size(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.in_memory as u64)
    }

    /// Adds a file of an earlier agent.
    pub fn found_file(&mut self, reference: NetRef, revision: Box<str>, length: usize) {
        let used = self.tick();
        let (list, filed) = (self.list, Some(length));
        self.entries.insert(reference, Entry { revision, outcome: None, filed, is_confirmed: false, used, list });
    }

    /// Looks up a definition and marks it as used.
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

    /// A read has failed.
    pub fn end_read(&mut self, reference: &NetRef) {
        self.reading.remove(reference);
    }

    /// A read has returned a version. False when the watch reported another one meanwhile, so that it is not kept.
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

    /// Adds a text that was read from its file.
    pub fn put_back(&mut self, reference: &NetRef, outcome: &Arc<Outcome>) {
        if let Some(entry) = self.entries.get_mut(reference).filter(|entry| entry.outcome.is_none()) {
            self.in_memory += weight(outcome);
            entry.outcome = Some(Arc::clone(outcome));
            self.make_room();
        }
    }

    /// A read has found that the definition does not exist. `is_remembered` keeps that.
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

    /// The watch reports a version. True when the cached version is outdated and dropped.
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

    /// The watch reports a deletion. True when the definition was cached.
    pub fn gone(&mut self, reference: &NetRef) -> bool {
        if let Some(told) = self.reading.get_mut(reference) {
            *told = Some("".into());
        }
        self.remove(reference)
    }

    /// The list of the watch is complete. Drops and returns the entries that it did not have.
    pub fn end(&mut self) -> Vec<NetRef> {
        self.complete = true;
        let gone: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.list != self.list).map(|(name, _)| name.clone()).collect();
        for reference in &gone {
            self.remove(reference);
        }
        gone
    }

    /// A file was written. Returns the definitions whose files must go for it, unused ones first.
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

    /// A file is missing or cannot be read.
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

    /// The least recently used entry of the namespace with the largest share; idle entries come first.
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
