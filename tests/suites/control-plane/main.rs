//! What needs an API server and no node: etcd and kube-apiserver, both real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a case that cannot go on fails")]

mod agent;
mod calls;
mod danm;
mod devices;
mod genie;
mod harness;
mod hot_plug;
mod leases;
mod levels;
mod networks;
mod outage;
mod policy;
mod repair;
mod soak;
mod tools;
mod webhook;
mod weight;
mod world;
