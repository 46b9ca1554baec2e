//! Where an attachment's configuration is from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dialect::objects::ForeignRef;
use crate::names::{NetRef, NetworkName, ObjectName};

/// The origin of an attachment's configuration. Prints as the name in status (A24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Source {
    /// The node's own configuration, by its CNI name.
    Node(NetworkName),
    /// A NetworkAttachmentDefinition.
    Definition(NetRef),
    /// An object of a dialect that is a network of its own.
    Object(ForeignRef),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(reference) => match &reference.namespace {
                Some(namespace) => write!(f, "{namespace}/{}", reference.name),
                None => reference.name.fmt(f),
            },
            Self::Node(name) => name.fmt(f),
            Self::Definition(reference) => reference.fmt(f),
        }
    }
}

/// As records have it. An object is in the words of the definition that it is known as on nodes: a version that knows no dialects reads
/// its record, and finds its addresses under the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Written {
    Node(NetworkName),
    Definition {
        namespace: ObjectName,
        name: ObjectName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        object: Option<ForeignRef>,
    },
}

impl From<Source> for Written {
    fn from(source: Source) -> Self {
        let (NetRef { namespace, name }, object) = match source {
            Source::Node(name) => return Self::Node(name),
            Source::Definition(reference) => (reference, None),
            Source::Object(reference) => (reference.as_definition(), Some(reference)),
        };
        Self::Definition { namespace, name, object }
    }
}

impl From<Written> for Source {
    fn from(written: Written) -> Self {
        match written {
            Written::Node(name) => Self::Node(name),
            Written::Definition { object: Some(reference), .. } => Self::Object(reference),
            Written::Definition { namespace, name, object: None } => Self::Definition(NetRef { namespace, name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::objects::Kind;

    /// What the version before dialects reads.
    #[derive(Debug, PartialEq, Deserialize)]
    enum Older {
        Node(NetworkName),
        Definition(NetRef),
    }

    #[test]
    fn an_object_is_a_definition_to_a_version_that_knows_no_objects() {
        let shop: ObjectName = "shop".parse().unwrap();
        let definition =
            |namespace: &str, name: &str| NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() };
        let object = |kind| Source::Object(ForeignRef::within(&shop, kind, "internal".parse().unwrap()));
        for (source, text, older) in [
            (Source::Node("cbr0".parse().unwrap()), r#"{"Node":"cbr0"}"#, Older::Node("cbr0".parse().unwrap())),
            (
                Source::Definition(definition("shop", "lan")),
                r#"{"Definition":{"namespace":"shop","name":"lan"}}"#,
                Older::Definition(definition("shop", "lan")),
            ),
            (
                object(Kind::DanmNet),
                r#"{"Definition":{"namespace":"shop","name":"internal.danmnet","object":{"kind":"DanmNet","namespace":"shop","name":"internal"}}}"#,
                Older::Definition(definition("shop", "internal.danmnet")),
            ),
            (
                object(Kind::ClusterNetwork),
                r#"{"Definition":{"namespace":"kube-system","name":"internal.clusternetwork","object":{"kind":"ClusterNetwork","name":"internal"}}}"#,
                Older::Definition(definition("kube-system", "internal.clusternetwork")),
            ),
        ] {
            assert_eq!(serde_json::to_string(&source).unwrap(), text);
            assert_eq!(serde_json::from_str::<Source>(text).unwrap(), source);
            assert_eq!(serde_json::from_str::<Older>(text).unwrap(), older);
        }
    }
}
