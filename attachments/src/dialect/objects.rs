//! The objects of dialects that a pod's annotation names, and the configurations that they become.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::files::{Named, NodeFiles};
use super::{Dialect, genie};
use crate::cni::conf::NetworkConf;
use crate::cni::object::Object;
use crate::finding::Finding;
use crate::names::{ConfName, ObjectName};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
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
    pub const ALL: [Self; 2] = [Self::Logicalnetwork, Self::Physicalnetwork];

    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logicalnetwork => "Logicalnetwork",
            Self::Physicalnetwork => "Physicalnetwork",
            Self::Unheard => "object",
        }
    }

    /// Group and version.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Logicalnetwork | Self::Physicalnetwork => "alpha.network.k8s.io/v1",
            Self::Unheard => "",
        }
    }

    /// The plural, as paths of the API have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Logicalnetwork => "logicalnetworks",
            Self::Physicalnetwork => "physicalnetworks",
            Self::Unheard => "",
        }
    }

    /// Whose it is.
    pub fn dialect(self) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.kinds().contains(&self))
    }

    /// The ways in which manifests spell it: that of its definition, and that of CNI-Genie's programs and tests.
    pub fn spellings(self) -> [&'static str; 2] {
        match self {
            Self::Logicalnetwork => ["Logicalnetwork", "LogicalNetwork"],
            Self::Physicalnetwork => ["Physicalnetwork", "PhysicalNetwork"],
            Self::Unheard => ["", ""],
        }
    }

    /// The kind that a manifest names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spellings().contains(&word))
    }
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
    /// Its namespace.
    pub namespace: ObjectName,
    /// Its name.
    pub name: ObjectName,
}

impl fmt::Display for ForeignRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Objects with the JSON of their `spec`.
pub type Objects = BTreeMap<ForeignRef, String>;

/// The object that this one needs beside it.
pub fn needed_by(reference: &ForeignRef, spec: &str) -> Option<ForeignRef> {
    let spec = Object::parse(spec.as_bytes()).ok()?;
    match reference.kind {
        Kind::Logicalnetwork => {
            let name = genie::Logical::read(&spec).ok()?.physical?;
            Some(ForeignRef { kind: Kind::Physicalnetwork, namespace: reference.namespace.clone(), name })
        }
        Kind::Physicalnetwork | Kind::Unheard => None,
    }
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
                    let needed = ForeignRef {
                        kind: Kind::Physicalnetwork,
                        namespace: reference.namespace.clone(),
                        name: name.clone(),
                    };
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
        Kind::Physicalnetwork | Kind::Unheard => {
            Err(Finding::new("", reference, "an object that stands for a network").into())
        }
    }
}
