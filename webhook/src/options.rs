//! Flags of `meta-cni-webhook`, each also by environment.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::certs::ServiceName;
use crate::janitor::JanitorOptions;
use crate::mutate;

mod rules;

pub use rules::{NodeOptions, ReservedPair, RuleOptions};

/// The webhook's configuration.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where the API server calls, over TLS.
    #[arg(long, env = "META_CNI_LISTEN", value_name = "ADDRESS", default_value_t = every(9443))]
    pub listen: SocketAddr,
    /// Where probes and metrics are, over plain HTTP.
    #[arg(long, env = "META_CNI_ADMIN", value_name = "ADDRESS", default_value_t = every(9464))]
    pub admin: SocketAddr,
    /// The Service by which the API server calls.
    #[arg(long, env = "META_CNI_SERVICE", value_name = "NAME", default_value = "meta-cni-webhook")]
    pub service: String,
    /// Namespace of the Service, the Secrets and the Lease; in the Deployment from the downward API.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "meta-cni")]
    pub namespace: String,
    /// Domain of the cluster's names.
    #[arg(long, env = "META_CNI_CLUSTER_DOMAIN", value_name = "NAME", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Name of this replica; in the Deployment from the downward API.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub replica: String,
    /// The ValidatingWebhookConfiguration and the MutatingWebhookConfiguration whose `caBundle` is ours to keep.
    #[arg(long, env = "META_CNI_CONFIGURATION", value_name = "NAME", default_value = "meta-cni-webhook")]
    pub configuration: String,
    /// A Secret of the type kubernetes.io/tls that others keep, such as cert-manager. Then no authority is made, and `caBundle` is
    /// theirs too.
    #[arg(long, env = "META_CNI_TLS_SECRET", value_name = "NAME")]
    pub tls_secret: Option<String>,
    /// Certificates of the authority that signs the API servers' client certificates, as PEM. Nobody else may call then. By default
    /// whoever reaches the port may: answers tell nothing that the request did not.
    #[arg(long, env = "META_CNI_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// From the order to stop until new connections are refused, in seconds: so long API servers may still come.
    #[arg(long, env = "META_CNI_SHUTDOWN_DELAY", value_name = "SECONDS", default_value = "5", value_parser = whole_seconds)]
    pub shutdown_delay: Duration,
    /// What is changed in objects.
    #[command(flatten)]
    pub mutate: mutate::options::MutateOptions,
    /// Reaches the API server by a kubeconfig, instead of by the pod's service account.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What rules refuse, and what they are told.
    #[command(flatten)]
    pub rules: RuleOptions,
    /// The janitor's.
    #[command(flatten)]
    pub janitor: JanitorOptions,
}

impl Options {
    /// How we are called.
    pub fn name(&self) -> ServiceName {
        ServiceName {
            service: self.service.clone(),
            namespace: self.namespace.clone(),
            domain: self.cluster_domain.clone(),
        }
    }
}

fn every(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|e| format!("got {text:?}, want whole seconds: {e}"))
}
