//! A whole Kubernetes on this machine, real but for its size: etcd, API server, controller manager and scheduler in one
//! set of namespaces, and one more for each node, with its kubelet, containerd and kube-proxy.
//!
//! Nothing is left of it outside of its directory, also when its maker is killed: see [`space`] and [`place`].

pub mod api;
pub mod control_plane;
pub mod credentials;
mod image;
pub mod installation;
pub mod multus;
pub mod neighbours;
pub mod node;
pub mod operators;
pub mod place;
pub mod pods;
pub mod programs;
pub mod relay;
pub mod service;
pub mod snapshot;
pub mod space;
pub mod wait;
mod whole;

pub use api::{Api, Refusal};
pub use control_plane::{ControlPlane, Settings, eventually};
pub use node::Node;
pub use whole::{Cluster, take_down};

/// Says what is being done, on stderr: a cluster takes seconds, and its first build minutes.
fn progress(what: &str) {
    eprintln!("{what}");
}
