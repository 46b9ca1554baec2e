//! Flags of `meta-cnid run`, each also by environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::addresses::NodeIps;
use super::metrics::MetricsAddress;

/// The agent's configuration.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Socket that the plugin asks at. Its directory is made, for root only.
    #[arg(long, env = "META_CNI_SOCKET", value_name = "PATH", default_value = "/run/meta-cni/agent.sock")]
    pub socket: PathBuf,
    /// Name of this node's Node object; in the DaemonSet from the downward API.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: String,
    /// InternalIPs of this node, joined by commas; in the DaemonSet from the downward API. The links that have them are the
    /// node's own. Once the Node object is known, its InternalIPs count.
    #[arg(long, env = "NODE_IPS", value_name = "ADDRESSES", default_value = "")]
    pub node_ips: NodeIps,
    /// Where the plugin keeps its records: `stateDir` of the node's configuration.
    #[arg(long, env = "META_CNI_STATE_DIR", value_name = "DIR", default_value = "/var/lib/meta-cni")]
    pub state_dir: PathBuf,
    /// Where the runtime looks for plugins.
    #[arg(long, env = "META_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where the runtime looks for configurations.
    #[arg(long, env = "META_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Name of our configuration there: it must be the first one by name.
    #[arg(long, env = "META_CNI_CONF_FILE", value_name = "FILE", default_value = super::conf::FILE)]
    pub conf_file: String,
    /// Default network: the file name or network name of a configuration there. Without it the first one by name is
    /// chosen, and kept. `podcidr` is a bridge of our own with the addresses of the Node's podCIDRs, for clusters whose network routes
    /// those to the nodes.
    #[arg(long, env = "META_CNI_PRIMARY", value_name = "NAME")]
    pub primary: Option<String>,
    /// A JSON file with keys of the node's configuration.
    #[arg(long, env = "META_CNI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long the node stays in an overlay, and keeps an empty address block, after the last pod of it: a number of seconds.
    #[arg(long, env = "META_CNI_MEMBER_GRACE", value_name = "DURATION", default_value = "60s", value_parser = seconds)]
    pub member_grace: Duration,
    /// How often pods are compared with their records: a number of seconds, 0 for never.
    #[arg(long, env = "META_CNI_VERIFY_INTERVAL", value_name = "DURATION", default_value = "180s", value_parser = seconds)]
    pub verify_interval: Duration,
    /// Labels the Node with what it can serve: `meta-cni.io/link-NAME`, `driver-TYPE`, `program-TYPE`. Without it such labels are taken
    /// away.
    #[arg(long, env = "META_CNI_NODE_LABELS")]
    pub node_labels: bool,
    /// Where metrics are served: an address and a port, or `unix:PATH`, a socket for whoever may enter its directory. Without it they
    /// are not.
    #[arg(long, env = "META_CNI_METRICS_ADDRESS", value_name = "ADDRESS", default_value = "")]
    pub metrics_address: MetricsAddress,
    /// Serves metrics over TLS, with the certificate chain in this PEM file. It and its key are read anew when they change.
    #[arg(long, env = "META_CNI_METRICS_TLS_CERT", value_name = "FILE", requires = "metrics_tls_key")]
    pub metrics_tls_cert: Option<PathBuf>,
    /// The key of that certificate, a PEM file.
    #[arg(long, env = "META_CNI_METRICS_TLS_KEY", value_name = "FILE", requires = "metrics_tls_cert")]
    pub metrics_tls_key: Option<PathBuf>,
    /// The kubelet's directory: its pod-resources API and its device manager's checkpoint tell a pod's devices.
    #[arg(long, env = "META_CNI_KUBELET_DIR", value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
    /// Reaches the API server by a kubeconfig, instead of by the pod's service account.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Directory in /proc of a process in the host's mount namespace, where the plugin is started. Without it process 1, or
    /// the one that started the agent.
    #[arg(long, env = "META_CNI_HOST_PROCESS", value_name = "DIR")]
    pub host_process: Option<PathBuf>,
}

/// Whole seconds: `60s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().map(Duration::from_secs);
    number.map_err(|_| format!("got {text:?}, want whole seconds, as 60s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_unit() {
        assert_eq!((seconds("5s"), seconds("60")), (Ok(Duration::from_secs(5)), Ok(Duration::from_secs(60))));
        for bad in ["", "s", "-1s", "5m", "1.5s"] {
            assert_eq!(seconds(bad).unwrap_err(), format!("got {bad:?}, want whole seconds, as 60s"));
        }
    }
}
