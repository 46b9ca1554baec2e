//! Brings the kernel to a specification, and takes the links of a record out of a pod.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attachments::names::IfName;
use nix::errno::Errno;

use crate::dad;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::lock::Lock;
use crate::netns;
use crate::nl;
use crate::nl::link::{Kind, Link, LinkChange, NewLink};
use crate::poll::PollTimer;
use crate::sandbox::Sandbox;
use crate::spec::{Addressing, LinkId, Sysctl};

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
                _ => "a link of the name that it would have on the node is there already".to_owned(),
            };
            Error::Kernel { op, errno, detail }
        }
        other => other,
    }
}

/// Gives a link of the pod what it should hold, and sets it up.
pub fn configure(sandbox: &mut Sandbox, link: u32, wanted: &Addressing) -> Result<()> {
    if !wanted.sysctls.is_empty() {
        sandbox.netns().enter(|| write_sysctls(&wanted.sysctls))?;
    }
    for address in &wanted.addresses {
        sandbox.netlink.add_address(link, *address, false)?;
    }
    sandbox.netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() })?;
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

/// Switches IPv6 off on a link of the pod. A kernel without IPv6 has nothing to switch off.
pub fn disable_ipv6(sandbox: &mut Sandbox, link: &IfName) -> Result<()> {
    sandbox.netns().enter(|| write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{link}/disable_ipv6"), "1")]))
}

/// CHECK: IPv6 is still off.
pub fn check_ipv6_is_off(sandbox: &mut Sandbox, link: &IfName) -> Result<()> {
    let key = ["ipv6", "conf", link.as_str(), "disable_ipv6"];
    match sandbox.netns().enter(|| netns::read_sysctl(&key))?.as_deref() {
        Some("0") => Err(Error::Differs(format!("sysctl net.{} of the pod is \"0\", want \"1\"", key.join(".")))),
        _ => Ok(()),
    }
}

/// What comes behind in the chain needs the addresses usable; the reference plugins wait as long. The wait of the whole ADD is
/// [`crate::dad::settle`].
const SETTLE: Duration = Duration::from_secs(5);

/// Waits until duplicate address detection has passed every address. A link without carrier never gets there; its
/// addresses stay tentative, which is no failure of ours.
pub(crate) fn settle(sandbox: &mut Sandbox, link: u32) -> Result<()> {
    let mut timer = PollTimer::until(sandbox.deadline().min(Instant::now() + SETTLE));
    loop {
        let addresses = sandbox.netlink.addresses(Some(link))?;
        if let Some(failed) = addresses.iter().find(|address| address.dad_failed) {
            let name = sandbox.netlink.link_by_index(link)?.map(|link| link.name).unwrap_or_default();
            return Err(Error::Addresses(dad::in_use(&failed.net, &name)));
        }
        let Some(tentative) = addresses.iter().find(|address| address.tentative) else { return Ok(()) };
        if !timer.pause() {
            let up = sandbox.netlink.link_by_index(link)?.is_some_and(|link| link.is_operational());
            return if up {
                Err(Error::Late(format!("duplicate address detection of {}", tentative.net)))
            } else {
                Ok(())
            };
        }
    }
}

/// Removes from a pod every link of a record: one message deletes the record's `group`, from inside the namespace and so
/// at the price of one link; what is left of `links` after that is deleted by index.
///
/// A pod with NET_ADMIN can make the message fail by putting a link into the group that cannot be deleted, `lo` for
/// one; it is put back into the default group. It can take its links out of the group, or rename them; they are found by
/// index, kind and hardware address. A link that differs in one of these stays: the path may belong to another pod by now.
///
/// With the sandbox lock, another process of ours waits for what the kernel frees behind the links, and has the lock too.
pub fn detach(sandbox: &mut Sandbox, group: u32, links: &[LinkId], lock: Option<&Lock>) -> Result<()> {
    if group != 0 {
        let deleted = match lock.filter(|_| !links.is_empty()) {
            Some(lock) => {
                sandbox.netlink.delete_group_apart(group, links.iter().map(|link| link.index).collect(), lock)
            }
            None => sandbox.netlink.delete_group(group),
        };
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

/// Removes some links of a record whose others stay: those of `links`, and what is in the `group` and is none of `staying`. With
/// group 0 those of `links` alone.
pub fn detach_part(sandbox: &mut Sandbox, group: u32, links: &[LinkId], staying: &[LinkId]) -> Result<()> {
    for link in sandbox.netlink.links(None)? {
        let is_listed = links.iter().any(|recorded| recorded.is(&link));
        let is_left = group != 0 && link.group == group && link.kind != Kind::Device;
        // The pod may have given a link that stays another address: its index is enough.
        if is_listed || (is_left && !staying.iter().any(|recorded| recorded.index == link.index)) {
            sandbox.netlink.delete_link(link.index)?;
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
