//! One run of the engine: what every verb starts from.

use std::time::{Duration, Instant};

use attachments::bind::Attachment;
use attachments::names::PodRef;
use delegates::call::Node;
use delegates::lock::Lock;

use super::lock::SandboxLock;
use super::notes::Notes;
use super::record::{Intent, Key};
use super::sandbox_lookup::namespace_id;
use super::store::Store;
use super::undo::{Ending, UndoContext};
use crate::cluster::Cluster;
use crate::fault::Result;
use crate::node::NodeConf;
use crate::request::{CniRequest, Target};

/// One run: the request, the node's configuration and state, and when it must be over.
pub struct Run<'a> {
    pub request: &'a CniRequest,
    pub conf: NodeConf,
    pub cluster: Cluster,
    pub store: Store,
    pub started: Instant,
    pub deadline: Instant,
    /// For the line of the call.
    pub notes: Notes,
}

impl<'a> Run<'a> {
    /// Reads the node's configuration. The time of the call begins.
    pub fn of(request: &'a CniRequest) -> Result<Self> {
        let started = Instant::now();
        let conf = NodeConf::read(&request.conf, &request.network, &request.path)?;
        Ok(Run {
            request,
            cluster: Cluster::open(&conf.cluster),
            store: Store::new(&conf.state_dir),
            started,
            deadline: started + conf.timeout,
            notes: Notes::default(),
            conf,
        })
    }
}

impl Run<'_> {
    /// Whose record a call on this sandbox is about.
    pub fn key(&self, target: &Target) -> Key {
        Key { network: self.conf.network.clone(), container: target.container.clone(), ifname: target.ifname.clone() }
    }

    /// The intent for a sandbox with these attachments, of which nothing is recorded yet.
    pub fn intent(&self, target: &Target, pod: Option<PodRef>, attachments: Vec<Attachment>) -> Intent {
        Intent {
            key: self.key(target),
            pod,
            netns: target.netns.clone(),
            netns_id: namespace_id(&target.netns).unwrap_or_default(),
            boot: None,
            plugin_dirs: self.conf.plugin_dirs.clone(),
            builtin: self.conf.builtin.clone(),
            strict: self.conf.strict,
            attachments,
            asked: None,
        }
    }

    /// The node as it is now.
    pub fn node<'a>(&'a self, lock: Option<&'a Lock>) -> Node<'a> {
        Node {
            plugin_dirs: &self.conf.plugin_dirs,
            builtin: self.conf.builtin.as_deref(),
            state_dir: &self.conf.state_dir,
            deadline: self.deadline,
            reserved: &self.conf.reserved,
            is_alone: self.is_alone(),
            lock,
        }
    }

    /// What a recorded set is undone, or checked, with.
    pub fn undo_context<'a>(&'a self, deadline: Instant, lock: &'a SandboxLock) -> UndoContext<'a> {
        UndoContext { state_dir: &self.conf.state_dir, deadline, lock, is_alone: self.is_alone(), ending: None }
    }

    /// The same for a DEL of the runtime.
    pub fn del_context<'a>(&'a self, lock: &'a SandboxLock) -> UndoContext<'a> {
        let ending = Ending { patience: self.conf.abandon_after, cluster: &self.cluster };
        UndoContext { ending: Some(ending), ..self.undo_context(self.deadline, lock) }
    }

    /// No other node has a part in this one's networks, and no agent answers.
    pub fn is_alone(&self) -> bool {
        matches!(self.cluster, Cluster::Directory(_))
    }

    /// Undoing gets time of its own: the call that failed may have used up all of its.
    pub fn undo_deadline(&self) -> Instant {
        let own = self.conf.timeout.min(Duration::from_secs(10));
        self.deadline.max(Instant::now() + own)
    }
}
