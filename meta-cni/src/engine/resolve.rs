//! Looks up what an ADD needs before it can bind: annotations, definitions, files of the node. `attachments::bind` is pure and
//! leaves all reading to this module.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attachments::bind::{
    self, Allocation, Attachment, BindRequest, Bound, Changes, ConfFile, Growth, Lookups, Network, Rules,
};
use attachments::cni::conf::{NetworkConf, PluginConf};
use attachments::cni::object::Object;
use attachments::cni::version::Version;
use attachments::dialect::Dialects;
use attachments::dialect::alias::Alias;
use attachments::dialect::files::NodeFiles;
use attachments::dialect::genie;
use attachments::dialect::objects::ForeignRef;
use attachments::finding::Finding;
use attachments::names::{IfName, NetRef, ObjectName, PodRef};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, Selection};
use delegates::builtin;
use delegates::ipam::blocks::whereabouts::Files;
use delegates::reserved::Reserved;
use delegates::{in_process, spelling};

use super::log::warn;
use super::path_roots::hold_to_roots;
use super::policies;
use super::record::digest;
use super::run::Run;
use crate::cluster::wire::NodeAddresses;
use crate::cluster::{Annotations, Facts, Query};
use crate::conf_dir;
use crate::fault::{Fault, Result};
use crate::node::{Auxiliary, Declared, NodeConf, POD_ANNOTATIONS};
use crate::request::{Operation, Target};

/// What is to be attached.
pub struct Resolved {
    /// With every choice made and validated except what only a delegate knows.
    pub bound: Bound,
    /// What the node keeps from definitions: its configuration completed by the cluster's facts.
    pub reserved: Reserved,
    /// The [`digest`] of the annotation that it was made from.
    pub asked: String,
    /// What counts for nothing among the pod's annotations, one sentence.
    pub ignored: Option<String>,
}

/// The attachments of an ADD.
pub fn bind(run: &Run<'_>, target: &Target, pod: Option<&PodRef>) -> Result<Resolved> {
    let networks = NodeNetworks { asks_devices: pod.is_some(), ..NodeNetworks::read(run)? };
    let (annotations, mut facts) = match (handed_over(run)?, pod) {
        (Some(annotations), _) => (annotations, Facts::default()),
        (None, Some(pod)) => networks.annotated(pod)?,
        (None, None) => (Annotations::new(), Facts::default()),
    };
    let asked = digest(annotations.get(NETWORKS).map(String::as_str));
    let pod = pod.map_or_else(nameless_pod, |pod| Ok(pod.clone()))?;
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    let (conf, namespace) = (&run.conf, &pod.namespace);
    let mut selection = Selection::from_annotations(annotation, namespace, &conf.multus_namespace, &conf.dialects)?;
    if selection.translated.as_ref().is_some_and(|translated| translated.is_open) {
        let chosen = choose(run, &pod)?;
        let annotation = |name: &str| if name == genie::CNI { Some(chosen.as_str()) } else { annotation(name) };
        selection = Selection::from_annotations(annotation, namespace, &conf.multus_namespace, &conf.dialects)?;
    }
    let ignored = selection.ignored.map(ignored);
    networks.name_definitions(&pod, &mut selection, &mut facts)?;
    let selection = networks.settle(&pod, target, selection, &mut facts)?;
    let mut bound = networks.bind(&pod, target, &selection, &mut facts)?;
    hold_to_roots(&bound.paths, &run.conf.path_roots)?;
    bound.warnings.extend(policies::judge(run.conf.level, &pod, &selection, &networks.references()?, &facts)?);
    let reserved = reserved(run, &bound, facts.node);
    Ok(Resolved { bound, reserved, asked, ignored })
}

/// The sentence about an annotation of a dialect that counts for nothing.
pub(super) fn ignored(key: &str) -> String {
    format!("annotation {key} counts for nothing: the pod has {NETWORKS} or {DEFAULT_NETWORK}, which count before it")
}

/// The network of a pod that leaves the choice to the node.
fn choose(run: &Run<'_>, pod: &PodRef) -> Result<String> {
    let genie = run.conf.dialects.genie.clone().unwrap_or_default();
    run.cluster.choose(pod, &genie, run.deadline)
}

/// What a running pod's annotation changes: which of the attachments that it has go, and what comes. Levels and policies judge what
/// comes alone.
pub fn bind_changes(run: &Run<'_>, target: &Target, pod: &PodRef, held: &[Attachment]) -> Result<(Changes, Resolved)> {
    let networks = NodeNetworks { asks_devices: true, ..NodeNetworks::read(run)? };
    let (annotations, mut facts) = networks.annotated(pod)?;
    let text = annotations.get(NETWORKS).map(String::as_str);
    let asked = digest(text);
    // The default network of a running pod stays what it is.
    let annotation = |name: &str| text.filter(|_| name == NETWORKS);
    // What a dialect's list gave a pod at its start stays, too.
    let off = Dialects::default();
    let selection = Selection::from_annotations(annotation, &pod.namespace, &run.conf.multus_namespace, &off)?;
    let changes = Changes::between(held, &selection.networks)?;
    if changes.added.is_empty() {
        return Ok((
            changes,
            Resolved { bound: Bound::default(), reserved: run.conf.reserved.clone(), asked, ignored: None },
        ));
    }
    let growth = Growth { held, added: &changes.added };
    let mut bound = networks.bind_growth(pod, target, &selection, Some(growth), &mut facts)?;
    hold_to_roots(&bound.paths, &run.conf.path_roots)?;
    let placed: Vec<_> = selection.placed_elements().collect();
    let added: Vec<_> = changes.added.iter().filter_map(|i| placed.get(*i).cloned()).collect();
    let verdict = policies::verdict(run.conf.level, pod, &added, &networks.references()?, &facts)?;
    if let Some(refusal) = verdict.refusal() {
        return Err(Fault::Config(refusal));
    }
    bound.warnings.extend(verdict.warnings);
    let reserved = reserved(run, &bound, facts.node);
    Ok((changes, Resolved { bound, reserved, asked, ignored: None }))
}

/// What the node keeps from definitions: its addresses and the bridge of its default network included.
pub(super) fn reserved(run: &Run<'_>, bound: &Bound, node: NodeAddresses) -> Reserved {
    let NodeAddresses { internal_ips, api_servers } = node;
    let mut reserved = Reserved { node_addresses: internal_ips, api_servers, ..run.conf.reserved.clone() };
    if reserved.share_default_bridge || !bound.attachments.iter().any(|attachment| attachment.is_tenants) {
        return reserved;
    }
    let is_nodes = |attachment: &&Attachment| attachment.is_default && !attachment.is_tenants;
    let own = bound.attachments.iter().find(is_nodes).cloned();
    // A pod with another default network must not join the bridge of the node's either. A default network that cannot be found
    // has attached no pod.
    let default = own.or_else(|| default_network(run).ok());
    let plugins = default.into_iter().flat_map(|default| default.plugins);
    reserved.default_bridges = plugins.filter_map(|p| builtin::bridge_of(p.kind.as_str(), &p.object)).collect();
    reserved
}

/// The attachments that the node gives to every pod, for a DEL without a record. None when the default network cannot be found
/// any more: then nothing can be undone.
pub fn default_only(run: &Run<'_>, target: &Target) -> Result<Vec<Attachment>> {
    let pod = target.pod().ok().flatten().map_or_else(nameless_pod, Ok)?;
    match NodeNetworks::read(run)
        .and_then(|networks| networks.bind(&pod, target, &Selection::default(), &mut Facts::default()))
    {
        Ok(bound) => Ok(bound.attachments),
        Err(fault) => {
            warn(&format!("no record of sandbox {}, and no default network to undo: {fault}", target.container));
            Ok(Vec::new())
        }
    }
}

/// The default network, for GC and STATUS, which concern no pod.
pub fn default_network(run: &Run<'_>) -> Result<Attachment> {
    let nobody = Target {
        container: parsed("node")?,
        netns: String::new(),
        ifname: parsed::<IfName>("eth0")?,
        args: Vec::new(),
    };
    let bound =
        NodeNetworks::read(run)?.bind(&nameless_pod()?, &nobody, &Selection::default(), &mut Facts::default())?;
    bound.attachments.into_iter().next().ok_or_else(|| Fault::Bug("no default network was bound".to_owned()))
}

/// The networks that the node's configuration gives to every pod, their files read.
pub(super) struct NodeNetworks<'a> {
    run: &'a Run<'a>,
    rules: Rules,
    delegates: Vec<Network>,
    default_networks: Vec<Network>,
    auxiliary: Option<NetworkConf>,
    /// True for an ADD of a pod: its devices are asked for where a definition names a resource.
    asks_devices: bool,
}

impl<'a> NodeNetworks<'a> {
    pub(super) fn read(run: &'a Run<'a>) -> Result<Self> {
        Ok(Self {
            run,
            rules: rules(&run.conf),
            delegates: networks(&run.conf.delegates)?,
            default_networks: networks(&run.conf.default_networks)?,
            auxiliary: match &run.conf.auxiliary {
                Some(auxiliary) => chain_of(auxiliary, run.request.version)?,
                None => None,
            },
            asks_devices: false,
        })
    }

    /// How many attachments come behind those of the pod.
    pub(super) fn auxiliaries(&self) -> usize {
        usize::from(self.auxiliary.is_some())
    }

    /// The definitions that the node's configuration may name: any name that is not a path or inline.
    pub(super) fn references(&self) -> Result<Vec<NetRef>> {
        let named = |network: &Network| match network {
            // A network's name may hold characters that an object's may not. Such a network can only be a file.
            Network::Named(name) => name.as_str().parse::<ObjectName>().ok(),
            Network::Conf(_) => None,
        };
        let names = self.delegates.iter().chain(&self.default_networks).filter_map(named);
        Ok(names.map(|name| NetRef { namespace: self.run.conf.multus_namespace.clone(), name }).collect())
    }

    pub(super) fn query<'q>(
        &'q self,
        pod: Option<&'q PodRef>,
        references: &'q [NetRef],
        optional: &'q [NetRef],
    ) -> Query<'q> {
        let multus_namespace = &self.run.conf.multus_namespace;
        let devices = self.asks_devices;
        Query {
            pod,
            annotations: false,
            references,
            optional,
            objects: &[],
            candidates: &[],
            aliases: &[],
            multus_namespace,
            policies: false,
            devices,
        }
    }

    /// One query gives a pod's annotations and every definition that they, or the node, name.
    fn annotated(&self, pod: &PodRef) -> Result<(Annotations, Facts)> {
        let (references, optional) = (&[][..], &self.references()?[..]);
        let query = self.query(Some(pod), references, optional);
        let mut facts = self.resolve(&Query { annotations: true, policies: true, ..query })?;
        Ok((facts.annotations.take().unwrap_or_default(), facts))
    }

    /// Looks for the definitions that a dialect's names mean. The same answer has them, and what judges them.
    pub(super) fn name_definitions(&self, pod: &PodRef, selection: &mut Selection, facts: &mut Facts) -> Result<()> {
        let aliases: BTreeSet<Alias> = selection.aliases().cloned().collect();
        if aliases.is_empty() {
            return Ok(());
        }
        let (aliases, optional) = (aliases.into_iter().collect::<Vec<_>>(), self.references()?);
        let query = Query { policies: true, aliases: &aliases, ..self.query(Some(pod), &[], &optional) };
        let found = self.resolve(&query)?;
        if let Some(alias) = aliases.iter().find(|alias| !found.aliases.contains_key(alias)) {
            let text = format!("{:?}: the node agent is older than the plugin, and knows no such names", alias.name);
            return Err(Fault::TryLater(text));
        }
        selection.name_definitions(|alias| found.aliases.get(alias).cloned().unwrap_or_default());
        *facts = Facts { annotations: facts.annotations.take(), ..found };
        Ok(())
    }

    /// Only what attaches waits for an agent that is away. DEL, CHECK, GC and recovery go on with the node's files.
    pub(super) fn resolve(&self, query: &Query<'_>) -> Result<Facts> {
        let operation = &self.run.request.operation;
        let attaches = matches!(operation, Operation::Add(_) | Operation::HotPlug(_));
        match self.run.cluster.resolve(query, attaches, self.run.deadline) {
            Err(fault @ Fault::TryLater(_)) if !attaches && !matches!(operation, Operation::Status) => {
                warn(&format!("going on without definitions: {fault}"));
                Ok(Facts::default())
            }
            other => other,
        }
    }

    /// Binds the node's networks and what a pod selects beside or instead of them. `facts` holds what is known, and is
    /// completed here.
    pub(super) fn bind(
        &self,
        pod: &PodRef,
        target: &Target,
        selection: &Selection,
        facts: &mut Facts,
    ) -> Result<Bound> {
        self.bind_growth(pod, target, selection, None, facts)
    }

    /// A pod's selection with what the objects of its dialect say; that of NPWG's annotations is what it was.
    pub(super) fn settle(
        &self,
        pod: &PodRef,
        target: &Target,
        selection: Selection,
        facts: &mut Facts,
    ) -> Result<Selection> {
        if selection.is_settled() {
            return Ok(selection);
        }
        self.look_up(&self.request(pod, target, &selection, None), facts)?;
        let conf = &self.run.conf;
        Ok(conf.dialects.settle(&selection, &facts.objects, &pod.namespace, conf.strict)?)
    }

    fn request<'r>(
        &'r self,
        pod: &'r PodRef,
        target: &'r Target,
        selection: &'r Selection,
        growth: Option<Growth<'r>>,
    ) -> BindRequest<'r> {
        BindRequest {
            pod,
            container: &target.container,
            ifname: &target.ifname,
            args: &target.args,
            runtime_config: Some(&self.run.conf.runtime_config),
            delegates: &self.delegates,
            default_networks: &self.default_networks,
            selection,
            auxiliary: self.auxiliary.as_ref(),
            rules: &self.rules,
            growth,
        }
    }

    /// Completes what is known by one question, where something is missing.
    fn look_up(&self, request: &BindRequest<'_>, facts: &mut Facts) -> Result<()> {
        let BindRequest { pod, selection, .. } = request;
        let named_by_pod = |reference: &NetRef| selection.definitions().any(|named| named == reference);
        let unknown = request.references()?.into_iter().filter(|reference| !facts.cover(reference));
        let (references, optional): (Vec<_>, Vec<_>) = unknown.partition(named_by_pod);
        let candidates = selection.candidates();
        // Levels and policies are about what a pod selects: what the node gives to every pod is nobody's request.
        let selects = selection.elements().next().is_some() || !candidates.is_empty();
        let policies = facts.policies.is_none() && selection.is_pods_own() && selects;
        let objects: Vec<ForeignRef> =
            selection.objects().filter(|reference| !facts.objects.contains_key(reference)).cloned().collect();
        let query = self.query(Some(pod), &references, &optional);
        let found = self.resolve(&Query { policies, objects: &objects, candidates: &candidates, ..query })?;
        facts.definitions.extend(found.definitions);
        facts.missing.extend(found.missing);
        facts.objects.extend(found.objects);
        facts.policies = found.policies.or(facts.policies.take());
        if !found.node.is_empty() {
            facts.node = found.node;
        }
        facts.devices = match (facts.devices.take(), found.devices) {
            (Some(Allocation::Told(mut known)), Some(Allocation::Told(more))) => {
                known.extend(more);
                Some(Allocation::Told(known))
            }
            (Some(Allocation::Told(_)) | None, Some(told)) | (Some(told), _) => Some(told),
            (None, None) => None,
        };
        Ok(())
    }

    /// The same, of a running pod what is new.
    fn bind_growth(
        &self,
        pod: &PodRef,
        target: &Target,
        selection: &Selection,
        growth: Option<Growth<'_>>,
        facts: &mut Facts,
    ) -> Result<Bound> {
        let request = self.request(pod, target, selection, growth);
        self.look_up(&request, facts)?;
        let definitions = &facts.definitions;
        let files = if request.needs_files(definitions) { conf_files(&self.run.conf.conf_dir) } else { Vec::new() };
        let dirs = [&self.run.conf.conf_dir, &self.run.conf.runtime_conf_dir];
        let named =
            if request.needs_node_files() { dirs.iter().flat_map(|dir| conf_files(dir)).collect() } else { Vec::new() };
        let dirs = dirs.map(|dir| dir.display().to_string());
        let node_files = NodeFiles { files: &named, dirs: &dirs };
        let devices = facts.devices.take().unwrap_or(Allocation::Untold);
        let node = self.run.node(None);
        let conf = &self.run.conf;
        let flat = Files { root: Path::new("/"), path_roots: &conf.path_roots };
        let spell = |plugin: &mut PluginConf| {
            let in_process = node.in_process(&plugin.kind);
            spelling::settle(plugin, in_process)?;
            if conf.whereabouts_as_blocks && in_process { spelling::whereabouts(plugin, &flat) } else { Ok(()) }
        };
        let lookups = Lookups { definitions, files: &files, devices: &devices, node_files, objects: &facts.objects };
        Ok(bind::bind(&request, &lookups, &spell)?)
    }
}

/// The pod's annotations, if the runtime passes them (containerd and CRI-O do).
fn handed_over(run: &Run<'_>) -> Result<Option<Annotations>> {
    let path = format!("runtimeConfig[{POD_ANNOTATIONS:?}]");
    let handed = run.conf.runtime_config.decode(POD_ANNOTATIONS, "a map of strings");
    Ok(handed.map_err(|e| Finding { path, ..e })?)
}

fn rules(conf: &NodeConf) -> Rules {
    Rules {
        namespace_isolation: conf.namespace_isolation,
        global_namespaces: conf.global_namespaces.clone(),
        multus_namespace: conf.multus_namespace.clone(),
        system_namespaces: conf.system_namespaces.clone(),
        strict: conf.strict,
        path_roots: conf.path_roots.iter().map(|root| root.to_string_lossy().into_owned()).collect(),
        built_in: in_process::types(conf.builtin.as_deref()),
        programs: conf.programs.clone(),
        max_attachments: conf.max_attachments,
        danm_links: conf.dialects.danm.is_some(),
        max_chain: conf.max_chain,
    }
}

/// The pod of a runtime that is no Kubernetes one: its sandboxes get the node's networks.
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
    let file = conf_dir::file(path).ok_or_else(|| {
        Fault::TryLater(format!("clusterNetwork: {} holds no .conflist, .conf or .json file", path.display()))
    })?;
    match conf_dir::read(&file) {
        Ok(conf) => Ok(conf),
        Err(finding) => Err(finding.under(&format!("clusterNetwork: {}", file.display())).into()),
    }
}

/// The chain of `auxiliaryCNIChainName`: every file of its directory, behind `passthru`, because chained plugins need a
/// previous result. None for an empty directory.
fn chain_of(auxiliary: &Auxiliary, version: Version) -> Result<Option<NetworkConf>> {
    let Auxiliary { name, beside } = auxiliary;
    let dir = if beside.is_dir() { beside.join(name.as_str()) } else { beside.with_file_name(name.as_str()) };
    let plugins = conf_dir::plugins(&dir).map_err(|e| e.under("auxiliaryCNIChainName"))?;
    if plugins.is_empty() {
        return Ok(None);
    }
    let mut seed = Object::new();
    seed.set("cniVersion", &version.as_str());
    seed.set("name", name);
    seed.set("type", &"passthru");
    let mut chain = NetworkConf::from_object(seed)?;
    chain.plugins.extend(plugins);
    Ok(Some(chain))
}

/// The configurations of a directory in the order of their names. A broken file fails only who needs it.
fn conf_files(dir: &Path) -> Vec<ConfFile> {
    let each = |path: PathBuf| ConfFile {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        conf: conf_dir::read(&path),
    };
    conf_dir::paths(dir).into_iter().map(each).collect()
}
