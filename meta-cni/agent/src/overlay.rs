//! The data path: keeps the node's overlays as their state files say, and tells what was found and done.
//!
//! The work is done on a thread of its own, for it waits for the kernel and for plugins that hold an overlay's lock
//! ([`delegates::overlay::keeper`]). The thread hears the kernel itself; of the files this task tells it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use attachments::api::MemberEndpoint;
use delegates::networks::NetworkId;
use delegates::overlay::keeper::{Keeper, Told};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::metrics::Heal;
use crate::networks::Heard;
use crate::networks::files::Versions;

/// After a failure to hear the kernel.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the overlays; ends only with an error. `changes` says that a state file has changed; `tell` hears of each overlay what
/// came of a look at it, and `link_gone` that a link of the node is gone, whosever it was.
pub async fn run(
    state_dir: &Path,
    mut changes: watch::Receiver<Versions>,
    tell: impl Fn(&NetworkId, Heard) + Send + 'static,
    link_gone: impl Fn() + Clone + Send + 'static,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::Io(format!("cannot start the data path: {error}"));
    let (mut wake, woken) = UnixStream::pair().map_err(failed)?;
    // Where the other end has not read yet, it is awake already.
    wake.set_nonblocking(true).and_then(|()| woken.set_nonblocking(true)).map_err(failed)?;
    let state_dir = state_dir.to_owned();
    let thread = std::thread::Builder::new().name("overlays".to_owned());
    thread.spawn(move || keep(&state_dir, woken, &tell, &link_gone)).map_err(failed)?;
    while changes.changed().await.is_ok() {
        match wake.write(&[1]) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                return Err(Error::Bug(format!("the data path ended: {error}")));
            }
            _ => {}
        }
    }
    Err(Error::Bug("the networks' changes ended".to_owned()))
}

/// Until the other end of `woken` is closed.
fn keep(
    state_dir: &Path,
    mut woken: UnixStream,
    tell: &dyn Fn(&NetworkId, Heard),
    link_gone: &(impl Fn() + Clone + 'static),
) {
    let mut tell = |id: &NetworkId, told: Told| hear(tell, id, told);
    while let Err(error) = Keeper::new(state_dir).telling(link_gone.clone()).run(&mut woken, &mut tell) {
        tracing::warn!("the overlays of the node are not kept for a moment: {error}");
        std::thread::sleep(AGAIN);
    }
}

fn hear(tell: &dyn Fn(&NetworkId, Heard), id: &NetworkId, told: Told) {
    match told {
        Told::Endpoints(endpoints) => {
            let endpoints = endpoints.into_iter().map(|one| MemberEndpoint { mac: one.mac, ips: one.ips });
            tell(id, Heard::Endpoints(endpoints.collect()));
        }
        Told::Changed { made, entries, is_new_state, took } => {
            let what = if is_new_state { "brought to its members" } else { "healed" };
            let took = took.as_millis();
            tracing::info!(network = %id, device_made = made, entries, took_ms = %took, "overlay {what}");
            match (is_new_state, made) {
                (true, _) => tell(id, Heard::Programmed),
                (false, true) => tell(id, Heard::Healed(Heal::Device)),
                (false, false) => tell(id, Heard::Healed(Heal::Entries)),
            }
        }
        Told::Moved => tell(id, Heard::Moved),
        Told::Obstacles(obstacles) if obstacles.is_empty() => {
            tell(id, Heard::Obstacles(0));
            tracing::info!(network = %id, "nothing of others stands in the overlay's way any more");
        }
        Told::Obstacles(obstacles) => {
            tell(id, Heard::Obstacles(obstacles.len()));
            let first = &obstacles[..obstacles.len().min(4)];
            tracing::warn!(network = %id, count = obstacles.len(), "entries of others stand in the overlay's way: {first:?}");
        }
        Told::Failed(error) => tracing::warn!(network = %id, "overlay: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_path_starts_and_lives() {
        let dir = tempfile::tempdir().unwrap();
        let changes = watch::Sender::new(Versions::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // No network is there, so nothing of the machine is touched but a lock in the directory.
        runtime.block_on(async {
            let lives = tokio::time::timeout(
                Duration::from_millis(300),
                run(dir.path(), changes.subscribe(), |_, _| (), || ()),
            )
            .await;
            assert!(lives.is_err(), "{lives:?}");
        });
    }
}
