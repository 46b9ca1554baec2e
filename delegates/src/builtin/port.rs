//! A port: the veth from a pod to the node, into a bridge or by itself.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use attachments::cni::result::Interface;
use attachments::names::{IfName, Mac, NetworkName};
use ipnet::IpNet;
use nix::libc;

use super::{hardware, stacked};
use crate::apply::{self, Host, Patience, Sandbox};
use crate::call::{Call, Point};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::firewall::masquerade;
use crate::nl::link::{NewKind, NewLink, Peer, PortFlags};
use crate::spec::{LinkId, Sysctl};

/// A port to be.
pub(super) struct Port<'a> {
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

/// A port that was made.
pub(super) struct Created {
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
pub(super) fn create(host: &mut Host<'_>, sandbox: &mut Sandbox, port: &Port<'_>) -> Result<Created> {
    let host_mac = hardware::random()?;
    let peer = Peer {
        name: port.ifname,
        netns: Some(sandbox.netns().as_fd()),
        mtu: port.mtu,
        mac: Some(port.mac),
        group: port.group,
    };
    let veth = NewLink {
        mtu: port.mtu,
        mac: Some(host_mac),
        master: port.bridge,
        // Not only the name says whose it is: two names may meet, name and group do not.
        group: port.group,
        up: true,
        ..NewLink::new(&port.host_name, NewKind::Veth(peer))
    };
    let made = host.netlink()?.add_link(&veth);
    made.map_err(|error| apply::taken(sandbox, port.ifname, error))?;
    let created = look_up(host, sandbox, port, host_mac);
    if created.is_err() {
        // The first error tells more than a second one would.
        let _ = delete(host, &port.host_name, port.group);
    }
    created
}

fn look_up(host: &mut Host<'_>, sandbox: &mut Sandbox, port: &Port<'_>, host_mac: Mac) -> Result<Created> {
    let link = sandbox.made(port.ifname)?;
    // IFLA_LINK of a veth is the index of its peer.
    let gone = || apply::vanished(format!("find the host's end of {}", port.ifname));
    let host_index = link.parent.ok_or_else(gone)?;
    if let Some(flags) = &port.flags {
        host.netlink()?.set_port(host_index, flags)?;
    }
    ignore_advertisements(port.host_name.as_str())?;
    let host = Interface { name: port.host_name.to_string(), mac: host_mac.to_string(), ..Interface::default() };
    Ok(Created { pod: LinkId::of(port.ifname, &link), host_index, host })
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
    host: &Host<'_>,
    call: &Call<'_>,
    point: &Point<'_>,
    ip_masq: bool,
    addresses: &[IpNet],
) -> Result<()> {
    if !ip_masq || addresses.is_empty() {
        return Ok(());
    }
    masquerade::add(call.network, point.container, point.ifname, addresses, host.node.deadline)
}

/// DEL of what is on the host: the veth's end, where the pod's is gone or was never reached, and the masquerade.
pub(super) fn remove(host: &mut Host<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let deleted = host_name(call.network, point).and_then(|name| delete(host, &name, point.group));
    // A configuration that cannot be read now could be read at ADD: then there may be rules.
    let unmasqueraded = match call.conf.flag("ipMasq") {
        Ok(false) => Ok(()),
        _ => masquerade::remove(call.network, point.container, point.ifname, host.node.deadline),
    };
    deleted.and(unmasqueraded)
}

/// STATUS: the kernel has veth, and nf_tables where pods are masqueraded.
pub(super) fn status(host: &mut Host<'_>, ip_masq: bool) -> Result<()> {
    let other = "meta-cni-peer".parse()?;
    let peer = Peer { name: &other, netns: None, mtu: None, mac: None, group: 0 };
    stacked::probe(host.netlink()?, NewKind::Veth(peer))?;
    if ip_masq { masquerade::status(host.node.deadline) } else { Ok(()) }
}

/// GC: masquerades of the network. A veth goes with its pod's end.
pub(super) fn gc(host: &Host<'_>, call: &Call<'_>, claims: &Claims<'_>) -> Result<Vec<String>> {
    match call.conf.flag("ipMasq") {
        Ok(false) => Ok(Vec::new()),
        _ => masquerade::sweep(Some(call.network), claims, host.node.deadline),
    }
}

/// A port whose both ends are up forwards after the kernel's next look at carriers; the reference plugin waits as long.
const FORWARDING: Duration = Duration::from_millis(2550);

/// Waits until the host's end is operational. Usually it is at the first look.
pub(super) fn await_forwarding(host: &mut Host<'_>, created: &Created) -> Result<()> {
    let mut patience = Patience::until(host.node.deadline.min(Instant::now() + FORWARDING));
    loop {
        let link = host.netlink()?.link_by_index(created.host_index)?;
        let gone = || apply::vanished(format!("find bridge port {}", created.host.name));
        // "Unknown" is what a veth says before the kernel has looked: the bridge does not forward yet.
        if i32::from(link.ok_or_else(gone)?.operstate) == libc::IF_OPER_UP {
            return Ok(());
        }
        if !patience.pause() {
            return Err(Error::Late(format!("bridge port {}: coming up", created.host.name)));
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
