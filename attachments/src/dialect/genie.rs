//! CNI-Genie: annotation `cni`, a list of files of the node, or blank: then `networks`, a list of Logicalnetworks, or else the network
//! whose links are least busy. Facts are from CNI-Genie's master of 2025; docs/dialects/genie.md says what differs here.

use std::net::IpAddr;

use serde::Deserialize;

use super::objects::{ForeignRef, Kind};
use super::{Dialect, FIRST, PodList, name_interfaces};
use crate::cni::conf::{NetworkConf, PluginConf};
use crate::cni::object::Object;
use crate::finding::{Allowed, Finding, under as all_under};
use crate::meta_plugins::is_meta;
use crate::names::{ConfName, IfName, ObjectName};
use crate::selection::{NetworkSelection, SelectionTarget};

/// The annotation that lists a pod's networks by the names of files.
pub const CNI: &str = "cni";
/// The annotation that lists Logicalnetworks, where [`CNI`] is there and blank.
pub const NETWORKS: &str = "networks";
/// The annotation of a NetworkPolicy that CNI-Genie's own controller reads.
pub const NETWORK_POLICY: &str = "genieNetworkPolicy";
/// The annotation that tells a pod's addresses.
pub const PREFERENCES: &str = "multi-ip-preferences";
/// The node's list for a pod without [`CNI`].
pub const DEFAULT_PLUGIN: &str = "genie.defaultPlugin";

/// The key of a node's configuration that holds the settings.
const SETTINGS: &str = "genie";

/// Settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genie {
    /// `defaultPlugin`: what a pod without the annotation gets; the node's ordinary default network where it is empty.
    pub default_plugin: Vec<Entry>,
    /// `loadPrefixes`: which links of the node tell how busy a network is.
    pub load_prefixes: Vec<LoadClass>,
}

impl Default for Genie {
    fn default() -> Self {
        let class = |(plugin, prefix): (&str, &str)| {
            Some(LoadClass { plugin: plugin.parse().ok()?, prefixes: vec![prefix.to_owned()] })
        };
        let usual = [("flannel", "flan"), ("calico", "cali"), ("weave", "weav")];
        Self { default_plugin: Vec::new(), load_prefixes: usual.into_iter().filter_map(class).collect() }
    }
}

/// A network among which the least busy is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadClass {
    /// Its name in [`CNI`].
    pub plugin: ConfName,
    /// The beginnings of the names of its links.
    pub prefixes: Vec<String>,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of a file.
    pub plugin: ConfName,
    /// Name of the interface in the pod.
    pub interface: Option<IfName>,
}

impl Genie {
    /// Reads `genie` of a node's configuration.
    pub fn read(conf: &Object) -> Result<Self, Finding> {
        #[derive(Deserialize)]
        struct Class {
            plugin: String,
            prefixes: Vec<String>,
        }
        const ALLOWED: &str = r#"a list of {"plugin": NAME, "prefixes": [TEXT]}"#;
        let mut settings = Self::default();
        let Some(object) = conf.object(SETTINGS)? else { return Ok(settings) };
        let at = |finding: Finding| finding.under(SETTINGS);
        if let Some(text) = object.text("defaultPlugin").map_err(at)?.filter(|text| !text.trim().is_empty()) {
            let listed = entries(&text).and_then(|entries| selected(&entries).map(|_| entries));
            settings.default_plugin = listed.map_err(|finding| finding.under(DEFAULT_PLUGIN))?;
        }
        if let Some(classes) = object.decode::<Vec<Class>>("loadPrefixes", ALLOWED).map_err(at)? {
            let each = |(i, Class { plugin, prefixes }): (usize, Class)| {
                let field = format!("{SETTINGS}.loadPrefixes[{i}]");
                if prefixes.is_empty() || prefixes.iter().any(String::is_empty) {
                    return Err(Finding::missing(format!("{field}.prefixes"), "the beginning of a link's name"));
                }
                let plugin = plugin.parse().map_err(|e: Finding| e.under(&format!("{field}.plugin")))?;
                Ok(LoadClass { plugin, prefixes })
            };
            settings.load_prefixes = classes.into_iter().enumerate().map(each).collect::<Result<_, _>>()?;
        }
        Ok(settings)
    }

    /// A pod's list. A pod without [`CNI`] has one only where the node gives one.
    pub fn read_pod<'a>(
        &self,
        annotation: impl Fn(&str) -> Option<&'a str>,
        pod_namespace: &ObjectName,
    ) -> Result<Option<PodList>, Finding> {
        let list = |key, elements: Vec<NetworkSelection>| PodList {
            dialect: Dialect::Genie,
            key,
            is_nodes_own: key == DEFAULT_PLUGIN,
            places: (0..elements.len()).map(|place| format!("[{place}]")).collect(),
            elements,
            warnings: Vec::new(),
            is_open: false,
            candidates: Vec::new(),
        };
        let at = |key: &'static str| move |finding: Finding| finding.under(key);
        let Some(text) = annotation(CNI) else {
            return match self.default_plugin.as_slice() {
                [] => Ok(None),
                entries => Ok(Some(list(DEFAULT_PLUGIN, selected(entries)?))),
            };
        };
        if !text.trim().is_empty() {
            let elements = entries(text).and_then(|entries| selected(&entries)).map_err(at(CNI))?;
            return Ok(Some(list(CNI, elements)));
        }
        match annotation(NETWORKS).filter(|text| !text.trim().is_empty()) {
            Some(text) => Ok(Some(list(NETWORKS, logical_networks(text, pod_namespace).map_err(at(NETWORKS))?))),
            None => Ok(Some(PodList { is_open: true, ..list(CNI, Vec::new()) })),
        }
    }

    /// The least busy network: the one whose links received the fewest bytes between two counts, the first of the list where several
    /// did. Each count gives a link's name and the bytes that it received. None where no link belongs to a network.
    pub fn least_loaded(&self, before: &[(String, u64)], after: &[(String, u64)]) -> Option<&ConfName> {
        let received = |link: &str, now: u64| {
            let earlier = before.iter().find(|(name, _)| name == link).map(|(_, bytes)| *bytes);
            // A link that is new, or was made anew, has received all that it counts.
            earlier.and_then(|earlier| now.checked_sub(earlier)).unwrap_or(now)
        };
        let load = |class: &LoadClass| {
            let own =
                after.iter().filter(|(link, _)| class.prefixes.iter().any(|prefix| link.starts_with(prefix.as_str())));
            own.map(|(link, now)| u128::from(received(link, *now))).reduce(|sum, bytes| sum + bytes)
        };
        let loads = self.load_prefixes.iter().filter_map(|class| Some((load(class)?, &class.plugin)));
        loads.min_by_key(|(load, _)| *load).map(|(_, plugin)| plugin)
    }
}

/// Reads a list: `plugin`, `plugin@interface`, joined by commas. A second `@` and what is behind it count for nothing, as there.
pub fn entries(text: &str) -> Result<Vec<Entry>, Finding> {
    let each = |(i, entry): (usize, &str)| {
        let (plugin, interface) = split(entry, '@');
        let at = |finding: Finding| finding.under(&format!("[{i}]"));
        let plugin: ConfName = plugin.parse().map_err(at)?;
        if is_meta(plugin.as_str()) {
            return Err(at(meta_plugin("", &plugin)));
        }
        Ok(Entry { plugin, interface: interface.map(str::parse).transpose().map_err(at)? })
    };
    text.split(',').enumerate().map(each).collect()
}

fn logical_networks(text: &str, namespace: &ObjectName) -> Result<Vec<NetworkSelection>, Finding> {
    let each = |(i, entry): (usize, &str)| {
        // Releases up to v3.0 wrote a colon.
        let (name, interface) = split(entry, if entry.contains('@') { '@' } else { ':' });
        let at = |finding: Finding| finding.under(&format!("[{i}]"));
        let name = name.parse().map_err(at)?;
        let target = ForeignRef::within(namespace, Kind::Logicalnetwork, name);
        let interface = interface.map(str::parse).transpose().map_err(at)?;
        Ok(NetworkSelection { interface, ..NetworkSelection::new(SelectionTarget::Foreign(target)) })
    };
    named(text.split(',').enumerate().map(each).collect::<Result<_, _>>()?)
}

fn split(entry: &str, separator: char) -> (&str, Option<&str>) {
    let mut parts = entry.split(separator).map(str::trim);
    let name = parts.next().unwrap_or_default();
    (name, parts.next().filter(|interface| !interface.is_empty()))
}

fn selected(entries: &[Entry]) -> Result<Vec<NetworkSelection>, Finding> {
    let each = |Entry { plugin, interface }: &Entry| NetworkSelection {
        interface: interface.clone(),
        ..NetworkSelection::new(SelectionTarget::File(plugin.clone()))
    };
    named(entries.iter().map(each).collect())
}

/// The elements with the names of their interfaces. One of them is the first interface of the pod.
fn named(mut elements: Vec<NetworkSelection>) -> Result<Vec<NetworkSelection>, Finding> {
    name_interfaces(&mut elements)?;
    let is_first = |element: &NetworkSelection| element.interface.as_ref().is_some_and(|name| name.as_str() == FIRST);
    if !elements.iter().any(is_first) {
        let names: Vec<&str> = elements.iter().filter_map(|one| one.interface.as_ref()).map(IfName::as_str).collect();
        return Err(Finding::new("", names.join(", "), "an entry that is eth0: the runtime needs one"));
    }
    Ok(elements)
}

/// The refusal of a plugin that calls others.
pub(crate) fn meta_plugin(field: &str, plugin: &ConfName) -> Finding {
    let allowed = "the name of a network: this is a meta plugin, which calls others";
    Finding::new(field, format_args!("{:?}", plugin.as_str()), allowed)
}

/// `spec` of a Logicalnetwork.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logical {
    /// `physicalNet`: a Physicalnetwork of the same namespace.
    pub physical: Option<ObjectName>,
    /// `sub_subnet`.
    pub subnet: Option<String>,
    /// `plugin`.
    pub plugin: Option<ConfName>,
}

/// `spec` of a Physicalnetwork.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Physical {
    /// `refer_nic`, which no version of CNI-Genie used.
    pub nic: Option<String>,
    /// `sharedStatus.plugin`.
    pub plugin: Option<ConfName>,
    /// `sharedStatus.subnet`.
    pub subnet: Option<String>,
    /// `sharedStatus.dedicatedNet`: the network is one Logicalnetwork's alone.
    pub is_dedicated: bool,
}

/// The network that a Logicalnetwork is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The file whose configuration it has.
    pub plugin: ConfName,
    /// The subnet that replaces the file's.
    pub subnet: Option<String>,
}

const UNUSED: Allowed = Allowed::told("nothing: it has no effect", "has no effect");
const CIDR: &str = "a subnet: an address, '/' and the length of its prefix";

impl Logical {
    /// Reads a `spec`.
    pub fn read(spec: &Object) -> Result<Self, Finding> {
        Ok(Self {
            physical: spec.parsed("physicalNet", ObjectName::ALLOWED)?,
            subnet: subnet(spec, "sub_subnet")?,
            plugin: spec.parsed("plugin", ConfName::ALLOWED)?,
        })
    }
}

impl Physical {
    /// Reads a `spec`.
    pub fn read(spec: &Object) -> Result<Self, Finding> {
        // The samples misspell it.
        let key = if spec.get("sharedStatus").is_none() { "sharedStaus" } else { "sharedStatus" };
        let shared = spec.object(key)?.unwrap_or_default();
        let at = |finding: Finding| finding.under(key);
        Ok(Self {
            nic: spec.text("refer_nic")?.filter(|nic| !nic.is_empty()),
            plugin: shared.parsed("plugin", ConfName::ALLOWED).map_err(at)?,
            subnet: subnet(&shared, "subnet").map_err(at)?,
            is_dedicated: shared.flag("dedicatedNet").map_err(at)?,
        })
    }
}

fn subnet(object: &Object, key: &str) -> Result<Option<String>, Finding> {
    let Some(text) = object.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<ipnet::IpNet>() {
        Ok(_) => Ok(Some(text)),
        Err(_) => Err(Finding::new(key, format_args!("{text:?}"), CIDR)),
    }
}

/// Which file and which subnet a Logicalnetwork means. A shared Physicalnetwork leaves the plugin to its Logicalnetworks, as documented
/// there, and each of them has a subnet of its own.
pub fn network(logical: &Logical, physical: Option<&Physical>) -> Result<Network, Finding> {
    let Logical { subnet, plugin, .. } = logical.clone();
    let nowhere = || Finding::missing("plugin", "the name of a network's file");
    let Some(physical) = physical else { return Ok(Network { plugin: plugin.ok_or_else(nowhere)?, subnet }) };
    if !physical.is_dedicated {
        let plugin = plugin.or_else(|| physical.plugin.clone()).ok_or_else(nowhere)?;
        let subnet =
            subnet.ok_or_else(|| Finding::missing("sub_subnet", format!("{CIDR}, for its physicalNet is shared")))?;
        return Ok(Network { plugin, subnet: Some(subnet) });
    }
    let plugin =
        physical.plugin.clone().ok_or_else(|| Finding::missing("physicalNet", "a Physicalnetwork with a plugin"))?;
    if let (Some(inner), Some(outer)) = (&subnet, &physical.subnet)
        && !contains(outer, inner)
    {
        return Err(Finding::new("sub_subnet", inner, format!("a subnet of its physicalNet's {outer}")));
    }
    Ok(Network { plugin, subnet: subnet.or_else(|| physical.subnet.clone()) })
}

fn contains(outer: &str, inner: &str) -> bool {
    match (outer.parse::<ipnet::IpNet>(), inner.parse::<ipnet::IpNet>()) {
        (Ok(outer), Ok(inner)) => outer.contains(&inner),
        _ => false,
    }
}

/// A configuration with another subnet in the `ipam` section of its first plugin. Other keys of that section stay.
pub fn with_subnet(conf: &NetworkConf, subnet: Option<&str>) -> Result<NetworkConf, Finding> {
    let mut conf = conf.clone();
    if let (Some(subnet), Some(plugin)) = (subnet, conf.plugins.first_mut()) {
        let mut object = plugin.object.clone();
        let mut ipam = object.object("ipam")?.unwrap_or_default();
        ipam.set("subnet", &subnet);
        object.set("ipam", &ipam);
        *plugin = PluginConf::from_object(object)?;
    }
    Ok(conf)
}

/// The text of [`PREFERENCES`]: for each interface of the list its first address, if it has one.
pub fn preferences(interfaces: &[(&str, Option<IpAddr>)]) -> String {
    let mut ips = Object::new();
    for (i, (interface, address)) in interfaces.iter().enumerate() {
        let mut one = Object::new();
        one.set_some("ip", address.as_ref());
        one.set("interface", interface);
        ips.set(&format!("ip{}", i + 1), &one);
    }
    let mut all = Object::new();
    all.set("multi_entry", &interfaces.len());
    all.set("ips", &ips);
    all.to_json()
}

/// What is wrong with an object, and what has no effect: warnings second. `physical` is the `spec` of the Physicalnetwork that a
/// Logicalnetwork names; where it is not known, what depends on it is not judged.
pub fn judge(kind: Kind, spec: &Object, physical: Option<&Object>) -> (Vec<Finding>, Vec<Finding>) {
    let nic = |physical: &Physical| {
        let unused = physical.nic.as_ref().map(|nic| Finding::new("refer_nic", nic, UNUSED));
        unused.into_iter().collect()
    };
    let (errors, warnings) = match kind {
        Kind::Physicalnetwork => match Physical::read(spec) {
            Ok(read) => {
                let lacks = read.is_dedicated && read.plugin.is_none();
                let missing = || Finding::missing("sharedStatus.plugin", "the name of a network's file");
                (lacks.then(missing).into_iter().collect(), nic(&read))
            }
            Err(finding) => (vec![finding], Vec::new()),
        },
        Kind::Logicalnetwork => {
            let judged = Logical::read(spec).and_then(|logical| match (&logical.physical, physical) {
                (Some(_), None) => Ok(()),
                // One that cannot be read is refused for itself.
                (Some(_), Some(physical)) => match Physical::read(physical) {
                    Ok(physical) => network(&logical, Some(&physical)).map(drop),
                    Err(_) => Ok(()),
                },
                (None, _) => network(&logical, None).map(drop),
            });
            (judged.err().into_iter().collect(), Vec::new())
        }
        _ => (Vec::new(), Vec::new()),
    };
    (all_under("spec", errors), all_under("spec", warnings))
}

#[cfg(test)]
mod tests;
