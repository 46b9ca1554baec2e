//! Our own API objects with their schemas; `deploy/crds` is generated from them.

pub use crate::policy::spec::{AttachmentLevel, AttachmentPolicy};

/// The group of our own kinds.
pub const GROUP: &str = "meta-cni.io";
