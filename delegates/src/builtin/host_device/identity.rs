//! Which link is the lent one, after a pod with NET_ADMIN had it: by what nobody in the pod can change.

use super::find;
use super::saved_device::SavedDevice;
use crate::nl::link::{Kind, Link};

impl SavedDevice {
    /// Can it be the link, by what nobody can change?
    pub(super) fn is(&self, link: &Link) -> bool {
        link.kind.as_str() == self.kind && link.name != "lo" && link.permanent_mac == self.permanent_mac
    }

    /// The link of the node that it hung on, if that is still there.
    fn parent_of<'a>(&self, node: &'a [Link]) -> Option<&'a Link> {
        let parent = self.parent.as_ref()?;
        let found = node.iter().find(|link| link.index == parent.index && link.mac == parent.mac)?;
        // The other end of a veth that is away has its peer elsewhere.
        (found.kind != Kind::Veth || self.kind != "veth" || found.is_parent_elsewhere).then_some(found)
    }

    /// The link among those of the pod, in whose namespace the node's has the number `home`.
    pub(super) fn find_in_pod(&self, pod: &[Link], node: &[Link], home: Option<u32>) -> Option<Link> {
        let parent = self.parent_of(node).map(|parent| parent.index);
        // What a pod makes can look like the device, but hangs on no link of the node.
        let hangs_there = |link: &Link| {
            parent.is_none_or(|parent| link.parent == Some(parent) && home.is_some() && link.parent_netns == home)
        };
        let find = |rule: &dyn Fn(&Link) -> bool| {
            pod.iter().find(|link| self.is(link) && hangs_there(link) && rule(link)).cloned()
        };
        // A kernel that ignores the index that we ask for keeps the alias; a pod that changes it cannot change hardware, nor
        // which end of a veth it has.
        find(&|link| link.index == self.index_in_pod)
            .or_else(|| find(&|link| self.is_marked(link)))
            .or_else(|| find(&|_| self.permanent_mac.is_some() || (parent.is_some() && self.kind == "veth")))
    }

    /// The link on the node under its own name and index, where nothing but what it is like may be missing.
    pub(super) fn find_at_home(&self, node: &[Link]) -> Option<Link> {
        let is_it = |link: &&Link| {
            self.is(link) && self.hangs_there(link) && link.name == self.name.as_str() && link.index == self.index
        };
        node.iter().find(is_it).cloned()
    }

    /// The link on the node under whichever name.
    pub(super) fn find_on_node(&self, node: &[Link]) -> Option<Link> {
        let find = |rule: &dyn Fn(&Link) -> bool| {
            node.iter().find(|link| self.is(link) && self.hangs_there(link) && rule(link)).cloned()
        };
        find(&|link| link.name == self.name.as_str() && self.is_marked(link))
            .or_else(|| find(&|link| self.is_marked(link)))
            .or_else(|| find(&|link| self.is_hardware_of(link)))
    }

    fn is_hardware_of(&self, link: &Link) -> bool {
        self.permanent_mac.is_some() || (self.hardware.is_some() && find::hardware(link) == self.hardware)
    }

    /// A link of the node that hangs on another one is not the device, whatever it is called.
    fn hangs_there(&self, link: &Link) -> bool {
        match &self.parent {
            Some(parent) if !link.is_parent_elsewhere => link.parent == Some(parent.index),
            _ => true,
        }
    }

    /// Is it somewhere, though neither on the node nor in the pod? Known of hardware, and of one end of a veth whose other end
    /// is on the node.
    pub(super) fn is_elsewhere(&self, node: &[Link]) -> bool {
        self.hardware.as_deref().is_some_and(find::has_link) || (self.kind == "veth" && self.parent_of(node).is_some())
    }

    /// It was lent.
    fn is_marked(&self, link: &Link) -> bool {
        link.alias == self.name.as_str()
    }

    /// Is this link of the node the one that was lent, back but not as it was?
    pub(super) fn is_about(&self, link: &Link) -> bool {
        let looks_alike = link.name == self.name.as_str() || link.index == self.index || self.is_marked(link);
        self.is(link) && self.hangs_there(link) && (looks_alike || self.is_hardware_of(link))
    }

    /// An altname that the link did not have, or cannot have beside its own name.
    pub(super) fn is_foreign(&self, altname: &str) -> bool {
        altname == self.name.as_str() || self.altnames.as_ref().is_some_and(|had| !had.iter().any(|one| one == altname))
    }
}
