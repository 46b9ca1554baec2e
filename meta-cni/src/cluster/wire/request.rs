//! What the plugin asks of the agent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use attachments::dialect::alias::Alias;
use attachments::dialect::objects::ForeignRef;
use attachments::names::{NetRef, ObjectName, PodRef};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::frame::write;
use super::{Cause, MOST_REFERENCES, NEWEST, OLDEST, Refusal, WireError};

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
    /// Names of a dialect for definitions, each once; the answer has the definitions that have them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
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

#[derive(Serialize, Deserialize)]
struct RequestEnvelope<'a, B> {
    newest: u32,
    oldest: u32,
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
