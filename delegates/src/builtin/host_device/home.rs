//! The way back of a lent device. Each step can be repeated, and the record says when the last one is done.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::saved_device::SavedDevice;
use crate::apply;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::netns::NetNs;
use crate::nl::link::{Kind, Link, LinkChange};
use crate::poll::PollTimer;
use crate::sandbox::Sandbox;

/// How giving a device back ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The device is on the node as it was, or went with the pod's namespace.
    Over,
    /// It is nowhere, though the pod's namespace is there. The pod deleted it, or hides it.
    Missing,
}

/// The kernel takes a namespace apart some time after its last user is gone.
const DYING: Duration = Duration::from_secs(3);

impl SavedDevice {
    /// Brings the link back from wherever it is. Success when it is back already, was never taken, or is gone for good.
    pub(super) fn end(&self, host: &mut Host<'_>, sandbox: Option<&mut Sandbox>) -> Result<End> {
        let node = host.netlink()?.links(None)?;
        if let Some(link) = self.find_at_home(&node) {
            return self.settle(host, &link);
        }
        let has_pod = sandbox.is_some();
        if let Some(sandbox) = sandbox {
            let home = NetNs::current()?;
            let pod = sandbox.netlink.links(None)?;
            let number = sandbox.netlink.netns_id(home.as_fd())?;
            if let Some(link) = self.find_in_pod(&pod, &node, number) {
                let link = self.move_home(host, sandbox, &link, &pod, &node)?;
                return self.settle(host, &link);
            }
        }
        let mut timer = PollTimer::until(host.node.deadline.min(Instant::now() + DYING));
        loop {
            let node = host.netlink()?.links(None)?;
            if let Some(link) = self.find_on_node(&node) {
                return self.settle(host, &link);
            }
            // A virtual link dies with its namespace; hardware comes back when the kernel is done with that.
            if !self.is_elsewhere(&node) {
                return Ok(if has_pod { End::Missing } else { End::Over });
            }
            if !timer.pause() {
                return Err(match has_pod {
                    true => Error::Busy(format!(
                        "device {} of the node: the pod moved it on into another namespace, out of reach until that ends",
                        self.name
                    )),
                    false => {
                        Error::Late(format!("device {} coming back from a namespace that still exists", self.name))
                    }
                });
            }
        }
    }

    fn move_home(
        &self,
        host: &mut Host<'_>,
        sandbox: &mut Sandbox,
        link: &Link,
        pod: &[Link],
        node: &[Link],
    ) -> Result<Link> {
        if link.group != self.group {
            // The record's group would take the device along, now or in a later attempt.
            sandbox.netlink.set_link(link.index, &LinkChange { group: Some(self.group), ..LinkChange::default() })?;
        }
        if let Some(other) = node.iter().find(|other| other.is_called(self.name.as_str())) {
            let how = if other.name == self.name.as_str() { "name" } else { "name as an altname" };
            return Err(Error::Kernel {
                op: format!("give {} back to the node", self.name),
                errno: Errno::EEXIST as i32,
                detail: format!("another link of the node, {} with index {}, has its {how}", other.name, other.index),
            });
        }
        let stands_on =
            |other: &&Link| other.parent == Some(link.index) && !other.is_parent_elsewhere && other.kind != Kind::Veth;
        for other in pod.iter().filter(stands_on) {
            // It would stay in the pod, and go on sending and receiving by the device.
            sandbox.netlink.delete_link(other.index)?;
        }
        let is_taken = |altname: &str| node.iter().any(|other| other.is_called(altname));
        for altname in link.altnames.iter().filter(|altname| self.is_foreign(altname) || is_taken(altname)) {
            sandbox.netlink.delete_altname(link.index, altname)?;
        }
        let is_free = node.iter().all(|other| other.index != self.index);
        let index = if is_free { self.index } else { apply::free_index() };
        let home = NetNs::current()?;
        let change = LinkChange {
            name: Some(&self.name),
            netns: Some(home.as_fd()),
            index_there: Some(index),
            // Whatever else the pod made of it, also where the rest fails.
            group: Some(self.group),
            alias: Some(self.name.as_str()),
            ..LinkChange::default()
        };
        let moved = sandbox.netlink.set_link(link.index, &change);
        let netlink = host.netlink()?;
        // A pod that gives it an altname at this very moment makes the message fail after the move.
        if let Some(link) = netlink.link_by_index(index)?.filter(|link| self.is(link)) {
            return Ok(link);
        }
        moved?;
        // Linux before 5.12 chooses the index itself.
        let found = netlink.link_by_name(&self.name)?;
        found.ok_or_else(|| apply::vanished(format!("find device {} on the node", self.name)))
    }

    /// The link is on the node, moved by us, or by the kernel when the pod's namespace died.
    fn settle(&self, host: &mut Host<'_>, link: &Link) -> Result<End> {
        let netlink = host.netlink()?;
        for altname in link.altnames.iter().filter(|altname| self.is_foreign(altname)) {
            netlink.delete_altname(link.index, altname)?;
        }
        if link.name != self.name.as_str() {
            // Before Linux 6.2 no link that is up gets another name.
            netlink.set_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() })?;
            let named = LinkChange { name: Some(&self.name), alias: Some(self.name.as_str()), ..LinkChange::default() };
            netlink.set_link(link.index, &named)?;
        }
        self.restore(host, link)?;
        // Where this cannot be noted, the next DEL merely does it all again.
        let _ = host.save(&self.returned());
        Ok(End::Over)
    }

    /// On the node, under its name: everything else, and the alias last.
    fn restore(&self, host: &mut Host<'_>, link: &Link) -> Result<()> {
        let deadline = host.node.deadline;
        let netlink = host.netlink()?;
        let change = LinkChange {
            mac: self.mac.filter(|_| link.mac != self.mac),
            mtu: (link.mtu != self.mtu).then_some(self.mtu),
            group: (link.group != self.group).then_some(self.group),
            promisc: (link.promisc != self.promisc).then_some(self.promisc),
            allmulti: self.allmulti.filter(|&on| link.allmulti != on),
            tx_queue: self.tx_queue.filter(|&packets| link.tx_queue != packets),
            ..LinkChange::default()
        };
        netlink.set_link(link.index, &change)?;
        match &self.belongings {
            Some(belongings) => belongings.give_addresses(netlink, self.index, link.index)?,
            None => {
                let held = netlink.addresses(Some(link.index))?;
                for address in self.addresses.iter().filter(|address| !held.iter().any(|held| held.net == **address)) {
                    netlink.add_address(link.index, *address, false)?;
                }
            }
        }
        netlink.set_link(link.index, &LinkChange { up: Some(self.up), ..LinkChange::default() })?;
        for altname in self.altnames.iter().flatten().filter(|altname| !link.altnames.contains(altname)) {
            let given = netlink.add_altname(link.index, altname);
            // Another link of the node has it by now, or the step was done before.
            if !apply::is(&given, Errno::EEXIST) {
                given?;
            }
        }
        if let Some(belongings) = self.belongings.as_ref().filter(|_| self.up) {
            belongings.give_routes(netlink, self.index, link.index, deadline)?;
        }
        netlink.set_link(link.index, &LinkChange { alias: Some(&self.alias), ..LinkChange::default() })
    }
}
