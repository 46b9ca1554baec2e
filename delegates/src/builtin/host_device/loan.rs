//! A device of the node that a pod has for a while: how it was, and how it comes back as it was.
//!
//! The alias of a lent link is its name on the node, as with the reference plugin: each of the two takes back what the
//! other lent. One message moves the link and gives it name, alias and index, so it is either on the node as it was or in
//! the pod. It comes back in steps, and the alias stays until the last one is done.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::find;
use crate::apply::{self, Host, Patience, Sandbox};
use crate::error::{Error, Result};
use crate::netns::NetNs;
use crate::nl::link::{Link, LinkChange};

/// Key in the states that are saved.
const STATE: &str = "hostDevice";

/// How a link of the node was before a pod got it; the record keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Loan {
    /// Its name on the node.
    pub name: IfName,
    /// Its index on the node.
    pub index: u32,
    /// Its index in the pod. A pod can change everything else of it.
    pub index_in_pod: u32,
    /// Its kind as the kernel says it.
    pub kind: String,
    /// The Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// The address of the hardware.
    pub permanent_mac: Option<Mac>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The link group.
    pub group: u32,
    /// The alias.
    pub alias: String,
    /// Was it up?
    pub up: bool,
    /// Was it promiscuous?
    pub promisc: bool,
    /// Addresses that somebody had set; what the kernel makes by itself comes back by itself.
    pub addresses: Vec<IpNet>,
    /// Where sysfs has its hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<PathBuf>,
}

impl Loan {
    /// A link of the node as it is, before it goes to a pod.
    pub(super) fn of(host: &mut Host<'_>, sandbox: &mut Sandbox, link: &Link) -> Result<Self> {
        let name: IfName = link.name.parse()?;
        let held = host.netlink()?.addresses(Some(link.index))?;
        let is_set = |address: &crate::nl::address::Address| {
            address.permanent && !(address.net.addr().is_ipv6() && address.scope == libc::RT_SCOPE_LINK)
        };
        // A link keeps its index where that is free.
        let is_free = sandbox.netlink.link_by_index(link.index)?.is_none();
        Ok(Self {
            index: link.index,
            index_in_pod: if is_free { link.index } else { apply::free_index() },
            kind: link.kind.as_str().to_owned(),
            mac: link.mac,
            permanent_mac: link.permanent_mac,
            mtu: link.mtu,
            group: link.group,
            alias: link.alias.clone(),
            up: link.up,
            promisc: link.promisc,
            addresses: held.iter().filter(|address| is_set(address)).map(|address| address.net).collect(),
            hardware: find::hardware(link),
            name,
        })
    }

    /// What nobody noted: a link that the reference plugin lent, by its alias.
    pub(super) fn unrecorded(link: &Link) -> Option<Self> {
        let name: IfName = link.alias.parse().ok()?;
        Some(Self {
            index: link.index,
            index_in_pod: link.index,
            kind: link.kind.as_str().to_owned(),
            mac: link.mac,
            permanent_mac: link.permanent_mac,
            mtu: link.mtu,
            group: link.group,
            alias: String::new(),
            // As the reference plugin leaves it.
            up: false,
            promisc: link.promisc,
            addresses: Vec::new(),
            hardware: None,
            name,
        })
    }

    /// For the record.
    pub(super) fn state(&self) -> Object {
        let mut state = Object::new();
        state.set(STATE, self);
        state
    }

    /// Out of a record; nothing in the state of another plugin of the chain.
    pub(super) fn from_state(state: &Object) -> std::result::Result<Option<Self>, Finding> {
        state.decode(STATE, "the state of a host device")
    }

    /// Moves the link to the pod: there it has the pod's name for it, and its own as the alias.
    pub(super) fn lend(&self, host: &mut Host<'_>, sandbox: &Sandbox, name: &IfName) -> Result<()> {
        let change = LinkChange {
            name: Some(name),
            alias: Some(self.name.as_str()),
            netns: Some(sandbox.netns().as_fd()),
            index_there: Some(self.index_in_pod),
            ..LinkChange::default()
        };
        host.netlink()?.set_link(self.index, &change)
    }

    /// Brings the link back from wherever it is. Success when it is back already, was never taken, or is gone for good.
    pub(super) fn end(&self, host: &mut Host<'_>, sandbox: Option<&mut Sandbox>) -> Result<()> {
        let at_home = host.netlink()?.link_by_name(&self.name)?.filter(|link| self.is(link));
        if at_home.is_some_and(|link| link.index == self.index && !self.is_marked(&link)) {
            return Ok(());
        }
        if let Some(sandbox) = sandbox
            && let Some(link) = self.find_in_pod(&sandbox.netlink.links(None)?)
        {
            self.move_home(host, sandbox, &link)?;
            return self.restore(host);
        }
        let mut patience = Patience::until(host.node.deadline.min(Instant::now() + DYING));
        loop {
            if let Some(link) = self.find_on_node(&host.netlink()?.links(None)?) {
                return self.resume(host, &link);
            }
            // A virtual link dies with its namespace; hardware comes back when the kernel is done with that.
            if !self.hardware.as_deref().is_some_and(find::has_link) {
                return Ok(());
            }
            if !patience.pause() {
                return Err(Error::Late(format!(
                    "device {} coming back from a namespace that still exists",
                    self.name
                )));
            }
        }
    }

    /// It has not been given back completely.
    fn is_marked(&self, link: &Link) -> bool {
        link.alias == self.name.as_str()
    }

    /// Can it be the link, by what nobody can change?
    fn is(&self, link: &Link) -> bool {
        link.kind.as_str() == self.kind && link.name != "lo" && link.permanent_mac == self.permanent_mac
    }

    fn find_in_pod(&self, links: &[Link]) -> Option<Link> {
        let find = |rule: &dyn Fn(&Link) -> bool| links.iter().find(|link| self.is(link) && rule(link)).cloned();
        // A kernel that ignores the index that we ask for keeps the alias; a pod that changes it cannot change hardware.
        find(&|link| link.index == self.index_in_pod)
            .or_else(|| find(&|link| self.is_marked(link)))
            .or_else(|| find(&|_| self.permanent_mac.is_some()))
    }

    fn find_on_node(&self, links: &[Link]) -> Option<Link> {
        let find = |rule: &dyn Fn(&Link) -> bool| links.iter().find(|link| self.is(link) && rule(link)).cloned();
        find(&|link| link.name == self.name.as_str())
            .or_else(|| find(&|link| self.is_marked(link)))
            .or_else(|| find(&|_| self.permanent_mac.is_some()))
    }

    fn move_home(&self, host: &mut Host<'_>, sandbox: &mut Sandbox, link: &Link) -> Result<()> {
        let netlink = host.netlink()?;
        if netlink.link_by_name(&self.name)?.is_some() {
            return Err(Error::Kernel {
                op: format!("give {} back to the node", self.name),
                errno: Errno::EEXIST as i32,
                detail: "another link of the node has its name".to_owned(),
            });
        }
        let is_free = netlink.link_by_index(self.index)?.is_none();
        let home = NetNs::current()?;
        let change = LinkChange {
            name: Some(&self.name),
            netns: Some(home.as_fd()),
            index_there: is_free.then_some(self.index),
            // Whatever else the pod made of it, also where the rest fails.
            group: Some(self.group),
            alias: Some(self.name.as_str()),
            ..LinkChange::default()
        };
        sandbox.netlink.set_link(link.index, &change)
    }

    /// The link is on the node, moved by us before, or by the kernel when the pod's namespace died.
    fn resume(&self, host: &mut Host<'_>, link: &Link) -> Result<()> {
        if link.name == self.name.as_str() {
            return if self.is_marked(link) { self.restore(host) } else { Ok(()) };
        }
        let netlink = host.netlink()?;
        // Before Linux 6.2 no link that is up gets another name.
        netlink.set_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() })?;
        let named = LinkChange { name: Some(&self.name), alias: Some(self.name.as_str()), ..LinkChange::default() };
        netlink.set_link(link.index, &named)?;
        self.restore(host)
    }

    /// On the node, under its name: everything else, and the alias last.
    fn restore(&self, host: &mut Host<'_>) -> Result<()> {
        let netlink = host.netlink()?;
        let Some(link) = netlink.link_by_name(&self.name)? else { return Ok(()) };
        let change = LinkChange {
            mac: self.mac.filter(|_| link.mac != self.mac),
            mtu: (link.mtu != self.mtu).then_some(self.mtu),
            group: (link.group != self.group).then_some(self.group),
            promisc: (link.promisc != self.promisc).then_some(self.promisc),
            ..LinkChange::default()
        };
        netlink.set_link(link.index, &change)?;
        let held = netlink.addresses(Some(link.index))?;
        for address in self.addresses.iter().filter(|address| !held.iter().any(|held| held.net == **address)) {
            netlink.add_address(link.index, *address, false)?;
        }
        let last = LinkChange { up: Some(self.up), alias: Some(&self.alias), ..LinkChange::default() };
        netlink.set_link(link.index, &last)
    }
}

/// The kernel takes a namespace apart some time after its last user is gone.
const DYING: Duration = Duration::from_secs(3);
