//! The pod's side of one run: its network namespace and a socket in it.

use std::path::Path;
use std::time::Instant;

use attachments::names::IfName;

use crate::apply::vanished;
use crate::call::Node;
use crate::error::Result;
use crate::netns::NetNs;
use crate::nl::Netlink;
use crate::nl::link::Link;

/// A pod's network namespace, open, with an rtnetlink socket that acts in it.
pub struct Sandbox {
    path: String,
    pub(crate) netns: NetNs,
    deadline: Instant,
    /// The socket.
    pub netlink: Netlink,
    /// `acceptRA` of the configuration that is being attached; absent means that its addresses decide.
    pub(crate) accept_ra: Option<bool>,
}

impl Sandbox {
    /// Opens CNI_NETNS. [`crate::error::Error::Netns`] when it is no network namespace, or the thread's own.
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
        Ok(Self { path: path.to_owned(), netns, deadline: node.deadline, netlink, accept_ra: None })
    }

    /// CNI_NETNS as the runtime gave it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// When the whole call must be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
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
