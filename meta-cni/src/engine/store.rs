//! The state directory: where records live, and which of them still need attention.
//!
//! ```text
//! pending/NETWORK,CONTAINER,IFNAME    being attached, being undone, or left behind by a crash or a failed undo
//! attached/NETWORK,CONTAINER,IFNAME   settled: the ADD succeeded and no DEL has begun
//! locks/CONTAINER                     sandbox locks, while they are held; overlays' too
//! departed, departed.old              containers whose records are gone (see [`Memory`])
//! ```
//!
//! A rename moves a record from one state to the other, so the few that need attention are found without reading the many
//! that do not.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use attachments::names::ContainerId;
use delegates::error::Error;
use delegates::lock;

use super::memory::Memory;
use super::record::{Done, Entry, Intent, Key, Record, Saved, header};
use crate::fault::{Fault, Result};

/// Why a record is left that cannot say what it holds.
pub const DAMAGED: &str = "its record is damaged; its DEL undoes what can be known";

/// Longest file name that Linux file systems take, in bytes.
const NAME_LIMIT: usize = 255;

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// An open record file. Its name and its content agree with what the methods did last.
#[derive(Debug)]
pub struct RecordFile {
    /// Whose record it is, from the file's name.
    pub key: Key,
    /// What it said when it was opened.
    pub record: Record,
    store: Store,
    /// Absent for a record that is only in memory.
    file: Option<File>,
    settled: bool,
}

/// A record in `pending/`, not opened yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Whose record it is.
    pub key: Key,
    /// How long ago it was last written: the last attempt to attach or undo it.
    pub idle: Duration,
}

impl Store {
    /// The store in a directory, which is created when it is first written to.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where sandbox locks live.
    pub fn locks(&self) -> PathBuf {
        self.dir.join(lock::DIR)
    }

    /// Starts a record: writes and syncs the intent. When this fails nothing is left behind.
    pub fn begin(&self, intent: &Intent) -> Result<RecordFile> {
        let path = self.path(&intent.key, false)?;
        let file = create_new(&path).map_err(|e| self.failed("create", &intent.key, &e))?;
        let record = Record { intent: Some(intent.clone()), ..Record::default() };
        let mut this =
            RecordFile { key: intent.key.clone(), record, store: self.clone(), file: Some(file), settled: false };
        let mut bytes = header();
        bytes.extend(Entry::Intent(intent).encode());
        match this.write(&bytes, true) {
            Ok(()) => Ok(this),
            Err(fault) => {
                let _ = fs::remove_file(&path);
                Err(fault)
            }
        }
    }

    /// A record that is only in memory: for undoing what nobody recorded.
    pub fn unwritten(&self, intent: Intent, done: Done) -> RecordFile {
        let key = intent.key.clone();
        let record = Record { intent: Some(intent), done: Some(done), ..Record::default() };
        RecordFile { key, record, store: self.clone(), file: None, settled: false }
    }

    /// Opens a record wherever it is. Nothing when there is none.
    pub fn find(&self, key: &Key) -> Result<Option<RecordFile>> {
        for settled in [true, false] {
            match File::options().read(true).append(true).open(self.path(key, settled)?) {
                Ok(mut file) => {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).map_err(|e| self.failed("read", key, &e))?;
                    let mut record = Record::decode(&bytes)
                        .map_err(|e| self.failed("read", key, &io::Error::other(e.to_string())))?;
                    // A settled record was whole when it was settled.
                    record.damaged |= settled && (record.intent.is_none() || record.done.is_none());
                    let (key, store, file) = (key.clone(), self.clone(), Some(file));
                    return Ok(Some(RecordFile { key, record, store, file, settled }));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.failed("open", key, &e)),
            }
        }
        Ok(None)
    }

    /// The records that need attention, and those of calls that are running right now.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        Ok(self.list("pending")?.into_iter().map(|(key, entry)| Pending { key, idle: age(&entry) }).collect())
    }

    /// The records of sandboxes that are attached, and how long they have been.
    pub fn settled(&self) -> Result<Vec<(Key, Duration)>> {
        Ok(self.list("attached")?.into_iter().map(|(key, entry)| (key, age(&entry))).collect())
    }

    /// The keys of every record, settled or not, of whatever node network.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys: Vec<Key> = Vec::new();
        for state in ["attached", "pending"] {
            keys.extend(self.list(state)?.into_iter().map(|(key, _)| key));
        }
        Ok(keys)
    }

    /// Is a record about this container? A list that cannot be read counts as yes.
    pub fn is_recorded(&self, container: &ContainerId) -> bool {
        // A record that moves from one directory to the other is seen in one of three looks.
        ["pending", "attached", "pending"].iter().any(|state| {
            self.list(state).map_or(true, |found| found.iter().any(|(key, _)| key.container == *container))
        })
    }

    /// The containers whose records are gone.
    pub fn memory(&self) -> Memory {
        Memory::of(&self.dir)
    }

    fn list(&self, state: &str) -> Result<Vec<(Key, fs::DirEntry)>> {
        let dir = self.dir.join(state);
        let failed = |e: io::Error| Fault::Io(format!("cannot list records in {}: {e}", dir.display()));
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // A name that is not ours is not our business.
            if let Some(key) = entry.file_name().to_str().and_then(parse_name) {
                found.push((key, entry));
            }
        }
        Ok(found)
    }

    fn path(&self, key: &Key, settled: bool) -> Result<PathBuf> {
        let name = key.to_string();
        if name.len() > NAME_LIMIT {
            return Err(Fault::Config(format!(
                "name: got {} bytes together with CNI_CONTAINERID and CNI_IFNAME, want at most {}",
                name.len() - 2,
                NAME_LIMIT - 2
            )));
        }
        Ok(self.dir.join(if settled { "attached" } else { "pending" }).join(name))
    }

    fn failed(&self, what: &str, key: &Key, e: &io::Error) -> Fault {
        let (container, dir) = (&key.container, self.dir.display());
        Fault::Io(format!("cannot {what} the record of sandbox {container} in {dir}: {e}"))
    }
}

impl RecordFile {
    /// True for a record that is only in memory.
    pub fn is_made_up(&self) -> bool {
        self.file.is_none()
    }

    /// True when the ADD succeeded and no undo has begun.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Notes old state before a delegate changes it.
    pub fn save(&mut self, saved: Saved) -> delegates::error::Result<()> {
        let written = self.append(&Entry::Saved(&saved));
        self.record.saved.push(saved);
        written.map_err(|fault| Error::io("note old state")(io::Error::other(fault.to_string())))
    }

    /// Appends an entry. It is not synced: with the power goes what it is about, the kernel's links and the work of an undo.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.write(&entry.encode(), false)
    }

    /// The ADD is complete: no call needs to look at this record before its DEL.
    pub fn settle(&mut self) -> Result<()> {
        self.relocate(true)
    }

    /// An undo begins: from now on anybody may finish it.
    pub fn unsettle(&mut self) -> Result<()> {
        self.relocate(false)
    }

    /// Marks the time of an attempt, so that others leave the record alone for a while.
    pub fn touch(&self) {
        // Without it the next attempt merely comes earlier.
        let _ = self.file.as_ref().map(|file| file.set_modified(SystemTime::now()));
    }

    /// Everything is undone.
    pub fn remove(self) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let path = self.store.path(&self.key, self.settled)?;
        // Without a note GC tells of what is left instead of removing it.
        let _ = self.store.memory().note(&self.key);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.store.failed("remove", &self.key, &e)),
            _ => Ok(()),
        }
    }

    fn relocate(&mut self, settled: bool) -> Result<()> {
        if self.settled == settled {
            return Ok(());
        }
        let (from, to) = (self.store.path(&self.key, self.settled)?, self.store.path(&self.key, settled)?);
        rename(&from, &to).map_err(|e| self.store.failed("move", &self.key, &e))?;
        self.settled = settled;
        Ok(())
    }

    /// A write that fails half-way (a full disk) is cut off again, so that later entries stay readable.
    fn write(&mut self, bytes: &[u8], sync: bool) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = file.metadata().map(|meta| meta.len());
        let written = file.write_all(bytes).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        written.map_err(|e| {
            let _ = before.and_then(|length| file.set_len(length));
            self.store.failed("write", &self.key, &e)
        })
    }
}

/// Since it was last written.
fn age(entry: &fs::DirEntry) -> Duration {
    let written = entry.metadata().and_then(|meta| meta.modified());
    written.ok().and_then(|written| SystemTime::now().duration_since(written).ok()).unwrap_or_default()
}

/// Whose record a file of that name is.
pub fn parse_name(name: &str) -> Option<Key> {
    let mut parts = name.splitn(3, ',');
    Some(Key {
        network: parts.next()?.parse().ok()?,
        container: parts.next()?.parse().ok()?,
        ifname: parts.next()?.parse().ok()?,
    })
}

fn create_new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Configurations may hold secrets.
    let open = || File::options().read(true).append(true).create_new(true).mode(0o600).open(path);
    with_parent(path, open)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with_parent(to, || fs::rename(from, to))
}

/// Runs `act`, and once more after creating the directory that `path` lies in when that was what was missing.
fn with_parent<T>(path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match (act(), path.parent()) {
        (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            act()
        }
        (result, _) => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Undone;
    use super::*;

    fn intent(container: &str) -> Intent {
        Intent {
            key: Key {
                network: "node".parse().unwrap(),
                container: container.parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            },
            pod: None,
            netns: "/run/netns/a".into(),
            netns_id: (4, 1),
            boot: None,
            plugin_dirs: Vec::new(),
            builtin: None,
            strict: false,
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_record_moves_from_pending_to_attached_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("state"));
        let mut file = store.begin(&intent("c1")).unwrap();
        assert_eq!(store.pending().unwrap().len(), 1);
        file.append(&Entry::Done(&Done::default())).unwrap();
        file.settle().unwrap();
        assert!(store.pending().unwrap().is_empty());
        assert_eq!(store.settled().unwrap()[0].0, intent("c1").key);

        let mut found = store.find(&intent("c1").key).unwrap().unwrap();
        assert!(found.record.done.is_some());
        found.unsettle().unwrap();
        found.append(&Entry::Undone(&Undone { attachment: 0 })).unwrap();
        assert_eq!(store.keys().unwrap(), [intent("c1").key]);
        assert!(store.is_recorded(&intent("c1").key.container) && !store.is_recorded(&intent("c2").key.container));
        assert!(store.memory().recall().is_empty());
        let again = store.find(&intent("c1").key).unwrap().unwrap();
        assert_eq!(again.record.undone, [0]);
        again.remove().unwrap();
        assert!(store.find(&intent("c1").key).unwrap().is_none());
        assert!(store.memory().recall().contains(&intent("c1").key.container));
    }

    #[test]
    fn a_second_record_of_the_same_set_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let _first = store.begin(&intent("c1")).unwrap();
        assert_eq!(store.begin(&intent("c1")).unwrap_err().code(), 5);
        assert!(store.begin(&intent("c2")).is_ok());
    }

    #[test]
    fn a_name_that_no_file_system_takes_is_refused_with_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut long = intent("c1");
        long.key.network = "n".repeat(260).parse().unwrap();
        let fault = Store::new(dir.path()).begin(&long).unwrap_err();
        assert_eq!(fault.code(), 7);
        assert!(fault.to_string().contains("want at most 253"), "{fault}");
    }
}
