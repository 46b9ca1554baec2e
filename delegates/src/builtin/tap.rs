//! `tap`: a link whose other end is a file, which a program of the pod opens: a virtual machine's monitor, a user-space stack.

use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Dns};
use attachments::finding::Finding;
use attachments::names::{IfName, Mac};

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading};
use super::{Attached, check, mac_address, parent_link};
use crate::apply;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{Kind, Link, LinkChange};
use crate::sandbox::Sandbox;
use crate::tap;

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Config {
    /// `bridge`: a bridge of the pod that the link becomes a port of.
    bridge: Option<IfName>,
    /// `multiQueue`: several files can be the other end.
    multi_queue: bool,
    /// `owner`: the user that may open it without CAP_NET_ADMIN.
    owner: Option<u32>,
    /// `group`: the group that may.
    group: Option<u32>,
    /// `mtu`.
    mtu: Option<u32>,
    /// `runtimeConfig.mac`.
    runtime_mac: Option<Mac>,
    /// `mac`.
    mac: Option<Mac>,
    /// `dns`: what the result says, whatever IPAM said.
    dns: Dns,
}

const LABEL: &str = "selinuxContext";

impl Config {
    fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        // The kernel labels the device with the context of the process that makes it.
        if let Some(context) = reader.keep(conf.text(LABEL)).filter(|context| !context.is_empty()) {
            let allowed = "no context, or the program `tap` instead of the built-in type (node key builtin)";
            reader.refuse(Finding::new(LABEL, format_args!("{context:?}"), allowed));
        }
        let config = Self {
            bridge: reader.parsed("bridge", IfName::ALLOWED),
            multi_queue: reader.flag("multiQueue"),
            owner: reader.integer("owner", 0..=ANYONE - 1),
            group: reader.integer("group", 0..=ANYONE - 1),
            mtu: reader.mtu(),
            runtime_mac: reader.keep(mac_address::from_runtime(conf)),
            mac: reader.keep(mac_address::configured(conf, "mac")),
            dns: reader.dns(),
        };
        reader.finish(config)
    }

    /// `mac` < CNI_ARGS < `runtimeConfig.mac`, else the one that the attachment keeps, else random.
    fn hardware_address(&self, args: &str, kept: Option<Mac>) -> Result<Mac> {
        let asked = self.runtime_mac.or(mac_address::from_environment(args)?).or(self.mac);
        asked.or(kept).map_or_else(mac_address::random, Ok)
    }

    fn bridge(&self, sandbox: &mut Sandbox) -> Result<Option<u32>> {
        let Some(name) = &self.bridge else { return Ok(None) };
        let refused = |allowed| Error::Parent(Finding::new("bridge", format_args!("{:?}", name.as_str()), allowed));
        match sandbox.netlink.link_by_name(name)? {
            None => Err(refused("a bridge of the pod".to_owned())),
            Some(link) => match link.kind {
                Kind::Bridge(_) => Ok(Some(link.index)),
                kind => Err(refused(format!("a bridge of the pod: {name} is a {}", kind.as_str()))),
            },
        }
    }
}

/// No user and no group has this number: the kernel takes it for "anyone".
const ANYONE: u32 = u32::MAX;

/// The delegate.
pub(super) struct Tap;

impl Delegate for Tap {
    const TYPE: &'static str = "tap";
    const KEYS: &'static [&'static str] =
        &["bridge", "multiQueue", "owner", "group", LABEL, "mtu", "mac", "ipam", "acceptRA", "dns"];

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn add(config: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { sandbox, point, .. } = cx;
        let bridge = config.bridge(sandbox)?;
        apply::require_free(sandbox, point.ifname)?;
        let mac = config.hardware_address(point.args, leased.mac)?;
        // Until it is kept, the device goes with the file: also when this process is killed, and has not put it in the group yet.
        let device = sandbox.netns.enter(|| tap::Tap::make(point.ifname, config.multi_queue))?;
        device.give(config.owner, config.group)?;
        let link = sandbox.made(point.ifname)?;
        let change = LinkChange {
            mac: Some(mac),
            mtu: config.mtu,
            master: bridge,
            group: Some(point.group),
            ..LinkChange::default()
        };
        sandbox.netlink.set_link(link.index, &change)?;
        device.keep()?;
        // Before it has addresses: a link that is down and has no carrier is not given the route of IPv6 multicast.
        sandbox.netlink.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        let result = CniResult { dns: config.dns.clone(), ..leased.result };
        let made = Link { mac: Some(mac), ..link };
        let index = made.index;
        let attached = parent_link::finish(sandbox, point, made, Some(mac), true, result);
        attached.inspect_err(|_| {
            // The first error tells more than a second one would.
            let _ = sandbox.netlink.delete_link(index);
        })
    }

    fn check(config: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { sandbox, call, point, .. } = cx;
        let expected = check::expected(call)?;
        let link = check::pod_link(sandbox, point, expected, Some("tun"))?;
        check::is_up(&link)?;
        if config.bridge.is_some() {
            let bridge = config.bridge(sandbox).map_err(|error| Error::Differs(error.to_string()))?;
            check::same(&link, "index of the bridge", link.master, bridge)?;
        }
        check::addressing(sandbox, &link, expected)
    }

    fn status(_: &Config, _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        tap::probe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn conf(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"{"bridge":"br0","multiQueue":true,"owner":0,"group":4294967294,"mtu":1400,"mac":"02:00:00:00:00:01",
            "runtimeConfig":{"mac":"02:00:00:00:00:02"},"selinuxContext":"","dns":{"search":["s"]}}"#;
        let config = Config::read(&conf(text)).unwrap();
        assert_eq!((config.bridge.as_ref().map(IfName::as_str), config.multi_queue), (Some("br0"), true));
        assert_eq!((config.owner, config.group, config.mtu), (Some(0), Some(u32::MAX - 1), Some(1400)));
        let environment = "MAC=02:00:00:00:00:03";
        assert_eq!(config.hardware_address(environment, None).unwrap(), Mac([2, 0, 0, 0, 0, 2]));
        let config = Config { runtime_mac: None, ..config };
        assert_eq!(config.hardware_address(environment, None).unwrap(), Mac([2, 0, 0, 0, 0, 3]));
        assert_eq!(config.hardware_address("", Some(Mac([2; 6]))).unwrap(), Mac([2, 0, 0, 0, 0, 1]));
        let bare = Config::read(&conf(r#"{"bridge":"","mtu":0}"#)).unwrap();
        assert_eq!(bare, Config::default());
        assert_eq!(bare.hardware_address("", Some(Mac([2; 6]))).unwrap(), Mac([2; 6]));
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let text = r#"{"bridge":"a/b","multiQueue":1,"owner":-1,"group":4294967295,"mtu":1,"mac":"ff:ff:ff:ff:ff:ff",
            "selinuxContext":"system_u:system_r:container_t:s0"}"#;
        let findings = Builtin::Tap.validate(&conf(text));
        let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["selinuxContext", "bridge", "multiQueue", "owner", "group", "mtu", "mac"]);
        assert!(findings[0].to_string().contains("the program `tap`"), "{}", findings[0]);
    }
}
