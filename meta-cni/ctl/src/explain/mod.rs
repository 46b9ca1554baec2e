//! `meta-cnictl explain`: what a pod would get, and what would refuse it. The engine's own steps answer, and the webhook's own rules.

mod describe;
mod node_conf;
mod objects;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use attachments::names::{NetRef, ObjectName, PodRef};
use clap::Args;
use delegates::lint::{Problem, Severity};
use meta_cni::engine::explain::{Explained, Question, Refusal, explain};
use meta_cni::node::{MULTUS_NAMESPACE, spelled};
use meta_cni_kube::Access;
use serde_json::Value;

use self::describe::{Described, describe};
use self::node_conf::NodeConfiguration;
use self::objects::Objects;
use crate::access::{self, Api, block_on};
use crate::lint::{Source, Trial, lint};
use crate::map::Map;
use crate::style::Style;
use crate::{Answer, Format, files};

/// What is asked.
#[derive(Debug, PartialEq, Args)]
pub struct ExplainOptions {
    /// Pods of the API server, or of the files.
    #[arg(value_name = "POD", required_unless_present = "filename")]
    pods: Vec<String>,
    /// Their namespace.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Manifests, or directories of them, in place of the API server; - is stdin. With --kubeconfig or --context beside it. The pods are
    /// those of the files: workloads count as their pods.
    #[arg(long, short, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// The node's configuration, as the runtime reads it. Without it /etc/cni/net.d/00-meta-cni.conflist, or the ConfigMap.
    #[arg(long, value_name = "FILE")]
    node_conf: Option<PathBuf>,
    /// Text, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: Api,
}

/// What there is to say of one pod.
#[derive(Debug)]
struct Explanation {
    pod: String,
    node: String,
    networks: Vec<Described>,
    refusals: Vec<Refusal>,
    /// What the webhook says, with the object.
    admission: Vec<(String, Problem)>,
    warnings: Vec<String>,
    unmet: Vec<String>,
    notes: Vec<String>,
}

impl Explanation {
    fn is_refused(&self) -> bool {
        let is_denied = |(_, problem): &(String, Problem)| problem.severity == Severity::Deny;
        !self.refusals.is_empty() || self.admission.iter().any(is_denied)
    }
}

/// Answers.
pub fn run(options: &ExplainOptions) -> Result<Answer, String> {
    let sources = files::manifests(&options.filename)?;
    let (objects, conf) = gather(options, &sources)?;
    let dir = tempfile::tempdir().map_err(|e| format!("cannot make a directory for the manifests: {e}"))?;
    objects.write(dir.path())?;
    let mut pods = objects.pods.clone();
    if pods.is_empty() {
        return Err("the files have no pod, and no workload that has pods".to_owned());
    }
    pods.dedup();
    let mut explanations = Vec::new();
    for (namespace, name) in &pods {
        explanations.push(of_pod(&objects, &conf, dir.path(), namespace, name)?);
    }
    let is_refused = explanations.iter().any(Explanation::is_refused);
    let text = match options.output {
        Format::Text => report::text(&explanations, Style::of_stdout()),
        Format::Json => report::json(&explanations),
    };
    Ok(Answer { text, is_good: !is_refused })
}

/// The objects, and the node's configuration. Where the API server is asked, it is asked for as little as an ADD asks for.
fn gather(options: &ExplainOptions, sources: &[Source]) -> Result<(Objects, NodeConfiguration), String> {
    let mut objects = Objects::default();
    let is_live = sources.is_empty() || options.api.is_named();
    if !is_live {
        let namespace = options.namespace.as_deref().unwrap_or("default");
        for source in sources {
            objects.take_file(source, namespace)?;
        }
        choose(&mut objects, options, namespace)?;
        let conf = NodeConfiguration::read(options.node_conf.as_deref(), None)?;
        return Ok((objects, conf));
    }
    block_on(async {
        let access = options.api.open().await?;
        let namespace = options.namespace.clone().unwrap_or_else(|| access.namespace.clone());
        for source in sources {
            objects.take_file(source, &namespace)?;
        }
        if sources.is_empty() {
            objects.pods = options.pods.iter().map(|name| (namespace.clone(), name.clone())).collect();
        } else {
            choose(&mut objects, options, &namespace)?;
        }
        let pods = objects.pods.clone();
        for (namespace, name) in &pods {
            objects::read_pod(&access, &mut objects, namespace, name).await?;
        }
        let keys = nodes_keys(&access).await.unwrap_or_else(|why| {
            objects.notes.push(format!("the nodes' keys are not known, and the defaults are taken: {why}"));
            None
        });
        let conf = NodeConfiguration::read(options.node_conf.as_deref(), keys)?;
        let multus = multus_namespace(&conf.conf)?;
        let dialects = dialects(&conf.conf)?;
        objects::read_named(&access, &mut objects, &dialects, &pods).await?;
        let mut references: Vec<NetRef> = nodes_own(&conf.conf, &multus);
        references
            .extend(pods.iter().flat_map(|(namespace, name)| objects.named_by((namespace, name), &multus, &dialects)));
        objects::read_rest(&access, &mut objects, &references, &pods).await?;
        objects::read_foreign(&access, &mut objects, &dialects, &pods).await?;
        Ok((objects, conf))
    })
}

/// The keys of the ConfigMap; none where there is none.
async fn nodes_keys(access: &Access) -> Result<Option<Value>, String> {
    let Some(map) = access::object(access, "/api/v1/namespaces/kube-system/configmaps", "meta-cni").await? else {
        return Ok(None);
    };
    let text = map["data"]["node.json"].as_str().unwrap_or("{}");
    serde_json::from_str(text).map(Some).map_err(|e| format!("ConfigMap kube-system/meta-cni: node.json: {e}"))
}

/// Of the files' pods those that are named.
fn choose(objects: &mut Objects, options: &ExplainOptions, namespace: &str) -> Result<(), String> {
    for name in &options.pods {
        let is_it = |(of, known): &(String, String)| known == name && (of == namespace || options.namespace.is_none());
        if !objects.pods.iter().any(is_it) {
            return Err(format!("pod {name}: the files have no such pod"));
        }
    }
    if !options.pods.is_empty() {
        objects.pods.retain(|(_, name)| options.pods.contains(name));
    }
    Ok(())
}

fn multus_namespace(conf: &Value) -> Result<ObjectName, String> {
    let text = conf["multusNamespace"].as_str().unwrap_or(MULTUS_NAMESPACE);
    text.parse().map_err(|e: attachments::finding::Finding| e.under("multusNamespace").to_string())
}

/// The dialects of the node's configuration.
fn dialects(conf: &Value) -> Result<Dialects, String> {
    let conf = Object::parse(conf.to_string().as_bytes()).map_err(|e| e.to_string())?;
    spelled(conf).and_then(|conf| Dialects::read(&conf)).map_err(|finding| finding.to_string())
}

/// The definitions that the node's configuration may name.
fn nodes_own(conf: &Value, multus: &ObjectName) -> Vec<NetRef> {
    let others = conf["defaultNetworks"].as_array().into_iter().flatten();
    let names = std::iter::once(&conf["clusterNetwork"]).chain(others).filter_map(Value::as_str);
    names.filter_map(|name| Some(NetRef { namespace: multus.clone(), name: name.parse().ok()? })).collect()
}

fn of_pod(
    objects: &Objects,
    conf: &NodeConfiguration,
    dir: &std::path::Path,
    namespace: &str,
    name: &str,
) -> Result<Explanation, String> {
    let wrong = |e: attachments::finding::Finding| format!("pod {namespace}/{name}: {e}");
    let pod = PodRef { namespace: namespace.parse().map_err(wrong)?, name: name.parse().map_err(wrong)?, uid: None };
    let mut notes = objects.notes.clone();
    let spec = objects.get("Pod", namespace, name).map(|pod| &pod["spec"]);
    if spec.is_some_and(|spec| spec["hostNetwork"] == true) {
        notes.push(
            "the pod is in the node's own network (hostNetwork): the runtime calls no CNI plugin for it".to_owned(),
        );
    }
    let question = Question { conf: conf.with_directory(dir)?, path: Vec::new(), pod, is_here: conf.is_here };
    let explained = match explain(&question) {
        Ok(explained) => explained,
        // The node's configuration, or its files.
        Err(fault) => Explained {
            refusals: vec![Refusal {
                element: None,
                code: fault.code(),
                message: fault.to_string().replace(&format!("{}/", dir.display()), ""),
            }],
            ..Explained::default()
        },
    };
    if !conf.is_here {
        notes.push("not on the node: its links, ports, programs and files were not looked at".to_owned());
    }
    let mut map = Map::default();
    for kind in ["NetworkAttachmentDefinition", "AddressBlock"] {
        objects.of_kind(kind).for_each(|object| map.take(kind, object));
    }
    let Explained { networks, refusals, warnings, unmet } = explained;
    Ok(Explanation {
        pod: format!("{namespace}/{name}"),
        node: conf.origin.clone(),
        networks: describe(&networks, conf.is_default_unknown, |network| map.free(network)),
        refusals,
        admission: admission(objects, conf, namespace, name)?,
        warnings,
        unmet,
        notes,
    })
}

/// What the webhook would say of the pod, and of the definitions that it names.
fn admission(
    objects: &Objects,
    conf: &NodeConfiguration,
    namespace: &str,
    name: &str,
) -> Result<Vec<(String, Problem)>, String> {
    let multus = multus_namespace(&conf.conf)?;
    let named = objects.named_by((namespace, name), &multus, &dialects(&conf.conf)?);
    let references = named.iter().map(|net| ("NetworkAttachmentDefinition", net.namespace.as_str(), net.name.as_str()));
    let looked_at = std::iter::once(("Pod", namespace, name)).chain(references);
    let wanted: Vec<Source> = looked_at
        .filter_map(|(kind, namespace, name)| objects.get(kind, namespace, name))
        .map(|object| Source { name: "-.yaml".to_owned(), text: object.to_string() })
        .collect();
    let policies = objects.sources(&["Namespace", "AttachmentPolicy", "AttachmentLevel"]);
    let mut trial = Trial::new(Objects::default_level(&conf.conf), &policies, &wanted);
    objects.of_kind("NetworkAttachmentDefinition").for_each(|object| trial.define(object));
    let report = lint(&wanted, &trial);
    let said = report.remarks.into_iter().map(|one| (one.object.unwrap_or_else(|| one.file.clone()), one.problem));
    Ok(said.collect())
}
