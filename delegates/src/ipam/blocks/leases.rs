//! The file `leases` in a network's directory: which attachment of this node holds which addresses.
//!
//! Plugins write it, each under the file's own lock; the node agent reads it. The lock is a flock on the file itself and not a
//! file of its own: an ADD makes and removes no lock file then, and a DEL finds its lock there on a disk that is full. Nothing is
//! synced: leases need survive a process that is killed, and a power cut ends every pod.
//!
//! Whoever holds the lock also knows that nobody gives out an address meanwhile: an agent that takes slots from the node writes
//! `network.json` under it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Pool;
use super::journal::{self, Holder, Journal, Lease, Line, Wrong};
use crate::boot;
use crate::error::{Error, Result};
use crate::lock::lock_data;
use crate::networks::NetworkId;
use crate::networks::state::PoolState;
use crate::ownership::{Owner, Ownership};

/// Name of the file in the network's directory.
pub const FILE: &str = "leases";

/// The file, locked until this is dropped.
#[derive(Debug)]
pub struct Leases {
    path: PathBuf,
    file: File,
    boot: String,
    journal: Journal,
    wrong: Option<Wrong>,
    can_write: bool,
}

/// What the file says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(Vec<Lease>);

impl Held {
    /// The leases of a network, oldest first. Needs no lock; none of an earlier boot is among them.
    pub fn read(state_dir: &Path, id: &NetworkId) -> Result<Self> {
        let (journal, _) = read(state_dir, id)?;
        Ok(Self(journal.live.into_iter().map(|line| line.lease).collect()))
    }

    /// Each lease.
    pub fn leases(&self) -> &[Lease] {
        &self.0
    }

    /// The slots that are leased, each with whom it is leased to.
    pub fn slots(&self, pool: &Pool) -> BTreeMap<u32, &Holder> {
        let slots = |lease: &Lease| lease.addresses.iter().filter_map(|ip| pool.slot_of(*ip)).collect::<Vec<_>>();
        self.0.iter().flat_map(|lease| slots(lease).into_iter().map(|slot| (slot, &lease.holder))).collect()
    }

    /// The slots of the node that any pod may get now, in their order.
    pub fn free<'a>(&self, state: &'a PoolState) -> impl Iterator<Item = u32> + use<'a> {
        let taken: Vec<u32> = self.slots(&state.pool).into_keys().collect();
        let is_free = move |slot: &u32| taken.binary_search(slot).is_err() && !state.claimed.contains_key(slot);
        let usable = |slot: &u32| state.pool.usable_from(*slot) == Some(*slot);
        state.slots.iter().flat_map(|run| run.iter()).filter(usable).filter(is_free)
    }
}

/// The journal without a lock.
pub(super) fn read(state_dir: &Path, id: &NetworkId) -> Result<(Journal, Option<Wrong>)> {
    let path = id.dir(state_dir).join(FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Journal::read(&bytes, &this_boot())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((Journal::default(), None)),
        Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
    }
}

impl Leases {
    /// Locks the file, which is made if need be.
    pub fn create(state_dir: &Path, id: &NetworkId, deadline: Instant) -> Result<Self> {
        let dir = id.dir(state_dir);
        let path = dir.join(FILE);
        let open = || match options().create(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
                options().create(true).open(&path)
            }
            other => other,
        };
        let failed = || Error::io(format!("open {}", path.display()));
        let file = lock_data(&path, deadline, || open().map(Some).map_err(failed()))?;
        let file = file.ok_or_else(|| failed()(ErrorKind::NotFound.into()))?;
        Self::of(path, file, true)
    }

    /// Locks the file if there is one. On a disk that takes no writing it can be read.
    pub fn open(state_dir: &Path, id: &NetworkId, deadline: Instant) -> Result<Option<Self>> {
        let path = id.dir(state_dir).join(FILE);
        let can_write = Cell::new(true);
        let opened = || match options().open(&path) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                can_write.set(false);
                File::open(&path)
            }
            other => other,
        };
        let open = || match opened() {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("open {}", path.display()))(error)),
        };
        let file = lock_data(&path, deadline, open)?;
        file.map(|file| Self::of(path.clone(), file, can_write.get())).transpose()
    }

    fn of(path: PathBuf, mut file: File, can_write: bool) -> Result<Self> {
        let boot = this_boot();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(format!("read {}", path.display())))?;
        let (journal, wrong) = Journal::read(&bytes, &boot);
        let mut leases = Self { path, file, boot, journal, wrong, can_write };
        // A part of a line that a killed writer left would become the beginning of the next one.
        if leases.can_write && leases.wrong.is_none() && leases.journal.end < bytes.len() as u64 {
            leases.cut()?;
        }
        Ok(leases)
    }

    /// What is leased.
    pub fn held(&self) -> Held {
        Held(self.journal.live.iter().map(|line| line.lease.clone()).collect())
    }

    /// What the file says.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Refuses to give out addresses by a file of which something cannot be read.
    pub(super) fn is_whole(&self) -> Result<()> {
        whole(&self.path, self.wrong.as_ref())
    }

    /// Writes a lease.
    pub(super) fn add(&mut self, lease: Lease) -> Result<()> {
        let mut text = if self.journal.is_void { journal::beginning(&self.boot) } else { String::new() };
        let lines = text.lines().count();
        let at = self.journal.end + text.len() as u64;
        text.push_str(&lease.to_line());
        self.append(&text).map_err(Error::io(format!("write {}", self.path.display())))?;
        self.journal.is_void = false;
        self.journal.lines += lines + 1;
        self.journal.freed.retain(|freed| *freed != lease.addresses);
        self.journal.last = lease.addresses.first().copied();
        self.journal.live.push(Line { lease, at });
        Ok(())
    }

    /// Ends the leases of which this is true. All are tried; the first failure is reported. What cannot be read is no lease, but
    /// what a later version wrote may be one. On a disk that takes no writing a record stays too, and is undone again.
    pub(super) fn remove(&mut self, is_over: impl Fn(&Holder) -> bool) -> Result<()> {
        if let Some(wrong @ Wrong::Format(_)) = &self.wrong {
            return whole(&self.path, Some(wrong));
        }
        if !self.can_write {
            return Ok(());
        }
        let (over, live): (Vec<Line>, Vec<Line>) =
            std::mem::take(&mut self.journal.live).into_iter().partition(|line| is_over(&line.lease.holder));
        self.journal.live = live;
        let mut outcome = Ok(());
        for line in over {
            let is_shared = self.journal.live.iter().any(|other| other.lease.addresses == line.lease.addresses);
            let text = if is_shared { line.lease.ended() } else { journal::release(&line.lease.addresses) };
            // On a full disk a byte of the lease itself says that it is over.
            let ended = self.append(&text).map(|()| self.journal.lines += 1);
            let ended = ended.or_else(|_| self.file.write_all_at(b"~", line.at));
            match ended {
                Ok(()) if is_shared => {}
                Ok(()) => self.journal.freed.push(line.lease.addresses),
                Err(error) => {
                    self.journal.live.push(line);
                    outcome = outcome.and(Err(Error::io(format!("write {}", self.path.display()))(error)));
                }
            }
        }
        outcome
    }

    /// Writes the file anew where most of it is past. Nothing is lost where that fails: it is tried again with the next line.
    pub(super) fn tidy(self) {
        if !self.journal.is_overgrown() || self.wrong.is_some() || !self.can_write {
            return;
        }
        let unfinished = self.path.with_file_name(".leases.new");
        let text = self.journal.rewritten(&self.boot);
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let replaced = written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&unfinished, &self.path));
        if replaced.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
    }

    /// Ends the leases of containers that are gone, and lists those of unknown containers.
    pub(super) fn sweep(mut self, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let owner = |holder: &Holder| ownership.owner_of(&holder.container);
        let lines = self.journal.live.iter();
        let strangers = lines.filter(|line| owner(&line.lease.holder) == Owner::Unknown).map(|line| {
            let addresses: Vec<String> = line.lease.addresses.iter().map(ToString::to_string).collect();
            format!("address {} of {} in {}", addresses.join(", "), line.lease.holder, self.path.display())
        });
        let strangers = strangers.collect();
        self.remove(|holder| owner(holder) == Owner::Departed)?;
        self.tidy();
        Ok(strangers)
    }

    /// Removes the file where nothing in it counts any more, and the network's directory if it was all that is in it.
    pub(super) fn discard_void(self) {
        if self.journal.is_void {
            self.discard_unused();
        }
    }

    /// Removes the file if nothing is leased: the node leaves the network, and with it the order in which addresses came free.
    pub fn discard_unused(self) {
        if self.journal.live.is_empty() && self.wrong.is_none() && fs::remove_file(&self.path).is_ok() {
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }

    /// One write behind the last line. A part of it that was written is taken back.
    fn append(&mut self, text: &str) -> io::Result<()> {
        match self.file.write_all_at(text.as_bytes(), self.journal.end) {
            Ok(()) => {
                self.journal.end += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.journal.end);
                Err(error)
            }
        }
    }

    fn cut(&mut self) -> Result<()> {
        self.file.set_len(self.journal.end).map_err(Error::io(format!("write {}", self.path.display())))
    }
}

/// Refuses a file of which something cannot be read.
pub(super) fn whole(path: &Path, wrong: Option<&Wrong>) -> Result<()> {
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(Error::io(format!("read {}", path.display()))(io::Error::other(wrong.to_string()))),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// The boot as it stands in the file.
fn this_boot() -> String {
    boot::current().unwrap_or_else(|| "unknown".to_owned())
}
