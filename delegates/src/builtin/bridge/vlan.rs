//! VLANs of a bridge: which ones a port is in, and the interface that is the gateway of one.

use std::collections::BTreeMap;

use attachments::cni::object::Object;
use attachments::cni::spelling::Known;
use attachments::finding::Finding;
use attachments::names::IfName;
use nix::errno::Errno;

use crate::apply::is;
use crate::builtin::keys::Keys;
use crate::builtin::veth;
use crate::builtin::{check, mac_address};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::link::{Link, LinkChange, NewKind, NewLink, Peer, PortVlans};
use crate::shared;

const RANGE: std::ops::RangeInclusive<u32> = 1..=4094;

/// The keys of an element of `vlanTrunk`.
pub(in crate::builtin) static TRUNK: Known<'static> = Known::of(&[&["id", "minID", "maxID"]]);

/// The VLANs that a configuration asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::builtin) struct Vlans {
    /// `vlan`: untagged frames of the pod are in it; absent where `vlan` is 0.
    pub id: Option<u16>,
    /// `vlanTrunk`: tagged frames of these pass, first and last of each range, in order and apart from each other.
    pub trunk: Vec<(u16, u16)>,
    /// `preserveDefaultVlan`: the port stays in the bridge's default VLAN too.
    pub keep_default: bool,
}

/// A port that is in a trunk alone has its untagged frames in this one, as with the reference plugin.
const NATIVE: u16 = 1;

impl Vlans {
    pub(super) fn read(keys: &mut Keys<'_>, conf: &Object) -> Self {
        Self {
            id: keys.integer("vlan", 0..=*RANGE.end()).and_then(|id| u16::try_from(id).ok()).filter(|id| *id != 0),
            trunk: trunk(keys, conf),
            keep_default: keys.flag("preserveDefaultVlan"),
        }
    }

    /// True when the bridge must sort frames by VLAN.
    pub(super) fn any(&self) -> bool {
        self.id.is_some() || !self.trunk.is_empty()
    }

    /// The key that asks for VLANs, for messages.
    pub(super) fn key(&self) -> &'static str {
        if self.id.is_some() { "vlan" } else { "vlanTrunk" }
    }

    /// What a port gets, in this order: the native VLAN comes last, so that it is one also where the trunk has it too.
    fn plan(&self) -> Vec<PortVlans> {
        let tagged = |&(first, last)| PortVlans { first, last, pvid: false, untagged: false };
        let mut plan: Vec<PortVlans> = self.trunk.iter().map(tagged).collect();
        if self.any() {
            let id = self.id.unwrap_or(NATIVE);
            plan.push(PortVlans { first: id, last: id, pvid: true, untagged: true });
        }
        plan
    }

    /// The same, VLAN by VLAN.
    fn each(&self) -> BTreeMap<u16, PortVlans> {
        let spread = |vlans: PortVlans| {
            (vlans.first..=vlans.last).map(move |id| (id, PortVlans { first: id, last: id, ..vlans }))
        };
        self.plan().into_iter().flat_map(spread).collect()
    }
}

/// The ranges of `vlanTrunk`, joined where they touch.
fn trunk(keys: &mut Keys<'_>, conf: &Object) -> Vec<(u16, u16)> {
    let mut ids = std::collections::BTreeSet::new();
    for (i, item) in keys.elements(conf, "vlanTrunk") {
        let mut inner = Keys::of(&item);
        let [id, first, last] = ["id", "minID", "maxID"].map(|key| inner.integer(key, RANGE));
        let has = |key| item.get(key).is_some();
        let whole = "an object with `id`, or with `minID` and `maxID`, which is no less";
        if has("minID") != has("maxID") || !(has("id") || has("minID")) || first > last {
            inner.refuse(Finding::new("", item.to_json(), whole));
        }
        match inner.finish(()) {
            Ok(()) => ids.extend(first.zip(last).into_iter().chain(id.zip(id)).flat_map(|(first, last)| first..=last)),
            Err(findings) => {
                findings.into_iter().for_each(|finding| keys.refuse(finding.under(&format!("vlanTrunk[{i}]"))));
            }
        }
    }
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for id in ids.into_iter().filter_map(|id| u16::try_from(id).ok()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    ranges
}

/// Puts a port into its VLANs, and out of the others. Nothing is done for a port that no VLAN was asked for.
pub(super) fn join(netlink: &mut Netlink, port: u32, vlans: &Vlans) -> Result<()> {
    if !vlans.any() {
        return Ok(());
    }
    let wanted = vlans.each();
    if !vlans.keep_default {
        for held in netlink.port_vlans(port)? {
            if !wanted.contains_key(&held.first) {
                netlink.delete_port_vlans(port, false, held)?;
            }
        }
    }
    for vlans in vlans.plan() {
        netlink.add_port_vlans(port, false, vlans)?;
    }
    Ok(())
}

/// CHECK: the port is in its VLANs, and in no others.
pub(super) fn check(netlink: &mut Netlink, port: &Link, vlans: &Vlans) -> Result<()> {
    if !vlans.any() {
        return Ok(());
    }
    let mut held: BTreeMap<u16, PortVlans> =
        netlink.port_vlans(port.index)?.into_iter().map(|vlan| (vlan.first, vlan)).collect();
    for (id, wanted) in vlans.each() {
        check::same(port, &format!("VLAN {id}"), held.remove(&id), Some(wanted))?;
    }
    match held.keys().next() {
        Some(id) if !vlans.keep_default => {
            Err(check::differs(format!("port {} is in VLAN {id}, which nobody asked for", port.name)))
        }
        _ => Ok(()),
    }
}

/// Name of the interface that holds the gateway addresses of a VLAN, as the reference plugin calls it.
pub(super) fn gateway_name(bridge: &str, id: u16) -> String {
    format!("{bridge}.{id}")
}

/// Finds the gateway's interface of a VLAN, or makes it: a veth of the node whose other end is a port in that VLAN. It
/// stays when the last pod has gone. Of many that make it at once, one does and all of them see to its VLAN. One that
/// somebody else made is used as it is.
pub(super) fn gateway(host: &mut Host<'_>, bridge: &Link, id: u16, keep_default: bool) -> Result<Link> {
    let name: IfName = gateway_name(&bridge.name, id).parse()?;
    let port_name = veth::short_name(&[&bridge.name, name.as_str()])?;
    let netlink = host.netlink()?;
    let mut found = netlink.link_by_name(&name)?;
    if found.is_none() {
        let mac = Some(mac_address::random()?);
        let peer = Peer { name: &name, netns: None, mtu: Some(bridge.mtu), mac, group: shared::OURS };
        let veth = NewLink {
            mtu: Some(bridge.mtu),
            master: Some(bridge.index),
            group: shared::OURS,
            up: true,
            ..NewLink::new(&port_name, NewKind::Veth(peer))
        };
        let made = netlink.add_link(&veth);
        if !is(&made, Errno::EEXIST) {
            made?;
        }
        found = netlink.link_by_name(&name)?;
    }
    let gone = || Error::Differs(format!("the gateway's interface {name} went away while a pod was being attached"));
    let link = found.ok_or_else(gone)?;
    // The other end as the kernel knows it: what the reference plugin made has a random name.
    let port = link.parent.filter(|_| !link.is_parent_elsewhere);
    let port = port.map(|index| netlink.link_by_index(index)).transpose()?.flatten();
    let refused = || {
        let allowed = format!("the name of nothing or of a veth whose other end is a port of bridge {}", bridge.name);
        Error::Parent(Finding::new("vlan", format_args!("{id}: interface {name}"), allowed))
    };
    let end = port.filter(|port| port.master == Some(bridge.index)).ok_or_else(refused)?;
    if !shared::is_ours(&link) {
        let leads_there = |held: &PortVlans| held.first == id && held.pvid;
        if !netlink.port_vlans(end.index)?.iter().any(leads_there) {
            let allowed = format!("an interface whose other end, {}, has this VLAN as its untagged one", end.name);
            return Err(Error::Parent(Finding::new("vlan", format_args!("{id}: interface {name}"), allowed)));
        }
        if !link.up {
            netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        }
        return Ok(link);
    }
    veth::ignore_advertisements(&end.name)?;
    join(netlink, end.index, &Vlans { id: Some(id), trunk: Vec::new(), keep_default })?;
    if !link.up {
        netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str) -> std::result::Result<Vlans, Vec<String>> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        let mut keys = Keys::of(&conf);
        let vlans = Vlans::read(&mut keys, &conf);
        keys.finish(vlans).map_err(|findings| findings.iter().map(Finding::to_string).collect())
    }

    #[test]
    fn a_trunk_is_read_as_ranges_that_do_not_touch() {
        let conf =
            r#"{"vlan":7,"vlanTrunk":[{"minID":20,"maxID":22},{"id":5},{"id":23},{"minID":21,"maxID":30,"id":6}]}"#;
        let vlans = read(conf).unwrap();
        assert_eq!((vlans.id, vlans.trunk.as_slice()), (Some(7), [(5, 6), (20, 30)].as_slice()));
        assert!(!read(r#"{"vlan":0,"vlanTrunk":[],"preserveDefaultVlan":true}"#).unwrap().any());
    }

    #[test]
    fn the_native_vlan_is_the_one_asked_for_or_the_first_and_comes_last() {
        let words = |conf: &str| -> Vec<String> {
            let words =
                |v: PortVlans| format!("{}-{}{}", v.first, v.last, if v.pvid && v.untagged { " native" } else { "" });
            read(conf).unwrap().plan().into_iter().map(words).collect()
        };
        assert_eq!(words(r#"{"vlan":7}"#), ["7-7 native"]);
        assert_eq!(words(r#"{"vlanTrunk":[{"minID":2,"maxID":9}]}"#), ["2-9", "1-1 native"]);
        assert_eq!(words(r#"{"vlan":7,"vlanTrunk":[{"minID":2,"maxID":9}]}"#), ["2-9", "7-7 native"]);
        let each = read(r#"{"vlan":7,"vlanTrunk":[{"minID":6,"maxID":8}]}"#).unwrap().each();
        assert_eq!(each.values().map(|vlan| vlan.pvid).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn every_wrong_range_is_named() {
        let wrong = read(
            r#"{"vlan":4095,"vlanTrunk":[{"id":0},{"minID":5},{"maxID":5},{"minID":9,"maxID":3},{},{"id":4094}],
                "preserveDefaultVlan":1}"#,
        );
        let wrong = wrong.unwrap_err();
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(": got").next()).collect();
        assert_eq!(
            paths,
            [
                "vlan",
                "vlanTrunk[0].id",
                "vlanTrunk[1]",
                "vlanTrunk[2]",
                "vlanTrunk[3]",
                "vlanTrunk[4]",
                "preserveDefaultVlan"
            ]
        );
        assert_eq!(
            wrong[2],
            r#"vlanTrunk[1]: got {"minID":5}, want an object with `id`, or with `minID` and `maxID`, which is no less"#
        );
    }
}
