//! The crash tier.
