//! Keeps the overlays of a node as their state files say: on a change of a file, on an event of the kernel, and from time to time
//! whatever was missed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::kept::{self, Mark};
use super::ports::Ports;
use super::{Names, Obstacle, exists};
use crate::error::{Error, Result};
use crate::firewall::{overlays, pod_ports};
use crate::networks::state::{Endpoint, NetworkState};
use crate::networks::{DIR, NetworkId};
use crate::nl::Netlink;
use crate::nl::events::{Event, Events};
use crate::nl::route::MAIN;

/// An overlay is looked at that often though nothing was heard of it.
const EVERY: Duration = Duration::from_secs(30);
/// And it takes a hundredth of the time at most: the kernel lists the entries of a thousand nodes in seconds, not milliseconds.
const SHARE: u32 = 100;
/// What happens in this time is one change: a plugin makes several at each ADD.
const SETTLE: Duration = Duration::from_millis(20);
/// Time between two looks at one overlay because of events, which its own changes are too.
const PAUSE: Duration = Duration::from_millis(200);
/// What takes longer to look at is not looked at again because of the echo of our own changes.
const LARGE: Duration = Duration::from_millis(50);
/// How long a plugin is waited for that holds an overlay's lock, and the kernel for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is told of an overlay.
#[derive(Debug)]
pub enum Told {
    /// The pods of this node that slots do not explain: all of them, at each look.
    Endpoints(Vec<Endpoint>),
    /// Something was brought back, or to a new state.
    Changed {
        /// The vxlan device was made.
        made: bool,
        /// So many entries were changed.
        entries: usize,
        /// The state file was another one than before.
        is_new_state: bool,
        /// How long it took.
        took: Duration,
    },
    /// An address of the node has changed: it may be where tunnels end.
    Moved,
    /// Entries of others stand where ours belong.
    Obstacles(Vec<Obstacle>),
    /// It failed, and is tried again.
    Failed(Error),
}

/// Who hears it.
pub type Tell<'a> = dyn FnMut(&NetworkId, Told) + 'a;

/// The overlays of a node.
pub struct Keeper {
    state_dir: PathBuf,
    overlays: BTreeMap<NetworkId, Overlay>,
    firewall: Due,
    /// An address of the node has changed since it was told.
    has_moved: bool,
    /// Hears that a link of the node is gone, whosever it was.
    link_gone: Option<Box<dyn Fn()>>,
}

/// What is known of one overlay.
struct Overlay {
    vni: u32,
    port: u16,
    names: Names,
    /// The file that was programmed last.
    mark: Option<Mark>,
    /// Its state, and the device: while nobody else changes the entries, they are those.
    programmed: Option<(NetworkState, u32)>,
    /// This node's pods that slots do not explain, as they were then.
    local: Vec<Endpoint>,
    device: Option<u32>,
    bridge: Option<u32>,
    /// The pods' ports, and what they are to be like.
    ports: Ports,
    /// Entries of others were in the way.
    obstacles: Vec<Obstacle>,
    due: Due,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    changes: usize,
    is_new_state: bool,
}

/// When something is looked at.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// No sooner than that, for events: they may be the echo of what was done.
    not_before: Instant,
    /// By then the entries are read, whatever was heard.
    whole_at: Instant,
    /// The entries are to be read, not only the links.
    entries: bool,
    /// What it took to read them, when they were read last.
    cost: Duration,
}

impl Due {
    fn now(entries: bool) -> Self {
        let now = Instant::now();
        Self { at: now, not_before: now, whole_at: now + EVERY, entries, cost: Duration::ZERO }
    }

    /// Something was heard.
    fn hurry(&mut self, entries: bool) {
        self.at = self.at.min((Instant::now() + SETTLE).max(self.not_before));
        self.entries |= entries;
    }

    /// Is it time?
    fn has_come(&mut self) -> bool {
        let now = Instant::now();
        self.entries |= self.whole_at <= now;
        self.at <= now
    }

    /// It was looked at. Of a large one nobody hears what was changed right then, so it is looked at once more.
    fn done(&mut self, began: Instant, has_changed: bool) {
        let (now, took) = (Instant::now(), began.elapsed());
        if self.entries {
            self.cost = took;
            self.whole_at = now + EVERY.max(took * SHARE);
        }
        if has_changed && self.cost > LARGE {
            self.whole_at = self.whole_at.min(now + Duration::from_secs(1).max(self.cost * 20));
        }
        (self.at, self.not_before, self.entries) = (self.whole_at, now + PAUSE.max(took * 2), false);
    }

    /// It failed.
    fn again(&mut self) {
        (self.at, self.entries) = (Instant::now() + Duration::from_secs(1), true);
    }
}

impl Keeper {
    /// Of the networks in a state directory.
    pub fn new(state_dir: &Path) -> Self {
        let (overlays, firewall) = (BTreeMap::new(), Due::now(true));
        Self { state_dir: state_dir.to_owned(), overlays, firewall, has_moved: false, link_gone: None }
    }

    /// The same, for somebody who wants to know of links that are gone.
    pub fn telling(self, link_gone: impl Fn() + 'static) -> Self {
        Self { link_gone: Some(Box::new(link_gone)), ..self }
    }

    /// Keeps them, in the thread's namespace, until the other end of `wake` is closed. A byte there says that a state file has
    /// changed. Reading from `wake` must not block.
    pub fn run(&mut self, wake: &mut (impl AsFd + std::io::Read), tell: &mut Tell<'_>) -> Result<()> {
        let mut events = Events::open()?;
        self.list();
        loop {
            let echoing = self.look(tell);
            if !echoing.is_empty() {
                for event in events.read()? {
                    self.heard(&event, &echoing);
                }
            }
            let fds: Vec<BorrowedFd<'_>> = events.fds().chain([wake.as_fd()]).collect();
            if !wait(&fds, self.next()) {
                continue;
            }
            let mut bytes = [0; 64];
            match wake.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::io("read the overlays' wake-up")(error)),
            }
            for event in events.read()? {
                self.heard(&event, &[]);
            }
            self.list();
        }
    }

    /// The time of the next look.
    fn next(&self) -> Instant {
        let earliest = self.overlays.values().map(|overlay| overlay.due.at).min();
        earliest.unwrap_or_else(|| Instant::now() + EVERY).min(self.firewall.at)
    }

    /// Finds the overlays that have a state file, and those whose file has changed.
    fn list(&mut self) {
        let entries = fs::read_dir(self.state_dir.join(DIR)).into_iter().flatten().flatten();
        let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let mut found = BTreeMap::new();
        for (vni, port) in names.iter().filter_map(|name| Names::pair(name)) {
            let id = NetworkId::overlay(port, vni);
            // A file that cannot be read now may be read at the next look.
            let Ok(Some(mark)) = Mark::take(&self.state_dir, &id) else { continue };
            let Ok(names) = Names::of(vni, port) else { continue };
            let mut overlay = self.overlays.remove(&id).unwrap_or_else(|| Overlay {
                vni,
                port,
                names,
                mark: None,
                programmed: None,
                local: Vec::new(),
                device: None,
                bridge: None,
                ports: Ports::read(&self.state_dir, &id),
                obstacles: Vec::new(),
                // The plugin may have programmed it before this program began.
                due: Due::now(false),
            });
            if overlay.mark.as_ref() != Some(&mark) {
                // A new state does not wait for a pause: it is not an echo of ours.
                overlay.due.not_before = Instant::now();
                overlay.due.at = overlay.due.not_before;
            }
            found.insert(id, overlay);
        }
        if !self.overlays.is_empty() {
            // Some have no file any more: their members may not send.
            self.firewall.hurry(true);
        }
        self.overlays = found;
    }

    /// Of the devices that are `echoing`, what is heard of entries was ourselves.
    fn heard(&mut self, event: &Event, echoing: &[u32]) {
        self.has_moved |= matches!(event, Event::Address | Event::Lost);
        if let (Some(tell), Event::Link { is_gone: true, .. } | Event::Lost) = (&self.link_gone, event) {
            tell();
        }
        let is_of_entries = matches!(event, Event::Neighbour { .. } | Event::Lost);
        for overlay in self.overlays.values_mut() {
            if is_of_entries && overlay.device.is_some_and(|device| echoing.contains(&device)) {
                continue;
            }
            let is_own = |index: u32| [overlay.device, overlay.bridge].contains(&Some(index));
            match event {
                Event::Link { index, name, master, .. } => {
                    let (device, bridge) = (overlay.names.device.as_str(), overlay.names.bridge.as_str());
                    if is_own(*index) || name == device || name == bridge {
                        overlay.due.hurry(true);
                    } else if master.is_some() && *master == overlay.bridge || overlay.ports.has(*index) {
                        overlay.due.hurry(false);
                    }
                }
                // Of mode l2 no route says anything, and the main table's where a router may have come between two nodes.
                Event::Route { table } if *table == overlay.names.table => overlay.due.hurry(true),
                Event::Route { table: MAIN } if overlay.is_direct() => overlay.due.hurry(false),
                Event::Firewall { table, chain: Some(port) }
                    if table == pod_ports::NAME && overlay.ports.is_named(port) =>
                {
                    overlay.due.hurry(false);
                }
                Event::Route { .. } | Event::Firewall { .. } => {}
                Event::Neighbour { index } if is_own(*index) => overlay.due.hurry(true),
                Event::Neighbour { .. } => {}
                Event::Address => overlay.due.hurry(false),
                Event::Lost => overlay.due.hurry(true),
            }
        }
        match event {
            Event::Link { is_vxlan: true, .. } | Event::Lost => self.firewall.hurry(true),
            Event::Firewall { table, .. } if table == overlays::NAME => self.firewall.hurry(true),
            _ => {}
        }
    }

    /// Looks at every overlay that it is time for, and gives the devices of large ones whose entries were changed.
    pub fn look(&mut self, tell: &mut Tell<'_>) -> Vec<u32> {
        let (mut echoing, mut has_new_state) = (Vec::new(), false);
        if std::mem::take(&mut self.has_moved) {
            self.overlays.keys().for_each(|id| tell(id, Told::Moved));
        }
        for (id, overlay) in &mut self.overlays {
            if !overlay.due.has_come() {
                continue;
            }
            let began = Instant::now();
            match overlay.bring(&self.state_dir, id, tell) {
                Ok(done) => {
                    overlay.due.done(began, done.changes > 0);
                    if done.changes > 0 && overlay.due.cost > LARGE {
                        echoing.extend(overlay.device);
                    }
                    has_new_state |= done.is_new_state;
                }
                Err(error) => {
                    overlay.forget(None);
                    overlay.due.again();
                    tell(id, Told::Failed(error));
                }
            }
        }
        if has_new_state || self.firewall.has_come() {
            let began = Instant::now();
            match self.guard() {
                Ok(()) => self.firewall.done(began, false),
                Err(error) => {
                    self.firewall.again();
                    if let Some(id) = self.overlays.keys().next() {
                        tell(id, Told::Failed(error));
                    }
                }
            }
        }
        echoing
    }

    /// Brings the firewall to the members that were programmed, or else those of the files.
    fn guard(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let members = |id: &NetworkId| match self.overlays.get(id).and_then(|overlay| overlay.programmed.as_ref()) {
            Some((state, _)) => state.overlay.clone(),
            None => overlays::members_in(&self.state_dir, id),
        };
        overlays::update(&mut Netlink::open(deadline)?, &self.state_dir, &members, deadline)
    }
}

impl Overlay {
    /// Brings it to its state file.
    fn bring(&mut self, state_dir: &Path, id: &NetworkId, tell: &mut Tell<'_>) -> Result<Done> {
        let began = Instant::now();
        let deadline = began + PATIENCE;
        let mut netlink = Netlink::open(deadline)?;
        // Without a pod nothing is there, and nothing is made: that is the next ADD's. Asked before the lock is.
        if !self.is_there(&mut netlink)? {
            self.forget(Mark::take(state_dir, id)?);
            self.ports.clear();
            tell(id, Told::Endpoints(Vec::new()));
            return Ok(Done::default());
        }
        let lock = self.names.lock(state_dir, deadline)?;
        let mark = Mark::take(state_dir, id)?;
        let state = NetworkState::read(state_dir, id)?;
        let Some((state, membership)) = state.and_then(|state| state.overlay.clone().map(|own| (state, own))) else {
            self.forget(mark);
            return Ok(Done::default());
        };
        if !self.is_there(&mut netlink)? {
            self.forget(mark);
            return Ok(Done::default());
        }
        let segment = kept::join(&mut netlink, self.vni, self.port, &membership)?;
        let (device, bridge) = (segment.device.index, segment.bridge.index);
        let is_new_state = self.mark != mark;
        // What may have been at a port is looked for whenever entries are.
        let is_whole = self.due.entries || segment.has_new_bridge;
        let ports = self.ports.keep(&mut netlink, &segment, (membership.routing.l3, is_whole), deadline)?;
        let local = kept::local_pods(&mut netlink, state_dir, id, &segment)?;
        self.due.entries |= segment.has_new_bridge || self.programmed.is_some() && local != self.local;
        // A node has few routes, and nobody tells which of them it has lost: the kernel takes some with a link or an address.
        let is_routed = membership.routing.l3;
        let mut changes = 0;
        let is_read = segment.is_new || self.due.entries || is_routed;
        match self.programmed.take().filter(|(_, last)| *last == device && !is_read) {
            // Nobody else was heard of: the difference between the two states is what is to be done.
            Some((last, _)) if self.obstacles.is_empty() => {
                if last != state {
                    changes = kept::advance(&mut netlink, &segment, &last, &state, &local)?;
                }
            }
            // So it is after a start, too: the plugin programmed the device with this very file.
            None if !is_read && mark.as_ref().is_some_and(|mark| mark.is_set(device)) => {}
            _ => {
                let made = kept::program(&mut netlink, &segment, &state, &local)?;
                changes = made.changes + made.routes;
                if made.obstacles != self.obstacles {
                    self.obstacles = made.obstacles.clone();
                    tell(id, Told::Obstacles(made.obstacles));
                }
            }
        }
        if let Some(mark) = &mark {
            mark.set(device)?;
        }
        drop(lock);
        (self.device, self.bridge) = (Some(device), Some(bridge));
        (self.mark, self.programmed) = (mark, Some((state, device)));
        let took = began.elapsed();
        changes += ports;
        if segment.is_new || segment.has_new_bridge || changes > 0 {
            tell(id, Told::Changed { made: segment.is_new, entries: changes, is_new_state, took });
        }
        self.local.clone_from(&local);
        tell(id, Told::Endpoints(local));
        Ok(Done { changes, is_new_state })
    }

    /// Is any of it there? Pods' ports without device and bridge are enough.
    fn is_there(&self, netlink: &mut Netlink) -> Result<bool> {
        Ok(exists(netlink, &self.names)? || self.ports.are_there(netlink)?)
    }

    /// Do routes depend on which nodes are one hop away?
    fn is_direct(&self) -> bool {
        let own = self.programmed.as_ref().and_then(|(state, _)| state.overlay.as_ref());
        own.is_some_and(|own| own.routing.direct)
    }

    /// Nothing is there.
    fn forget(&mut self, mark: Option<Mark>) {
        (self.device, self.bridge, self.programmed) = (None, None, None);
        self.obstacles.clear();
        self.mark = mark;
    }
}

/// Waits until one of them can be read, or until that time. True when one can.
fn wait(fds: &[BorrowedFd<'_>], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        // What cannot be polled is read, and says why it cannot be.
        Err(_) => true,
    }
}
