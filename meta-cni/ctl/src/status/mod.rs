//! `meta-cnictl status`: what is attached, asked of the records, the kernel and the API server, with every difference.

mod compare;
pub mod kernel;
mod pods;
pub mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use meta_cni::engine::inspect::{Inspected, State, inspect};

use self::pods::Pod;
use crate::access::{Api, block_on};
use crate::style::Style;
use crate::{Answer, Format};

/// Whose status.
#[derive(Debug, PartialEq, Args)]
pub struct StatusOptions {
    /// A pod, as NAME or pod/NAME, or all pods of a node, as node/NAME; without it the records of this node.
    #[arg(value_name = "POD|node/NODE")]
    of: Option<String>,
    /// The pod's namespace.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Where the plugin of this node keeps its records.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/meta-cni")]
    state_dir: PathBuf,
    /// Text, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: Api,
}

/// One record, and what differs from it.
#[derive(Debug)]
pub struct Recorded {
    /// The record.
    pub record: Inspected,
    /// What the kernel and the pod's annotation say otherwise.
    pub differences: Vec<String>,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Status {
    /// The records of this node.
    pub records: Vec<Recorded>,
    /// Pods as the API server knows them.
    pub pods: Vec<Pod>,
    /// What could not be asked.
    pub notes: Vec<String>,
}

impl Status {
    /// Does nothing differ, and is nothing left to be undone?
    pub fn is_good(&self) -> bool {
        let is_settled =
            |one: &Recorded| one.differences.is_empty() && matches!(one.record.state, State::Done | State::Intent);
        self.records.iter().all(is_settled) && self.pods.iter().all(|pod| pod.differences.is_empty())
    }
}

/// Answers.
pub fn run(options: &StatusOptions) -> Result<Answer, String> {
    let status = match options.of.as_deref() {
        None => of_this_node(options)?,
        Some(name) => match name.split_once('/') {
            Some(("node" | "nodes" | "no", node)) => of_node(options, node)?,
            Some(("pod" | "pods" | "po", pod)) => of_pod(options, pod)?,
            Some((kind, _)) => return Err(format!("{kind}: want a pod's name, pod/NAME or node/NAME")),
            None => of_pod(options, name)?,
        },
    };
    let text = match options.output {
        Format::Text => report::text(&status, Style::of_stdout()),
        Format::Json => report::json(&status),
    };
    Ok(Answer { text, is_good: status.is_good() })
}

fn of_this_node(options: &StatusOptions) -> Result<Status, String> {
    this_node(&options.state_dir, &options.api)
}

/// The records of this node, as others want them too.
pub fn this_node(state_dir: &Path, api: &Api) -> Result<Status, String> {
    if !state_dir.is_dir() {
        return Err(format!(
            "{}: no such directory: this is no node, or its plugin keeps records elsewhere (--state-dir); want a pod, or node/NAME",
            state_dir.display()
        ));
    }
    let mut status = records(state_dir)?;
    if api.is_named() || api.is_usual() {
        let recorded: Vec<(String, String)> = status.records.iter().filter_map(|one| name_of(&one.record)).collect();
        let asked = block_on(async {
            let access = api.open().await?;
            pods::named(&access, &recorded).await
        });
        match asked {
            Ok(pods) => compare_annotations(&mut status, pods),
            Err(why) => status.notes.push(format!("annotations were not compared: {why}")),
        }
    } else {
        status.notes.push("annotations were not compared: no kubeconfig, and no service account".to_owned());
    }
    Ok(status)
}

fn records(state_dir: &Path) -> Result<Status, String> {
    let found = inspect(state_dir).map_err(|fault| fault.to_string())?;
    let each = |record: Inspected| {
        let differences = kernel::differences(&record);
        Recorded { record, differences }
    };
    Ok(Status { records: found.into_iter().map(each).collect(), ..Status::default() })
}

fn name_of(record: &Inspected) -> Option<(String, String)> {
    record.pod.as_ref().map(|pod| (pod.namespace.to_string(), pod.name.to_string()))
}

fn compare_annotations(status: &mut Status, pods: BTreeMap<(String, String), Option<Pod>>) {
    for one in &mut status.records {
        let (Some(name), Some(recorded)) = (name_of(&one.record), &one.record.status) else { continue };
        match pods.get(&name) {
            Some(Some(pod)) if pod.is_of(one.record.pod.as_ref().and_then(|pod| pod.uid.as_deref())) => {
                one.differences.extend(compare::annotations(recorded, pod.status.as_deref()));
            }
            Some(Some(_)) => {
                one.differences.push("the pod of this name is another one by now: a DEL is due".to_owned())
            }
            Some(None) => one.differences.push("the API server has no such pod: a DEL is due".to_owned()),
            None => {}
        }
    }
}

fn of_pod(options: &StatusOptions, name: &str) -> Result<Status, String> {
    block_on(async {
        let access = options.api.open().await?;
        let namespace = options.namespace.clone().unwrap_or_else(|| access.namespace.clone());
        let key = (namespace.clone(), name.to_owned());
        let mut found = pods::named(&access, std::slice::from_ref(&key)).await?;
        let Some(Some(_)) = found.get(&key) else {
            return Err(format!("pod {namespace}/{name}: the API server has no such pod"));
        };
        // On the pod's own node its record is there.
        let mut status = if options.state_dir.is_dir() { records(&options.state_dir)? } else { Status::default() };
        status.records.retain(|one| name_of(&one.record).as_ref() == Some(&key));
        compare_annotations(&mut status, found.clone());
        status.pods.extend(found.remove(&key).flatten());
        Ok(status)
    })
}

fn of_node(options: &StatusOptions, node: &str) -> Result<Status, String> {
    block_on(async {
        let access = options.api.open().await?;
        Ok(Status { pods: pods::on_node(&access, node).await?, ..Status::default() })
    })
}
