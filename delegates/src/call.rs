//! One call of one plugin: the verb and everything it may read, as plain data.

use std::path::{Path, PathBuf};
use std::time::Instant;

use attachments::aliases::stands_for;
use attachments::bind::Source;
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::finding::Finding;
use attachments::names::{ContainerId, IfName, NetworkName, ObjectName, PluginType};

use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::reserved::Reserved;

/// The verbs of the specification that reach a plugin's work (VERSION never does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Make the attachment.
    Add,
    /// Undo it; idempotent.
    Del,
    /// Compare it with the result of its ADD (0.4.0).
    Check,
    /// Remove what no valid attachment owns (1.1.0).
    Gc,
    /// Could an ADD be served (1.1.0)?
    Status,
}

impl Verb {
    /// The value of CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

/// Whose attachment a call is about: what its configuration may ask of the node depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Where the configuration comes from.
    pub source: &'a Source,
    /// The configuration is a tenant's text and not the node's own.
    pub is_tenants: bool,
    /// The pod's default network.
    pub is_default: bool,
    /// Name of its directory of host-local, where that is not the network's name.
    pub address_dir: Option<&'a str>,
    /// The IPAMClaim in the pod's namespace whose addresses it has.
    pub ipam_claim: Option<&'a ObjectName>,
    /// The AddressSet of which it has a member.
    pub address_set: Option<&'a ObjectName>,
}

/// One attachment point of a pod, the unit that every verb but GC and STATUS is about.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// CNI_CONTAINERID.
    pub container: &'a ContainerId,
    /// CNI_NETNS exactly as the runtime gave it; results repeat it as `sandbox`. Empty when the runtime gave none (DEL).
    pub netns: &'a str,
    /// CNI_IFNAME of this attachment.
    pub ifname: &'a IfName,
    /// CNI_ARGS for this attachment.
    pub args: &'a str,
    /// Link group of the pod's record: everything that we create in the pod carries it.
    pub group: u32,
}

/// The node's side of a call: the same for every plugin of one run of ours.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// Directories that are searched for plugins, in order (`binDir`, then CNI_PATH).
    pub plugin_dirs: &'a [PathBuf],
    /// The types that may run in process; absent means all that are built in.
    pub builtin: Option<&'a [PluginType]>,
    /// Our state directory, on the node's disk; locks of shared devices live here.
    pub state_dir: &'a Path,
    /// When the whole call must be over.
    pub deadline: Instant,
    /// What the node keeps from the definitions of tenants.
    pub reserved: &'a Reserved,
    /// No other node has a part in its networks: it owns every pool whole, and an overlay has the members that its configuration
    /// names (directory mode).
    pub is_alone: bool,
    /// The sandbox lock: inherited by every child, so that an orphan keeps its sandbox locked.
    pub lock: Option<&'a Lock>,
}

impl Node<'_> {
    /// May plugins of this type, if it is built in, run in process? A type under another name is that type.
    pub fn in_process(&self, kind: &PluginType) -> bool {
        let kind = stands_for(kind.as_str());
        self.builtin.is_none_or(|types| types.iter().any(|on| stands_for(on.as_str()) == kind))
    }

    /// [`Error::Late`] once the deadline has passed. Whoever works through a list of a definition asks at each element.
    pub fn in_time(&self, work: impl FnOnce() -> String) -> Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Error::Late(work())) }
    }
}

/// What is said to one plugin.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Name of the network.
    pub network: &'a NetworkName,
    /// Version spoken with the plugin.
    pub version: Version,
    /// The complete document that an external plugin would read on stdin: `cniVersion`, `name`, `runtimeConfig`, `args`
    /// and `prevResult` are in it.
    pub conf: &'a Object,
    /// Whose attachment it is.
    pub origin: Origin<'a>,
    /// Where it is attached; absent for GC and STATUS.
    pub point: Option<Point<'a>>,
    /// The result of the plugin before (ADD) or of the whole ADD (CHECK, DEL).
    pub prev_result: Option<&'a CniResult>,
    /// What the ADD of the attachment saved, oldest first: of all plugins of the chain, each knows its own (CHECK, DEL). Absent
    /// where no whole record tells.
    pub saved: Option<&'a [&'a Object]>,
}

impl<'a> Call<'a> {
    /// The attachment point, which every verb but GC and STATUS has.
    pub fn point(&self) -> Result<&Point<'a>> {
        self.point.as_ref().ok_or_else(|| Finding::missing("CNI_CONTAINERID", ContainerId::ALLOWED).into())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::LazyLock;

    use super::{Origin, Source};

    /// A further network of the node itself.
    pub fn ours() -> Origin<'static> {
        static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::Node("net".parse().unwrap()));
        Origin {
            source: &SOURCE,
            is_tenants: false,
            is_default: false,
            address_dir: None,
            ipam_claim: None,
            address_set: None,
        }
    }
}
