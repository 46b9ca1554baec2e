//! The frames between plugin and agent: a length (u32, big-endian), then that many bytes of JSON.
//!
//! Either side may be one version newer than the other, and there is no negotiation. A request has the newest and the oldest
//! version that its writer speaks, and the answer has the version that it is in. The rules for changes:
//!
//! - an unknown field is ignored, and a field that a later version adds has a default;
//! - a request of an unknown kind is refused as `unsupported`, and the plugin goes on without;
//! - [`Refusal`] and both envelopes never change.
//!
//! `tests/frames` keeps frames of every version.

mod frame;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use attachments::definition::Definition;
use attachments::dialect::objects::ForeignRef;
use attachments::names::{DeviceId, NetRef, ObjectName, PodRef};
use attachments::policy;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use frame::write;
pub use frame::{frame, length};

/// The newest version that we speak.
pub const NEWEST: u32 = 1;
/// The oldest version that we speak.
pub const OLDEST: u32 = 1;

/// Longest frame, in bytes without its length: a few definitions of the largest size that the API server stores.
pub const LIMIT: usize = 8 << 20;
/// Longest `spec.config` of a definition that is carried, in bytes.
pub const LONGEST_DEFINITION: usize = 64 << 10;
/// Longest annotation that is read, in bytes: the API server takes this much of all annotations of an object.
pub const LONGEST_ANNOTATION: usize = 256 << 10;
/// The most definitions in one request. The plugin's own limits are far lower.
pub const MOST_REFERENCES: usize = 4096;

/// A request of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentRequest {
    /// Facts for an ADD.
    Resolve(Resolve),
    /// The networks that span nodes, once an ADD was judged.
    Join(Join),
    /// The choice of a pod's network, where the pod leaves it to the node.
    Choose(Choose),
    /// A pod's status.
    Publish(Publish),
    /// An ADD failed. The plugin does not wait for the answer.
    AddFailure(AddFailure),
    /// Does the agent serve?
    Health,
    /// Another level for the agent's log, as its flag has it; empty: that of the flag. Of people, not of the plugin.
    LogLevel(String),
}

/// Asks for everything that an ADD needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolve {
    /// The pod; required for `annotations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// True: the answer has the pod's annotations and the definitions that they name.
    #[serde(default)]
    pub annotations: bool,
    /// Definitions to look up, each once.
    #[serde(default, deserialize_with = "bounded")]
    pub references: Vec<NetRef>,
    /// Further definitions, which a file of the node may replace. They are usually missing, so once the cache is complete
    /// the API server is not asked for them.
    #[serde(default, deserialize_with = "bounded")]
    pub optional: Vec<NetRef>,
    /// The namespace of a default-network annotation that names none: `multusNamespace`.
    pub multus_namespace: ObjectName,
    /// How long the plugin waits for the answer, in milliseconds.
    pub wait_ms: u64,
    /// True: the answer has the levels and policies of the namespaces of the pod and of the definitions that it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub policies: bool,
    /// True: a [`Join`] follows where one is needed. An older plugin sends none, so the agent joins before it answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
    /// True: where a definition names a resource, the answer has the devices that the pod was allocated of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
    /// Objects of dialects to look up, each once; the answer has what they need beside them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ForeignRef>,
    /// Further objects of dialects. They are usually missing, so once the cache is complete the API server is not asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<ForeignRef>,
}

/// Asks the agent to choose the least busy network for a pod, and to write it into the pod's annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choose {
    /// The pod.
    pub pod: PodRef,
    /// How long the plugin waits for the answer, in milliseconds.
    pub wait_ms: u64,
}

/// Asks the agent to make sure of what an ADD needs of networks that span nodes. An older agent does not know the request: it has joined
/// before it answered [`Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The pod.
    pub pod: PodRef,
    /// The definitions of the networks, in the order in which they are attached.
    #[serde(deserialize_with = "bounded")]
    pub references: Vec<NetRef>,
    /// The objects of dialects that are networks, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ForeignRef>,
    /// `multusNamespace`, for who reads the pod's annotations.
    pub multus_namespace: ObjectName,
    /// How long the plugin waits for the answer, in milliseconds.
    pub wait_ms: u64,
    /// True: no attachment asks for an address of its own. Otherwise the agent looks at the pod's annotations.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
}

/// The status of a pod after its ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The pod.
    pub pod: PodRef,
    /// Text of the annotation `network-status`.
    pub status: String,
    /// One sentence for each interface, for events.
    #[serde(default)]
    pub added: Vec<String>,
    /// What a dialect writes beside it, by annotation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How long the plugin waits for the API server to take the status, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Why the ADD of a pod failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddFailure {
    /// The pod.
    pub pod: PodRef,
    /// Reason of the event: one word.
    pub reason: String,
    /// Network, value and cause, in this order.
    pub message: String,
}

/// An answer of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`AgentRequest::Resolve`].
    Resolved(Resolved),
    /// To [`AgentRequest::Publish`].
    Published(Published),
    /// To [`AgentRequest::Choose`]: the name of the network.
    Chosen(String),
    /// To [`AgentRequest::AddFailure`], and to [`AgentRequest::Join`] when the node has what the ADD needs.
    Noted,
    /// To [`AgentRequest::Health`].
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

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The frame is longer than [`LIMIT`].
    #[error("a frame of {0} bytes, want at most {LIMIT}")]
    Length(usize),
    /// The answer is in a version that was not offered.
    #[error("an answer in version {0}, want {OLDEST} to {NEWEST}")]
    Version(u32),
    /// The answer is of a kind that its version does not have.
    #[error("an answer of the unknown kind {0:?}")]
    Kind(String),
    /// The JSON is not that of a frame.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct RequestEnvelope<'a, B> {
    newest: u32,
    oldest: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    body: Option<B>,
}

#[derive(Serialize, Deserialize)]
struct AnswerEnvelope<'a, B> {
    version: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    body: Option<B>,
}

/// Reads a list of at most [`MOST_REFERENCES`], and allocates no more.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NetRef>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<NetRef>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_REFERENCES} references")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<NetRef>, A::Error> {
            let mut references = Vec::new();
            while let Some(reference) = list.next_element()? {
                if references.len() == MOST_REFERENCES {
                    return Err(A::Error::invalid_length(MOST_REFERENCES + 1, &self));
                }
                references.push(reference);
            }
            Ok(references)
        }
    }
    deserializer.deserialize_seq(List)
}

impl AgentRequest {
    /// The frame, its length in front.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Resolve(body) => Self::written("resolve", Some(body)),
            Self::Join(body) => Self::written("join", Some(body)),
            Self::Choose(body) => Self::written("choose", Some(body)),
            Self::Publish(body) => Self::written("publish", Some(body)),
            Self::AddFailure(body) => Self::written("report", Some(body)),
            Self::Health => Self::written("health", None::<()>),
            Self::LogLevel(body) => Self::written("logLevel", Some(body)),
        }
    }

    fn written<B: Serialize>(kind: &str, body: Option<B>) -> Result<Vec<u8>, WireError> {
        write(&RequestEnvelope { newest: NEWEST, oldest: OLDEST, kind: kind.into(), body })
    }

    /// Reads a frame without its length: the version to answer in, and the request or why it is refused.
    pub fn decode(json: &[u8]) -> (u32, Result<Self, Refusal>) {
        let malformed = |e: serde_json::Error| Refusal::new(Cause::Malformed, format!("a request that is none: {e}"));
        let envelope = match serde_json::from_slice::<RequestEnvelope<'_, &RawValue>>(json) {
            Ok(envelope) => envelope,
            Err(e) => return (NEWEST, Err(malformed(e))),
        };
        let version = envelope.newest.clamp(OLDEST, NEWEST);
        if envelope.newest < OLDEST || envelope.oldest > NEWEST {
            let (newest, oldest) = (envelope.newest, envelope.oldest);
            let message = format!("a request in versions {oldest} to {newest}, want one of {OLDEST} to {NEWEST}");
            return (version, Err(Refusal::new(Cause::Unsupported, message)));
        }
        let body = envelope.body.map_or("{}", RawValue::get);
        let request = match envelope.kind.as_ref() {
            "resolve" => serde_json::from_str(body).map(Self::Resolve),
            "join" => serde_json::from_str(body).map(Self::Join),
            "choose" => serde_json::from_str(body).map(Self::Choose),
            "publish" => serde_json::from_str(body).map(Self::Publish),
            "report" => serde_json::from_str(body).map(Self::AddFailure),
            "health" => Ok(Self::Health),
            "logLevel" => serde_json::from_str(body).map(Self::LogLevel),
            kind => {
                let message = format!("a request of the kind {kind:?}, which this agent does not know");
                return (version, Err(Refusal::new(Cause::Unsupported, message)));
            }
        };
        (version, request.map_err(malformed))
    }
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

#[cfg(test)]
mod tests;
