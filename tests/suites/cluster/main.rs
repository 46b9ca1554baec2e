//! Pods as users make them, on a whole Kubernetes with meta-cni installed as `kubectl apply -k deploy/kustomize` does it, from
//! the image that `make image` writes. The cases share one cluster and take turns on it, each in a namespace of its own; what
//! a case leaves on a node fails it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a case that cannot go on fails")]

mod api_server;
mod bed;
mod churn;
mod connectivity;
mod danm;
mod danm_churn;
mod danm_live;
mod devices;
mod dialects_off;
mod genie;
mod helm;
mod hot_plug;
mod install;
mod knitter;
mod leases;
mod lifecycle;
mod migrate;
mod networks;
mod node;
mod overlay;
mod repair;
mod scheduling;
mod tenant;
mod upgrade;
mod workloads;
