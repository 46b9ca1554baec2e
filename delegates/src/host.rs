//! The host's side of one run: the node's data, an rtnetlink socket, what must outlive a crash.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;

use crate::call::Node;
use crate::error::Result;
use crate::ipam::Leased;
use crate::netns;
use crate::nl::Netlink;
use crate::saved_states::{Records, SavedStates};

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
    staying: Vec<Object>,
    kept: Option<Leased>,
    asks_programs: bool,
}

impl<'a> Host<'a> {
    /// The side of the thread that calls, which is in the host's network namespace. Opens nothing yet.
    pub fn new(node: Node<'a>) -> Self {
        let (default_links, journal, records) = (Vec::new(), None, None);
        let (staying, kept, asks_programs) = (Vec::new(), None, true);
        let (netlink, forwards, astray) = (None, [false; 2], None);
        Self { node, netlink, forwards, default_links, journal, records, astray, staying, kept, asks_programs }
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

    /// The same for some attachments of a pod: what those have saved that are in place and stay.
    pub fn sparing(self, staying: Vec<Object>) -> Self {
        Self { staying, ..self }
    }

    /// What attachments of the pod have saved that stay, whatever becomes of those that are at hand.
    pub fn staying(&self) -> &[Object] {
        &self.staying
    }

    /// The same for a repair, which makes an attachment anew: it keeps its addresses, so none is taken or given back.
    pub fn keeping(self, kept: Leased) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The addresses that an attachment keeps while it is made anew.
    pub fn kept(&self) -> Option<&Leased> {
        self.kept.as_ref()
    }

    /// The same for a CHECK that is repeated for all pods of a node: it starts no program.
    pub fn without_programs(self) -> Self {
        Self { asks_programs: false, ..self }
    }

    /// May a program be started for it?
    pub fn asks_programs(&self) -> bool {
        self.asks_programs
    }

    /// What other records hold.
    pub fn held_by_others(&self) -> Vec<SavedStates> {
        self.records.map(Records::held).unwrap_or_default()
    }

    /// Finishes an undo that another record waits for. False when it still holds what it held.
    pub fn finish(&self, held: &SavedStates) -> bool {
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
    /// after a crash. [`crate::builtin::Builtin::restore`] gets it again.
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
