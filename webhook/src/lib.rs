//! Admission: what the API server asks before an object is stored, and what we answer.
//!
//! [`review`] is pure: a review in, a review out. Serving it over TLS, certificates and the registration with the API
//! server come on top.

pub mod cluster;
pub mod review;
pub mod rules;
mod text;
