//! Duplicate address detection: an ADD answers when the pod's IPv6 addresses have passed it, and fails where one of them has not.
//!
//! The kernel detects on its own, a second or two after a link is up. One wait at the end of an ADD is for the addresses of
//! all its attachments at once, and an ADD without an IPv6 address asks the kernel nothing.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use attachments::names::IfName;
use ipnet::IpNet;

use crate::error::Result;
use crate::nl::Netlink;
use crate::nl::address::{Address, AddressChanges};
use crate::sandbox::Sandbox;

/// An IPv6 address that an attachment gave to a link of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Name of the link.
    pub link: IfName,
    /// The address.
    pub address: IpNet,
    /// The ADD waits for it. A program has waited as it thinks fit.
    pub is_awaited: bool,
}

/// How the addresses are when the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Every one can be used.
    All,
    /// Somebody else on the link has this one; its place in what was given.
    Failed(usize),
    /// The detection of this one has not ended.
    Tentative(usize),
}

/// The words for a duplicate.
pub fn in_use(address: &IpNet, link: &str) -> String {
    format!("address {address} of {link} is in use on the link already (IPv6 duplicate address detection)")
}

/// A link without a carrier detects nothing. One that was just set up may get it a moment later.
const CARRIER: Duration = Duration::from_millis(250);

/// Waits until every address has passed the detection, or one has failed it, at most as long as `wait`. Addresses that the
/// kernel lets be used meanwhile (optimistic, nodad) are not waited for, nor those of links that have no carrier.
pub fn settle(sandbox: &mut Sandbox, given: &[Given], wait: Duration) -> Result<Settled> {
    let began = Instant::now();
    let until = (began + wait).min(sandbox.deadline());
    let mut indexes = Vec::with_capacity(given.len());
    for one in given {
        indexes.push(sandbox.netlink.link_by_name(&one.link)?.map(|link| link.index));
    }
    // Opened before the look after which it is waited on: nothing falls in between.
    let mut changes = None;
    loop {
        let held = sandbox.netlink.addresses(None)?;
        let found = verdict(given, &indexes, &held);
        let Settled::Tentative(first) = found else { return Ok(found) };
        let now = Instant::now();
        let step = now + CARRIER;
        if now >= until || now >= began + CARRIER && !can_detect(&mut sandbox.netlink, given, &indexes, &held)? {
            return Ok(Settled::Tentative(first));
        }
        match &mut changes {
            None => changes = Some(sandbox.netns().enter(AddressChanges::open)?),
            Some(changes) => changes.wait(step.min(until))?,
        }
    }
}

fn find<'a>(held: &'a [Address], one: &Given, index: Option<u32>) -> Option<&'a Address> {
    held.iter().find(|address| Some(address.index) == index && address.net.addr() == one.address.addr())
}

/// A failure is told before what is not known yet.
fn verdict(given: &[Given], indexes: &[Option<u32>], held: &[Address]) -> Settled {
    let is = |flag: fn(&Address, &Given) -> bool| {
        let mut each = given.iter().zip(indexes);
        each.position(|(one, index)| find(held, one, *index).is_some_and(|address| flag(address, one)))
    };
    match (is(|address, _| address.dad_failed), is(|address, one| address.tentative && one.is_awaited)) {
        (Some(failed), _) => Settled::Failed(failed),
        (None, Some(tentative)) => Settled::Tentative(tentative),
        (None, None) => Settled::All,
    }
}

/// Has the link of any address that is waited for a carrier?
fn can_detect(netlink: &mut Netlink, given: &[Given], indexes: &[Option<u32>], held: &[Address]) -> Result<bool> {
    for (one, index) in given.iter().zip(indexes) {
        let is_tentative = one.is_awaited && find(held, one, *index).is_some_and(|address| address.tentative);
        if let Some(index) = index.filter(|_| is_tentative)
            && netlink.link_by_index(index)?.is_some_and(|link| link.lower_up)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The addresses of IPv6 among what a result lists, on the links of the pod: each with the name of its link.
pub fn of_pod<'a>(
    result: &'a attachments::cni::result::CniResult,
    ifname: &'a IfName,
) -> impl Iterator<Item = (IfName, IpNet)> + 'a {
    let is_v6 = |address: IpAddr| address.is_ipv6();
    result.ips.iter().filter(move |ip| is_v6(ip.address.addr())).filter_map(|ip| {
        let index = ip.interface.and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| result.interfaces.get(index)) {
            None => Some((ifname.clone(), ip.address)),
            Some(interface) if interface.sandbox.is_empty() => None,
            Some(interface) => Some((interface.name.parse().ok()?, ip.address)),
        }
    })
}

#[cfg(test)]
mod tests {
    use attachments::cni::result::CniResult;
    use attachments::cni::version::Version;

    use super::*;

    fn given(address: &str, is_awaited: bool) -> Given {
        Given { link: "net1".parse().unwrap(), address: address.parse().unwrap(), is_awaited }
    }

    fn held(index: u32, address: &str, tentative: bool, dad_failed: bool) -> Address {
        Address { index, net: address.parse().unwrap(), scope: 0, permanent: true, tentative, dad_failed }
    }

    #[test]
    fn a_failure_counts_before_what_is_not_known_and_another_link_does_not_count() {
        let two = [given("fd00::1/64", true), given("fd00::2/64", true)];
        let indexes = [Some(7), Some(7)];
        let (one_waits, other_failed) = (held(7, "fd00::1/64", true, false), held(7, "fd00::2/64", true, true));
        assert_eq!(verdict(&two, &indexes, &[one_waits, other_failed]), Settled::Failed(1));
        assert_eq!(verdict(&two, &indexes, &[one_waits]), Settled::Tentative(0));
        assert_eq!(verdict(&two, &indexes, &[held(8, "fd00::2/64", true, true)]), Settled::All);
        assert_eq!(verdict(&two, &[Some(7), None], &[held(7, "fd00::1/64", false, false)]), Settled::All);
        assert_eq!(verdict(&[given("fd00::1/64", false)], &indexes, &[one_waits]), Settled::All, "a program's");
    }

    #[test]
    fn what_has_no_ipv6_address_in_the_pod_is_not_looked_at() {
        let result = |text: &str| CniResult::parse(text.as_bytes(), Version::NEWEST).unwrap();
        let of = |text: &str| -> Vec<String> {
            let named = |(link, address): (IfName, IpNet)| format!("{address} {link}");
            of_pod(&result(text), &"net1".parse().unwrap()).map(named).collect()
        };
        assert_eq!(of(r#"{"ips":[{"address":"10.0.0.2/24"}]}"#), [""; 0]);
        let interfaces = r#""interfaces":[{"name":"br0"},{"name":"data","sandbox":"/run/netns/x"}]"#;
        let ips = r#"[{"address":"fd00::1/64","interface":0},{"address":"fd00::2/64","interface":1},{"address":"fd00::3/64"}]"#;
        assert_eq!(of(&format!(r#"{{{interfaces},"ips":{ips}}}"#)), ["fd00::2/64 data", "fd00::3/64 net1"]);
    }
}
