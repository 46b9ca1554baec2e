//! Follows what changes: the objects of the networks that the node is in, the plugin's files, and time.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use attachments::api::NETWORK;
use delegates::ipam::blocks::{FILE, WANTED};
use delegates::networks::NetworkId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meta_cni_kube::{Change, Labelled, follow_labelled};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::known::{Cache, Known, Listing};
use super::objects::{Kind, Raw};
use super::{Networks, groups};
use crate::conf::inotify::DirectoryWatch;
use crate::error::Result;

/// Networks are joined and left in bursts: for another set of networks the watch begins anew this often at most.
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

    /// Follows the objects of one kind: one watch for a group of networks that the node is in; none when it is in no network.
    async fn objects<K: Kind>(&self, of: impl Fn(&mut Known) -> &mut Cache<K> + Copy) {
        let mut followed = self.0.followed.subscribe();
        let (mut groups, mut watches, mut running) = (Vec::new(), Vec::new(), FuturesUnordered::new());
        loop {
            let networks = followed.borrow_and_update().iter().map(NetworkId::to_string).collect();
            groups::share(&mut groups, &networks);
            for (number, group) in groups.iter().enumerate() {
                if watches.len() == number {
                    watches.push(watch::Sender::new(BTreeSet::new()));
                    running.push(self.group(watches[number].subscribe(), of));
                }
                watches[number].send_if_modified(|networks| {
                    let is_other = networks != group;
                    networks.clone_from(group);
                    is_other
                });
            }
            tokio::select! {
                changed = followed.changed() => if changed.is_err() { return },
                Some(()) = running.next() => {}
            }
        }
    }

    /// Follows the objects of one kind of some networks.
    async fn group<K: Kind>(
        &self,
        networks: watch::Receiver<BTreeSet<String>>,
        of: impl Fn(&mut Known) -> &mut Cache<K>,
    ) {
        let path = K::path();
        let labelled = Labelled { what: K::PLURAL, path: &path, label: NETWORK };
        let list = Mutex::new(Listing::default());
        let take = |change| {
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            self.heard(change, &mut list, &of);
        };
        follow_labelled(self.0.client.clone(), labelled, networks, SETTLE, take).await;
    }

    /// Something was heard of the objects of one kind.
    fn heard<K: Kind>(&self, change: Change<Raw>, list: &mut Listing<K>, of: impl Fn(&mut Known) -> &mut Cache<K>) {
        let mut state = self.state();
        let network = match change {
            Change::Begin(networks) => {
                *list = Listing::of(networks);
                return;
            }
            Change::Listed(raw) => {
                list.add(raw, of(&mut state.known));
                return;
            }
            Change::End(version) => {
                let listed = of(&mut state.known).listed(std::mem::take(list), &version);
                listed.iter().for_each(|network| state.touch(network));
                self.0.wake.notify_one();
                return;
            }
            Change::Left(mut networks) => {
                // One that the node came back into meanwhile may be in another group by now.
                let followed = self.0.followed.borrow();
                networks.retain(|network| !followed.contains(network.as_str()));
                of(&mut state.known).forget(&networks);
                return;
            }
            Change::Applied(raw) => of(&mut state.known).applied(raw),
            Change::Deleted(raw) => {
                // What goes with its Node went because the Node did: the next one has another uid.
                if raw.metadata.is_owned_by(&self.0.settings.node) {
                    state.uid = None;
                }
                of(&mut state.known).deleted(raw)
            }
        };
        let Some(network) = network else { return };
        state.touch(&network);
        if let Some(network) = state.networks.get_mut(network.as_str()) {
            network.heard_at.get_or_insert_with(Instant::now);
        }
        self.0.wake.notify_one();
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
