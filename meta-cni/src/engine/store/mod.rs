//! The state directory: where records live, and which of them still need attention.
//!
//! ```text
//! pending/NETWORK,CONTAINER,IFNAME    being attached, being undone, or left by a crash or a failed undo
//! attached/NETWORK,CONTAINER,IFNAME   settled: the ADD succeeded and no DEL has begun
//! abandoned/NETWORK,CONTAINER,IFNAME  given up: damaged, or a program that would undo the rest is gone
//! damaged/NETWORK,CONTAINER,IFNAME    empty: its time is that of the first failed DEL of a record that may be given up
//! failed/POD/NETWORK,CONTAINER,IFNAME empty: an undo of this pod's failed (see [`Failed`])
//! locks/CONTAINER                     sandbox locks, while they are held; overlays' too
//! departed, departed.old              keys of deleted records (see [`Tombstones`])
//! ```
//!
//! A rename moves a record from one state to the other, so the few records that need attention are found without reading the
//! settled ones.

mod file;

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use attachments::names::{ContainerId, PodRef};
use delegates::lock;

use super::failed::Failed;
use super::record::{Done, Entry, Intent, Key, Record, header};
use super::tombstones::Tombstones;
use crate::fault::{Fault, Result};

pub use file::RecordFile;

/// Why a record without a readable intent is left.
pub const DAMAGED: &str = "its record is damaged; its DEL undoes what can be known";

/// Directory of marks: since when the DELs of a record fail that may be given up.
const DAMAGES: &str = "damaged";

/// How many bytes of a record are read to see whose it is: the pod follows the key at the beginning of the intent.
const BEGINNING: u64 = 1024;

/// Longest file name that Linux file systems take, in bytes.
const NAME_LIMIT: usize = 255;

/// The directory in which a record lies, which is its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The ADD succeeded, and no undo has begun.
    Attached,
    /// Being attached or undone.
    Pending,
    /// Given up.
    Abandoned,
}

impl Place {
    fn dir(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Pending => "pending",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// A record in `pending/`, not opened yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Whose record it is.
    pub key: Key,
    /// How long ago it was last written: the last attempt to attach or undo it.
    pub idle: Duration,
}

/// Key and age of a record, and the record, or why it cannot be read; none where it went away meanwhile.
pub type Looked = (Key, Duration, Result<Option<RecordFile>>);

impl Store {
    /// The store in a directory, which is created when it is first written to.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where sandbox locks live.
    pub fn locks(&self) -> PathBuf {
        self.dir.join(lock::DIR)
    }

    /// Starts a record: writes and syncs the intent. A failure leaves no file.
    pub fn begin(&self, intent: &Intent) -> Result<RecordFile> {
        let path = self.path(&intent.key, Place::Pending)?;
        let file = create_new(&path).map_err(|e| self.failed_to("create", &intent.key, &e))?;
        let record = Record { intent: Some(intent.clone()), ..Record::default() };
        let mut this = RecordFile {
            key: intent.key.clone(),
            record,
            store: self.clone(),
            file: Some(file),
            place: Place::Pending,
        };
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

    /// A record in memory only, for undoing a set that was never recorded.
    pub fn unwritten(&self, intent: Intent, done: Done) -> RecordFile {
        let key = intent.key.clone();
        self.in_memory(&key, Record { intent: Some(intent), done: Some(done), ..Record::default() })
    }

    /// A record in memory only, for undoing what is known of a damaged record.
    pub fn in_memory(&self, key: &Key, record: Record) -> RecordFile {
        RecordFile { key: key.clone(), record, store: self.clone(), file: None, place: Place::Pending }
    }

    /// Opens a record, settled or not. None when there is none.
    pub fn find(&self, key: &Key) -> Result<Option<RecordFile>> {
        match self.open(key, Place::Attached)? {
            Some(found) => Ok(Some(found)),
            None => self.open(key, Place::Pending),
        }
    }

    /// Opens a record in a directory. None when there is none.
    fn open(&self, key: &Key, place: Place) -> Result<Option<RecordFile>> {
        let mut file = match open(&self.path(key, place)?) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed_to("open", key, &e)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| self.failed_to("read", key, &e))?;
        let mut record =
            Record::decode(&bytes).map_err(|e| self.failed_to("read", key, &io::Error::other(e.to_string())))?;
        // A settled record was complete when it was settled. In pending/, a damaged record without an intent looks like a torn
        // first write; the mark tells them apart.
        record.damaged |= match place {
            Place::Attached => record.intent.is_none() || record.done.is_none(),
            Place::Pending => record.intent.is_none() && self.mark(key).exists(),
            Place::Abandoned => record.intent.is_none(),
        };
        Ok(Some(RecordFile { key: key.clone(), record, store: self.clone(), file: Some(file), place }))
    }

    /// The records that were given up because a program is gone, each with the time since the last attempt: when the program is back,
    /// their undo goes on. A damaged one is people's.
    pub fn abandoned(&self) -> Result<Vec<(RecordFile, Duration)>> {
        let mut found = Vec::new();
        for (key, entry) in self.list(Place::Abandoned.dir())? {
            let opened = self.open(&key, Place::Abandoned).ok().flatten();
            found.extend(opened.filter(|file| !file.record.damaged).map(|file| (file, age_of(&entry))));
        }
        Ok(found)
    }

    /// All records in a directory, each with the time since it was last written; or why one cannot be read.
    pub fn look(&self, place: Place) -> Result<Vec<Looked>> {
        let found = self.list(place.dir())?.into_iter();
        Ok(found.map(|(key, entry)| (key.clone(), age_of(&entry), self.open(&key, place))).collect())
    }

    /// The records in `pending/`: those that need attention, and those of running calls.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        Ok(self
            .list(Place::Pending.dir())?
            .into_iter()
            .map(|(key, entry)| Pending { key, idle: age_of(&entry) })
            .collect())
    }

    /// Some records in `pending/`, at a cost that does not grow with their number: at most `read` names are read, and `keep` of
    /// them returned, a random part of them each time.
    pub fn some_pending(&self, read: usize, keep: usize) -> Result<Vec<Key>> {
        let dir = self.dir.join(Place::Pending.dir());
        let Some(entries) = read_dir(&dir)? else { return Ok(Vec::new()) };
        let mut names: Vec<_> = entries.take(read).flatten().map(|entry| entry.file_name()).collect();
        if names.len() > keep {
            // A record that cannot be undone must not block those behind it for ever.
            let start = RandomState::new().hash_one(0) % names.len() as u64;
            names.rotate_left(usize::try_from(start).unwrap_or_default());
        }
        Ok(names.iter().filter_map(|name| parse_name(name.to_str()?)).take(keep).collect())
    }

    /// How long ago a record in `pending/` was last touched. None when there is no such record.
    pub fn idle(&self, key: &Key) -> Option<Duration> {
        fs::metadata(self.path(key, Place::Pending).ok()?).ok().map(|meta| age(&meta))
    }

    /// Does a record in `pending/` begin like one of this pod? The rest is not read, and may be damaged.
    pub fn is_about(&self, key: &Key, pod: &PodRef) -> bool {
        let mut beginning = Vec::new();
        let read =
            |path: PathBuf| File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning)).ok();
        let is_read = self.path(key, Place::Pending).ok().and_then(read).is_some();
        let wanted = format!("\"pod\":{{\"namespace\":\"{}\",\"name\":\"{}\"", pod.namespace, pod.name);
        is_read && String::from_utf8_lossy(&beginning).contains(&wanted)
    }

    /// The settled records, and how long ago each was settled.
    pub fn settled(&self) -> Result<Vec<(Key, Duration)>> {
        Ok(self.list(Place::Attached.dir())?.into_iter().map(|(key, entry)| (key, age_of(&entry))).collect())
    }

    /// The settled records, and when each was last written.
    pub fn settled_at(&self) -> Result<Vec<(Key, Option<SystemTime>)>> {
        let at = |entry: &fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).ok();
        Ok(self.list(Place::Attached.dir())?.into_iter().map(|(key, entry)| (key, at(&entry))).collect())
    }

    /// The keys of all records, settled or not, of every node network.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys: Vec<Key> = Vec::new();
        for place in [Place::Attached, Place::Pending] {
            keys.extend(self.list(place.dir())?.into_iter().map(|(key, _)| key));
        }
        Ok(keys)
    }

    /// Is there a record of this container? A directory that cannot be read counts as yes.
    pub fn is_recorded(&self, container: &ContainerId) -> bool {
        // Three looks see a record that is renamed between them.
        [Place::Pending, Place::Attached, Place::Pending].iter().any(|place| {
            self.list(place.dir()).map_or(true, |found| found.iter().any(|(key, _)| key.container == *container))
        })
    }

    /// The index of failed undos.
    pub fn failed(&self) -> Failed {
        Failed::of(&self.dir)
    }

    /// How long the DELs of a record that may be given up have been failing. The first call starts the time.
    pub fn failing_for(&self, key: &Key) -> Result<Duration> {
        let path = self.mark(key);
        let noted = fs::metadata(&path).and_then(|meta| meta.modified());
        if let Some(since) = noted.ok().and_then(|at| SystemTime::now().duration_since(at).ok()) {
            return Ok(since);
        }
        // There is no mark, or the clock was set back since: the time starts anew.
        let made = with_parent(&path, || File::options().write(true).create(true).truncate(false).open(&path));
        let marked = made.and_then(|mark| mark.set_modified(SystemTime::now()));
        marked.map(|()| Duration::ZERO).map_err(|e| self.failed_to("note the damage of", key, &e))
    }

    /// Removes the mark of a record that is gone.
    pub fn forget_failing(&self, key: &Key) {
        let _ = fs::remove_file(self.mark(key));
    }

    fn mark(&self, key: &Key) -> PathBuf {
        self.dir.join(DAMAGES).join(key.to_string())
    }

    /// Removes the marks of records that are gone, because people remove records too. Also removes `probe.PID`, which a killed
    /// STATUS of an earlier version left.
    pub fn sweep(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix("probe."))
                .is_some_and(|pid| pid.parse::<u32>().is_ok())
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        let is_left = |key: &Key| self.path(key, Place::Pending).is_ok_and(|path| path.exists());
        self.failed().sweep(is_left);
        for (key, _) in self.list(DAMAGES).unwrap_or_default() {
            if !is_left(&key) {
                self.forget_failing(&key);
            }
        }
    }

    /// Paths that a DEL may lock instead of a lock file: the record and the directories above it, without the state directory.
    pub fn places(&self, key: &Key) -> Vec<PathBuf> {
        let places = [Place::Attached, Place::Pending];
        let records = places.into_iter().filter_map(|place| self.path(key, place).ok());
        let dirs = places.map(|place| self.dir.join(place.dir()));
        records.chain(dirs).chain(self.dir.ancestors().skip(1).map(Path::to_owned)).collect()
    }

    /// The path of a record in `pending/`, for messages.
    pub fn pending_path(&self, key: &Key) -> PathBuf {
        self.dir.join(Place::Pending.dir()).join(key.to_string())
    }

    /// The container ids of deleted records.
    pub fn tombstones(&self) -> Tombstones {
        Tombstones::of(&self.dir)
    }

    fn list(&self, state: &str) -> Result<Vec<(Key, fs::DirEntry)>> {
        let dir = self.dir.join(state);
        let Some(entries) = read_dir(&dir)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unlisted(&dir, &e))?;
            // Other names are not records.
            if let Some(key) = entry.file_name().to_str().and_then(parse_name) {
                found.push((key, entry));
            }
        }
        Ok(found)
    }

    fn path(&self, key: &Key, place: Place) -> Result<PathBuf> {
        let name = key.to_string();
        if name.len() > NAME_LIMIT {
            return Err(Fault::Config(format!(
                "name: got {} bytes together with CNI_CONTAINERID and CNI_IFNAME, want at most {}",
                name.len() - 2,
                NAME_LIMIT - 2
            )));
        }
        Ok(self.dir.join(place.dir()).join(name))
    }

    fn failed_to(&self, what: &str, key: &Key, e: &io::Error) -> Fault {
        let (container, dir) = (&key.container, self.dir.display());
        Fault::Io(format!("cannot {what} the record of sandbox {container} in {dir}: {e}"))
    }
}

/// The entries of a directory; None when it does not exist.
fn read_dir(dir: &Path) -> Result<Option<fs::ReadDir>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(Some(entries)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unlisted(dir, &e)),
    }
}

fn unlisted(dir: &Path, e: &io::Error) -> Fault {
    Fault::Io(format!("cannot list records in {}: {e}", dir.display()))
}

/// Opens a record; on a read-only disk for reading only.
fn open(path: &Path) -> io::Result<File> {
    match File::options().read(true).append(true).open(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => File::open(path),
        opened => opened,
    }
}

/// Time since the last write. A time in the future means that the clock was set back since, and counts as long ago: the
/// writer is gone, or it holds the sandbox lock. Otherwise the record would wait until the clock gets there again.
fn age(meta: &fs::Metadata) -> Duration {
    let written = meta.modified();
    written.map_or(Duration::ZERO, |at| SystemTime::now().duration_since(at).unwrap_or(Duration::MAX))
}

/// A file without metadata is gone, and counts as just touched so that nobody resumes it.
fn age_of(entry: &fs::DirEntry) -> Duration {
    entry.metadata().map_or(Duration::ZERO, |meta| age(&meta))
}

/// Parses the file name of a record.
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

/// Runs `act`. If the directory of `path` is missing, creates it and runs `act` again.
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
mod tests;
