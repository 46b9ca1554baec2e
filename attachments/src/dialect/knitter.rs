//! Knitter: annotation `networks`, a JSON object with the pod's ports. Facts are from Knitter's last code of 2018; docs/dialects/knitter.md
//! says what differs here.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::alias::{Alias, object_name};
use super::{Dialect, FIRST, PodList};
use crate::cni::object::Object;
use crate::finding::{Allowed, Finding, under};
use crate::names::{IfName, ObjectName};
use crate::selection::{LONGEST, NetworkSelection, ROLES, SelectionTarget};

/// The annotation that lists a pod's ports.
pub const NETWORKS: &str = "networks";
/// The attribute of a port that names a group of addresses, an AddressSet.
pub const IP_GROUP: &str = "ip_group_name";
/// The key of a node's configuration that holds the settings.
const SETTINGS: &str = "knitter";
/// The longest `nic_name`, in characters.
pub const LONGEST_NIC: usize = 12;
/// What charts write for blank.
const BLANK: &str = "\"\"";
/// The function of a port that names none.
const STANDARD: &str = "std";
/// The functions that Knitter knew as those of its core networks.
const CORE: [&str; 3] = ["control", "media", "oam"];

/// Settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knitter {
    /// `adminNamespace`: whose public definitions every pod may name.
    pub admin_namespace: ObjectName,
    /// `defaultNetwork`: the name by which ports mean the node's own default network.
    pub default_network: Option<String>,
}

/// One port, or several that are one interface.
#[derive(Clone, Debug)]
struct Port {
    /// Where the first of them is listed.
    place: usize,
    network: String,
    nic: String,
    nic_type: String,
    functions: Vec<String>,
    is_accelerated: bool,
    is_combinable: bool,
    address: Option<Ipv4Addr>,
    group: Option<ObjectName>,
}

impl Knitter {
    /// Reads `knitter` of a node's configuration.
    pub fn read(conf: &Object) -> Result<Self, Finding> {
        let settings = conf.object(SETTINGS)?.unwrap_or_default();
        let at = |finding: Finding| finding.under(SETTINGS);
        let admin_namespace = settings.parsed("adminNamespace", ObjectName::ALLOWED).map_err(at)?;
        Ok(Self {
            admin_namespace: admin_namespace.map_or_else(|| "admin".parse(), Ok)?,
            default_network: settings.text("defaultNetwork").map_err(at)?.filter(|name| !name.trim().is_empty()),
        })
    }

    /// Does the annotation have Knitter's form? Beside CNI-Genie's, whose list has the same key, its first character tells.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with('{') || text.trim() == BLANK
    }

    /// A pod's list. None where the annotation asks for the default network alone.
    pub fn read_pod(&self, text: &str, pod_namespace: &ObjectName) -> Result<Option<PodList>, Finding> {
        if asks_for_default(text) {
            return Ok(None);
        }
        let read = || {
            let mut ports = combined(ports(text)?)?;
            let mut warnings: Vec<Finding> = ports.iter().flat_map(Port::warnings).collect();
            let has_first = ports.iter().any(|port| port.nic == FIRST);
            if let Some(first) = ports.first_mut().filter(|_| !has_first) {
                let at = format!("{}.attributes.nic_name", first.field());
                warnings.push(Finding::new(at, &first.nic, "eth0 for one port: this one is it, as the first"));
                FIRST.clone_into(&mut first.nic);
            }
            let mut list = PodList {
                dialect: Dialect::Knitter,
                key: NETWORKS,
                is_nodes_own: false,
                elements: Vec::new(),
                places: Vec::new(),
                warnings: under(NETWORKS, warnings),
                is_open: false,
                candidates: Vec::new(),
            };
            let mut taken = BTreeSet::new();
            for port in &ports {
                let element = self.element(port, pod_namespace)?;
                if !taken.insert(port.nic.as_str()) {
                    let at = format!("{}.attributes.nic_name", port.field());
                    return Err(Finding::new(at, &port.nic, "an interface that no other port is"));
                }
                if let Some(element) = element {
                    list.elements.push(element);
                    list.places.push(format!(".{}", port.field()));
                }
            }
            Ok(Some(list))
        };
        read().map_err(|finding: Finding| finding.under(NETWORKS))
    }

    /// What a port selects; nothing for the interface that the node's default network is.
    fn element(&self, port: &Port, pod_namespace: &ObjectName) -> Result<Option<NetworkSelection>, Finding> {
        let at = |key: &str| format!("{}.{key}", port.field());
        if self.default_network.as_ref() == Some(&port.network) {
            if port.nic != FIRST || port.address.is_some() || port.group.is_some() {
                let allowed = "a network with a definition: this is the node's default network (knitter.defaultNetwork), which is eth0 and takes no request for an address";
                return Err(Finding::new(at("attach_to_network"), format_args!("{:?}", port.network), allowed));
            }
            return Ok(None);
        }
        let alias = Alias {
            name: port.network.clone(),
            namespace: pod_namespace.clone(),
            shared: self.admin_namespace.clone(),
        };
        let interface: IfName = port.nic.parse().map_err(|e: Finding| e.under(&at("attributes.nic_name")))?;
        let mut element = NetworkSelection::new(SelectionTarget::Alias { alias, found: Vec::new() });
        element.interface = Some(interface);
        element.ips = port.address.iter().map(ToString::to_string).collect();
        element.address_set = port.group.clone();
        if port.functions != [STANDARD] {
            let mut args = Object::new();
            args.set(ROLES, &port.functions);
            element.cni_args = Some(args);
        }
        Ok(Some(element))
    }
}

/// Does the annotation ask for the default network alone?
fn asks_for_default(text: &str) -> bool {
    matches!(text.trim(), "" | BLANK)
}

fn ports(text: &str) -> Result<Vec<Port>, Finding> {
    const SHAPE: &str = r#"a JSON object {"ports": [...]} with at least one port"#;
    if text.len() > LONGEST {
        return Err(Finding::new("", format_args!("{} bytes", text.len()), format!("at most {LONGEST} bytes")));
    }
    let object = Object::parse(text.trim().as_bytes())
        .map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), SHAPE))?;
    let ports = object.objects("ports")?;
    if ports.is_empty() {
        return Err(Finding::missing("ports", SHAPE));
    }
    let each =
        |(place, port): (usize, &Object)| Port::read(place, port).map_err(|e| e.under(&format!("ports[{place}]")));
    ports.iter().enumerate().map(each).collect()
}

/// Ports that are alike and combinable are one, in the place of the first.
fn combined(ports: Vec<Port>) -> Result<Vec<Port>, Finding> {
    let mut all: Vec<Port> = Vec::new();
    for port in ports {
        match all.iter_mut().find(|first| first.is_one_with(&port)) {
            Some(first) => first.join(port)?,
            None => all.push(port),
        }
    }
    Ok(all)
}

impl Port {
    fn read(place: usize, port: &Object) -> Result<Self, Finding> {
        let network = port.text("attach_to_network")?.filter(|name| !name.trim().is_empty());
        let network = network.ok_or_else(|| Finding::missing("attach_to_network", "the name of a network"))?;
        if network.len() > Alias::LONGEST {
            let allowed = format!("at most {} bytes", Alias::LONGEST);
            return Err(Finding::new("attach_to_network", format_args!("{} bytes", network.len()), allowed));
        }
        let attributes = port.object("attributes")?.unwrap_or_default();
        Self::with(place, network, &attributes).map_err(|finding| finding.under("attributes"))
    }

    fn with(place: usize, network: String, attributes: &Object) -> Result<Self, Finding> {
        let text = |key: &str| Ok::<_, Finding>(attributes.text(key)?.filter(|text| !text.is_empty()));
        let is_true = |key: &str| Ok::<_, Finding>(attributes.text(key)?.as_deref() == Some("true"));
        let usual = || format!("eth_{network}").chars().take(LONGEST_NIC).collect();
        let nic: String = text("nic_name")?.unwrap_or_else(usual);
        if nic.chars().count() > LONGEST_NIC {
            let allowed = format!("at most {LONGEST_NIC} characters");
            return Err(Finding::new("nic_name", format_args!("{nic:?}"), allowed));
        }
        let address = attributes.parsed("ip_addr", "an IPv4 address")?;
        let group = match text(IP_GROUP)? {
            Some(name) => {
                let refuse = || Finding::new(IP_GROUP, format_args!("{name:?}"), ObjectName::ALLOWED);
                Some(object_name(&name).ok_or_else(refuse)?)
            }
            None => None,
        };
        if let (Some(address), Some(_)) = (&address, &group) {
            return Err(Finding::new("ip_addr", address, Allowed::without(IP_GROUP)));
        }
        Ok(Self {
            place,
            nic,
            nic_type: text("nic_type")?.unwrap_or_else(|| "normal".to_owned()),
            functions: vec![text("function")?.unwrap_or_else(|| STANDARD.to_owned())],
            is_accelerated: is_true("accelerate")?,
            is_combinable: is_true("combinable")?,
            address,
            group,
            network,
        })
    }

    fn field(&self) -> String {
        format!("ports[{}]", self.place)
    }

    fn is_one_with(&self, other: &Self) -> bool {
        let alike = |port: &Self| {
            (port.network.clone(), port.nic_type.clone(), port.is_accelerated, port.group.clone(), port.is_combinable)
        };
        self.is_combinable && alike(self) == alike(other)
    }

    /// Takes another port in.
    fn join(&mut self, other: Self) -> Result<(), Finding> {
        let function = &other.functions[0];
        let refuse = |why: String| {
            Err(Finding::new(format!("{}.attributes.function", other.field()), format_args!("{function:?}"), why))
        };
        if self.functions.contains(function) {
            return refuse(format!("a function that no other of its combined ports has: {} has it", self.field()));
        }
        let is_core = |function: &String| CORE.contains(&function.as_str());
        let is_eio = |function: &String| function == "eio";
        let clashes = (is_eio(function) && self.functions.iter().any(is_core))
            || (is_core(function) && self.functions.iter().any(is_eio));
        if self.is_accelerated && clashes {
            return refuse(format!(
                "a port that is not combined with {}: eio and {} exclude each other where they are accelerated",
                self.field(),
                CORE.join(", ")
            ));
        }
        if let (Some(one), Some(another)) = (self.address, other.address)
            && one != another
        {
            let at = format!("{}.attributes.ip_addr", other.field());
            return Err(Finding::new(at, another, format!("{one}, as in {}: they are combined", self.field())));
        }
        if other.nic == FIRST {
            self.nic = other.nic;
        }
        self.address = self.address.or(other.address);
        self.functions.extend(other.functions);
        Ok(())
    }

    /// What the port asks for in vain, as it did there.
    fn warnings(&self) -> Vec<Finding> {
        const PLAIN: &str = "a plain port, and it is one: a device needs a network whose definition has k8s.v1.cni.cncf.io/resourceName";
        let at = |key: &str| format!("{}.attributes.{key}", self.field());
        let accelerated = self.is_accelerated.then(|| Finding::new(at("accelerate"), "\"true\"", PLAIN));
        let typed = (self.nic_type != "normal")
            .then(|| Finding::new(at("nic_type"), format_args!("{:?}", self.nic_type), PLAIN));
        accelerated.into_iter().chain(typed).collect()
    }
}

#[cfg(test)]
mod tests;
