//! `vlan`: a link of the pod with the frames of one VLAN of a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns};
use attachments::finding::Finding;
use attachments::names::IfName;
use attachments::rule::Rule;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::master::{self, Master};
use super::{Attached, check, default_bridge, parent_link};
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link, NewKind, NewLink};
use crate::node_links;

/// The configuration of a vlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath.
    pub master: IfName,
    /// The identifier in the tags.
    pub id: u16,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

const KEYS: [&str; 7] = ["master", "vlanId", "mtu", "linkInContainer", "ipam", "acceptRA", "dns"];

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let master = reader.required(("master", Rule::VlanMaster), IfName::ALLOWED);
        // 4095 is reserved by IEEE 802.1Q.
        let id = reader.integer(("vlanId", Rule::VlanId), 0..=4094).and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
        let (mtu, in_pod, dns) = (reader.mtu(), reader.flag("linkInContainer"), reader.dns());
        reader.finish_required(master.map(|master| Self { master, id, mtu, in_pod, dns }))
    }
}

impl Config {
    fn master(&self) -> Master<'_> {
        Master { name: Some(&self.master), on_demand: None, in_pod: self.in_pod }
    }
}

/// The delegate.
pub(super) struct Vlan;

impl Delegate for Vlan {
    const TYPE: &'static str = "vlan";
    const KEYS: &'static [&'static str] = &KEYS;
    const LEADS_TO_SERVERS: bool = true;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// The kernel gives frames that are tagged with a priority only to a VLAN 0, where there is one, and not to the master. The
    /// node would lose them.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        default_bridge::refuse_as_master(host, call)?;
        let config = config?;
        if config.id != 0 || config.in_pod {
            return Ok(());
        }
        let Some(master) = config.master().seek(host.netlink()?)? else { return Ok(()) };
        node_links::keep(host, call, &master, |reason| {
            Finding::new("vlanId", 0, format!("1 to 4094 on a link of the node's own: {reason}"))
        })
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let master = config.master().obtain(host, sandbox, call, point)?;
        let attached = Self::attach(config, Context { host, sandbox, call, point }, &master, leased);
        attached.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = config.master().release(host, point);
        })
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        master::release_of(cx.host, cx.point, cx.call)
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        parent_link::check(cx, "vlan", config.master(), |link| {
            check::same(link, "VLAN", &link.kind, &Kind::Vlan(config.id))?;
            config.mtu.map_or(Ok(()), |mtu| check::same(link, "MTU", link.mtu, mtu))
        })
    }

    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        let kind = NewKind::Vlan { parent: parent_link::NO_LINK, id: config.id };
        parent_link::status(host, config.master(), config.mtu, kind)
    }
}

impl Vlan {
    fn attach(config: &Config, cx: Context<'_, '_>, master: &Link, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, point, .. } = cx;
        // The hardware address is the master's: on one wire they are one station.
        let link = NewLink {
            mtu: parent_link::bound_mtu(config.mtu, master)?,
            group: point.group,
            ..NewLink::new(point.ifname, NewKind::Vlan { parent: master.index, id: config.id })
        };
        let result = CniResult { dns: config.dns.clone(), ..leased.result };
        parent_link::add(host, sandbox, point, config.in_pod, &link, result)
    }
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
        assert_eq!(config.master.as_str(), "eth1");
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
        assert_eq!(paths, ["master", "vlanId", "mtu", "linkInContainer", "dns"], "{wrong:#?}");
        assert_eq!(wrong[1], "vlanId: got 4095, want an integer from 0 to 4094");
        assert_eq!(
            findings(r#"{"ipam":{"type":"other"}}"#),
            [
                "master: missing, want an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first"
            ]
        );
    }
}
