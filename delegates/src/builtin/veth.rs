//! The veth from a pod to the node: into a bridge, or by itself.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use attachments::cni::result::Interface;
use attachments::names::{IfName, Mac, NetworkName};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;

use super::{mac_address, parent_link};
use crate::apply;
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::firewall::{masquerade, noted};
use crate::host::Host;
use crate::nl::link::{NewKind, NewLink, Peer, PortFlags};
use crate::ownership::Ownership;
use crate::poll::PollTimer;
use crate::sandbox::Sandbox;
use crate::spec::{LinkId, Sysctl};

/// A veth to be made.
pub(super) struct NewVeth<'a> {
    /// Index of the bridge, if the host's end joins one.
    pub bridge: Option<u32>,
    /// The host's end.
    pub host_name: IfName,
    /// The pod's end.
    pub ifname: &'a IfName,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// Hardware address of the pod's end.
    pub mac: Mac,
    /// Link group of the pod's end.
    pub group: u32,
    /// Flags that are not the kernel's default.
    pub flags: Option<PortFlags>,
}

/// A veth that was made.
pub(super) struct Veth {
    /// The pod's end.
    pub pod: LinkId,
    /// Index of the host's end.
    pub host_index: u32,
    /// The host's end as results tell it.
    pub host: Interface,
}

/// Name of the host's end: a function of the attachment, so that a DEL without a record finds it.
pub(super) fn host_name(network: &NetworkName, point: &Point<'_>) -> Result<IfName> {
    short_name(&[point.container.as_str(), point.ifname.as_str(), network.as_str()])
}

/// Name of a veth's end, from what it is for.
pub(super) fn short_name(parts: &[&str]) -> Result<IfName> {
    // FNV-1a: short, and the same in every version of this program.
    let mut hash: u32 = 0x811c_9dc5;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    Ok(format!("veth{hash:08x}").parse()?)
}

/// Makes both ends with one message: the host's joined to the bridge and up, the pod's born in the pod.
pub(super) fn create(host: &mut Host<'_>, sandbox: &mut Sandbox, wanted: &NewVeth<'_>) -> Result<Veth> {
    let host_mac = mac_address::random()?;
    let peer = Peer {
        name: wanted.ifname,
        netns: Some(sandbox.netns().as_fd()),
        mtu: wanted.mtu,
        mac: Some(wanted.mac),
        group: wanted.group,
    };
    let link = NewLink {
        mtu: wanted.mtu,
        mac: Some(host_mac),
        master: wanted.bridge,
        // Not only the name says whose it is: two names may meet, name and group do not.
        group: wanted.group,
        up: true,
        ..NewLink::new(&wanted.host_name, NewKind::Veth(peer))
    };
    let made = host.netlink()?.add_link(&link);
    made.map_err(|error| explain(host, sandbox, wanted, error))?;
    let veth = look_up(host, sandbox, wanted, host_mac);
    if veth.is_err() {
        // The first error tells more than a second one would.
        let _ = delete(host, &wanted.host_name, wanted.group);
    }
    veth
}

/// EEXIST is about the host's end where the pod has no link of the name.
fn explain(host: &mut Host<'_>, sandbox: &mut Sandbox, wanted: &NewVeth<'_>, error: Error) -> Error {
    let is_the_pods = matches!(sandbox.netlink.link_by_name(wanted.ifname), Ok(Some(_)));
    let left = host.netlink().and_then(|netlink| netlink.link_by_name(&wanted.host_name)).ok().flatten();
    match (error, left) {
        (Error::Kernel { op, errno, .. }, Some(left)) if !is_the_pods && errno == Errno::EEXIST as i32 => {
            let whose =
                if left.group == wanted.group { "left by an earlier ADD of this container" } else { "another's" };
            Error::Kernel { op, errno, detail: format!("{} on the node is {whose}", left.name) }
        }
        (error, _) => apply::taken(sandbox, wanted.ifname, error),
    }
}

fn look_up(host: &mut Host<'_>, sandbox: &mut Sandbox, wanted: &NewVeth<'_>, host_mac: Mac) -> Result<Veth> {
    let link = sandbox.made(wanted.ifname)?;
    // IFLA_LINK of a veth is the index of its peer.
    let gone = || apply::vanished(format!("find the host's end of {}", wanted.ifname));
    let host_index = link.parent.ok_or_else(gone)?;
    if let Some(flags) = &wanted.flags {
        host.netlink()?.set_port(host_index, flags)?;
    }
    ignore_advertisements(wanted.host_name.as_str())?;
    let host = Interface { name: wanted.host_name.to_string(), mac: host_mac.to_string(), ..Interface::default() };
    Ok(Veth { pod: LinkId::of(wanted.ifname, &link), host_index, host })
}

/// The node's routes do not come from the router advertisements of pods.
pub(super) fn ignore_advertisements(link: &str) -> Result<()> {
    apply::write_sysctls(&[Sysctl::optional(format!("ipv6/conf/{link}/accept_ra"), "0")])
}

/// Removes a port by the host's end, if it is there and in the record's group; the pod's end goes with it.
pub(super) fn delete(host: &mut Host<'_>, host_name: &IfName, group: u32) -> Result<()> {
    let netlink = host.netlink()?;
    if let Some(link) = netlink.link_by_name(host_name)?.filter(|link| link.group == group) {
        netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// Masquerades what leaves the subnets of the pod's addresses, if that was asked for.
pub(super) fn masquerade(
    host: &mut Host<'_>,
    call: &Call<'_>,
    point: &Point<'_>,
    ip_masq: bool,
    addresses: &[IpNet],
) -> Result<()> {
    if !ip_masq || addresses.is_empty() {
        return Ok(());
    }
    let added = masquerade::add(call.network, point.container, point.ifname, addresses, host.node.deadline)?;
    host.save(&noted::note(&added))
}

/// DEL of what is on the host: the veth's end, where the pod's is gone or was never reached, and the masquerade.
pub(super) fn del(host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let deleted = host_name(call.network, point).and_then(|name| delete(host, &name, point.group));
    // A configuration that cannot be read now could be read at ADD: then there may be rules.
    let unmasqueraded = match call.conf.flag("ipMasq") {
        Ok(false) => Ok(()),
        _ => masquerade::remove(call.network, point.container, point.ifname, call.saved, host.node.deadline),
    };
    deleted.and(unmasqueraded)
}

/// STATUS: the kernel has veth, and nf_tables where pods are masqueraded.
pub(super) fn status(host: &mut Host<'_>, ip_masq: bool) -> Result<()> {
    let other = "meta-cni-peer".parse()?;
    let peer = Peer { name: &other, netns: None, mtu: None, mac: None, group: 0 };
    parent_link::probe(host.netlink()?, NewKind::Veth(peer))?;
    if ip_masq { masquerade::status(host.node.deadline) } else { Ok(()) }
}

/// GC: masquerades of the network. A veth goes with its pod's end.
pub(super) fn gc(host: &Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
    match call.conf.flag("ipMasq") {
        Ok(false) => Ok(Vec::new()),
        _ => masquerade::sweep(Some(call.network), ownership, host.node.deadline),
    }
}

/// A port whose both ends are up forwards after the kernel's next look at carriers; the reference plugin waits as long.
const FORWARDING: Duration = Duration::from_millis(2550);

/// Waits until the host's end is operational, and the bridge too where it hands packets on itself: until then either drops what is
/// sent by it. Usually they are at the first look.
pub(super) fn await_forwarding(host: &mut Host<'_>, veth: &Veth, is_routed: bool) -> Result<()> {
    let mut timer = PollTimer::until(host.node.deadline.min(Instant::now() + FORWARDING));
    let mut index = veth.host_index;
    loop {
        let link = host.netlink()?.link_by_index(index)?;
        let gone = || apply::vanished(format!("find bridge port {}", veth.host.name));
        let link = link.ok_or_else(gone)?;
        // "Unknown" is what a veth says before the kernel has looked: the bridge does not forward yet.
        if i32::from(link.operstate) == libc::IF_OPER_UP {
            match link.master.filter(|_| is_routed) {
                Some(bridge) => index = bridge,
                None => return Ok(()),
            }
        } else if !timer.pause() {
            return Err(Error::Late(format!("bridge port {}: coming up", veth.host.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_has_a_name_of_its_own_per_attachment() {
        let name = |container: &str, ifname: &str, network: &str| {
            let (container, ifname) = (container.parse().unwrap(), ifname.parse().unwrap());
            let point = Point { container: &container, netns: "", ifname: &ifname, args: "", group: 1 };
            host_name(&network.parse().unwrap(), &point).unwrap().to_string()
        };
        let one = name("abc", "net1", "net");
        assert_eq!(one, name("abc", "net1", "net"));
        assert_eq!(one.len(), 12);
        let others = [
            name("abc", "net2", "net"),
            name("abd", "net1", "net"),
            name("abc", "net1", "neu"),
            name("ab", "cnet1", "net"),
        ];
        assert!(others.iter().all(|other| *other != one), "{others:?}");
        assert_eq!(one, "veth673d6a10", "a released version made links under this name: it must not change");
    }
}
