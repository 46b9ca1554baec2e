//! Where facts about pods and definitions come from, and where their status goes. The engine does not know which it is.

mod directory;
pub(crate) mod manifest;

use std::collections::BTreeMap;
use std::path::PathBuf;

use attachments::definition::Definition;
use attachments::names::{NetRef, PodRef};

use crate::fault::{Fault, Result};
use crate::node::ClusterConf;

pub use directory::Directory;

/// Annotation that a pod's status is written to (NPWG 5).
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// Annotations of a pod.
pub type Annotations = BTreeMap<String, String>;

/// A source of facts.
#[derive(Debug)]
pub enum Cluster {
    /// A directory of ordinary manifests.
    Directory(Directory),
    /// The node agent's socket.
    Agent(PathBuf),
}

impl Cluster {
    /// The source that the node configuration names.
    pub fn open(conf: &ClusterConf) -> Self {
        match conf {
            ClusterConf::Directory(dir) => Self::Directory(Directory::new(dir)),
            ClusterConf::Agent(socket) => Self::Agent(socket.clone()),
        }
    }

    /// The annotations of a pod that the runtime did not hand over. A pod that is not there yet is code 11.
    pub fn annotations(&self, pod: &PodRef) -> Result<Annotations> {
        match self {
            Self::Directory(directory) => directory.annotations(pod),
            Self::Agent(socket) => Err(away(socket)),
        }
    }

    /// The definitions among `wanted` that exist.
    pub fn definitions(&self, wanted: &[NetRef]) -> Result<BTreeMap<NetRef, Definition>> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        match self {
            Self::Directory(directory) => directory.definitions(wanted),
            Self::Agent(socket) => Err(away(socket)),
        }
    }

    /// Writes a pod's `network-status`.
    pub fn publish(&self, pod: &PodRef, status: &str) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.publish(pod, status),
            Self::Agent(socket) => Err(away(socket)),
        }
    }

    /// Could facts be had right now? For STATUS.
    pub fn ready(&self) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.ready(),
            Self::Agent(socket) => match std::os::unix::net::UnixStream::connect(socket) {
                Ok(_) => Ok(()),
                Err(_) => Err(away(socket)),
            },
        }
    }
}

fn away(socket: &std::path::Path) -> Fault {
    Fault::TryLater(format!("agentSocket: the node agent does not answer at {}", socket.display()))
}
