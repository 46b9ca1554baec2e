//! What a node has on its disks, and where it is mounted: /etc, /var, /opt and /run are the node's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::programs::{INSIDE, Programs};
use super::super::space::{bind, sysfs, tmpfs};
use crate::peers;
use crate::program;

/// What of the machine's /etc a node has too: names of users and protocols, and where alternatives point.
const SHARED: &[&str] = &["alternatives", "group", "iproute2", "nsswitch.conf", "passwd", "protocols", "services"];

/// Plugins of the default network.
const PLUGINS: &[&str] = &["bridge", "host-local", "portmap", "bandwidth", "loopback"];

/// Settings of the kernel that kubelet insists on. They hold for the whole machine, which is not ours to change: the node
/// sees these values in its /proc and leaves it at that.
const SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Makes the directories of a new node.
pub(super) fn make(disks: &Path, programs: &Programs) {
    for dir in ["etc/cni/net.d", "etc/kubernetes/manifests", "var/lib", "var/log", "var/tmp", "opt/cni/bin"] {
        fs::create_dir_all(disks.join(dir)).unwrap();
    }
    symlink("/run", disks.join("var/run")).unwrap();
    for name in SHARED {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            program::run("cp", ["-a", from.to_str().unwrap(), disks.join("etc").to_str().unwrap()]);
        }
    }
    fs::write(disks.join("etc/machine-id"), boot_id().replace('-', "")).unwrap();
    fs::write(disks.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n").unwrap();
    fs::write(disks.join("etc/resolv.conf"), "").unwrap();
    for (path, value) in SYSCTLS {
        let path = disks.join("etc/proc-sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }
    for inside in programs.inside().iter().chain([&Path::new(INSIDE).join("harness")]) {
        fs::create_dir_all(disks.join(inside.strip_prefix("/").unwrap())).unwrap();
    }
}

/// Puts the reference plugins where containerd looks for them.
pub(super) fn plugins(disks: &Path) {
    for name in PLUGINS {
        fs::copy(peers::program(name), disks.join("opt/cni/bin").join(name)).unwrap();
    }
}

/// Mounts the disks; runs inside of the node's mount namespace.
pub(super) fn mount(disks: &Path, programs: &Programs) {
    // First those that the later mounts may cover.
    let built = program::built("cluster");
    let pairs = programs.outside().iter().map(|dir| dir.as_path()).chain(built.parent());
    let inside = programs.inside().into_iter().chain([Path::new(INSIDE).join("harness")]);
    for (from, inside) in pairs.zip(inside) {
        bind(from, &disks.join(inside.strip_prefix("/").unwrap()));
    }
    // The disks themselves may lie below one of these.
    let held: Vec<_> =
        ["opt", "etc", "var"].iter().map(|name| (fs::File::open(disks.join(name)).unwrap(), name)).collect();
    for (dir, name) in &held {
        use std::os::fd::AsRawFd;
        bind(&Path::new("/proc/thread-self/fd").join(dir.as_raw_fd().to_string()), &Path::new("/").join(name));
    }
    tmpfs(Path::new("/run"));
    sysfs();
}

/// A new random identifier in the form of a boot id.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}
