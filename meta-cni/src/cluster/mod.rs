//! The source of facts about pods and definitions, and the sink of their status: a directory of manifests or the node
//! agent. The engine does not know which.

mod directory;
pub mod link_load;
pub mod manifest;
pub(crate) mod socket;
pub mod wire;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use attachments::bind::Allocation;
use attachments::definition::Definition;
use attachments::dialect::Dialects;
use attachments::dialect::genie::{self, Genie};
use attachments::dialect::objects::{ForeignRef, Objects};
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

/// Everything that a call needs to know, in one query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The pod, where there is one.
    pub pod: Option<&'a PodRef>,
    /// True: the answer has the pod's annotations and the definitions that they name.
    pub annotations: bool,
    /// Definitions to look up.
    pub references: &'a [NetRef],
    /// Definitions to look up that a file of the node may replace.
    pub optional: &'a [NetRef],
    /// Objects of dialects to look up; the answer has what they need beside them, too.
    pub objects: &'a [ForeignRef],
    /// Further objects of dialects, most of which are missing: the namespaces' default networks.
    pub candidates: &'a [ForeignRef],
    /// The namespace of a default-network annotation that names none.
    pub multus_namespace: &'a ObjectName,
    /// True: the answer has the levels and policies of the namespaces of the pod and of the definitions that it names.
    pub policies: bool,
    /// True: the answer has the devices that the pod was allocated of the resources which the definitions name.
    pub devices: bool,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Present if they were asked for.
    pub annotations: Option<Annotations>,
    /// The definitions that exist.
    pub definitions: BTreeMap<NetRef, Definition>,
    /// The definitions that do not exist.
    pub missing: BTreeSet<NetRef>,
    /// The objects of dialects that exist.
    pub objects: Objects,
    /// Addresses of the node and the API server, as far as the source knows them. They come with definitions.
    pub node: wire::NodeAddresses,
    /// Levels and policies; present if they were asked for.
    pub policies: Option<wire::Policies>,
    /// The pod's devices. None where nobody was asked, or no definition names a resource; a directory of manifests cannot tell.
    pub devices: Option<Allocation>,
}

impl Facts {
    /// Was this definition looked up?
    pub fn cover(&self, reference: &NetRef) -> bool {
        self.definitions.contains_key(reference) || self.missing.contains(reference)
    }
}

/// The status of a pod, and the sentences of its events.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// Text of the annotation.
    pub status: String,
    /// One sentence for each interface.
    pub added: Vec<String>,
    /// What a dialect writes beside it, by annotation.
    pub beside: Annotations,
}

impl Cluster {
    /// The source that the node configuration names.
    pub fn open(conf: &ClusterConf) -> Self {
        match conf {
            ClusterConf::Directory(dir) => Self::Directory(Directory::new(dir)),
            ClusterConf::Agent(socket) => Self::Agent(Agent::new(socket)),
        }
    }

    /// Looks everything up in one round trip. A pod that does not exist yet, or a source that is away, is code 11.
    /// `patient` waits a moment for an agent that restarts.
    pub fn resolve(&self, query: &Query<'_>, patient: bool, deadline: Instant) -> Result<Facts> {
        let asks = !query.references.is_empty() || !query.optional.is_empty();
        let asks_objects = !query.objects.is_empty() || !query.candidates.is_empty();
        if !query.annotations && !query.policies && !asks && !asks_objects {
            return Ok(Facts::default());
        }
        match self {
            Self::Directory(directory) => directory.resolve(query),
            Self::Agent(agent) => agent.resolve(query, patient, deadline),
        }
    }

    /// Makes sure of what these definitions need of networks that span nodes. A directory has one node, which owns all there is.
    pub fn join(&self, join: wire::Join, deadline: Instant) -> Result<()> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Agent(agent) => agent.join(join, deadline),
        }
    }

    /// Writes a pod's `network-status`, or hands it to the agent. Waits at most `wait` for the API server.
    pub fn publish(&self, pod: &PodRef, status: PodStatus, wait: Duration) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.publish(pod, &status),
            Self::Agent(agent) => agent.publish(wire::Publish {
                pod: pod.clone(),
                status: status.status,
                added: status.added,
                annotations: status.beside,
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Chooses the network of a pod that leaves it to the node, and writes the choice into the pod's annotation.
    pub fn choose(&self, pod: &PodRef, genie: &Genie, deadline: Instant) -> Result<String> {
        match self {
            Self::Directory(directory) => {
                let chosen = link_load::least_loaded(genie)?;
                directory.annotate(pod, &[(genie::CNI, chosen.as_str())].into())?;
                Ok(chosen.to_string())
            }
            Self::Agent(agent) => agent.choose(pod, deadline),
        }
    }

    /// Makes it an event on the pod that an annotation of a dialect counts for nothing.
    pub fn report_ignored(&self, pod: &PodRef, message: String) {
        self.report(pod, "DialectIgnored", message);
    }

    /// Makes a failed ADD an event on the pod. Nothing waits for it.
    pub fn report_failure(&self, pod: &PodRef, fault: &Fault) {
        self.report(pod, fault.event_reason(), fault.message());
    }

    /// Makes it an event on the pod that a network is not taken away.
    pub fn report_left(&self, pod: &PodRef, fault: &Fault) {
        self.report(pod, "FailedRemovingInterface", fault.message());
    }

    /// Makes it an event on the pod that its end came without everything undone.
    pub fn report_abandoned(&self, pod: &PodRef, message: String) {
        self.report(pod, "AbandonedAttachment", message);
    }

    /// Makes it an event on the pod that it has its networks, but not all that it asked of them.
    pub fn report_unmet(&self, pod: &PodRef, message: String) {
        self.report(pod, "RequestIgnored", message);
    }

    fn report(&self, pod: &PodRef, reason: &str, message: String) {
        if let Self::Agent(agent) = self {
            agent.report(wire::AddFailure { pod: pod.clone(), reason: reason.to_owned(), message });
        }
    }

    /// Does the source answer? For STATUS.
    pub fn ready(&self) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.ready(),
            Self::Agent(agent) => agent.ready(HEALTH_WAIT),
        }
    }
}

/// The definitions that a pod's annotations name. An annotation that cannot be read names none; binding the pod reports what is
/// wrong with it.
pub fn named_in(annotations: &Annotations, namespace: &ObjectName, multus_namespace: &ObjectName) -> BTreeSet<NetRef> {
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    // No dialect names a definition.
    let (selection, _) = Selection::read(annotation, namespace, multus_namespace, &Dialects::default());
    selection.definitions().cloned().collect()
}
