//! Where facts about pods and definitions come from, and where their status goes. The engine does not know which it is.

mod directory;
pub mod manifest;
pub(crate) mod socket;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use attachments::definition::Definition;
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::selection::Selection;

use crate::fault::{Fault, Result};
use crate::node::ClusterConf;

pub use directory::Directory;
pub use socket::Agent;

/// Annotations of a pod.
pub type Annotations = BTreeMap<String, String>;

/// How long STATUS waits for an agent that does not answer at once.
const HEALTH_WAIT: Duration = Duration::from_secs(1);

/// A source of facts.
#[derive(Debug)]
pub enum Cluster {
    /// A directory of ordinary manifests.
    Directory(Directory),
    /// The node agent.
    Agent(Agent),
}

/// Everything that a call needs to know, asked at once.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The pod, where there is one.
    pub pod: Option<&'a PodRef>,
    /// Are its annotations wanted, and the definitions that they name?
    pub annotations: bool,
    /// Definitions that are wanted in any case.
    pub references: &'a [NetRef],
    /// Definitions in whose place a file of the node may stand.
    pub optional: &'a [NetRef],
    /// Where the default-network annotation looks without a namespace.
    pub multus_namespace: &'a ObjectName,
}

/// What came of a [`Query`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Present if they were wanted.
    pub annotations: Option<Annotations>,
    /// The definitions that exist.
    pub definitions: BTreeMap<NetRef, Definition>,
    /// Those that do not.
    pub missing: BTreeSet<NetRef>,
    /// Where the node and the API server are, as far as the source knows. It comes with definitions.
    pub node: wire::NodeAddresses,
}

impl Facts {
    /// Was this definition looked up?
    pub fn cover(&self, reference: &NetRef) -> bool {
        self.definitions.contains_key(reference) || self.missing.contains(reference)
    }
}

/// What a pod came to, for its status and its events.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// Text of the annotation.
    pub status: String,
    /// One sentence for each interface.
    pub added: Vec<String>,
}

impl Cluster {
    /// The source that the node configuration names.
    pub fn open(conf: &ClusterConf) -> Self {
        match conf {
            ClusterConf::Directory(dir) => Self::Directory(Directory::new(dir)),
            ClusterConf::Agent(socket) => Self::Agent(Agent::new(socket)),
        }
    }

    /// Looks everything up in one go. A pod that is not there yet, or a source that is away, is code 11. `patient`: worth
    /// waiting a moment for a source that is on its way back.
    pub fn resolve(&self, query: &Query<'_>, patient: bool, deadline: Instant) -> Result<Facts> {
        if !query.annotations && query.references.is_empty() && query.optional.is_empty() {
            return Ok(Facts::default());
        }
        match self {
            Self::Directory(directory) => directory.resolve(query),
            Self::Agent(agent) => agent.resolve(query, patient, deadline),
        }
    }

    /// Writes a pod's `network-status`, or hands it to somebody who will. Waits at most `wait` for others.
    pub fn publish(&self, pod: &PodRef, status: PodStatus, wait: Duration) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.publish(pod, &status.status),
            Self::Agent(agent) => agent.publish(wire::Publish {
                pod: pod.clone(),
                status: status.status,
                added: status.added,
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Lets those who look at the pod know why it has no networks. Nothing waits for it.
    pub fn report_failure(&self, pod: &PodRef, fault: &Fault) {
        match self {
            Self::Directory(_) => {}
            Self::Agent(agent) => agent.report(wire::AddFailure {
                pod: pod.clone(),
                reason: fault.event_reason().to_owned(),
                message: fault.message(),
            }),
        }
    }

    /// Could facts be had right now? For STATUS.
    pub fn ready(&self) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.ready(),
            Self::Agent(agent) => agent.ready(HEALTH_WAIT),
        }
    }
}

/// The definitions that a pod's annotations name. An annotation that cannot be read names none; whoever binds the pod says
/// what is wrong with it.
pub fn named_in(annotations: &Annotations, namespace: &ObjectName, multus_namespace: &ObjectName) -> BTreeSet<NetRef> {
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    let (selection, _) = Selection::read(annotation, namespace, multus_namespace);
    selection.definitions().cloned().collect()
}
