//! `bandwidth`: token buckets on the node's end of the pod's veth.
//!
//! Ingress of the pod is sent by that end, which shapes it. Egress of the pod is received by that end, which cannot shape it,
//! so it is redirected through an ifb device. DEL removes the ifb; all else goes with the veth.

mod config;

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface};
use attachments::finding::Finding;
use attachments::names::{ContainerId, IfName, Mac, NetworkName};
use nix::errno::Errno;
use sha2::{Digest, Sha512};

use self::config::{Config, KEYS, Limit};
use super::chained::{self, no_link};
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, check, mac_address};
use crate::apply::{self, is};
use crate::call::{Call, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link, NewKind, NewLink};
use crate::nl::traffic::Burst;
use crate::ownership::{Owner, Ownership};
use crate::sandbox::Sandbox;

/// What the name of every ifb begins with.
const IFB_PREFIX: &str = "bwp";

/// The delegate.
pub(super) struct Bandwidth;

impl Delegate for Bandwidth {
    const TYPE: &'static str = "bandwidth";
    const KEYS: &'static [&'static str] = &KEYS;
    const IS_CHAINED: bool = true;
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Without limits nothing is touched.
    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let previous = chained::previous(call)?;
        let mut attached = Attached::nothing(previous.clone());
        if *config == Config::default() {
            return Ok(attached);
        }
        let port = host_end(host, sandbox, point, previous)?;
        if let Some(limit) = config.ingress {
            host.netlink()?.add_token_bucket(port.index, &limit.bucket())?;
        }
        if let Some(limit) = config.egress {
            let ifb = make_ifb(host, call.network, point, port.mtu)?;
            let redirected = limit_egress(host, &port, &ifb, limit);
            if redirected.is_err() {
                // The first error tells more than a second one would; DEL does this again.
                let _ = host.netlink()?.delete_link(ifb.index);
            }
            redirected?;
            let mac = ifb.mac.map(|mac| mac.to_string()).unwrap_or_default();
            attached.result.interfaces.push(Interface { name: ifb.name, mac, ..Interface::default() });
        }
        Ok(attached)
    }

    /// Which of the two names was taken the result tells; without one both go, and with them the container's.
    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let names = ifb_names(call.network, point.container, point.ifname)?;
        let told = call.prev_result.map(|result| result.interfaces.as_slice()).unwrap_or_default();
        let is_told = |name: &&IfName| told.iter().any(|i| i.sandbox.is_empty() && i.name == name.as_str());
        let mut ours: Vec<&IfName> = names.iter().filter(is_told).collect();
        if ours.is_empty() {
            ours.extend(&names);
        }
        let netlink = host.netlink()?;
        for name in ours {
            if let Some(link) = netlink.link_by_name(name)?.filter(|link| link.kind.as_str() == "ifb") {
                netlink.delete_link(link.index)?;
            }
        }
        Ok(())
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        let expected = chained::previous(call)?;
        if *config == Config::default() {
            return Ok(());
        }
        let port = host_end(host, sandbox, point, expected).map_err(|error| check::differs(error.to_string()))?;
        if let Some(limit) = config.ingress {
            same_bucket(host, &port, limit)?;
        }
        let Some(limit) = config.egress else { return Ok(()) };
        let redirected = host.netlink()?.redirected_to(port.index)?;
        let ifb = redirected.map(|index| host.netlink()?.link_by_index(index)).transpose()?.flatten();
        let names = ifb_names(call.network, point.container, point.ifname)?;
        let ifb = ifb.filter(|link| names.iter().any(|name| name.as_str() == link.name));
        let missing =
            || check::differs(format!("link {}: what it receives is not sent through {}", port.name, names[0]));
        let ifb = ifb.ok_or_else(missing)?;
        check::is_up(&ifb)?;
        same_bucket(host, &ifb, limit)
    }

    /// Removes the ifbs of containers that are gone. A name is a hash of network and container, so an ifb that matches no such
    /// container may be another network's: it stays, and nothing is told.
    fn gc(host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let mut ifbs = host.netlink()?.links(None)?;
        ifbs.retain(|link| link.kind.as_str() == "ifb" && link.name.starts_with(IFB_PREFIX));
        if ifbs.is_empty() {
            return Ok(Vec::new());
        }
        // The second attachment to a network has its interface in the name of its ifb: here those that pods are given by default.
        let usual = (1..=16).map(|number| format!("net{number}")).chain(["eth0".to_owned()]);
        let usual: Vec<IfName> = usual.map(|name| name.parse()).collect::<std::result::Result<_, _>>()?;
        for container in ownership.departed.iter().filter(|container| ownership.owner(container) == Owner::Departed) {
            for ifname in &usual {
                let names = ifb_names(call.network, container, ifname)?;
                for ifb in ifbs.iter().filter(|link| names.iter().any(|name| name.as_str() == link.name)) {
                    host.netlink()?.delete_link(ifb.index)?;
                }
            }
        }
        Ok(Vec::new())
    }

    /// The kernel has ifb, where every pod needs one.
    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        if config.egress.is_none() {
            return Ok(());
        }
        let name = "meta-cni-probe".parse()?;
        // No driver makes a link with a group address, and only one that is there can refuse it for that.
        let group = Some(Mac([1, 0, 0, 0, 0, 0]));
        let refused = host.netlink()?.add_link(&NewLink { mac: group, ..NewLink::new(&name, NewKind::Ifb) });
        if is(&refused, Errno::EOPNOTSUPP) {
            return Err(Error::NotReady("egressRate: this kernel has no driver for ifb".to_owned()));
        }
        Ok(())
    }
}

/// The node's end of the pod's veth, which the result must tell of.
fn host_end(host: &mut Host<'_>, sandbox: &mut Sandbox, point: &Point<'_>, result: &CniResult) -> Result<Link> {
    let pod = sandbox.netlink.link_by_name(point.ifname)?.ok_or_else(|| Error::Parent(no_link(point)))?;
    let refuse = |what: String| Error::Parent(Finding::new("CNI_IFNAME", format_args!("{:?}", pod.name), what));
    if pod.kind != Kind::Veth {
        return Err(refuse(format!("a veth, whose other end can hold packets back: it is a {}", pod.kind.as_str())));
    }
    let found = pod.parent.map(|index| host.netlink()?.link_by_index(index)).transpose()?.flatten();
    // The index counts wherever the other end is: that link must be the one that leads back.
    let is_peer = |link: &Link| {
        let is_told = result.interfaces.iter().any(|i| i.sandbox.is_empty() && i.name == link.name);
        link.kind == Kind::Veth && link.parent == Some(pod.index) && is_told
    };
    found.filter(is_peer).ok_or_else(|| refuse("a veth with its other end on the node and in prevResult".to_owned()))
}

/// Makes the ifb. A second attachment of one container to one network gets a name of its own.
fn make_ifb(host: &mut Host<'_>, network: &NetworkName, point: &Point<'_>, mtu: u32) -> Result<Link> {
    let mac = mac_address::random()?;
    let netlink = host.netlink()?;
    let [first, second] = ifb_names(network, point.container, point.ifname)?;
    let new = |name| NewLink { mtu: Some(mtu), mac: Some(mac), up: true, ..NewLink::new(name, NewKind::Ifb) };
    let mut name = &first;
    let mut made = netlink.add_link(&new(name));
    if is(&made, Errno::EEXIST) {
        name = &second;
        made = netlink.add_link(&new(name));
    }
    made?;
    netlink.link_by_name(name)?.ok_or_else(|| apply::vanished(format!("find link {name}")))
}

/// The reference plugin's name, which knows no interface, and one that does.
fn ifb_names(network: &NetworkName, container: &ContainerId, ifname: &IfName) -> Result<[IfName; 2]> {
    let name = |text: String| -> Result<IfName> {
        let hash: String = Sha512::digest(text.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{IFB_PREFIX}{hash}").parse()?)
    };
    Ok([name(format!("{network}{container}"))?, name(format!("{network}{container}\0{ifname}"))?])
}

fn limit_egress(host: &mut Host<'_>, port: &Link, ifb: &Link, limit: Limit) -> Result<()> {
    let netlink = host.netlink()?;
    // Nothing passes the ifb unlimited.
    netlink.add_token_bucket(ifb.index, &limit.bucket())?;
    netlink.redirect_to(port.index, ifb.index)
}

fn same_bucket(host: &mut Host<'_>, link: &Link, limit: Limit) -> Result<()> {
    let bucket = host.netlink()?.token_bucket(link.index)?;
    let bucket = bucket.ok_or_else(|| check::differs(format!("link {} has no token bucket", link.name)))?;
    let wanted = limit.bucket();
    check::same(link, "rate in bytes per second", bucket.rate, wanted.rate)?;
    check::same(link, "limit in bytes", bucket.limit, wanted.limit)?;
    match wanted.burst {
        Burst::Ticks(_) => check::same(link, "burst", bucket.burst, wanted.burst),
        Burst::Bytes(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ifb_has_the_reference_plugins_name_first() {
        let (container, ifname) = ("cnitool-1".parse().unwrap(), "eth0".parse().unwrap());
        let names = ifb_names(&"mynet".parse().unwrap(), &container, &ifname).unwrap();
        assert_eq!(names.each_ref().map(IfName::as_str), ["bwped0dbb19a95e", "bwpae1c95e2a23c"]);
    }
}
