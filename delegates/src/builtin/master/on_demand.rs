//! What a link on demand is, a VLAN or a VXLAN of the link underneath: the keys that ask for it, its name, and how it is found and made.

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding};
use attachments::names::IfName;
use attachments::rule::Rule;
use nix::errno::Errno;

use super::tunnel;
use crate::apply::{self, is};
use crate::builtin::conf_reader::ConfReader;
use crate::builtin::{default_bridge, parent_link};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nl::Netlink;
use crate::nl::link::{Kind, Link, NewKind, NewLink};
use crate::shared;

/// What tells the frames of the link from others of the link underneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::builtin) enum Tag {
    /// `masterVlan`: the identifier of a VLAN.
    Vlan(u16),
    /// `masterVxlan`: the VNI of a VXLAN.
    Vxlan(u32),
}

/// The keys that ask for a link on demand.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::builtin) struct OnDemand {
    pub tag: Tag,
    /// What the link is called where it is made; absent: its usual name.
    pub name: Option<IfName>,
}

/// The keys of a tag: its own, and that of the link's name.
const VLAN: [&str; 2] = ["masterVlan", "masterVlanName"];
const VXLAN: [&str; 2] = ["masterVxlan", "masterVxlanName"];

impl Tag {
    pub fn key(self) -> &'static str {
        match self {
            Self::Vlan(_) => VLAN[0],
            Self::Vxlan(_) => VXLAN[0],
        }
    }

    pub fn id(self) -> u32 {
        match self {
            Self::Vlan(id) => id.into(),
            Self::Vxlan(vni) => vni,
        }
    }

    /// The name of the link as distributions make it. A VNI is one of the node, whatever the link underneath.
    pub fn usual_name(self, base: &str) -> std::result::Result<IfName, Finding> {
        let name = match self {
            Self::Vlan(id) => format!("{base}.{id}"),
            Self::Vxlan(vni) => format!("vxlan{vni}"),
        };
        name.parse().map_err(|_| {
            let kind = self.kind();
            let allowed = format!("a {kind} whose link has a name of at most 15 bytes: {name} has {}", name.len());
            Finding::new(self.key(), self.id(), allowed)
        })
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Vlan(_) => "VLAN",
            Self::Vxlan(_) => "VXLAN",
        }
    }
}

impl OnDemand {
    /// Reads the keys, beside those that tell which link is underneath.
    pub fn read(reader: &mut ConfReader<'_>, master: Option<&IfName>, in_pod: bool) -> Option<Self> {
        let vlan = reader.integer((VLAN[0], Rule::VlanId), 1..=4094).and_then(|id| u16::try_from(id).ok());
        let vxlan = reader.integer((VXLAN[0], Rule::Vni), 1..=(1 << 24) - 1);
        let [vlan_name, vxlan_name] = [VLAN, VXLAN].map(|[key, name]| named(reader, name, key));
        if let (Some(_), Some(vni)) = (vlan, vxlan) {
            reader.refuse(Finding::new(VXLAN[0], vni, Allowed::without(VLAN[0])));
        }
        let vlan = vlan.map(|id| Self { tag: Tag::Vlan(id), name: vlan_name });
        let found = vlan.or(vxlan.map(|vni| Self { tag: Tag::Vxlan(vni), name: vxlan_name }))?;
        if in_pod {
            let allowed = "no link of a master in the pod (linkInContainer): name it as `master`";
            reader.refuse(Finding::new(found.tag.key(), found.tag.id(), allowed));
        }
        if let (None, Some(master)) = (&found.name, master)
            && !(reader.has(VLAN[1]) || reader.has(VXLAN[1]))
            && let Err(finding) = found.tag.usual_name(master.as_str())
        {
            reader.refuse(finding);
        }
        Some(found)
    }

    /// The same for a DEL that must do without a valid configuration.
    pub fn of(conf: &Object) -> Option<Self> {
        let number = |[key, _]: [&str; 2]| conf.decode::<u32>(key, "").ok().flatten();
        let name = |[_, key]: [&str; 2]| conf.parsed::<IfName>(key, IfName::ALLOWED).ok().flatten();
        let vlan = number(VLAN).and_then(|id| u16::try_from(id).ok());
        vlan.map(|id| Self { tag: Tag::Vlan(id), name: name(VLAN) })
            .or_else(|| number(VXLAN).map(|vni| Self { tag: Tag::Vxlan(vni), name: name(VXLAN) }))
    }

    /// The link of that link of the node.
    pub(super) fn on(&self, base: Link) -> std::result::Result<Wanted, Finding> {
        let name = self.name.clone().map_or_else(|| self.tag.usual_name(&base.name), Ok)?;
        Ok(Wanted { base, tag: self.tag, name })
    }
}

fn named(reader: &mut ConfReader<'_>, name: &'static str, key: &'static str) -> Option<IfName> {
    let found = reader.parsed::<IfName>((name, Rule::MasterName), IfName::ALLOWED)?;
    if !reader.has(key) {
        reader.refuse(Finding::new(name, &found, Allowed::requires(key, "set")));
    }
    Some(found)
}

/// A link that is to be there.
pub(super) struct Wanted {
    /// The link underneath.
    pub base: Link,
    pub tag: Tag,
    pub name: IfName,
}

impl Wanted {
    /// The link, under its name or another one. What has its name and is something else is refused.
    pub fn find(&self, netlink: &mut Netlink) -> Result<Option<Link>> {
        let found = match netlink.link_by_name(&self.name)? {
            Some(link) if self.is(&link) => Some(link),
            Some(other) => return Err(self.refuse_name(&other)),
            None => netlink.links(None)?.into_iter().find(|link| self.is(link)),
        };
        if let (Tag::Vxlan(vni), Some(link)) = (self.tag, &found) {
            tunnel::refuse_other(netlink, link, &self.base, vni)?;
        }
        Ok(found)
    }

    fn is(&self, link: &Link) -> bool {
        match (self.tag, &link.kind) {
            (Tag::Vlan(id), kind) => {
                *kind == Kind::Vlan(id) && link.parent == Some(self.base.index) && !link.is_parent_elsewhere
            }
            // The kernel has a VNI once on a port, whatever it is made of.
            (Tag::Vxlan(vni), Kind::Vxlan(is)) => (is.vni, is.port) == (vni, tunnel::PORT),
            _ => false,
        }
    }

    fn refuse_name(&self, other: &Link) -> Error {
        let (kind, id, base) = (self.tag.kind(), self.tag.id(), &self.base.name);
        let (name, other) = (&other.name, other.kind.as_str());
        let allowed = format!(
            "a {kind} of {base} whose name {name} is free: that is a {other} which is not {kind} {id} of {base}"
        );
        Error::Parent(Finding::new(self.tag.key(), id, allowed))
    }

    /// Makes the link, down. Its group says whose it is from the first moment.
    pub fn make(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<Link> {
        default_bridge::refuse(host, call, "master", &self.base.name)?;
        let netlink = host.netlink()?;
        let kind = match self.tag {
            Tag::Vlan(id) => NewKind::Vlan { parent: self.base.index, id },
            Tag::Vxlan(vni) => NewKind::Vxlan(tunnel::device(netlink, &self.base, vni)?),
        };
        let wanted = NewLink { group: shared::OURS, ..NewLink::new(&self.name, kind) };
        let made = netlink.add_link(&wanted);
        // Where somebody else was quicker, the look-up tells who.
        if is(&made, Errno::EEXIST)
            && let Some(link) = self.find(netlink)?
        {
            return Ok(link);
        }
        made.map_err(|error| match self.tag {
            Tag::Vlan(_) => parent_link::explain(netlink, &wanted, error),
            Tag::Vxlan(vni) => tunnel::explain(vni, error),
        })?;
        netlink.link_by_name(&self.name)?.ok_or_else(|| apply::vanished(format!("find link {}", self.name)))
    }

    /// The link as it would be, as far as its users need to know before it is made.
    pub fn would_be(self, netlink: &mut Netlink) -> Result<Link> {
        match self.tag {
            Tag::Vlan(_) => Ok(self.base),
            Tag::Vxlan(_) => tunnel::would_be(netlink, self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str) -> std::result::Result<Option<OnDemand>, Vec<String>> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        let mut reader = ConfReader::of(&conf);
        let master: Option<IfName> = reader.parsed("master", IfName::ALLOWED);
        let in_pod = reader.flag("linkInContainer");
        let found = OnDemand::read(&mut reader, master.as_ref(), in_pod);
        reader.finish(found).map_err(|findings| findings.iter().map(Finding::to_string).collect())
    }

    #[test]
    fn a_vlan_or_a_vxlan_is_asked_for_by_keys_of_its_own() {
        let on_demand = |tag, name: Option<&str>| Some(OnDemand { tag, name: name.map(|name| name.parse().unwrap()) });
        for (keys, want) in [
            (r#""master":"eth1""#, None),
            (r#""master":"eth1","masterVlan":100"#, on_demand(Tag::Vlan(100), None)),
            (r#""masterVlan":4094,"masterVlanName":"lan.5""#, on_demand(Tag::Vlan(4094), Some("lan.5"))),
            (r#""master":"eth1","masterVxlan":16777215"#, on_demand(Tag::Vxlan(16_777_215), None)),
            (r#""masterVxlan":600,"masterVxlanName":"vx_internal""#, on_demand(Tag::Vxlan(600), Some("vx_internal"))),
        ] {
            let conf = format!("{{{keys}}}");
            assert_eq!(read(&conf).unwrap(), want, "{keys}");
            assert_eq!(OnDemand::of(&Object::parse(conf.as_bytes()).unwrap()), want, "{keys}");
        }
        for (keys, want) in [
            (r#""masterVxlan":0"#, "masterVxlan: got 0, want an integer from 1 to 16777215"),
            (r#""masterVxlan":16777216"#, "masterVxlan: got 16777216, want an integer from 1 to 16777215"),
            (r#""masterVxlan":"600""#, "masterVxlan: got \"600\""),
            (r#""masterVxlan":600,"masterVlan":100"#, "masterVxlan cannot be combined with masterVlan"),
            (r#""masterVxlan":600,"masterVxlanName":"a/b""#, "masterVxlanName: got \"a/b\""),
            (r#""masterVxlanName":"vx_internal""#, "masterVxlanName requires masterVxlan to be set"),
            (r#""masterVlan":100,"masterVxlanName":"vx_a""#, "masterVxlanName requires masterVxlan to be set"),
            (
                r#""masterVxlan":600,"linkInContainer":true"#,
                "masterVxlan: got 600, want no link of a master in the pod",
            ),
            (r#""master":"enp131s0f0np0","masterVlan":100"#, "masterVlan: got 100, want a VLAN whose link has a name"),
        ] {
            let wrong = read(&format!("{{{keys}}}")).unwrap_err();
            assert!(matches!(wrong.as_slice(), [one] if one.starts_with(want)), "{keys}: {wrong:?}");
        }
        // It is no part of the name.
        assert!(read(r#"{"master":"enp131s0f0np0","masterVxlan":16777215}"#).is_ok());
    }
}
