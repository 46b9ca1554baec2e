//! `vlan`: a link of the pod with the frames of one VLAN of a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns};
use attachments::finding::Finding;
use attachments::names::IfName;
use attachments::rule::Rule;

use super::conf_reader::ConfReader;
use super::{Attached, compare, stacked};
use crate::apply::{Host, Sandbox};
use crate::call::{Call, Point};
use crate::error::{Error, Result as Outcome};
use crate::nl::link::{Kind, NewKind, NewLink};
use crate::node_links;

/// The configuration of a vlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath; always there once the configuration is valid.
    pub master: Option<IfName>,
    /// The identifier in the tags.
    pub id: u16,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

pub(super) const KEYS: [&str; 6] = ["master", "vlanId", "mtu", "linkInContainer", "ipam", "dns"];

impl Config {
    pub(super) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut reader = ConfReader::of(conf);
        let config = Self {
            master: reader.required(("master", Rule::VlanMaster), IfName::ALLOWED),
            // 4095 is reserved by IEEE 802.1Q.
            id: reader.integer(("vlanId", Rule::VlanId), 0..=4094).and_then(|id| u16::try_from(id).ok()).unwrap_or(0),
            mtu: reader.mtu(),
            in_pod: reader.flag("linkInContainer"),
            dns: reader.dns(),
        };
        reader.addresses();
        reader.finish(config)
    }
}

/// Before anything is attached: the kernel gives frames that are tagged with a priority only to a VLAN 0, where there is one,
/// and not to the master. The node would lose them.
pub(super) fn admit(host: &mut Host<'_>, call: &Call<'_>) -> Outcome<()> {
    if !call.origin.is_tenants {
        return Ok(());
    }
    let config = Config::read(call.conf).map_err(Error::Config)?;
    if config.id != 0 || config.in_pod {
        return Ok(());
    }
    let Some(master) = stacked::seek(host.netlink()?, config.master.as_ref())? else { return Ok(()) };
    node_links::keep(host, call, &master, |reason| {
        Finding::new("vlanId", 0, format!("1 to 4094 on a link of the node's own: {reason}"))
    })
}

/// ADD.
pub(super) fn attach(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    call: &Call<'_>,
    point: &Point<'_>,
    leased: Option<CniResult>,
) -> Outcome<Attached> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let master = stacked::find(stacked::side(host, sandbox, config.in_pod)?, config.master.as_ref())?;
    // The hardware address is the master's: on one wire they are one station.
    let link = NewLink {
        mtu: stacked::bound_mtu(config.mtu, &master)?,
        group: point.group,
        ..NewLink::new(point.ifname, NewKind::Vlan { parent: master.index, id: config.id })
    };
    let result = CniResult { dns: config.dns, ..leased.unwrap_or_default() };
    stacked::attach(host, sandbox, point, config.in_pod, &link, result)
}

/// CHECK.
pub(super) fn check(host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>, point: &Point<'_>) -> Outcome<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let master = (config.master.as_ref(), config.in_pod);
    stacked::check(host, sandbox, call, point, "vlan", master, |link| {
        compare::same(link, "VLAN", &link.kind, &Kind::Vlan(config.id))?;
        config.mtu.map_or(Ok(()), |mtu| compare::same(link, "MTU", link.mtu, mtu))
    })
}

/// STATUS.
pub(super) fn status(host: &mut Host<'_>, call: &Call<'_>) -> Outcome<()> {
    let config = Config::read(call.conf).map_err(Error::Config)?;
    let kind = NewKind::Vlan { parent: stacked::NO_LINK, id: config.id };
    stacked::status(host, (config.master.as_ref(), config.in_pod), config.mtu, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    #[test]
    fn every_key_is_read() {
        let conf = r#"{"master":"eth1","vlanId":4094,"mtu":1400,"linkInContainer":true,"dns":{"domain":"d"},
            "ipam":{"type":"other"}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        assert_eq!(config.master.unwrap().as_str(), "eth1");
        assert_eq!((config.id, config.mtu, config.in_pod), (4094, Some(1400), true));
        let bare = Object::parse(br#"{"master":"eth1","ipam":{"type":"other"}}"#).unwrap();
        assert_eq!(Config::read(&bare).unwrap().id, 0, "the reference plugin's default: tags with a priority only");
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let findings = |conf: &str| -> Vec<String> {
            let conf = Object::parse(conf.as_bytes()).unwrap();
            Builtin::Vlan.validate(&conf).iter().map(Finding::to_string).collect()
        };
        let wrong = findings(r#"{"master":"a/b","vlanId":4095,"mtu":67,"linkInContainer":"x","dns":3}"#);
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(paths, ["master", "vlanId", "mtu", "linkInContainer", "dns", "ipam.type"], "{wrong:#?}");
        assert_eq!(wrong[1], "vlanId: got 4095, want an integer from 0 to 4094");
        assert_eq!(
            findings(r#"{"ipam":{"type":"other"}}"#),
            [
                "master: missing, want an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first"
            ]
        );
    }
}
