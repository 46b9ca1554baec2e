//! Pods as users make them, on a whole Kubernetes. The cases share one cluster and take turns on it, each in a namespace of
//! its own; what a case leaves on a node fails it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a case that cannot go on fails")]

mod bed;
mod bridge;
