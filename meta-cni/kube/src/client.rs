//! Makes the client of the API server.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::error::{ClientError, chain};
use crate::observe::{Observe, Observer};

/// Timeout of the connection and the TLS handshake together: a slow API server is not a dead one.
const CONNECT: Duration = Duration::from_secs(15);

/// A client from a kubeconfig, or from the pod's service account, and the host that it connects to. Nothing is sent yet.
/// Token and authority are read from their files again every minute.
pub async fn client(kubeconfig: Option<&Path>) -> Result<(Client, String), ClientError> {
    let config = config(kubeconfig).await?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    Ok((Client::try_from(config).map_err(|e| ClientError::Unusable(chain(&e)))?, host))
}

/// The same, and somebody is told of each exchange.
pub async fn observed_client(kubeconfig: Option<&Path>, observer: Observer) -> Result<(Client, String), ClientError> {
    let config = config(kubeconfig).await?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let builder = ClientBuilder::try_from(config).map_err(|e| ClientError::Unusable(chain(&e)))?;
    Ok((builder.with_layer(&Observe(observer)).build(), host))
}

async fn config(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    let config = match kubeconfig.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let failed = |e: &dyn Error| ClientError::Kubeconfig { path: path.to_owned(), why: chain(e) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| failed(&e))
        }
        None => Config::incluster().map_err(|e| ClientError::NoServiceAccount(chain(&e))),
    };
    let mut config = config?;
    config.connect_timeout = Some(CONNECT);
    // Every caller has its own retries.
    config.default_retry = false;
    Ok(config)
}
