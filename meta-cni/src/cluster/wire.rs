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

mod answer;
mod frame;
mod request;

pub use answer::{
    AliasLookup, Answer, Cause, Devices, Health, Lookup, NodeAddresses, ObjectLookup, Outcome, Policies, Published,
    Refusal, Resolved,
};
pub use frame::{frame, length};
pub use request::{AddFailure, AgentRequest, Choose, Join, Publish, Resolve};

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

#[cfg(test)]
mod tests;
