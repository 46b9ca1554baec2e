//! Follows what changes: the objects of the networks that the node is in, the plugin's files, and time.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use attachments::api::NETWORK;
use delegates::ipam::blocks::{FILE, WANTED};
use delegates::networks::NetworkId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meta_cni_kube::{Collection, Event, Shape, follow_heard};
use tokio::time::{Instant, sleep};

use super::Networks;
use super::known::{Cache, Known};
use super::objects::{Kind, Raw};
use crate::conf::inotify::DirectoryWatch;
use crate::error::Result;

/// Networks are joined and left in bursts: the watch begins anew at the end of one.
const SETTLE: Duration = Duration::from_millis(200);
/// Changes come in bursts too, and each is to reach the kernel within 50 ms.
const BURST: Duration = Duration::from_millis(5);
/// The longest time between two looks at everything.
const SLOW: Duration = Duration::from_secs(5);
/// The shortest.
const FAST: Duration = Duration::from_millis(200);

impl Networks {
    /// Follows everything; never ends but with an error.
    pub async fn run(&self) -> Result<()> {
        let files = DirectoryWatch::new()?;
        tokio::select! {
            () = self.objects(|known| &mut known.claims) => {}
            () = self.objects(|known| &mut known.members) => {}
            () = self.objects(|known| &mut known.blocks) => {}
            () = self.objects(|known| &mut known.addresses) => {}
            () = self.changes_of(&files) => {}
        }
        Ok(())
    }

    /// Follows the objects of one kind: one watch, for the networks that the node is in; none when it is in no network.
    async fn objects<K: Kind>(&self, of: impl Fn(&mut Known) -> &mut Cache<K>) {
        let mut followed = self.0.followed.subscribe();
        loop {
            if followed.borrow_and_update().is_empty() {
                if followed.changed().await.is_err() {
                    return;
                }
                continue;
            }
            sleep(SETTLE).await;
            let networks = followed.borrow_and_update().clone();
            let names: Vec<&str> = networks.iter().map(NetworkId::as_str).collect();
            let labels = format!("{NETWORK} in ({})", names.join(","));
            let path = K::path();
            let collection = Collection { what: K::PLURAL, path: &path, fields: None, labels: Some(&labels) };
            let take = |event: Event<Raw>| {
                let is_of_list = matches!(event, Event::Begin | Event::Listed(_));
                let is_end = matches!(event, Event::End);
                // What goes with its Node went because the Node did: the next one has another uid.
                let is_ours = matches!(&event, Event::Deleted(raw) if raw.metadata.is_owned_by(&self.0.settings.node));
                let mut state = self.state();
                if is_ours {
                    state.uid = None;
                }
                let network = of(&mut state.known).heard(event, &networks);
                if is_end {
                    networks.iter().for_each(|id| state.touch(id));
                }
                if let Some(id) = network.and_then(|name| networks.iter().find(|id| *id.as_str() == name)) {
                    state.touch(id);
                    if let Some(network) = state.networks.get_mut(id).filter(|_| !is_of_list) {
                        network.heard_at.get_or_insert_with(Instant::now);
                    }
                }
                drop(state);
                if !is_of_list {
                    self.0.wake.notify_one();
                }
            };
            let is_heard = AtomicBool::new(false);
            tokio::select! {
                () = follow_heard(self.0.client.clone(), collection, Shape::Whole, &is_heard, take) => {}
                changed = followed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Works on each network of which something changed, and now and then on all.
    async fn changes_of(&self, files: &DirectoryWatch) {
        let tick = (self.0.settings.grace / 4).clamp(FAST, SLOW);
        let (mut running, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
        let mut next = Instant::now() + tick;
        loop {
            self.watch_files(files);
            for id in self.due(&busy) {
                busy.insert(id.clone());
                running.push(async move {
                    self.background(&id).await;
                    id
                });
            }
            tokio::select! {
                Some(id) = running.next() => {
                    busy.remove(&id);
                }
                () = self.0.wake.notified() => sleep(BURST).await,
                () = files.event() => {
                    sleep(BURST).await;
                    self.look_at_files();
                }
                () = tokio::time::sleep_until(next) => {
                    next = Instant::now() + tick;
                    self.look_at_files();
                    self.state().networks.values_mut().for_each(|network| network.is_dirty = true);
                }
            }
        }
    }

    /// The networks to work on now.
    fn due(&self, busy: &BTreeSet<NetworkId>) -> Vec<NetworkId> {
        let now = Instant::now();
        let mut state = self.state();
        let mut due = Vec::new();
        for (id, network) in &mut state.networks {
            if network.is_dirty && network.again.is_none_or(|again| again <= now) && !busy.contains(id) {
                network.is_dirty = false;
                due.push(id.clone());
            }
        }
        due
    }

    fn watch_files(&self, files: &DirectoryWatch) {
        let dirs: Vec<_> = self.state().networks.keys().map(|id| id.dir(&self.0.settings.state_dir)).collect();
        for dir in dirs {
            files.over(&dir);
        }
    }

    /// A plugin took or gave back an address, or waits for one.
    fn look_at_files(&self) {
        let mut state = self.state();
        for (id, network) in &mut state.networks {
            let dir = id.dir(&self.0.settings.state_dir);
            // Taken away before anybody looks for slots: a plugin that finds none makes it again.
            if fs::remove_file(dir.join(WANTED)).is_ok() {
                (network.wants, network.is_dirty, network.again) = (true, true, None);
                network.heard.notify_waiters();
            }
            let leases = fs::metadata(dir.join(FILE)).ok();
            let leases = leases.and_then(|file| Some((file.len(), file.modified().ok()?)));
            if leases != network.leases {
                (network.leases, network.is_dirty) = (leases, true);
            }
        }
    }
}
