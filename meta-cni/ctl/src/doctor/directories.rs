//! Directories and the file systems they are on.

use std::path::Path;

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::finding::{Finding, Severity};
use super::{Place, on_host};

/// The least that should be free.
const BYTES: u64 = 64 << 20;
/// The least number of files that should be possible.
const FILES: u64 = 1000;

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    /// The plugin's records: must be there once a pod was attached, and outlive a restart of the node.
    State,
    /// The runtime reads configurations there, the agent writes ours.
    Confs,
    /// Programs are started from there.
    Programs,
    /// It may be missing: who needs it makes it.
    Optional,
}

/// What is known of a directory.
#[derive(Clone, Copy, Debug)]
struct Seen {
    is_writable: bool,
    is_noexec: bool,
    kind: Option<FsType>,
    free: u64,
    /// Files that can still be made; none where the file system has no limit.
    files: Option<u64>,
}

/// Looks at each.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    for (path, flag, purpose) in [
        (&place.state_dir, "--state-dir", Use::State),
        (&place.cni_conf_dir, "--cni-conf-dir", Use::Confs),
        (&place.cni_bin_dir, "--cni-bin-dir", Use::Programs),
        (&place.conf_dir, "--conf-dir", Use::Optional),
        (&place.addresses_dir, "--addresses-dir", Use::Optional),
    ] {
        judge(path, flag, purpose, look(&on_host(path)), findings);
    }
}

fn look(path: &Path) -> Option<Seen> {
    if !path.is_dir() {
        return None;
    }
    let room = statvfs(path).ok();
    let flags = room.map(|room| room.flags()).unwrap_or(FsFlags::empty());
    Some(Seen {
        is_writable: access(path, AccessFlags::W_OK).is_ok() && !flags.contains(FsFlags::ST_RDONLY),
        is_noexec: flags.contains(FsFlags::ST_NOEXEC),
        kind: statfs(path).ok().map(|kind| kind.filesystem_type()),
        free: room.map_or(u64::MAX, |room| room.blocks_available().saturating_mul(room.fragment_size())),
        files: room.filter(|room| room.files() > 0).map(|room| room.files_available()),
    })
}

fn judge(path: &Path, flag: &str, purpose: Use, seen: Option<Seen>, findings: &mut Vec<Finding>) {
    let name = path.display();
    let Some(Seen { is_writable, is_noexec, kind, free, files }) = seen else {
        if purpose != Use::Optional {
            let found = format!("{name}: no such directory");
            let advice = format!(
                "this is no node of the installation, or it is elsewhere ({flag}); docs/install.md says which paths go together"
            );
            findings.push(Finding::new("D20", Severity::Error, found, advice));
        }
        return;
    };
    // Programs are brought by an init container, which sees more than this one.
    if !is_writable && purpose != Use::Programs && purpose != Use::Optional {
        let advice = "find out why the file system is read-only (dmesg), or who changed the rights; until then ADD fails with code 5, and DEL succeeds where everything is undone";
        findings.push(Finding::new("D21", Severity::Error, format!("{name} cannot be written"), advice));
    }
    if purpose == Use::Programs && is_noexec {
        let advice = "mount it without noexec, or move the runtime's bin_dir: no plugin can be started from it";
        findings.push(Finding::new(
            "D22",
            Severity::Error,
            format!("{name} is on a file system mounted noexec"),
            advice,
        ));
    }
    let is = |other: FsType| kind == Some(other);
    if purpose == Use::State && (is(TMPFS_MAGIC) || is(NFS_SUPER_MAGIC) || is(OVERLAYFS_SUPER_MAGIC)) {
        let what = if is(TMPFS_MAGIC) {
            "in memory"
        } else if is(NFS_SUPER_MAGIC) {
            "on NFS"
        } else {
            "on an overlay"
        };
        let advice = "give it the node's own disk: records must outlive a restart, or what pods held is not released";
        findings.push(Finding::new("D23", Severity::Warning, format!("{name} is {what}"), advice));
    }
    if purpose != Use::Programs && free < BYTES {
        let found = format!("{name}: {} MiB are free", free >> 20);
        findings.push(Finding::new(
            "D24",
            Severity::Warning,
            found,
            "make room: on a full disk ADD fails, and DEL still succeeds",
        ));
    }
    if purpose != Use::Programs && files.is_some_and(|files| files < FILES) {
        let found = format!("{name}: the file system has room for {} files", files.unwrap_or_default());
        findings.push(Finding::new("D25", Severity::Warning, found, "remove files: each pod needs some (df -i)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(purpose: Use, seen: Option<Seen>) -> Vec<&'static str> {
        let mut findings = Vec::new();
        judge(Path::new("/x"), "--x", purpose, seen, &mut findings);
        findings.iter().map(|one| one.id).collect()
    }

    #[test]
    fn each_use_has_its_own_needs() {
        let good = Seen { is_writable: true, is_noexec: false, kind: None, free: u64::MAX, files: None };
        for purpose in [Use::State, Use::Confs, Use::Programs, Use::Optional] {
            assert_eq!(ids(purpose, Some(good)), Vec::<&str>::new(), "{purpose:?}");
        }
        assert_eq!((ids(Use::State, None), ids(Use::Optional, None)), (vec!["D20"], vec![]));
        let worst =
            Seen { is_writable: false, is_noexec: true, kind: Some(TMPFS_MAGIC), free: 1 << 20, files: Some(3) };
        assert_eq!(ids(Use::State, Some(worst)), ["D21", "D23", "D24", "D25"]);
        assert_eq!(ids(Use::Programs, Some(worst)), ["D22"]);
        let here = look(Path::new("/tmp")).unwrap();
        assert!(here.free > 0 && look(Path::new("/nonexistent")).is_none());
    }
}
