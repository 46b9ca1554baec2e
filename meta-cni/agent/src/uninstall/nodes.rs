//! `meta-cnid uninstall-nodes`: what `helm uninstall` runs before it deletes anything, as a Job.
//!
//! The agent's DaemonSet goes first, for an agent that runs puts its configuration back. Then a DaemonSet whose pods uninstall comes in
//! its place, and goes again when all of its pods are ready. Each step finds what an earlier run has done: after a failure the same call
//! goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use meta_cni_kube::said;
use tokio::time::sleep;

use crate::error::{Error, Result};

const PAUSE: Duration = Duration::from_secs(1);
/// How many nodes an error names.
const SHOWN: usize = 5;

/// Which DaemonSet goes, and which one comes.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Namespace of both.
    #[arg(long, value_name = "NAME", default_value = "kube-system")]
    pub namespace: String,
    /// The agent's DaemonSet.
    #[arg(long, value_name = "NAME", default_value = "meta-cni")]
    pub daemonset: String,
    /// File with the DaemonSet that uninstalls, as JSON.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// How long all nodes together may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    pub timeout: u64,
    /// Reaches the API server by a kubeconfig, instead of by the pod's service account.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Uninstalls every node. The error names the nodes that are left, and what their pods say.
pub fn uninstall_nodes(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::Io(format!("cannot start: {e}")))?.block_on(run(options))
}

async fn run(options: &Options) -> Result<()> {
    let wanted = read(options)?;
    let (client, _) = meta_cni_kube::client(options.kubeconfig.as_deref()).await?;
    let work = Work {
        sets: Api::namespaced(client.clone(), &options.namespace),
        pods: Api::namespaced(client, &options.namespace),
        until: Instant::now() + Duration::from_secs(options.timeout),
    };
    work.end(&options.daemonset).await?;
    tracing::info!(daemonset = options.daemonset, "no agent is left");
    let name = wanted.name_any();
    // One of an earlier run may have another image.
    work.end(&name).await?;
    work.sets.create(&PostParams::default(), &wanted).await.map_err(|e| failed("create", &name, &e))?;
    work.wait_for_nodes(&name).await?;
    work.end(&name).await
}

fn read(options: &Options) -> Result<DaemonSet> {
    let path = options.manifest.display();
    let text =
        std::fs::read(&options.manifest).map_err(|e| Error::Io(format!("--manifest: cannot read {path}: {e}")))?;
    let set: DaemonSet = serde_json::from_slice(&text)
        .map_err(|e| Error::Config(format!("--manifest: {path}: {e}; want a DaemonSet")))?;
    let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
    if namespace != options.namespace {
        let want = &options.namespace;
        return Err(Error::Config(format!("--manifest: metadata.namespace: got {namespace:?}, want {want:?}")));
    }
    if name.is_empty() || name == options.daemonset {
        return Err(Error::Config(format!("--manifest: metadata.name: got {name:?}, want another than the agent's")));
    }
    Ok(set)
}

struct Work {
    sets: Api<DaemonSet>,
    pods: Api<Pod>,
    until: Instant,
}

impl Work {
    /// Deletes a DaemonSet with its pods, and waits until they are gone. One that is not there is gone.
    async fn end(&self, name: &str) -> Result<()> {
        loop {
            match self.sets.get_opt(name).await {
                Ok(None) => return Ok(()),
                Ok(Some(set)) if set.metadata.deletion_timestamp.is_none() => {
                    // The set goes after its pods.
                    match self.sets.delete(name, &DeleteParams::foreground()).await {
                        Ok(_) => tracing::info!(daemonset = name, "is being deleted"),
                        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                        Err(e) => return Err(failed("delete", name, &e)),
                    }
                }
                Ok(Some(_)) => {}
                Err(e) => self.bear("get", name, &e)?,
            }
            self.pause(|| format!("DaemonSet {name} still has pods")).await?;
        }
    }

    /// Waits until the pod of each node is ready: its init container has uninstalled.
    async fn wait_for_nodes(&self, name: &str) -> Result<()> {
        let mut said = (-1, -1);
        loop {
            match self.sets.get(name).await {
                Ok(set) => {
                    let generation = set.metadata.generation;
                    let status = set.status.unwrap_or_default();
                    let now = (status.number_ready, status.desired_number_scheduled);
                    if status.observed_generation == generation && now.0 == now.1 {
                        tracing::info!(nodes = now.1, "every node is given back");
                        return Ok(());
                    }
                    if now != said {
                        tracing::info!("{} of {} nodes are given back", now.0, now.1);
                        said = now;
                    }
                }
                Err(e) => self.bear("get", name, &e)?,
            }
            if Instant::now() >= self.until {
                return Err(Error::NotYet(format!("not all nodes are given back: {}", self.left(name).await)));
            }
            sleep(PAUSE).await;
        }
    }

    /// The nodes whose pods are not ready, and the last line of each.
    async fn left(&self, name: &str) -> String {
        let of_set = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
        let pods = match self.pods.list(&of_set).await {
            Ok(pods) => pods.items,
            Err(e) => return format!("cannot list the pods of {name}: {}", said(&e)),
        };
        let left: Vec<&Pod> = pods.iter().filter(|pod| !is_ready(pod)).collect();
        let mut lines = Vec::new();
        for pod in left.iter().take(SHOWN) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node yet");
            let params =
                LogParams { container: Some("uninstall".to_owned()), tail_lines: Some(1), ..LogParams::default() };
            let words = self.pods.logs(&pod.name_any(), &params).await.unwrap_or_else(|e| said(&e));
            lines.push(format!("{node}: {}", words.trim()));
        }
        if left.len() > SHOWN {
            lines.push(format!("and {} more", left.len() - SHOWN));
        }
        if lines.is_empty() { format!("DaemonSet {name} has no pods yet") } else { lines.join("; ") }
    }

    async fn pause(&self, what: impl Fn() -> String) -> Result<()> {
        if Instant::now() >= self.until {
            return Err(Error::NotYet(format!("the time is over: {}", what())));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// An API server that is away for a moment is waited for; a refusal is not.
    fn bear(&self, verb: &str, name: &str, error: &kube::Error) -> Result<()> {
        match error {
            kube::Error::Api(status) if status.code < 500 => Err(failed(verb, name, error)),
            _ if Instant::now() >= self.until => Err(failed(verb, name, error)),
            _ => Ok(()),
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn failed(verb: &str, name: &str, error: &kube::Error) -> Error {
    Error::Io(format!("cannot {verb} DaemonSet {name}: {}", said(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("daemonset.json");
        std::fs::write(&manifest, text).unwrap();
        let (namespace, daemonset) = ("kube-system".to_owned(), "meta-cni".to_owned());
        (dir, Options { namespace, daemonset, manifest, timeout: 1, kubeconfig: None })
    }

    #[test]
    fn a_manifest_that_cannot_be_meant_is_refused() {
        let whole =
            r#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"gone","namespace":"kube-system"}}"#;
        assert_eq!(read(&options(whole).1).unwrap().name_any(), "gone");
        for (text, why) in [
            ("[]", "want a DaemonSet"),
            (&whole.replace("kube-system", "other"), r#"metadata.namespace: got "other", want "kube-system""#),
            (&whole.replace("gone", "meta-cni"), r#"metadata.name: got "meta-cni", want another"#),
        ] {
            let fault = read(&options(text).1).unwrap_err().to_string();
            assert!(fault.starts_with("--manifest: ") && fault.contains(why), "{fault}");
        }
    }
}
