//! The configuration that the runtime reads, put in place once the agent answers and kept there.
//!
//! [`plan`] chooses the default network, [`render`] makes the text, [`conflist_reconciler`] acts on a directory, [`inotify`] wakes it.

mod conflist_reconciler;
mod default;
mod inotify;
mod plan;
mod render;
mod rewrite_backoff;

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::watch::Sender;
use tokio::time::sleep;

use super::Options;
use crate::error::Result;
use conflist_reconciler::{ConflistReconciler, Task};
pub use default::Definitions;
use inotify::DirectoryWatch;

/// The usual name of our file: before those that network products choose.
pub const FILE: &str = "00-meta-cni.conflist";

/// A look without an occasion: what no watch tells, such as a file elsewhere that the configuration names.
const SLOW: Duration = Duration::from_secs(30);
/// Files come in bursts, and are complete at their end.
const BURST: Duration = Duration::from_millis(100);

/// Why pods may not get what they ask for; empty when our file is in place and the first.
pub type Blockers = Vec<String>;

/// Keeps the configuration in place; ends only with an error. What is missing is told to `readiness`. `news` returns when one of
/// the definitions that were asked for may be another.
pub async fn run(
    options: &Options,
    readiness: &Sender<Blockers>,
    definitions: Definitions<'_>,
    news: impl AsyncFn(),
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
        let look = reconciler.look(Instant::now(), definitions);
        readiness.send_replace(look.blockers);
        tokio::select! {
            () = watch.event() => sleep(BURST).await,
            () = news() => {}
            () = sleep(look.again.unwrap_or(SLOW).min(SLOW)) => {}
        }
    }
}
