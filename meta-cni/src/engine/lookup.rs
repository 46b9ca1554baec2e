//! Everything that an ADD must find out before it can bind: annotations, definitions, files of the node. All the reading
//! that `attachments::bind`, which is pure, leaves to its caller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use attachments::bind::{self, Ask, Attachment, BindError, Bound, ConfFile, Found, Network, Rules, TenantPath};
use attachments::cni::conf::NetworkConf;
use attachments::finding::Finding;
use attachments::names::{IfName, PodRef};
use attachments::selection::{self, DEFAULT_NETWORK, NETWORKS, Wanted};

use super::{Run, warn};
use crate::cluster::Annotations;
use crate::conf_dir;
use crate::fault::{Fault, Result};
use crate::node::{Declared, NodeConf, POD_ANNOTATIONS};
use crate::request::Target;

/// The attachments of an ADD, every choice made and everything that needs no delegate's knowledge validated.
pub fn bind(run: &Run<'_>, target: &Target, pod: Option<&PodRef>) -> Result<Bound> {
    let annotations = annotations(run, pod)?;
    let pod = pod.map_or_else(nameless_pod, |pod| Ok(pod.clone()))?;
    let wanted = match annotations.get(NETWORKS) {
        Some(text) => selection::parse(NETWORKS, text, &pod.namespace)?,
        None => Vec::new(),
    };
    let default_override = match annotations.get(DEFAULT_NETWORK).filter(|text| !text.trim().is_empty()) {
        Some(text) => Some(selection::parse_default(text, &run.conf.multus_namespace)?),
        None => None,
    };
    let bound = with_node_networks(run, &pod, target, &wanted, default_override.as_ref())?;
    hold_to_roots(&bound.paths, &run.conf.path_roots)?;
    Ok(bound)
}

/// The attachments that the node gives to every pod: what a DEL without a record undoes. A default network that cannot be
/// found any more has left nothing that we could undo.
pub fn default_only(run: &Run<'_>, target: &Target) -> Result<Vec<Attachment>> {
    let pod = target.pod().ok().flatten().map_or_else(nameless_pod, Ok)?;
    match with_node_networks(run, &pod, target, &[], None) {
        Ok(bound) => Ok(bound.attachments),
        Err(fault) => {
            warn(&format!("no record of sandbox {}, and no default network to undo: {fault}", target.container));
            Ok(Vec::new())
        }
    }
}

/// The default network itself, for GC and STATUS, which are about no pod.
pub fn default_network(run: &Run<'_>) -> Result<Attachment> {
    let nobody = Target {
        container: parsed("node")?,
        netns: String::new(),
        ifname: parsed::<IfName>("eth0")?,
        args: Vec::new(),
    };
    let bound = with_node_networks(run, &nameless_pod()?, &nobody, &[], None)?;
    bound.attachments.into_iter().next().ok_or_else(|| Fault::Bug("no default network was bound".to_owned()))
}

/// Binds the node's networks and what a pod wants beside or instead of them.
fn with_node_networks(
    run: &Run<'_>,
    pod: &PodRef,
    target: &Target,
    wanted: &[Wanted],
    default_override: Option<&Wanted>,
) -> Result<Bound> {
    let rules = rules(&run.conf);
    let delegates = networks(&run.conf.delegates)?;
    let default_networks = networks(&run.conf.default_networks)?;
    let ask = Ask {
        pod,
        container: &target.container,
        ifname: &target.ifname,
        args: &target.args,
        runtime_config: Some(&run.conf.runtime_config),
        delegates: &delegates,
        default_networks: &default_networks,
        default_override,
        wanted,
        auxiliary: None,
        rules: &rules,
    };
    let references: Vec<_> = ask.references()?.into_iter().collect();
    let definitions = run.cluster.definitions(&references)?;
    let files = if ask.needs_files(&definitions) { conf_files(&run.conf.conf_dir) } else { Vec::new() };
    // Devices come with the agent, which asks the kubelet for them.
    let devices = BTreeMap::new();
    Ok(bind::bind(&ask, &Found { definitions: &definitions, files: &files, devices: &devices })?)
}

/// Handed over by the runtime where it can (containerd and CRI-O do), else asked of the cluster.
fn annotations(run: &Run<'_>, pod: Option<&PodRef>) -> Result<Annotations> {
    let path = format!("runtimeConfig[{POD_ANNOTATIONS:?}]");
    let handed = run.conf.runtime_config.decode(POD_ANNOTATIONS, "a map of strings");
    match (handed.map_err(|e| Finding { path, ..e })?, pod) {
        (Some(annotations), _) => Ok(annotations),
        (None, Some(pod)) => run.cluster.annotations(pod),
        (None, None) => Ok(Annotations::new()),
    }
}

fn rules(conf: &NodeConf) -> Rules {
    Rules {
        namespace_isolation: conf.namespace_isolation,
        global_namespaces: conf.global_namespaces.clone(),
        multus_namespace: conf.multus_namespace.clone(),
        system_namespaces: conf.system_namespaces.clone(),
        strict: conf.strict,
        path_roots: conf.path_roots.iter().map(|root| root.to_string_lossy().into_owned()).collect(),
    }
}

/// A runtime that is not a Kubernetes one has no pod; its sandboxes get the node's networks.
fn nameless_pod() -> Result<PodRef> {
    Ok(PodRef { namespace: parsed("default")?, name: parsed("sandbox")?, uid: None })
}

fn parsed<T: std::str::FromStr<Err = Finding>>(text: &str) -> Result<T> {
    text.parse().map_err(|finding: Finding| Fault::Bug(finding.to_string()))
}

fn networks(declared: &[Declared]) -> Result<Vec<Network>> {
    declared
        .iter()
        .map(|network| match network {
            Declared::Inline(conf) => Ok(Network::Conf(conf.clone())),
            Declared::Named(name) => Ok(Network::Named(name.clone())),
            Declared::Path(path) => file_at(path).map(Network::Conf),
        })
        .collect()
}

/// A configuration file, or the first one of a directory.
fn file_at(path: &Path) -> Result<NetworkConf> {
    let file = if path.is_dir() {
        let first = conf_dir::paths(path).into_iter().next();
        first.ok_or_else(|| {
            Fault::TryLater(format!("clusterNetwork: {} holds no .conflist, .conf or .json file", path.display()))
        })?
    } else {
        path.to_owned()
    };
    match conf_dir::read(&file) {
        Ok(conf) => Ok(conf),
        Err(finding) => Err(finding.under(&format!("clusterNetwork: {}", file.display())).into()),
    }
}

/// The configurations of a directory in the order of their names. A file that is broken says so when it is wanted.
fn conf_files(dir: &Path) -> Vec<ConfFile> {
    let each = |path: PathBuf| ConfFile {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        conf: conf_dir::read(&path),
    };
    conf_dir::paths(dir).into_iter().map(each).collect()
}

/// Paths of tenants must lie below a root also when the node's symbolic links are followed.
fn hold_to_roots(paths: &[TenantPath], roots: &[PathBuf]) -> Result<()> {
    for TenantPath { path, field } in paths {
        let resolved = resolve(Path::new(path));
        if !roots.iter().any(|root| resolved.starts_with(resolve(root))) {
            let listed: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            let allowed = format!("a path that stays under one of pathRoots ({})", listed.join(", "));
            let value = format!("{path:?}, which leads to {}", resolved.display());
            return Err(BindError::Invalid(Finding::new(field, value, allowed)).into());
        }
    }
    Ok(())
}

/// The path with the symbolic links of its existing part followed.
fn resolve(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(resolved), _, _) => resolved,
        (Err(_), Some(parent), Some(name)) => resolve(parent).join(name),
        _ => path.to_owned(),
    }
}
