//! Where the programs of a cluster are: as `tests/cluster/build` finds or builds them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::program;

/// What a control plane needs.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "kubectl"];

/// What a cluster with nodes needs beside that.
pub const NODES: &[&str] = &[
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
];

/// Where a node has them, wherever they are outside.
pub const INSIDE: &str = "/opt/kubernetes";

/// Directories of programs, in the order in which to look.
#[derive(Clone, Debug)]
pub struct Programs(Vec<PathBuf>);

impl Programs {
    /// Finds these programs; those that are nowhere are built, which takes minutes once and says so on stderr.
    pub fn find(names: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build");
        let mut build = program::command(&script);
        build.args(names).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = build.output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        assert!(output.status.success(), "{}: {}; its words are on stderr", script.display(), output.status);
        let found = Self(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect());
        for name in names {
            found.path(name);
        }
        found
    }

    /// The directories.
    pub(super) fn outside(&self) -> &[PathBuf] {
        &self.0
    }

    /// The same directories as a node has them.
    pub(super) fn inside(&self) -> Vec<PathBuf> {
        (0..self.0.len()).map(|number| Path::new(INSIDE).join(number.to_string())).collect()
    }

    /// The file of a program as a node has it.
    pub(super) fn path_inside(&self, name: &str) -> PathBuf {
        let found = self.0.iter().zip(self.inside()).find(|(dir, _)| dir.join(name).is_file());
        found.unwrap_or_else(|| panic!("program {name} is in none of {:?}", self.0)).1.join(name)
    }

    /// The file of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        let mut candidates = self.0.iter().map(|dir| dir.join(name));
        candidates.find(|path| path.is_file()).unwrap_or_else(|| panic!("program {name} is in none of {:?}", self.0))
    }
}
