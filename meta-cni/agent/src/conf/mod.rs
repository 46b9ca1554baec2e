//! The conflist that the runtime reads: written once the agent answers, and kept in place.
//!
//! `plan` chooses the default network, `meta_cni::render` makes the text, `conflist_reconciler` acts on a directory, and `inotify`
//! wakes it.

mod conflist_reconciler;
mod default;
pub(crate) mod inotify;
mod plan;
mod pod_cidr;
mod rewrite_backoff;

use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::UnixStream;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::sleep;

use super::Options;
use super::events::EventSender;
use crate::error::Result;
use conflist_reconciler::{ConflistReconciler, Task};
pub use default::Definitions;
use inotify::DirectoryWatch;

/// The default name of our file: it sorts before the names of network products.
pub const FILE: &str = "00-meta-cni.conflist";

/// The period without events: some changes are not watched, such as a file elsewhere that the configuration names.
const SLOW: Duration = Duration::from_secs(30);
/// Files change in bursts, and are complete at the end of one.
const BURST: Duration = Duration::from_millis(100);

/// Why pods may not get their networks, one reason each; empty when our file is in place and the first.
pub type Blockers = Vec<String>;

/// Reason of the Node's event about another program that takes our file.
const TAKEN: &str = "ConfigurationTaken";

/// Keeps the conflist in place; ends only with an error. `readiness` gets the blockers; `events` tells of who takes the file. `changed` returns when a definition
/// that was read may have changed. `pod_cidrs` are the ranges of the node's pods, as far as they are known.
pub async fn run(
    options: &Options,
    readiness: &Sender<Blockers>,
    events: &EventSender,
    definitions: Definitions<'_>,
    changed: impl AsyncFn(),
    mut pod_cidrs: Receiver<Vec<IpNet>>,
) -> Result<()> {
    let watch = DirectoryWatch::new()?;
    readiness.send_replace(vec!["the agent to answer on its socket".to_owned()]);
    while UnixStream::connect(&options.socket).await.is_err() {
        sleep(BURST).await;
    }
    let task = Task {
        dir: options.cni_conf_dir.clone(),
        file: options.conf_file.clone(),
        primary: options.primary.clone().filter(|name| !name.is_empty()),
        config: options.config.clone(),
        socket: options.socket.clone(),
        state_dir: options.state_dir.clone(),
    };
    let mut reconciler = ConflistReconciler::new(task, Instant::now());
    loop {
        watch.over(&options.cni_conf_dir);
        if let Some(dir) = options.config.as_deref().and_then(Path::parent) {
            watch.over(dir);
        }
        let ranges = pod_cidrs.borrow_and_update().clone();
        let look = reconciler.look(Instant::now(), definitions, &ranges);
        readiness.send_replace(look.blockers);
        if let Some(text) = look.taken {
            events.on_node(&options.node_name, TAKEN, text);
        }
        tokio::select! {
            () = watch.event() => sleep(BURST).await,
            () = changed() => {}
            Ok(()) = pod_cidrs.changed() => {}
            () = sleep(look.again.unwrap_or(SLOW).min(SLOW)) => {}
        }
    }
}
