//! `dummy`: a link of the pod that leads nowhere and holds addresses.
//!
//! The shortest delegate that makes a link, and so the example of `docs/add-a-delegate.md`. First comes the configuration, then
//! the verbs in the order in which an attachment lives, then the tests of what can be known without a kernel.

use attachments::cni::object::Object;

use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading};
use super::{Attached, check, mac_address, parent_link};
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;
use crate::ipam::Leased;
use crate::nl::link::{NewKind, NewLink};

/// The delegate.
pub(super) struct Dummy;

/// The configuration: nothing but addresses can be configured, and the layer around the delegate takes those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config;

impl Config {
    fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        reader.addresses();
        reader.finish(Self)
    }
}

impl Delegate for Dummy {
    const TYPE: &'static str = "dummy";
    const KEYS: &'static [&'static str] = &["ipam", "acceptRA"];

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    fn add(_: &Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, point, .. } = cx;
        let kind = NewKind::Dummy;
        // Every Ethernet link gets its address from us: the record knows the link by it.
        let link = NewLink {
            mac: Some(leased.mac.map_or_else(mac_address::random, Ok)?),
            group: point.group,
            ..NewLink::new(point.ifname, kind)
        };
        parent_link::add(host, sandbox, point, true, &link, leased.result)
    }

    // DEL needs nothing of its own: the link carries the record's group and goes with it, the addresses go with `ipam`.

    fn check(_: &Config, cx: Context<'_, '_>) -> Result<()> {
        let expected = check::expected(cx.call)?;
        let link = check::pod_link(cx.sandbox, cx.point, expected, Some("dummy"))?;
        check::is_up(&link)?;
        check::addressing(cx.sandbox, &link, expected)
    }

    fn status(_: &Config, host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        parent_link::probe(host.netlink()?, NewKind::Dummy)
    }
}

#[cfg(test)]
mod tests {
    use crate::builtin::Builtin;

    use super::*;

    #[test]
    fn a_dummy_without_addresses_is_refused() {
        let findings = |conf: &str| Builtin::Dummy.validate(&Object::parse(conf.as_bytes()).unwrap());
        assert_eq!(findings(r#"{"ipam":{"type":"other"}}"#), []);
        let wrong = findings("{}");
        assert!(matches!(wrong.as_slice(), [one] if one.path == "ipam.type"), "{wrong:?}");
    }
}
