//! The file of one record: its entries, and the directory that says its state.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use attachments::bind::Attachment;
use attachments::names::PodRef;
use delegates::error::Error;

use super::super::record::{Entry, Grow, Grown, Key, Record, Saved, hot_plugged};
use super::{Place, Store, with_parent};
use crate::atomic_file::Unfinished;
use crate::fault::Result;

/// An open record file. Name and content agree with the last successful method call.
#[derive(Debug)]
pub struct RecordFile {
    /// Whose record it is, from the file's name.
    pub key: Key,
    /// The entries at the time of opening.
    pub record: Record,
    pub(super) store: Store,
    /// None for a record in memory only.
    pub(super) file: Option<File>,
    pub(super) place: Place,
}

impl RecordFile {
    /// True for a record in memory only.
    pub fn is_made_up(&self) -> bool {
        self.file.is_none()
    }

    /// True when the ADD succeeded and no undo has begun.
    pub fn is_settled(&self) -> bool {
        self.place == Place::Attached
    }

    /// Saves old state before a delegate changes it.
    pub fn save(&mut self, saved: Saved) -> delegates::error::Result<()> {
        let written = self.append(&Entry::Saved(&saved));
        self.record.saved.push(saved);
        written.map_err(|fault| Error::io("note old state")(io::Error::other(fault.to_string())))
    }

    /// Appends an entry, without a sync: a power cut also takes what the entry describes, links in the kernel.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.write(&entry.encode(), false)
    }

    /// A hot-plug begins to attach these: they follow the others in the record, which is settled and stays so.
    pub fn grow(&mut self, attachments: Vec<Attachment>) -> Result<()> {
        let grow = Grow { attachments };
        self.hot_plug(&Entry::Grow(&grow))?;
        self.record.grow(grow);
        Ok(())
    }

    /// A hot-plug has attached what it was to attach, and begins to take others away.
    pub fn grown(&mut self, grown: Grown) -> Result<()> {
        self.hot_plug(&Entry::Grown(&grown))?;
        self.record.grown(grown);
        Ok(())
    }

    /// Writes an entry of layout 2, synced. The number comes first: a reader of layout 1 must not take the entry for damage.
    fn hot_plug(&mut self, entry: &Entry<'_>) -> Result<()> {
        let (at, version) = hot_plugged();
        let path = self.store.path(&self.key, self.place)?;
        let numbered =
            File::options().write(true).open(path).and_then(|file| file.write_all_at(version.as_bytes(), at));
        numbered.map_err(|e| self.store.failed_to("write", &self.key, &e))?;
        self.write(&entry.encode(), true)
    }

    /// Writes the record anew when it carries much that is undone. One that cannot be written stays as it is.
    pub fn shorten(&mut self) -> Result<()> {
        let Some((record, bytes)) = self.record.shortened() else { return Ok(()) };
        let path = self.store.path(&self.key, self.place)?;
        // No record has such a name.
        let beside = path.with_file_name(format!(".{}", self.key.container));
        let written = Unfinished::write(beside, &bytes, 0o600).and_then(|file| {
            file.sync()?;
            file.put_in_place(&path)
        });
        let opened = written.and_then(|()| File::options().read(true).append(true).open(&path));
        self.file = Some(opened.map_err(|e| self.store.failed_to("shorten", &self.key, &e))?);
        self.record = record;
        Ok(())
    }

    /// The ADD is complete: no call reads this record before its DEL.
    pub fn settle(&mut self) -> Result<()> {
        self.relocate(Place::Attached)
    }

    /// An undo begins: from now on any call may finish it. One that was given up stays where it is until it is done.
    pub fn unsettle(&mut self) -> Result<()> {
        if self.place == Place::Abandoned { Ok(()) } else { self.relocate(Place::Pending) }
    }

    /// Marks the time of an attempt, so that other calls leave the record alone for a while.
    pub fn touch(&self) {
        // Without the mark the next attempt comes earlier.
        let _ = self.file.as_ref().map(|file| file.set_modified(SystemTime::now()));
    }

    /// Indexes a failed undo by its pod: the pod's next ADD finishes it.
    pub fn note_failure(&self, pod: Option<&PodRef>) {
        if let Some(pod) = pod.filter(|_| self.file.is_some()) {
            self.store.failed().note(pod, &self.key);
        }
    }

    /// Removes the record of a set of this pod: everything is undone.
    pub fn remove(self, pod: Option<&PodRef>) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        self.store.forget_failing(&self.key);
        // Removed before the record: an index entry without a record would be read in vain.
        if let Some(pod) = pod {
            self.store.failed().forget(pod, &self.key);
        }
        let path = self.store.path(&self.key, self.place)?;
        // Without a tombstone GC lists leftovers of the container instead of removing them.
        let _ = self.store.tombstones().add(&self.key);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.store.failed_to("remove", &self.key, &e)),
            _ => Ok(()),
        }
    }

    /// Gives a record up: no call of the runtime undoes it any more. A damaged one is for people to read, another one is for replay.
    pub fn abandon(mut self, pod: Option<&PodRef>) -> Result<()> {
        let _ = self.store.tombstones().add(&self.key);
        if self.file.is_some() {
            self.relocate(Place::Abandoned)?;
        }
        // The pod's next ADD has nothing to finish.
        if let Some(pod) = pod {
            self.store.failed().forget(pod, &self.key);
        }
        self.store.forget_failing(&self.key);
        Ok(())
    }

    fn relocate(&mut self, place: Place) -> Result<()> {
        if self.place == place {
            return Ok(());
        }
        let (from, to) = (self.store.path(&self.key, self.place)?, self.store.path(&self.key, place)?);
        rename(&from, &to).map_err(|e| self.store.failed_to("move", &self.key, &e))?;
        self.place = place;
        Ok(())
    }

    /// Truncates a write that failed half-way (a full disk), so that later entries stay readable.
    pub(super) fn write(&mut self, bytes: &[u8], sync: bool) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = file.metadata().map(|meta| meta.len());
        let written = file.write_all(bytes).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        written.map_err(|e| {
            let _ = before.and_then(|length| file.set_len(length));
            self.store.failed_to("write", &self.key, &e)
        })
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with_parent(to, || fs::rename(from, to))
}
