//! The objects of dialects that a pod's annotation names, and the configurations that they become.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{Named, NodeFiles};
use super::{Dialect, danm, genie};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::{ConfName, NetRef, ObjectName};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// DANM's network of all namespaces.
    ClusterNetwork,
    /// DANM's interface of a pod.
    DanmEp,
    /// DANM's network of a namespace, in the mode without tenants.
    DanmNet,
    /// DANM's addresses that are kept for pods.
    ReservedIP,
    /// DANM's rules for tenants.
    TenantConfig,
    /// DANM's network of a namespace, in the mode with tenants.
    TenantNetwork,
    /// CNI-Genie's, of group `alpha.network.k8s.io`.
    Logicalnetwork,
    /// CNI-Genie's, of group `alpha.network.k8s.io`.
    Physicalnetwork,
    /// A kind of a later version.
    #[serde(other)]
    Unheard,
}

impl Kind {
    /// All that are known.
    pub const ALL: [Self; 8] = [
        Self::ClusterNetwork,
        Self::DanmEp,
        Self::DanmNet,
        Self::ReservedIP,
        Self::TenantConfig,
        Self::TenantNetwork,
        Self::Logicalnetwork,
        Self::Physicalnetwork,
    ];

    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterNetwork => "ClusterNetwork",
            Self::DanmEp => "DanmEp",
            Self::DanmNet => "DanmNet",
            Self::ReservedIP => "ReservedIP",
            Self::TenantConfig => "TenantConfig",
            Self::TenantNetwork => "TenantNetwork",
            Self::Logicalnetwork => "Logicalnetwork",
            Self::Physicalnetwork => "Physicalnetwork",
            Self::Unheard => "object",
        }
    }

    /// The groups that have it, each with its version. One name in two of them is one object: the two must agree.
    pub fn api_versions(self) -> &'static [&'static str] {
        match self.dialect() {
            Some(Dialect::Danm) => &danm::API_VERSIONS,
            Some(Dialect::Genie) => &["alpha.network.k8s.io/v1"],
            Some(Dialect::Knitter) | None => &[],
        }
    }

    /// The plural, as paths of the API have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ClusterNetwork => "clusternetworks",
            Self::DanmEp => "danmeps",
            Self::DanmNet => "danmnets",
            Self::ReservedIP => "reservedips",
            Self::TenantConfig => "tenantconfigs",
            Self::TenantNetwork => "tenantnetworks",
            Self::Logicalnetwork => "logicalnetworks",
            Self::Physicalnetwork => "physicalnetworks",
            Self::Unheard => "",
        }
    }

    /// Is an object of it in a namespace?
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::ClusterNetwork | Self::TenantConfig)
    }

    /// The paths of its objects in the API, one for each of [`Kind::api_versions`]: those of a namespace, or all.
    pub fn collections(self, namespace: Option<&ObjectName>) -> Vec<String> {
        let within = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
        self.api_versions().iter().map(|version| format!("/apis/{version}/{within}{}", self.plural())).collect()
    }

    /// Whose it is.
    pub fn dialect(self) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.kinds().contains(&self))
    }

    /// The ways in which manifests spell it: that of its definition, and that of CNI-Genie's programs and tests.
    pub fn spellings(self) -> &'static [&'static str] {
        match self {
            Self::ClusterNetwork => &["ClusterNetwork"],
            Self::DanmEp => &["DanmEp"],
            Self::DanmNet => &["DanmNet"],
            Self::ReservedIP => &["ReservedIP"],
            Self::TenantConfig => &["TenantConfig"],
            Self::TenantNetwork => &["TenantNetwork"],
            Self::Logicalnetwork => &["Logicalnetwork", "LogicalNetwork"],
            Self::Physicalnetwork => &["Physicalnetwork", "PhysicalNetwork"],
            Self::Unheard => &[],
        }
    }

    /// The groups that have it.
    pub fn groups(self) -> impl Iterator<Item = &'static str> {
        self.api_versions().iter().map(|version| group_of(version))
    }

    /// The kind of an object, by its group and the word for it.
    pub fn in_group(group: &str, word: &str) -> Option<Self> {
        Self::of(word).filter(|kind| kind.groups().any(|known| known == group))
    }

    /// The kind that a manifest names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spellings().contains(&word))
    }
}

/// The group of an `apiVersion`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or(api_version, |(group, _)| group)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object of a dialect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForeignRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; absent for a kind of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ObjectName>,
    /// Its name.
    pub name: ObjectName,
}

impl ForeignRef {
    /// The object of this name that pods of a namespace mean.
    pub fn within(namespace: &ObjectName, kind: Kind, name: ObjectName) -> Self {
        Self { kind, namespace: kind.is_namespaced().then(|| namespace.clone()), name }
    }

    /// The name by which the nodes' network of an object is known, among those of definitions: `shop/internal.danmnet`. One of the cluster
    /// is in `kube-system`, where no tenant makes a definition.
    pub fn as_definition(&self) -> NetRef {
        let label = |text: &str| text.parse::<ObjectName>().ok();
        let named = label(&format!("{}.{}", self.name, self.kind.as_str().to_ascii_lowercase()));
        NetRef {
            namespace: self.namespace.clone().or_else(|| label("kube-system")).unwrap_or_else(|| self.name.clone()),
            name: named.unwrap_or_else(|| self.name.clone()),
        }
    }

    /// The object that [`ForeignRef::as_definition`] has given this name.
    pub fn of_definition(definition: &NetRef) -> Option<Self> {
        let (name, kind) = definition.name.as_str().rsplit_once('.')?;
        let kind = Kind::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(kind))?;
        Some(Self::within(&definition.namespace, kind, name.parse().ok()?))
    }

    /// Its namespace; empty for a kind of the cluster, as in manifests.
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", ObjectName::as_str)
    }
}

/// How messages call a network that nodes know by the name of a definition: it may be an object of a dialect.
pub fn called(definition: &NetRef) -> String {
    match ForeignRef::of_definition(definition) {
        Some(object) => object.to_string(),
        None => format!("network-attachment-definition {definition}"),
    }
}

impl fmt::Display for ForeignRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Objects with the JSON of their `spec`.
pub type Objects = BTreeMap<ForeignRef, String>;

/// The `spec` of an object without what its own system writes there: as much as says what the network is. Two objects of one name in two
/// groups must be equal in it.
pub fn meaning(kind: Kind, mut spec: Value) -> Value {
    if kind.dialect() == Some(Dialect::Danm) {
        danm::remove_state(&mut spec);
    }
    spec
}

/// Says of an object that it is in two groups which do not agree.
pub fn disagreement(reference: &ForeignRef) -> String {
    let groups: Vec<&str> = reference.kind.groups().collect();
    format!("{reference} is in the groups {}, and the two differ: delete one of them", groups.join(" and "))
}

/// The configuration of a network, as far as other nodes have a part in it: the whole of one that is built in, and the addresses that it
/// gives to a plugin with a file.
pub fn spanning(reference: &ForeignRef, spec: &str) -> Option<String> {
    if reference.kind.dialect() != Some(Dialect::Danm) {
        return None;
    }
    let objects = Objects::from([(reference.clone(), spec.to_owned())]);
    danm::Network::of(reference, &objects).ok()?.spanning(&danm::network::network_name(reference))
}

/// The resource whose devices a network takes.
pub fn resource(reference: &ForeignRef, spec: &str) -> Option<String> {
    match reference.kind {
        Kind::ClusterNetwork | Kind::DanmNet | Kind::TenantNetwork => {
            let spec = Object::parse(spec.as_bytes()).ok()?;
            danm::NetworkSpec::read(&spec).ok()?.options.device_pool
        }
        _ => None,
    }
}

/// The object that this one needs beside it.
pub fn needed_by(reference: &ForeignRef, spec: &str) -> Option<ForeignRef> {
    let spec = Object::parse(spec.as_bytes()).ok()?;
    match reference.kind {
        Kind::Logicalnetwork => {
            let name = genie::Logical::read(&spec).ok()?.physical?;
            Some(ForeignRef { kind: Kind::Physicalnetwork, name, ..reference.clone() })
        }
        _ => None,
    }
}

/// The objects that count beside a network without being named in it, of those that there are: its ReservedIPs, and the TenantConfig of a
/// network of tenants.
pub fn beside<'a>(reference: &ForeignRef, all: &'a Objects) -> Vec<&'a ForeignRef> {
    if !has_beside(reference) {
        return Vec::new();
    }
    let limits = is_limited(reference).then(|| danm::limits::tenant_config(all.keys())).flatten();
    let reserved = danm::reserved::of_network(reference, all.iter()).into_iter().map(|(one, _)| one);
    limits.into_iter().chain(reserved).collect()
}

/// May objects count beside this one without being named in it?
pub fn has_beside(reference: &ForeignRef) -> bool {
    matches!(reference.kind, Kind::TenantNetwork | Kind::ClusterNetwork)
}

/// Does a TenantConfig limit it?
pub fn is_limited(reference: &ForeignRef) -> bool {
    reference.kind == Kind::TenantNetwork
}

/// Why an object gives no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoConfiguration {
    /// It is not there (yet).
    Missing(ForeignRef),
    /// No file of the node has the name.
    NoFile(ConfName),
    /// It cannot be read.
    Invalid(Finding),
}

impl From<Finding> for NoConfiguration {
    fn from(finding: Finding) -> Self {
        Self::Invalid(finding)
    }
}

/// The name of the file and the configuration that an object stands for, and where it is from: the object and the file of the node.
pub fn configuration(
    reference: &ForeignRef,
    objects: &Objects,
    files: NodeFiles<'_>,
) -> Result<(ConfName, NetworkConf, String), NoConfiguration> {
    let find = |reference: &ForeignRef| {
        let spec = objects.get(reference).ok_or_else(|| NoConfiguration::Missing(reference.clone()))?;
        let unread = |e| Finding::new(format!("{reference}: spec"), format_args!("invalid JSON ({e})"), "an object");
        Ok::<_, NoConfiguration>(Object::parse(spec.as_bytes()).map_err(unread)?)
    };
    match reference.kind {
        Kind::Logicalnetwork => {
            let under = |finding: Finding| finding.under(&format!("{reference}: spec"));
            let logical = genie::Logical::read(&find(reference)?).map_err(under)?;
            let physical = match &logical.physical {
                Some(name) => {
                    let needed = ForeignRef { kind: Kind::Physicalnetwork, name: name.clone(), ..reference.clone() };
                    let spec = find(&needed)?;
                    let read = genie::Physical::read(&spec);
                    Some(read.map_err(|finding| finding.under(&format!("{needed}: spec")))?)
                }
                None => None,
            };
            let network = genie::network(&logical, physical.as_ref()).map_err(under)?;
            let (file, conf) = match files.named(&network.plugin) {
                Named::File(file, conf) => (file, conf),
                Named::Meta(_) => return Err(under(genie::meta_plugin("plugin", &network.plugin)).into()),
                Named::Nothing => return Err(NoConfiguration::NoFile(network.plugin)),
            };
            let conf =
                genie::with_subnet(conf, network.subnet.as_deref()).map_err(|e| e.under(&format!("file {file}")))?;
            Ok((network.plugin, conf, format!("{reference}, file {file}")))
        }
        _ => Err(Finding::new("", reference, "an object that stands for a network").into()),
    }
}
