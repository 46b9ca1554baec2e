//! Makes the client of the API server.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{DeleteParams, GetParams, ListParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use serde_json::Value;

use crate::error::{ClientError, chain, said};
use crate::observe::{Observe, Observer};

/// Timeout of the connection and the TLS handshake together: a slow API server is not a dead one.
const CONNECT: Duration = Duration::from_secs(15);

/// A way to the API server.
pub struct Access {
    /// The client.
    pub client: Client,
    /// The host that it connects to.
    pub host: String,
    /// The namespace of the kubeconfig's context, or of the pod.
    pub namespace: String,
}

/// A client from a kubeconfig, or from the pod's service account, and the host that it connects to. Nothing is sent yet.
/// Token and authority are read from their files again every minute.
pub async fn client(kubeconfig: Option<&Path>) -> Result<(Client, String), ClientError> {
    access(kubeconfig, None).await.map(|access| (access.client, access.host))
}

/// The same, and somebody is told of each exchange.
pub async fn observed_client(kubeconfig: Option<&Path>, observer: Observer) -> Result<(Client, String), ClientError> {
    let config = config(kubeconfig, None).await?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let builder = ClientBuilder::try_from(config).map_err(|e| ClientError::Unusable(chain(&e)))?;
    Ok((builder.with_layer(&Observe(observer)).build(), host))
}

/// The same by a context of the kubeconfig; none is the kubeconfig's own choice.
pub async fn access(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Access, ClientError> {
    let config = config(kubeconfig, context).await?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|e| ClientError::Unusable(chain(&e)))?;
    Ok(Access { client, host, namespace })
}

async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ClientError> {
    let config = match kubeconfig.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let failed = |e: &dyn Error| ClientError::Kubeconfig { path: path.to_owned(), why: chain(e) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
            let authority = authority_file(&kubeconfig, context);
            let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| failed(&e));
            config.map(|mut config| {
                // Read anew as a pod's is, or a new authority would be unknown until the program starts again.
                config.root_cert_file = authority;
                config
            })
        }
        None => Config::incluster().map_err(|e| ClientError::NoServiceAccount(chain(&e))),
    };
    let mut config = config?;
    config.connect_timeout = Some(CONNECT);
    // Every caller has its own retries.
    config.default_retry = false;
    Ok(config)
}

/// The file that `certificate-authority` names for the cluster of a context. `certificate-authority-data` comes before it, as for kubectl.
fn authority_file(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<PathBuf> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    let file = cluster.certificate_authority.as_ref().filter(|_| cluster.certificate_authority_data.is_none())?;
    Some(PathBuf::from(file))
}

/// What the API server says its time is, in the words of HTTP.
pub async fn server_date(access: &Access) -> Result<String, String> {
    let request = Request::new("/version").list(&ListParams::default()).map_err(|e| chain(&e))?;
    let response = access.client.send(request.map(Body::from)).await.map_err(|e| said(&e))?;
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    date.map(str::to_owned).ok_or_else(|| "an answer without a date".to_owned())
}

/// Makes an object of a collection.
pub async fn create(access: &Access, collection: &str, object: &Value) -> Result<Value, String> {
    let request = Request::new(collection).create(&PostParams::default(), object.to_string().into_bytes());
    let request = request.map_err(|e| format!("{collection}: {}", chain(&e)))?;
    access.client.request(request).await.map_err(|e| format!("{collection}: {}", said(&e)))
}

/// Removes an object of a collection; one that is gone is no error.
pub async fn remove(access: &Access, collection: &str, name: &str) -> Result<(), String> {
    let request = Request::new(collection).delete(name, &DeleteParams::default());
    let request = request.map_err(|e| format!("{collection}/{name}: {}", chain(&e)))?;
    match access.client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(format!("{collection}/{name}: {}", said(&error))),
        Ok(_) => Ok(()),
    }
}

/// A part of an object that is text, as a pod's `log`.
pub async fn text_of(access: &Access, object: &str, part: &str) -> Result<String, String> {
    let request = Request::new(object).get(part, &GetParams::default());
    let request = request.map_err(|e| format!("{object}/{part}: {}", chain(&e)))?;
    access.client.request_text(request).await.map_err(|e| format!("{object}/{part}: {}", said(&e)))
}
