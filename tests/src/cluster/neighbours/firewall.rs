//! The reference plugins' `firewall`.

use super::{daemon, place};
use crate::cluster::whole::Cluster;

/// Puts it on every node.
pub fn install(cluster: &Cluster) {
    let program = daemon("firewall");
    cluster.nodes().iter().for_each(|node| place(node, &program, "/opt/cni/bin/firewall"));
}
