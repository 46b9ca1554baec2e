//! `macvlan`: a link of the pod with its own hardware address on a link of the node.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns};
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};
use attachments::rule::Rule;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::master::{self, Master, OnDemand};
use super::{Attached, check, default_bridge, mac_address, parent_link};
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link, MacvlanMode, NewKind, NewLink};
use crate::node_links;

/// The configuration of a macvlan attachment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The link underneath; absent: that of the default route.
    pub master: Option<IfName>,
    /// The VLAN or VXLAN of it that is the master.
    pub on_demand: Option<OnDemand>,
    /// What the links on one master may do with each other.
    pub mode: MacvlanMode,
    /// MTU, at most the master's; absent: the master's.
    pub mtu: Option<u32>,
    /// `master` is a link in the pod.
    pub in_pod: bool,
    /// Length of the master's broadcast queue; absent and 0: the kernel's default.
    pub broadcast_queue: Option<u32>,
    /// The address asked for: `runtimeConfig.mac`, which wins over CNI_ARGS.
    pub runtime_mac: Option<Mac>,
    /// The address in `mac`, which yields to every other source.
    pub mac: Option<Mac>,
    /// `dns`: what the result says, whatever IPAM said.
    pub dns: Dns,
}

const KEYS: [&str; 13] = [
    "master",
    "masterVlan",
    "masterVlanName",
    "masterVxlan",
    "masterVxlanName",
    "mode",
    "mtu",
    "mac",
    "linkInContainer",
    "bcqueuelen",
    "ipam",
    "acceptRA",
    "dns",
];

const MODES: [(&str, MacvlanMode); 4] = [
    ("bridge", MacvlanMode::Bridge),
    ("private", MacvlanMode::Private),
    ("vepa", MacvlanMode::Vepa),
    ("passthru", MacvlanMode::Passthru),
];

impl Config {
    pub(super) fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let master = reader.parsed(("master", Rule::MasterName), parent_link::MASTER);
        let in_pod = reader.flag("linkInContainer");
        let config = Self {
            on_demand: OnDemand::read(&mut reader, master.as_ref(), in_pod),
            master,
            mode: reader.choice(("mode", Rule::MacvlanMode), &MODES, MacvlanMode::Bridge),
            mtu: reader.mtu(),
            in_pod,
            broadcast_queue: reader.integer("bcqueuelen", 0..=u32::MAX).filter(|length| *length != 0),
            runtime_mac: reader.keep(mac_address::from_runtime(conf)),
            mac: reader.keep(mac_address::configured(conf, "mac")),
            dns: reader.dns(),
        };
        reader.finish(config)
    }

    fn master(&self) -> Master<'_> {
        Master { name: self.master.as_ref(), on_demand: self.on_demand.as_ref(), in_pod: self.in_pod }
    }

    /// The hardware address of the link: `mac` < CNI_ARGS < `runtimeConfig.mac`, else the one that it keeps, else random. In mode passthru the link has
    /// its master's unless another was asked for.
    fn hardware_address(&self, args: &str, kept: Option<Mac>) -> Result<Option<Mac>> {
        match self.runtime_mac.or(mac_address::from_environment(args)?).or(self.mac).or(kept) {
            None if self.mode == MacvlanMode::Passthru => Ok(None),
            None => mac_address::random().map(Some),
            asked => Ok(asked),
        }
    }
}

/// The delegate.
pub(super) struct Macvlan;

impl Delegate for Macvlan {
    const TYPE: &'static str = "macvlan";
    const KEYS: &'static [&'static str] = &KEYS;
    const LEADS_TO_SERVERS: bool = true;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// Mode passthru takes the master, its frames and its address, from the node.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        default_bridge::refuse_as_master(host, call)?;
        let config = config?;
        if config.mode != MacvlanMode::Passthru || config.in_pod {
            return Ok(());
        }
        let Some(master) = config.master().seek(host.netlink()?)? else { return Ok(()) };
        node_links::keep(host, call, &master, |reason| {
            let allowed = format!("for mode passthru a link that is not the node's own: {reason}");
            match &config.master {
                Some(name) => Finding::new("master", format_args!("{:?}", name.as_str()), allowed),
                None => Finding::missing("master", allowed),
            }
        })
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let master = config.master().obtain(host, sandbox, call, point)?;
        let attached = Self::attach(config, Context { host, sandbox, call, point }, master, leased);
        attached.inspect_err(|_| {
            // What it says about the cause is the first error; DEL does this again.
            let _ = config.master().release(host, point);
        })
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        master::release_of(cx.host, cx.point, cx.call)
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        parent_link::check(cx, "macvlan", config.master(), |link| {
            check::same(link, "mode", &link.kind, &Kind::Macvlan(config.mode))
        })
    }

    fn status(config: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        let kind = NewKind::Macvlan { parent: parent_link::NO_LINK, mode: config.mode, broadcast_queue: None };
        parent_link::status(host, config.master(), config.mtu, kind)
    }
}

impl Macvlan {
    fn attach(config: &Config, cx: Context<'_, '_>, master: Link, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, point, .. } = cx;
        let master = parent_link::free(master)?;
        let kind =
            NewKind::Macvlan { parent: master.index, mode: config.mode, broadcast_queue: config.broadcast_queue };
        let link = NewLink {
            mtu: parent_link::bound_mtu(config.mtu, &master)?,
            mac: config.hardware_address(point.args, leased.mac)?,
            group: point.group,
            ..NewLink::new(point.ifname, kind)
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
        let conf = r#"{"master":"eth1","mode":"passthru","mtu":1400,"mac":"02:00:00:00:00:01","linkInContainer":true,
            "bcqueuelen":4294967295,"runtimeConfig":{"mac":"02:00:00:00:00:02"},"dns":{"search":["s"]}}"#;
        let config = Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap();
        assert_eq!(config.master.unwrap().as_str(), "eth1");
        assert_eq!((config.mode, config.mtu, config.in_pod), (MacvlanMode::Passthru, Some(1400), true));
        assert_eq!(config.broadcast_queue, Some(u32::MAX));
        assert_eq!(config.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(config.runtime_mac, Some(Mac([2, 0, 0, 0, 0, 2])));
        let bare = Config::read(&Object::parse(br#"{"master":"","mode":"","mtu":0,"bcqueuelen":0}"#).unwrap()).unwrap();
        assert_eq!((bare.master, bare.mode, bare.mtu, bare.broadcast_queue), (None, MacvlanMode::Bridge, None, None));
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let conf = r#"{"master":"far-too-long-a-name","mode":"bond","mtu":65536,"mac":"ff:ff:ff:ff:ff:ff",
            "linkInContainer":1,"bcqueuelen":-1}"#;
        let findings = Builtin::Macvlan.validate(&Object::parse(conf.as_bytes()).unwrap());
        let paths: Vec<&str> = findings.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["master", "linkInContainer", "mode", "mtu", "bcqueuelen", "mac"]);
        assert_eq!(findings[2].to_string(), r#"mode: got "bond", want one of bridge, private, vepa, passthru"#);
        assert_eq!(findings[4].to_string(), "bcqueuelen: got -1, want an integer from 0 to 4294967295");
    }
}
