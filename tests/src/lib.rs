//! Fixtures and fakes shared by the suites.
//!
//! A [`node::Node`] is a directory and a network namespace: everything that a node keeps lies in the one, every link that
//! it makes in the other, so suites run in parallel and never touch the machine. [`call`] runs the real plugin there as a
//! runtime would. [`fake`] is the delegate that does as it is told and records what it was asked.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fixture that fails ends its test")]

pub mod call;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod dhcp;
pub mod fake;
pub mod inspect;
pub mod netns;
pub mod node;
pub mod pages;
pub mod peers;
pub mod program;
pub mod report;
