//! The way of the commands to the API server, and what they read there.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use meta_cni_kube::{Access, PageSize, Pages, Read, Reader, Selector, Shape};
use serde_json::Value;
use tokio::time::Instant;

/// How long one object is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which API server.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Api {
    /// Reaches the API server by this kubeconfig, instead of by KUBECONFIG, ~/.kube/config or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl Api {
    /// Did somebody name an API server?
    pub fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Is there a way to an API server that nobody named: a kubeconfig, or the pod's service account?
    pub fn is_usual(&self) -> bool {
        usual_kubeconfig().is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// A client. Nothing is sent yet.
    pub async fn open(&self) -> Result<Access, String> {
        let kubeconfig = self.kubeconfig.clone().or_else(usual_kubeconfig);
        meta_cni_kube::access(kubeconfig.as_deref(), self.context.as_deref()).await.map_err(|e| e.to_string())
    }
}

/// As kubectl looks for it.
fn usual_kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")).filter(|path| path.is_file());
    named.or_else(home)
}

/// Runs what asks the API server.
pub fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(work)
}

/// One object; none where it, or its kind, is not there.
pub async fn object(access: &Access, collection: &str, name: &str) -> Result<Option<Value>, String> {
    match Reader::new(access.client.clone()).object(collection, name, Instant::now() + PATIENCE).await {
        Read::Found(json) => serde_json::from_slice(&json).map(Some).map_err(|e| format!("{collection}/{name}: {e}")),
        Read::Absent => Ok(None),
        Read::Unanswered(why) => Err(format!("{collection}/{name}: {why}")),
    }
}

/// The objects of a collection, page by page; none where its kind is not there.
pub async fn list(
    access: &Access,
    collection: &str,
    selector: Selector<'_>,
    mut take: impl FnMut(Value),
) -> Result<(), String> {
    let size = PageSize { objects: 500, bytes: 4 << 20 };
    let mut pages: Pages<Value> = Pages::new(access.client.clone(), collection, selector, Shape::Whole, size);
    loop {
        match pages.next().await {
            Ok(Some(objects)) => objects.into_iter().for_each(&mut take),
            Ok(None) => return Ok(()),
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(format!("{collection}: {error}")),
        }
    }
}
