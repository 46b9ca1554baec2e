//! What a definition says to others: read once when it comes, its text is not kept.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use attachments::aliases::stands_for;
use attachments::cni::object::Object;
use attachments::definition::{LONGEST, NODE_SELECTOR, RESOURCE_NAME};
use attachments::dialect::alias::{KNITTER_NAME, KNITTER_PUBLIC};
use attachments::names::NetRef;
use attachments::node_label::{Ability, DRIVERS};
use delegates::builtin::Builtin;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::ipam::Subnet;

/// More plugins than any chain has (N06).
const PLUGINS: usize = 16;

/// More subnets, capabilities and sharers of one definition than are kept: a text of 64 KiB could name thousands.
const MOST: usize = 64;

/// The port of VXLAN, where a configuration names none.
pub const VXLAN_PORT: u16 = 4789;

/// The bridge that is meant where none is named.
const DEFAULT_BRIDGE: &str = "cni0";

/// A definition, as far as rules about several objects need it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Namespace and name.
    pub reference: NetRef,
    /// `metadata.uid`; empty while it is being created.
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, in seconds since 1970. Of two that clash the older one is right.
    pub created: Option<i64>,
    /// The resource whose devices its attachments use.
    pub resource: Option<Box<str>>,
    /// The label of the nodes on which its network is, as it is written.
    pub node_selector: Option<Box<str>>,
    /// The name by which Knitter's pods know it, where it says one.
    pub knitter_name: Option<Box<str>>,
    /// True where it opens itself to Knitter's pods of all namespaces.
    pub is_public: bool,
    /// What its configuration says; absent where there is none, or none that can be read.
    pub network: Option<Network>,
}

/// A network's configuration.
#[derive(Clone, Debug)]
pub struct Network {
    /// `name`, which without one is the definition's.
    pub name: Box<str>,
    /// Its content, whatever the order of keys and the white space.
    pub hash: u64,
    /// The capabilities that some plugin declares.
    pub capabilities: Vec<Box<str>>,
    /// The plugins in order.
    pub plugins: Vec<Plugin>,
}

/// One plugin's part, where it concerns others.
#[derive(Clone, Debug, Default)]
pub struct Plugin {
    /// Its path in the configuration: empty, or `plugins[0]`.
    pub at: Box<str>,
    /// `type`.
    pub kind: Box<str>,
    /// `master`, where it is the node's.
    pub master: Option<Box<str>>,
    /// `mode`, as far as it is text.
    pub mode: Option<Box<str>>,
    /// `vlanId`, or bridge's `vlan`.
    pub vlan: Option<u16>,
    /// The bridge.
    pub bridge: Option<Box<str>>,
    /// The bridge holds the gateways' addresses.
    pub is_gateway: bool,
    /// A gateway that contradicts the bridge's takes its place.
    pub force_address: bool,
    /// host-device's `device`.
    pub device: Option<Box<str>>,
    /// The overlay.
    pub overlay: Option<Overlay>,
    /// `ipam.type`.
    pub ipam: Box<str>,
    /// The subnets of `ipam`.
    pub subnets: Vec<Subnet>,
}

/// What tells one VXLAN overlay from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// `vni`.
    pub vni: u32,
    /// `port`.
    pub port: u16,
    /// `underlay` as written.
    pub underlay: Option<Box<str>>,
    /// `mtu`; absent where it is left to the nodes.
    pub mtu: Option<u32>,
    /// The nodes' agents claim and join it: it has neither `peers` nor `group`.
    pub is_managed: bool,
    /// `sharedWith`: definitions (`namespace/name`) or namespaces that may have the same pair.
    pub shared_with: Vec<Box<str>>,
    /// It is the link on which macvlans or ipvlans stand (`masterVxlan`): all that ask for it over one master share it.
    pub is_master: bool,
}

/// How a plugin uses its master. The kernel lets some uses stand beside one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MasterUse {
    /// macvlan in a mode that shares.
    Macvlan,
    /// macvlan in mode passthru.
    Passthru,
    /// ipvlan in this mode: 0 is l2, 1 l3, 2 l3s.
    Ipvlan(u8),
}

impl MasterUse {
    /// Every use.
    pub const ALL: [Self; 5] = [Self::Macvlan, Self::Passthru, Self::Ipvlan(0), Self::Ipvlan(1), Self::Ipvlan(2)];

    /// The mode as configurations write it.
    pub fn mode(self) -> &'static str {
        match self {
            Self::Macvlan => "bridge",
            Self::Passthru => "passthru",
            Self::Ipvlan(0) => "l2",
            Self::Ipvlan(1) => "l3",
            Self::Ipvlan(_) => "l3s",
        }
    }

    /// The plugin.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Macvlan | Self::Passthru => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
        }
    }
}

/// What joins attachments of several definitions to one layer-2 segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// A link of the nodes, and a VLAN on it.
    Master(&'a str, Option<u16>),
    /// A bridge of each node, and a VLAN on it.
    Bridge(&'a str, Option<u16>),
    /// An overlay.
    Overlay(u32, u16),
}

impl Segment<'_> {
    /// What the two have in common, in words.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Master(..) => "master",
            Self::Bridge(..) => "bridge",
            Self::Overlay(..) => "overlay",
        }
    }
}

impl Definition {
    /// Reads an object: its metadata and `spec.config`.
    pub fn read(reference: NetRef, metadata: &ObjectMeta, config: Option<&str>) -> Self {
        let annotation = |key: &str| -> Option<Box<str>> {
            let text = metadata.annotations.as_ref().and_then(|all| all.get(key));
            text.filter(|text| !text.is_empty()).map(|text| text.as_str().into())
        };
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            resource: annotation(RESOURCE_NAME),
            node_selector: annotation(NODE_SELECTOR),
            knitter_name: annotation(KNITTER_NAME),
            is_public: annotation(KNITTER_PUBLIC).as_deref() == Some("true"),
            network: config.and_then(|text| Network::read(text, reference.name.as_str())),
            reference,
        }
    }

    /// Its plugins; none where there is no configuration.
    pub fn plugins(&self) -> &[Plugin] {
        self.network.as_ref().map(|network| network.plugins.as_slice()).unwrap_or_default()
    }

    /// What a node must have for its network. Links that are lent to a pod are not among it: a node would lose the label with the pod that has
    /// them. Devices are the scheduler's business, by their resource.
    pub fn abilities(&self) -> BTreeSet<Ability<'_>> {
        self.plugins().iter().flat_map(Plugin::abilities).collect()
    }

    /// The subnets of all plugins.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.plugins().iter().flat_map(|plugin| &plugin.subnets)
    }

    /// Does some plugin declare the capability?
    pub fn declares(&self, capability: &str) -> bool {
        let of = |network: &Network| network.capabilities.iter().any(|declared| &**declared == capability);
        self.network.as_ref().is_some_and(of)
    }
}

impl Network {
    /// Reads a configuration. Keys count however they are spelled, as for the plugins.
    pub fn read(text: &str, definition: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let written = Object::parse(text.as_bytes()).ok()?;
        let respelled = delegates::spelling::respell_document(&written, &mut |_| {});
        let mut document: Value = serde_json::from_str(&respelled.unwrap_or(written).to_json()).ok()?;
        let name = document["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(definition).to_owned();
        document["name"] = Value::String(name.clone());
        let mut hasher = DefaultHasher::new();
        document.to_string().hash(&mut hasher);
        let plugins: Vec<(String, &Value)> = match document["plugins"].as_array() {
            Some(list) => {
                list.iter().take(PLUGINS).enumerate().map(|(i, one)| (format!("plugins[{i}]"), one)).collect()
            }
            None => vec![(String::new(), &document)],
        };
        let mut capabilities: Vec<Box<str>> = Vec::new();
        for (_, plugin) in &plugins {
            let declared = plugin["capabilities"].as_object().into_iter().flatten();
            capabilities.extend(declared.filter(|(_, value)| **value == true).map(|(key, _)| key.as_str().into()));
        }
        capabilities.truncate(MOST);
        let mut plugins: Vec<Plugin> = plugins.into_iter().map(|(at, plugin)| Plugin::read(at, plugin)).collect();
        let mut room = MOST;
        for plugin in &mut plugins {
            plugin.subnets.truncate(room);
            room -= plugin.subnets.len();
        }
        Some(Self { name: name.into(), hash: hasher.finish(), capabilities, plugins })
    }
}

/// The link that a plugin stands on: its master, or a VLAN of that.
fn on_demand(master: Box<str>, vlan: Option<u16>) -> Box<str> {
    match vlan {
        Some(id) => format!("{master}.{id}").into(),
        None => master,
    }
}

/// The link of the node that a master is made of, where it may be a VLAN made on demand, and whether it is one.
fn made_of(master: &str) -> (&str, bool) {
    let is_id =
        |digits: &str| digits.parse::<u16>().is_ok_and(|id| (1..=4094).contains(&id) && id.to_string() == digits);
    match master.rsplit_once('.') {
        Some((base, digits)) if !base.is_empty() && is_id(digits) => (base, true),
        _ => (master, false),
    }
}

impl Plugin {
    fn read(at: String, plugin: &Value) -> Self {
        let text = |key: &str| plugin[key].as_str().filter(|text| !text.is_empty()).map(Box::from);
        let small = |key: &str| plugin[key].as_u64().and_then(|number| u16::try_from(number).ok());
        let flag = |key: &str| plugin[key] == true;
        let kind = stands_for(plugin["type"].as_str().unwrap_or_default());
        let is = |kinds: &[&str]| kinds.contains(&kind);
        let ipam = &plugin["ipam"];
        let overlay = match kind {
            "vxlan" => Overlay::read(plugin),
            "macvlan" | "ipvlan" => Overlay::of_master(plugin),
            _ => None,
        };
        let master = match &overlay {
            Some(Overlay { is_master: true, vni, .. }) => Some(format!("vxlan{vni}").into()),
            _ => text("master")
                .filter(|_| is(&["macvlan", "ipvlan", "vlan"]) && !flag("linkInContainer"))
                .map(|master| on_demand(master, small("masterVlan"))),
        };
        Self {
            at: at.into(),
            kind: kind.into(),
            master,
            mode: text("mode"),
            vlan: if kind == "vlan" { small("vlanId") } else { small("vlan").filter(|id| *id != 0) },
            bridge: is(&["bridge"]).then(|| text("bridge").unwrap_or_else(|| DEFAULT_BRIDGE.into())),
            is_gateway: is(&["bridge"]) && (flag("isGateway") || flag("isDefaultGateway")),
            force_address: flag("forceAddress"),
            device: text("device").filter(|_| is(&["host-device"])),
            overlay,
            ipam: ipam["type"].as_str().unwrap_or_default().into(),
            subnets: super::ipam::subnets(ipam),
        }
    }

    fn abilities(&self) -> Vec<Ability<'_>> {
        let master = self.master.as_deref().filter(|_| self.overlay.is_none()).map(made_of);
        let underlay = self.overlay.as_ref().and_then(|overlay| overlay.underlay.as_deref());
        let driver = DRIVERS.contains(&&*self.kind).then_some(Ability::Driver(&self.kind));
        let below = match &self.overlay {
            Some(overlay) => overlay.is_master.then_some("vxlan"),
            None => master.is_some_and(|(_, is_vlan)| is_vlan).then_some("vlan"),
        };
        let is_program = |kind: &&str| kind.parse().is_ok_and(|kind| Builtin::from_type(&kind).is_none());
        let program = Some(&*self.kind).filter(is_program).map(Ability::Program);
        // A subnet says nothing of a link.
        let links = [master.map(|(base, _)| base), underlay.filter(|text| !text.contains('/'))];
        links
            .into_iter()
            .flatten()
            .map(Ability::Link)
            .chain(driver)
            .chain(below.map(Ability::Driver))
            .chain(program)
            .collect()
    }

    /// How it uses its master; nothing where it has none that its text names.
    pub fn master_use(&self) -> Option<(&str, MasterUse)> {
        let master = self.master.as_deref()?;
        let used = match (&*self.kind, self.mode.as_deref()) {
            ("macvlan", Some("passthru")) => MasterUse::Passthru,
            ("macvlan", _) => MasterUse::Macvlan,
            ("ipvlan", None | Some("l2")) => MasterUse::Ipvlan(0),
            ("ipvlan", Some("l3")) => MasterUse::Ipvlan(1),
            ("ipvlan", Some("l3s")) => MasterUse::Ipvlan(2),
            _ => return None,
        };
        Some((master, used))
    }

    /// The segment that its attachments are on.
    pub fn segment(&self) -> Option<Segment<'_>> {
        if let Some(overlay) = &self.overlay {
            return Some(Segment::Overlay(overlay.vni, overlay.port));
        }
        if let Some(bridge) = &self.bridge {
            return Some(Segment::Bridge(bridge, self.vlan));
        }
        let master = self.master.as_deref()?;
        Some(Segment::Master(master, self.vlan.filter(|_| &*self.kind == "vlan")))
    }
}

impl Overlay {
    fn read(plugin: &Value) -> Option<Self> {
        let vni = plugin["vni"].as_u64().and_then(|vni| u32::try_from(vni).ok())?;
        let port = match &plugin["port"] {
            Value::Null => VXLAN_PORT,
            port => port.as_u64().and_then(|port| u16::try_from(port).ok())?,
        };
        let shared = plugin["sharedWith"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            vni,
            port,
            underlay: plugin["underlay"].as_str().filter(|text| !text.is_empty()).map(Box::from),
            mtu: plugin["mtu"].as_u64().filter(|mtu| *mtu != 0).and_then(|mtu| u32::try_from(mtu).ok()),
            is_managed: plugin["peers"].as_array().is_none_or(Vec::is_empty)
                && plugin["group"].as_str().is_none_or(str::is_empty),
            shared_with: shared.take(MOST).map(Box::from).collect(),
            is_master: false,
        })
    }

    /// That of `masterVxlan`. Its nodes find each other by a group.
    fn of_master(plugin: &Value) -> Option<Self> {
        let own =
            Self::read(&json!({"vni": plugin["masterVxlan"], "underlay": plugin["master"], "mtu": plugin["mtu"]}))?;
        Some(Self { is_managed: false, is_master: true, ..own })
    }

    /// The key of its VNI.
    pub fn vni_key(&self) -> &'static str {
        if self.is_master { "masterVxlan" } else { "vni" }
    }

    /// Do the pods of both stand on one link?
    pub fn is_master_of_both(&self, other: &Self) -> bool {
        self.is_master && other.is_master && self.underlay == other.underlay
    }

    /// May this definition have the same pair?
    pub fn is_shared_with(&self, other: &NetRef) -> bool {
        let reference = other.to_string();
        self.shared_with.iter().any(|name| **name == *reference || &**name == other.namespace.as_str())
    }
}
