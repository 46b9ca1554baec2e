//! Brings the kernel to a specification and back out; the only writer of links.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::names::IfName;
use nix::errno::Errno;

use crate::call::Node;
use crate::error::{Error, Result};
use crate::loans::{Held, Records};
use crate::netns::{self, NetNs};
use crate::nl::link::{Kind, Link, LinkChange, NewLink};
use crate::nl::{self, Netlink};
use crate::spec::{Addressing, LinkId, Sysctl};

/// Takes old state into the record of the attachment that is being made.
pub type Journal<'a> = dyn FnMut(&Object) -> Result<()> + 'a;

/// What makes a node hand on packets, for IPv4 and IPv6.
pub(crate) const FORWARDING: [(bool, &[&str]); 2] =
    [(true, &["ipv4", "ip_forward"]), (false, &["ipv6", "conf", "all", "forwarding"])];

/// Why a lent device is not on the node while its pod is undone. The pod may have put it among the links of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Astray {
    /// It was not seen in the pod: it is gone, or in a shape that nobody knows.
    Missing,
    /// Giving it back failed, and will be tried again.
    Kept,
}

/// The host's side of a run.
pub struct Host<'a> {
    /// The node's data of the run.
    pub node: Node<'a>,
    netlink: Option<Netlink>,
    /// Families, IPv4 first, that the node is known to forward.
    forwards: [bool; 2],
    /// Links of the node that the default network's result names.
    default_links: Vec<String>,
    journal: Option<&'a mut Journal<'a>>,
    records: Option<&'a dyn Records>,
    astray: Option<Astray>,
}

impl<'a> Host<'a> {
    /// The side of the thread that calls, which is in the host's network namespace. Opens nothing yet.
    pub fn new(node: Node<'a>) -> Self {
        let (default_links, journal, records) = (Vec::new(), None, None);
        Self { node, netlink: None, forwards: [false; 2], default_links, journal, records, astray: None }
    }

    /// The same for an ADD, whose delegates note old state in `journal`.
    pub fn with_journal(node: Node<'a>, journal: &'a mut Journal<'a>) -> Self {
        Self { journal: Some(journal), ..Self::new(node) }
    }

    /// Takes note of the links of the node that the default network's result names: a bridge may be among them that its
    /// configuration says nothing of.
    pub fn note_default(&mut self, result: &CniResult) {
        let of_node = result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
        self.default_links.extend(of_node.map(|interface| interface.name.clone()));
    }

    /// Is that link one of the default network's?
    pub fn is_of_default(&self, link: &str) -> bool {
        self.default_links.iter().chain(&self.node.reserved.default_bridges).any(|name| name == link)
    }

    /// The same for an ADD, whose delegates must not take what another record has to give back.
    pub fn beside(self, records: &'a dyn Records) -> Self {
        Self { records: Some(records), ..self }
    }

    /// What other records hold.
    pub fn held_by_others(&self) -> Vec<Held> {
        self.records.map(Records::held).unwrap_or_default()
    }

    /// Finishes an undo that another record waits for. False when it still holds what it held.
    pub fn finish(&self, held: &Held) -> bool {
        self.records.is_some_and(|records| records.finish(held))
    }

    /// Notes that a lent device did not come back to the node; the worst counts.
    pub fn note_astray(&mut self, how: Astray) {
        self.astray = self.astray.max(Some(how));
    }

    /// Has any lent device not come back?
    pub fn astray(&self) -> Option<Astray> {
        self.astray
    }

    /// Notes how something was, before it is changed: what a delegate did not make it must be able to give back, also
    /// after a crash. [`crate::builtin::Builtin::hand_back`] gets it again.
    pub fn save(&mut self, state: &Object) -> Result<()> {
        match &mut self.journal {
            Some(journal) => journal(state),
            None => Ok(()),
        }
    }

    /// The rtnetlink socket of the host's namespace. It keeps to the node's deadline of now, which an undo moves.
    pub fn netlink(&mut self) -> Result<&mut Netlink> {
        let deadline = self.node.deadline;
        let netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => Netlink::open(deadline)?,
        };
        let netlink = self.netlink.insert(netlink);
        netlink.keep_to(deadline);
        Ok(netlink)
    }

    /// Makes the node forward packets of the families of these addresses.
    pub fn forward(&mut self, addresses: &[IpAddr]) -> Result<()> {
        for (known, (v4, key)) in self.forwards.iter_mut().zip(FORWARDING) {
            if *known || !addresses.iter().any(|ip| ip.is_ipv4() == v4) {
                continue;
            }
            // Looked at first: a write takes the kernel's lock of all network configuration.
            if netns::read_sysctl(key)?.as_deref() != Some("1") {
                netns::write_sysctl(key, "1")?;
            }
            *known = true;
        }
        Ok(())
    }
}

/// A pod's network namespace, open, with an rtnetlink socket that acts in it.
pub struct Sandbox {
    path: String,
    netns: NetNs,
    deadline: Instant,
    /// The socket.
    pub netlink: Netlink,
}

impl Sandbox {
    /// Opens CNI_NETNS. [`Error::Netns`] when it is no network namespace, or the thread's own.
    pub fn open(path: &str, node: &Node<'_>) -> Result<Self> {
        Self::around(path, NetNs::open(Path::new(path))?, node)
    }

    /// As [`Self::open`], but a path where nothing is gives `Ok(None)`: the pod is gone, and its links with it.
    pub fn find(path: &str, node: &Node<'_>) -> Result<Option<Self>> {
        let found = NetNs::find(Path::new(path))?;
        found.map(|netns| Self::around(path, netns, node)).transpose()
    }

    fn around(path: &str, netns: NetNs, node: &Node<'_>) -> Result<Self> {
        let netlink = netns.socket(node.deadline)?;
        Ok(Self { path: path.to_owned(), netns, deadline: node.deadline, netlink })
    }

    /// CNI_NETNS as the runtime gave it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The link of that name, which was made a moment ago.
    pub fn made(&mut self, name: &IfName) -> Result<Link> {
        let found = self.netlink.link_by_name(name)?;
        found.ok_or_else(|| vanished(format!("find link {name} in the pod")))
    }
}

/// Makes a link on a parent of the host, born in the pod under its own name: nothing is renamed or moved.
pub fn make_in_pod(host: &mut Host<'_>, sandbox: &mut Sandbox, link: &NewLink<'_>) -> Result<Link> {
    let name = link.name;
    let netlink = host.netlink()?;
    let mut born = NewLink { netns: Some(sandbox.netns.as_fd()), ..link.clone() };
    let mut made = netlink.add_link(&born);
    if is(&made, Errno::EEXIST) && sandbox.netlink.link_by_name(name)?.is_none() {
        // Linux before 6.14 looks for the name on the host as well, unless the message says which index the link gets.
        for _ in 0..INDEX_TRIES {
            born.index = Some(free_index());
            made = netlink.add_link(&born);
            if !is(&made, Errno::EBUSY) && !is(&made, Errno::EEXIST) {
                break;
            }
        }
    }
    made.map_err(|error| taken(sandbox, name, error))?;
    sandbox.made(name)
}

const INDEX_TRIES: usize = 4;

/// An index far above those that the kernel hands out one by one.
pub(crate) fn free_index() -> u32 {
    // Any number will do that is taken neither here nor there; the kernel says when it is.
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    1 << 30 | nanos
}

/// Something that was there a moment ago is gone: another process is at it.
pub fn vanished(op: String) -> Error {
    Error::Kernel { op, errno: Errno::ENODEV as i32, detail: "it was removed while it was being attached".to_owned() }
}

/// CNI_IFNAME must be the name of nothing in the pod: EEXIST, in the kernel's stead, where a message would do half of its
/// work before it fails.
pub fn require_free(sandbox: &mut Sandbox, name: &IfName) -> Result<()> {
    match sandbox.netlink.link_by_name(name)? {
        None => Ok(()),
        Some(_) => {
            let op = format!("put a link {name} into the pod");
            Err(taken(sandbox, name, Error::Kernel { op, errno: Errno::EEXIST as i32, detail: String::new() }))
        }
    }
}

/// Explains EEXIST by what the pod holds.
pub fn taken(sandbox: &mut Sandbox, name: &IfName, error: Error) -> Error {
    match error {
        Error::Kernel { op, errno, .. } if errno == Errno::EEXIST as i32 => {
            let detail = match sandbox.netlink.link_by_name(name) {
                Ok(Some(link)) => format!("CNI_IFNAME: the pod has a {} named {name} already", link.kind.as_str()),
                _ => "a link of that name, left by an earlier ADD of this container, is on the host".to_owned(),
            };
            Error::Kernel { op, errno, detail }
        }
        other => other,
    }
}

/// Gives a link of the pod what it should hold, and sets it up.
pub fn configure(sandbox: &mut Sandbox, link: u32, wanted: &Addressing) -> Result<()> {
    if !wanted.sysctls.is_empty() {
        sandbox.netns.enter(|| write_sysctls(&wanted.sysctls))?;
    }
    for address in &wanted.addresses {
        sandbox.netlink.add_address(link, *address, false)?;
    }
    sandbox.netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    if wanted.settle {
        settle(sandbox, link)?;
    }
    add_routes(sandbox, link, &wanted.routes)
}

/// Adds routes through a link of the pod.
pub fn add_routes(sandbox: &mut Sandbox, link: u32, routes: &[nl::route::Route]) -> Result<()> {
    for route in routes {
        let added = sandbox.netlink.add_route(&nl::route::Route { index: Some(link), ..*route });
        // The very same route is there: IPAM may list the default route that the delegate adds.
        if !is(&added, Errno::EEXIST) {
            added?;
        }
    }
    Ok(())
}

/// Writes settings of the thread's current namespace.
pub fn write_sysctls(wanted: &[Sysctl]) -> Result<()> {
    for sysctl in wanted {
        let key: Vec<&str> = sysctl.key.split('/').collect();
        let written = netns::write_sysctl(&key, sysctl.value);
        if sysctl.required {
            written?;
        }
    }
    Ok(())
}

/// The reference plugins wait as long.
const SETTLE: Duration = Duration::from_secs(5);

/// Waits until duplicate address detection has passed every address. A link without carrier never gets there; its
/// addresses stay tentative, which is no failure of ours.
pub(crate) fn settle(sandbox: &mut Sandbox, link: u32) -> Result<()> {
    let mut patience = Patience::until(sandbox.deadline.min(Instant::now() + SETTLE));
    loop {
        let addresses = sandbox.netlink.addresses(Some(link))?;
        if let Some(failed) = addresses.iter().find(|address| address.dad_failed) {
            let text = format!("address {} is in use on the link already (duplicate address detection)", failed.net);
            return Err(Error::Addresses(text));
        }
        let Some(tentative) = addresses.iter().find(|address| address.tentative) else { return Ok(()) };
        if !patience.pause() {
            let up = sandbox.netlink.link_by_index(link)?.is_some_and(|link| link.is_operational());
            return if up {
                Err(Error::Late(format!("duplicate address detection of {}", tentative.net)))
            } else {
                Ok(())
            };
        }
    }
}

/// Waiting for the kernel in small steps: what is nearly done is seen at once, what takes long costs little.
pub struct Patience {
    until: Instant,
    step: Duration,
}

impl Patience {
    /// Waits no longer than until then.
    pub fn until(until: Instant) -> Self {
        Self { until, step: Duration::from_micros(50) }
    }

    /// Sleeps one step; `false` when the time is over.
    pub fn pause(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        thread::sleep(self.step.min(left));
        self.step = (self.step * 2).min(Duration::from_millis(20));
        !left.is_zero()
    }
}

/// Removes from a pod every link of a record: one message deletes the record's `group`, from inside the namespace and so
/// at the price of one link; what is left of `links` after that is deleted by index.
///
/// A pod with NET_ADMIN can make the message fail by putting a link into the group that cannot be deleted, `lo` for
/// one; it is put back into the default group. It can take its links out of the group, or rename them; they are found by
/// index, kind and hardware address. A link that differs in one of these stays: the path may belong to another pod by now.
pub fn detach(sandbox: &mut Sandbox, group: u32, links: &[LinkId]) -> Result<()> {
    if group != 0 {
        let deleted = sandbox.netlink.delete_group(group);
        if is(&deleted, Errno::EOPNOTSUPP) {
            expel_devices(sandbox, group)?;
            let again = sandbox.netlink.delete_group(group);
            // The pod may be at it still; the record goes on.
            if !is(&again, Errno::EOPNOTSUPP) {
                again?;
            }
        } else {
            deleted?;
        }
    }
    if links.is_empty() {
        return Ok(());
    }
    for left in sandbox.netlink.links(None)? {
        if links.iter().any(|recorded| recorded.is(&left)) {
            sandbox.netlink.delete_link(left.index)?;
        }
    }
    Ok(())
}

/// Removes a link that nobody recorded, by its name: a pod may be older than the installation, and its links were made by
/// the plugins of the same configuration before. A link in a group belongs to a record, perhaps to that of another pod
/// that has the path by now; it stays, and so does what cannot be a delegate's link.
pub fn detach_unrecorded(sandbox: &mut Sandbox, name: &IfName) -> Result<()> {
    match sandbox.netlink.link_by_name(name)? {
        Some(link) if link.group == 0 && link.kind != Kind::Device => sandbox.netlink.delete_link(link.index).map(drop),
        _ => Ok(()),
    }
}

/// Takes out of a group what has no kind, and so cannot be deleted.
fn expel_devices(sandbox: &mut Sandbox, group: u32) -> Result<()> {
    for link in sandbox.netlink.links(None)? {
        if link.group == group && link.kind == Kind::Device {
            sandbox.netlink.set_link(link.index, &LinkChange { group: Some(0), ..LinkChange::default() })?;
        }
    }
    Ok(())
}

/// Did the kernel answer with that error?
pub fn is<T>(answer: &Result<T>, errno: Errno) -> bool {
    answer.as_ref().is_err_and(|error| nl::errno(error) == Some(errno))
}
