//! What is on a node, and what should not be there any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Node;

/// Everything that a pod's networks can leave on a node, one line for each.
pub type Traces = BTreeSet<String>;

/// Directories whose files belong to attachments.
const STATE: &[&str] = &[
    "/var/lib/cni",
    "/var/lib/meta-cni",
    "/run/netns",
    "/run/meta-cni",
    "/run/cni",
    "/run/k8s.cni.cncf.io/devinfo/cni",
];

/// Files that stay by design, as host-local's own: locks, the last address, what garbage collection remembers, reports
/// of calls, sockets.
fn stays(name: &str) -> bool {
    ["lock", "departed", "departed.old", "calls", "calls.taken", "differences"].contains(&name)
        || name.starts_with("last_reserved_ip.")
        || name.ends_with(".sock")
}

impl Node {
    /// What there is now: links but bridges, addresses held, records, namespaces, firewall rules of pods.
    pub fn traces(&self) -> Traces {
        let (mut traces, mut bridges) = (Traces::new(), Vec::new());
        for line in self.space().run("ip -o -d link").lines() {
            let name = line.split(": ").nth(1).unwrap_or_default().split('@').next().unwrap_or_default();
            // A bridge stays with its network, as the reference plugin's does. ": bridge " is a bridge itself, "bridge_slave" a port.
            if line.contains(" bridge forward_delay") {
                bridges.push(name.to_owned());
            } else {
                traces.insert(format!("link {name}"));
            }
        }
        for root in STATE {
            walk(&self.file(root), root, &mut traces);
        }
        // What is known of a bridge that stays, stays with it.
        for bridge in &bridges {
            traces.remove(&format!("file /var/lib/meta-cni/gateways/{bridge}"));
        }
        for line in self.space().run("nft list ruleset").lines() {
            // The service proxy's own tables change with Services. Elements and rules of others name a pod's address or port.
            if line.starts_with("table ") {
                // The tables of portmap and of masquerades stay with the node, as those of the reference plugins do; their rules go.
                if ![" cni_hostport ", " cni_plugins_masquerade "].iter().any(|table| line.contains(table)) {
                    traces.insert(line.trim_end_matches(" {").to_owned());
                }
            } else if line.contains("10.244.") || line.contains("dnat") {
                traces.insert(format!("nft {}", line.trim()));
            }
        }
        traces
    }
}

fn walk(dir: &Path, shown: &str, traces: &mut Traces) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let shown = format!("{shown}/{name}");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &shown, traces);
        } else if !stays(&name) {
            traces.insert(format!("file {shown}"));
        }
    }
}
