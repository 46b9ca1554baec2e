//! Everything that makes an interface.
//!
//! [`builtin`] turns a typed configuration into a [`spec`], [`apply`] brings the kernel there, [`nl`] speaks netlink,
//! [`ipam`] gives addresses. [`exec`] runs what is not built in. A [`call::Call`] is one verb for one plugin; the engine
//! hands it to either.

pub mod apply;
pub mod builtin;
pub mod call;
pub mod default_route;
pub mod error;
pub mod exec;
pub mod ipam;
pub mod masquerade;
pub mod netns;
pub mod nl;
pub mod spec;
