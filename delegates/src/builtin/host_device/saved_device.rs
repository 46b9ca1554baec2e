//! A device of the node that a pod has for a while: how it was, and how it goes to the pod. [`super::home`] is the way back.
//!
//! The alias of a lent link is its name on the node, as with the reference plugin: each of the two takes back what the
//! other lent. One message moves the link and gives it name, alias and index, so it is either on the node as it was or in
//! the pod. It comes back in steps; until the record says that the last one is done, the device counts as lent, and the device is
//! lent to nobody else: only the record knows how it was. An alias alone proves nothing, since people set aliases too.

use std::os::fd::AsFd;
use std::path::PathBuf;

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use ipnet::IpNet;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::belongings::Belongings;
use super::find;
use crate::apply;
use crate::error::Result;
use crate::host::Host;
use crate::nl::link::{Link, LinkChange};
use crate::sandbox::Sandbox;

/// Keys in the states that are saved.
const STATE: &str = "hostDevice";
const RETURNED: &str = "hostDeviceReturned";

/// How a link of the node was before a pod got it; the record keeps it. Records of earlier versions lack what is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedDevice {
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
    /// Addresses that somebody had set, for versions that do not know `belongings`.
    pub addresses: Vec<IpNet>,
    /// Where sysfs has its hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<PathBuf>,
    /// Did it receive all multicast?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Packets that waited for it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_queue: Option<u32>,
    /// Its altnames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altnames: Option<Vec<String>>,
    /// The link of the node that it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What people had set on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belongings: Option<Belongings>,
}

/// What a virtual link hangs on: its lower link, or the other end of a veth. A pod can change neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parent {
    /// Its index on the node.
    pub index: u32,
    /// Its Ethernet address: indexes are used again.
    pub mac: Option<Mac>,
}

impl SavedDevice {
    /// A link of the node as it is, before it goes to a pod.
    pub(super) fn of(host: &mut Host<'_>, sandbox: &mut Sandbox, link: &Link) -> Result<Self> {
        let name = IfName::found(&link.name)?;
        let netlink = host.netlink()?;
        let held = netlink.addresses(Some(link.index))?;
        let is_set = |address: &crate::nl::address::Address| {
            address.permanent && !(address.net.addr().is_ipv6() && address.scope == libc::RT_SCOPE_LINK)
        };
        let parent = match link.parent.filter(|_| !link.is_parent_elsewhere) {
            Some(index) => netlink.link_by_index(index)?.map(|parent| Parent { index, mac: parent.mac }),
            None => None,
        };
        // A link keeps its index where that is free.
        let is_free = sandbox.netlink.link_by_index(link.index)?.is_none();
        Ok(Self {
            index: link.index,
            index_in_pod: if is_free { link.index } else { apply::free_index() },
            addresses: held.iter().filter(|address| is_set(address)).map(|address| address.net).collect(),
            hardware: find::hardware(link),
            allmulti: Some(link.allmulti),
            tx_queue: Some(link.tx_queue),
            altnames: Some(link.altnames.clone()),
            parent,
            belongings: Some(Belongings::of(netlink, link)?),
            up: link.up,
            alias: link.alias.clone(),
            ..Self::as_it_is(name, link)
        })
    }

    /// What nobody noted: a link that the reference plugin lent, by its alias. That plugin leaves it without an alias, down.
    pub(super) fn unrecorded(link: &Link) -> Option<Self> {
        Some(Self::as_it_is(IfName::found(&link.alias).ok()?, link))
    }

    /// A link without what it carries.
    fn as_it_is(name: IfName, link: &Link) -> Self {
        Self {
            name,
            index: link.index,
            index_in_pod: link.index,
            kind: link.kind.as_str().to_owned(),
            mac: link.mac,
            permanent_mac: link.permanent_mac,
            mtu: link.mtu,
            group: link.group,
            alias: String::new(),
            up: false,
            promisc: link.promisc,
            addresses: Vec::new(),
            hardware: None,
            allmulti: None,
            tx_queue: None,
            altnames: None,
            parent: None,
            belongings: None,
        }
    }

    /// For the record.
    pub(super) fn state(&self) -> Object {
        let mut state = Object::new();
        state.set(STATE, self);
        state
    }

    /// For the record, when the last step of the way back is done. Earlier versions pass over it.
    pub(super) fn returned(&self) -> Object {
        let mut state = Object::new();
        state.set(RETURNED, &self.name);
        state
    }

    /// The devices of a record that are not back; states of other plugins of the chain are passed over.
    pub(super) fn unreturned<'a>(
        states: impl IntoIterator<Item = &'a Object>,
    ) -> std::result::Result<Vec<Self>, Finding> {
        let mut open: Vec<Self> = Vec::new();
        for state in states {
            open.extend(state.decode::<Self>(STATE, "the state of a host device")?);
            let returned: Option<IfName> = state.decode(RETURNED, "the name of a host device")?;
            open.retain(|device| Some(&device.name) != returned.as_ref());
        }
        Ok(open)
    }

    /// Moves the link to the pod: there it has the pod's name for it, and its own as the alias.
    pub(super) fn lend(&self, host: &mut Host<'_>, sandbox: &Sandbox, name: &IfName) -> Result<()> {
        let netlink = host.netlink()?;
        if self.altnames.iter().flatten().any(|altname| altname == name.as_str()) {
            // No link can have one text as its name and as its altname.
            netlink.delete_altname(self.index, name.as_str())?;
        }
        let change = LinkChange {
            name: Some(name),
            alias: Some(self.name.as_str()),
            netns: Some(sandbox.netns().as_fd()),
            index_there: Some(self.index_in_pod),
            ..LinkChange::default()
        };
        netlink.set_link(self.index, &change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = r#"{"hostDevice":{"name":"eth1","index":7,"index_in_pod":7,"kind":"veth","mac":"02:00:00:00:00:07",
        "permanent_mac":null,"mtu":1400,"group":0,"alias":"uplink","up":true,"promisc":false,"addresses":["192.0.2.9/24"]}}"#;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read_and_knows_less() {
        let states = [object(EARLIER)];
        let [device] = SavedDevice::unreturned(&states).unwrap().try_into().unwrap();
        assert_eq!((device.name.as_str(), device.alias.as_str(), device.up), ("eth1", "uplink", true));
        assert_eq!(
            (&device.altnames, &device.belongings, device.allmulti, &device.parent),
            (&None, &None, None, &None)
        );
        assert_eq!(SavedDevice::unreturned(&[device.state()]).unwrap(), [device]);
    }

    #[test]
    fn a_loan_is_open_until_its_record_says_that_it_is_back() {
        let lent = object(EARLIER);
        let [device] = SavedDevice::unreturned([&lent]).unwrap().try_into().unwrap();
        let other = object(r#"{"tuning":{}}"#);
        assert_eq!(SavedDevice::unreturned([&lent, &other, &device.returned()]).unwrap(), []);
        assert_eq!(SavedDevice::unreturned([&lent, &object(r#"{"hostDeviceReturned":"eth2"}"#)]).unwrap().len(), 1);
        assert_eq!(SavedDevice::unreturned([&device.returned(), &lent]).unwrap().len(), 1, "lent again");
        assert!(SavedDevice::unreturned([&object(r#"{"hostDevice":{}}"#)]).is_err());
    }
}
