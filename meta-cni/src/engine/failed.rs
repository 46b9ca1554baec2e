//! Undos that failed, by pod: a new sandbox of the pod finishes them first, for they may hold the addresses that it wants.
//!
//! `failed/POD/NETWORK,CONTAINER,IFNAME` is an empty file beside the record in `pending/`; POD is a hash of the pod's name. So
//! they are found without a look at the records of others, however many there are. It is made when an undo fails, off the
//! way of a call that is well, and goes before its record. One that cannot be made (a full disk) is not missed much: records
//! are looked into as well, as many as one call may.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use attachments::names::PodRef;

use super::record::Key;
use super::store::parse_name;

/// The undos of a state directory that failed.
#[derive(Debug)]
pub struct Failed {
    dir: PathBuf,
}

impl Failed {
    /// Those of the store in a directory.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.join("failed") }
    }

    /// An undo of a set of this pod's failed.
    pub fn note(&self, pod: &PodRef, key: &Key) {
        let of_pod = self.of_pod(pod);
        let _ = fs::create_dir_all(&of_pod).and_then(|()| File::create(of_pod.join(key.to_string())));
    }

    /// It is finished.
    pub fn forget(&self, pod: &PodRef, key: &Key) {
        remove(&self.of_pod(pod).join(key.to_string()));
    }

    /// Those of a pod. Hashes may collide: the record says whose it is.
    pub fn keys(&self, pod: &PodRef) -> Vec<Key> {
        keys(&self.of_pod(pod))
    }

    /// Removes those whose record is gone.
    pub fn sweep(&self, is_left: impl Fn(&Key) -> bool) {
        for pod in fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            keys(&pod).iter().filter(|key| !is_left(key)).for_each(|key| remove(&pod.join(key.to_string())));
        }
    }

    fn of_pod(&self, pod: &PodRef) -> PathBuf {
        let hash = crc32fast::hash(format!("{}/{}", pod.namespace, pod.name).as_bytes());
        self.dir.join(format!("{hash:08x}"))
    }
}

fn keys(dir: &Path) -> Vec<Key> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| parse_name(entry.file_name().to_str()?)).collect()
}

/// Its directory goes with the last one.
fn remove(path: &Path) {
    if fs::remove_file(path).is_ok() {
        let _ = path.parent().map(fs::remove_dir);
    }
}
