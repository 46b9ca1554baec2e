//! What the agent answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use attachments::definition::Definition;
use attachments::dialect::alias::Alias;
use attachments::dialect::objects::ForeignRef;
use attachments::names::{DeviceId, NetRef};
use attachments::policy;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::frame::write;
use super::{NEWEST, OLDEST, WireError};

/// An answer of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`AgentRequest::Resolve`](super::AgentRequest::Resolve).
    Resolved(Resolved),
    /// To [`AgentRequest::Publish`](super::AgentRequest::Publish).
    Published(Published),
    /// To [`AgentRequest::Choose`](super::AgentRequest::Choose): the name of the network.
    Chosen(String),
    /// To [`AgentRequest::AddFailure`](super::AgentRequest::AddFailure), and to [`AgentRequest::Join`](super::AgentRequest::Join) when the node has what the ADD needs.
    Noted,
    /// To [`AgentRequest::Health`](super::AgentRequest::Health).
    Healthy(Health),
    /// To any request.
    Refused(Refusal),
}

/// Facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The pod's annotations, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// One entry for each definition that was asked for, or that the annotations name.
    #[serde(default)]
    pub definitions: Vec<Lookup>,
    /// Addresses of the node and the API server; empty from an older agent.
    #[serde(default, skip_serializing_if = "NodeAddresses::is_empty")]
    pub node: NodeAddresses,
    /// Levels and policies, if they were asked for; an older agent knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// The pod's devices, if they were asked for and a definition names a resource; an older agent tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
    /// The objects of dialects that were asked for, and what they need; an older agent tells none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectLookup>,
    /// The names of a dialect that were asked for; an older agent tells none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasLookup>,
}

/// The devices that the kubelet allocated to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Devices {
    /// They are these.
    Known {
        /// For each resource that a definition names, in the order in which attachments take them. None were allocated of a
        /// resource without an entry.
        allocated: BTreeMap<String, Vec<DeviceId>>,
    },
    /// The kubelet did not tell.
    Unknown {
        /// Why.
        reason: String,
    },
    /// A state of a later version.
    #[serde(other)]
    Unheard,
}

/// Levels and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Policies {
    /// They are these.
    Known {
        /// Of the namespaces that were asked about.
        facts: policy::Facts,
    },
    /// The API server did not tell yet.
    Unknown {
        /// Why.
        reason: String,
    },
    /// A state of a later version.
    #[serde(other)]
    Unheard,
}

/// The addresses by which the node is part of the cluster. Links and routes to them belong to the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddresses {
    /// InternalIPs of the Node object.
    #[serde(default, rename = "internalIPs", skip_serializing_if = "Vec::is_empty")]
    pub internal_ips: Vec<IpAddr>,
    /// Addresses of the API server: where the agent reaches it, and where it says that it listens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_servers: Vec<IpAddr>,
}

impl NodeAddresses {
    /// True when no address is known.
    pub fn is_empty(&self) -> bool {
        self.internal_ips.is_empty() && self.api_servers.is_empty()
    }
}

/// The lookup of one definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// The definition.
    pub reference: NetRef,
    /// The result.
    pub outcome: Outcome,
}

/// The lookup of one object of a dialect. In what was found, the text is the JSON of its `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLookup {
    /// The object.
    pub reference: ForeignRef,
    /// The result.
    pub outcome: Outcome,
}

/// The lookup of a name of a dialect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AliasLookup {
    /// The name.
    pub alias: Alias,
    /// The definitions that have it. More than one share it.
    #[serde(default)]
    pub found: Vec<NetRef>,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The definition.
    Found {
        /// `spec.config`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<String>,
        /// The annotation that names a device plugin's resource.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_name: Option<String>,
    },
    /// The API server knows no such object.
    Missing,
    /// The object exists and cannot be read.
    Broken {
        /// Why.
        reason: String,
    },
    /// The object exists and is too large for a frame.
    TooLarge {
        /// Bytes of `spec.config`.
        size: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The API server could not be asked.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// A result of a later version.
    #[serde(other)]
    Unheard,
}

impl Outcome {
    /// The outcome of a lookup that was successful.
    pub fn found(definition: &Definition) -> Self {
        Self::Found { config: definition.config.clone(), resource_name: definition.resource_name.clone() }
    }
}

/// Answers a published status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// True: the API server has the status. False: the agent has it and retries.
    pub written: bool,
}

/// The state of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The node that the agent serves.
    pub node: String,
    /// Version of the program.
    pub program: String,
    /// True once all pods of the node are known; until then each is read from the API server.
    #[serde(default)]
    pub pods_known: bool,
    /// True once all definitions are known; until then each is read from the API server.
    #[serde(default)]
    pub definitions_known: bool,
    /// What the agent still waits for. Until then pods may not get their networks.
    #[serde(default, rename = "wanting")]
    pub blockers: Vec<String>,
    /// The dialects whose objects it follows; an older agent tells none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dialects: Vec<String>,
}

/// A refusal. Its format is the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the plugin does about it.
    pub cause: Cause,
    /// For people.
    pub message: String,
}

/// What the plugin does about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A later call may succeed.
    Later,
    /// The request is of a kind, or of a version, that is not spoken.
    Unsupported,
    /// The request cannot be read.
    Malformed,
    /// The pod's or the node's configuration is wrong: no retry helps.
    Configuration,
    /// An address that the pod asks for is somebody else's. The text is `SUBJECT: WHY`.
    Addresses,
    /// A bug, or a cause of a later version.
    #[serde(other)]
    Internal,
}

impl Refusal {
    /// A refusal.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

#[derive(Serialize, Deserialize)]
struct AnswerEnvelope<'a, B> {
    version: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    body: Option<B>,
}

impl Answer {
    /// The frame in a version, its length in front.
    pub fn encode(&self, version: u32) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Resolved(body) => Self::written(version, "resolved", Some(body)),
            Self::Published(body) => Self::written(version, "published", Some(body)),
            Self::Chosen(body) => Self::written(version, "chosen", Some(body)),
            Self::Noted => Self::written(version, "noted", None::<()>),
            Self::Healthy(body) => Self::written(version, "healthy", Some(body)),
            Self::Refused(body) => Self::written(version, "refused", Some(body)),
        }
    }

    fn written<B: Serialize>(version: u32, kind: &str, body: Option<B>) -> Result<Vec<u8>, WireError> {
        write(&AnswerEnvelope { version, kind: kind.into(), body })
    }

    /// Reads a frame without its length.
    pub fn decode(json: &[u8]) -> Result<Self, WireError> {
        let envelope: AnswerEnvelope<'_, &RawValue> = serde_json::from_slice(json)?;
        let body = envelope.body.map_or("{}", RawValue::get);
        match envelope.kind.as_ref() {
            "refused" => Ok(Self::Refused(serde_json::from_str(body)?)),
            _ if !(OLDEST..=NEWEST).contains(&envelope.version) => Err(WireError::Version(envelope.version)),
            "resolved" => Ok(Self::Resolved(serde_json::from_str(body)?)),
            "published" => Ok(Self::Published(serde_json::from_str(body)?)),
            "chosen" => Ok(Self::Chosen(serde_json::from_str(body)?)),
            "noted" => Ok(Self::Noted),
            "healthy" => Ok(Self::Healthy(serde_json::from_str(body)?)),
            kind => Err(WireError::Kind(kind.to_owned())),
        }
    }
}
