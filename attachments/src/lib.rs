//! What was asked for, and what was given: pure types and functions.
//!
//! Nothing here touches a file, a socket or the kernel. [`selection`] reads a pod's annotation, by [`dialect`] that of other systems too, [`bind`] turns it into
//! attachments with every choice made, [`status`] tells the pod what came of them. [`cni`] holds the protocol that
//! delegates speak; it lives here because binding validates configurations and status reads results.

#![forbid(unsafe_code)]

pub mod aliases;
#[cfg(feature = "api")]
pub mod api;
pub mod bind;
pub mod cni;
pub mod definition;
pub mod dialect;
pub mod finding;
pub mod meta_plugins;
pub mod names;
pub mod node_label;
pub mod policy;
pub mod rule;
pub mod selection;
pub mod status;
pub mod text;
