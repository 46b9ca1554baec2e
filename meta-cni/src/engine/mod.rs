//! The engine: each verb is one visible sequence over all attachments of a sandbox.
//!
//! To follow one ADD, start at [`add`]: it reads from top to bottom as the design's straight line.

mod add;
mod boot;
mod chain;
mod check;
mod del;
mod devinfo;
mod failed;
mod gc;
mod held;
mod inherited;
mod life;
mod lock;
mod lookup;
mod memory;
mod merge;
mod place;
mod record;
mod replay;
mod resume;
mod routes;
mod salvage;
mod status;
mod store;
pub mod told;
mod undo;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::text::printable;
use delegates::call::{Node, Verb};
use delegates::lock::Lock;

use crate::cluster::Cluster;
use crate::fault::{Fault, Result};
use crate::node::NodeConf;
use crate::replay::Report;
use crate::request::{Request, Target};
use store::Store;

/// One run: the request, the node's configuration and state, and when it must be over.
struct Run<'a> {
    request: &'a Request,
    conf: NodeConf,
    cluster: Cluster,
    store: Store,
    deadline: Instant,
}

/// Serves a request. ADD gives the object to print; the other verbs print nothing.
pub fn serve(request: &Request) -> Result<Option<Object>> {
    let run = Run::of(request)?;
    match request.verb {
        Verb::Add => add::add(&run).map(Some),
        Verb::Del => del::del(&run).map(|()| None),
        Verb::Check => check::check(&run).map(|()| None),
        Verb::Gc => gc::gc(&run).map(|()| None),
        Verb::Status => status::status(&run).map(|()| None),
    }
}

/// How many records of a state directory hold what only this plugin can release: further networks, or an undo that is not
/// finished. A default network is undone by its own plugins just as well.
pub fn held(state_dir: &Path) -> Result<usize> {
    let store = Store::new(state_dir);
    let mut held = 0;
    for key in store.keys()? {
        let Some(found) = store.find(&key)? else { continue };
        let attachments = found.record.intent.as_ref().map_or(0, |intent| intent.attachments.len());
        let is_simple = found.is_settled() && !found.record.damaged && attachments == 1;
        held += usize::from(!is_simple);
    }
    Ok(held)
}

/// The records in a state directory that need attention, by the names of their files, and how long ago each was last touched.
pub fn pending(state_dir: &Path) -> Result<BTreeMap<String, Duration>> {
    let pending = Store::new(state_dir).pending()?;
    Ok(pending.into_iter().map(|record| (record.key.to_string(), record.idle)).collect())
}

/// Undoes what nobody else will: no verb of the CNI protocol, but asked for with the same configuration.
pub fn replay(request: &Request, idle: Duration) -> Result<Report> {
    replay::replay(&Run::of(request)?, idle)
}

impl<'a> Run<'a> {
    fn of(request: &'a Request) -> Result<Self> {
        let started = Instant::now();
        let conf = NodeConf::from_request(request)?;
        Ok(Run {
            request,
            cluster: Cluster::open(&conf.cluster),
            store: Store::new(&conf.state_dir),
            deadline: started + conf.timeout,
            conf,
        })
    }
}

impl Run<'_> {
    /// The sandbox of an ADD, DEL or CHECK.
    fn target(&self) -> Result<&Target> {
        let target = self.request.target.as_ref();
        target.ok_or_else(|| Fault::Bug(format!("{} without a sandbox", self.request.verb.as_str())))
    }

    /// Whose record a call on this sandbox is about.
    fn key(&self, target: &Target) -> record::Key {
        record::Key {
            network: self.conf.network.clone(),
            container: target.container.clone(),
            ifname: target.ifname.clone(),
        }
    }

    /// The node as it is now.
    fn node<'a>(&'a self, lock: Option<&'a Lock>) -> Node<'a> {
        Node {
            plugin_dirs: &self.conf.plugin_dirs,
            builtin: self.conf.builtin.as_deref(),
            state_dir: &self.conf.state_dir,
            deadline: self.deadline,
            reserved: &self.conf.reserved,
            lock,
        }
    }

    /// Undoing gets time of its own: the call that failed may have used up all of its.
    fn undo_deadline(&self) -> Instant {
        let own = self.conf.timeout.min(Duration::from_secs(10));
        self.deadline.max(Instant::now() + own)
    }
}

/// A line for the node's log: stderr reaches the runtime's log and never the result.
fn warn(text: &str) {
    eprintln!("meta-cni: {}", printable(text));
}
