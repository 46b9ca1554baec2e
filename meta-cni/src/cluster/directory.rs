//! Directory mode: a directory of ordinary manifests (Pod, NetworkAttachmentDefinition, Node, Namespace, AttachmentPolicy,
//! AttachmentLevel; YAML or JSON) stands in for the cluster. No daemon, no API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use attachments::definition::{Definition, RESOURCE_NAME};
use attachments::dialect::alias::{Alias, Candidate};
use attachments::dialect::objects::{ForeignRef, Kind, Objects, beside, disagreement, needed_by};
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::policy;
use attachments::status::NETWORK_STATUS;

use super::manifest::{self, Manifest};
use super::wire::{NodeAddresses, Policies};
use super::{Annotations, Facts, PodStatus, Query, named_in};
use crate::atomic_file;
use crate::fault::{Fault, Result};

/// A directory of manifests, read anew for each query: an edit counts at once.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
}

impl Directory {
    /// The manifests in `dir`, files ending in .yaml, .yml or .json; sub-directories are left alone.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Can the directory be read?
    pub fn ready(&self) -> Result<()> {
        self.files().map(drop)
    }

    /// Answers a query.
    pub fn resolve(&self, query: &Query<'_>) -> Result<Facts> {
        let mut wanted: BTreeSet<NetRef> = query.references.iter().chain(query.optional).cloned().collect();
        let annotations = match query.pod.filter(|_| query.annotations) {
            Some(pod) => Some(self.annotations(pod)?),
            None => None,
        };
        if let (Some(annotations), Some(pod)) = (&annotations, query.pod) {
            wanted.extend(named_in(annotations, &pod.namespace, query.multus_namespace));
        }
        let aliases = self.aliases(query.aliases)?;
        wanted.extend(aliases.values().filter(|found| found.len() == 1).flatten().cloned());
        let mut node = NodeAddresses::default();
        let mut policies = query.policies.then(policy::Facts::default);
        let definitions = self.definitions(&wanted, &mut node, policies.as_mut())?;
        let missing = wanted.into_iter().filter(|reference| !definitions.contains_key(reference)).collect();
        let policies = policies.map(|facts| Policies::Known { facts });
        let objects = self.objects(&[query.objects, query.candidates].concat())?;
        Ok(Facts { annotations, definitions, missing, objects, aliases, node, policies, devices: None })
    }

    fn annotations(&self, pod: &PodRef) -> Result<Annotations> {
        let (_, _, manifest) = self.pod(pod)?;
        Ok(manifest.metadata.annotations)
    }

    /// The definitions, levels and policies where they are asked for, and the InternalIPs of the Node manifests. Those of
    /// another node are on no link here, so they do no harm.
    fn definitions(
        &self,
        wanted: &BTreeSet<NetRef>,
        node: &mut NodeAddresses,
        mut policies: Option<&mut policy::Facts>,
    ) -> Result<BTreeMap<NetRef, Definition>> {
        let mut found = BTreeMap::new();
        if wanted.is_empty() && policies.is_none() {
            return Ok(found);
        }
        for path in self.files()? {
            let text = read(&path)?;
            // Most files of a large directory hold no wanted definition; searching for a name costs less than parsing.
            for document in manifest::documents(&text) {
                node.internal_ips.extend(manifest::internal_ips(document, &path)?);
                if let Some(facts) = policies.as_deref_mut() {
                    manifest::policies(document, &path, facts)?;
                }
                if !wanted.iter().any(|w| document.contains(w.name.as_str())) {
                    continue;
                }
                let Some(manifest) = manifest::parse(document, &path, "NetworkAttachmentDefinition")? else { continue };
                let Some(reference) = reference(&manifest) else { continue };
                if wanted.contains(&reference) {
                    found.insert(reference.clone(), definition(reference, manifest));
                }
            }
        }
        Ok(found)
    }

    /// The definitions that have these names of a dialect.
    fn aliases(&self, wanted: &[Alias]) -> Result<BTreeMap<Alias, Vec<NetRef>>> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut all = Vec::new();
        for path in self.files()? {
            for document in manifest::documents(&read(&path)?) {
                let Some(manifest) = manifest::parse(document, &path, "NetworkAttachmentDefinition")? else { continue };
                all.extend(reference(&manifest).map(|reference| (reference, manifest.metadata.annotations)));
            }
        }
        let candidates = || all.iter().map(|(reference, annotations)| Candidate::of(reference, annotations));
        Ok(wanted.iter().map(|alias| (alias.clone(), alias.among(candidates()))).collect())
    }

    /// These objects of dialects, what they need and what counts beside them, as far as they are there.
    fn objects(&self, wanted: &[ForeignRef]) -> Result<Objects> {
        let mut found = Objects::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let (mut all, mut disputed) = (Objects::new(), BTreeSet::new());
        for path in self.files()? {
            for document in manifest::documents(&read(&path)?) {
                let Some((reference, spec)) = manifest::foreign(document, &path, &Kind::ALL)? else { continue };
                if all.get(&reference).is_some_and(|other| *other != spec) {
                    disputed.insert(reference.clone());
                }
                all.insert(reference, spec);
            }
        }
        for reference in wanted {
            let mut next = Some(reference.clone());
            while let Some((reference, spec)) = next.take().and_then(|reference| all.get_key_value(&reference)) {
                next = needed_by(reference, spec);
                found.insert(reference.clone(), spec.clone());
                let beside = beside(reference, &all).into_iter().filter_map(|one| all.get_key_value(one));
                found.extend(beside.map(|(one, spec)| (one.clone(), spec.clone())));
            }
        }
        match disputed.iter().find(|one| found.contains_key(one)) {
            Some(reference) => Err(Fault::Config(disagreement(reference))),
            None => Ok(found),
        }
    }

    /// Writes the status into the pod's file.
    pub fn publish(&self, pod: &PodRef, status: &PodStatus) -> Result<()> {
        let mut annotations: BTreeMap<&str, &str> = [(NETWORK_STATUS, status.status.as_str())].into();
        annotations.extend(status.beside.iter().map(|(key, text)| (key.as_str(), text.as_str())));
        self.annotate(pod, &annotations)
    }

    /// Sets annotations in the pod's file, which is replaced whole.
    pub fn annotate(&self, pod: &PodRef, annotations: &BTreeMap<&str, &str>) -> Result<()> {
        // Two pods may share a file: the lock keeps two writers from losing each other's status.
        let turn = fs::File::open(&self.dir).and_then(|dir| dir.lock().map(|()| dir));
        let _turn = turn.map_err(|e| Fault::Io(format!("cannot lock {}: {e}", self.dir.display())))?;
        let (path, text, _) = self.pod(pod)?;
        let mut parts: Vec<String> = Vec::new();
        for document in manifest::documents(&text) {
            let ours = manifest::parse(document, &path, "Pod")?.is_some_and(|manifest| is_pod(&manifest, pod));
            parts.push(match ours {
                true => annotations.iter().try_fold(document.to_owned(), |document, (key, text)| {
                    manifest::annotate(&document, &path, key, text)
                })?,
                false => document.to_owned(),
            });
        }
        replace(&path, &parts.concat())
    }

    /// The pod's file, its text and its manifest.
    fn pod(&self, pod: &PodRef) -> Result<(PathBuf, String, Manifest)> {
        let mut files = self.files()?;
        // A file that is named after the pod usually holds it, so it is read first.
        let is_named_after =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(pod.name.as_str()));
        files.sort_by_key(|path| !is_named_after(path));
        for path in files {
            let text = read(&path)?;
            if !text.contains(pod.name.as_str()) {
                continue;
            }
            let mut found = None;
            for document in manifest::documents(&text) {
                found = found.or(manifest::parse(document, &path, "Pod")?.filter(|manifest| is_pod(manifest, pod)));
            }
            if let Some(manifest) = found {
                check_uid(pod, &manifest)?;
                return Ok((path, text, manifest));
            }
        }
        let dir = self.dir.display();
        Err(Fault::TryLater(format!("pod {pod}: no such Pod manifest in {dir}; add it, or wait until it is there")))
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let failed = |e: io::Error| {
            Fault::TryLater(format!("cluster.directory: cannot list manifests in {}: {e}", self.dir.display()))
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let known = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
            // The listing has the kind of an entry; only a symbolic link needs a stat.
            let is_file =
                || entry.file_type().is_ok_and(|kind| kind.is_file() || (kind.is_symlink() && path.is_file()));
            if known && is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn is_pod(manifest: &Manifest, pod: &PodRef) -> bool {
    manifest.metadata.name == pod.name.as_str() && manifest.metadata.namespace() == pod.namespace.as_str()
}

/// A pod that was recreated under the same name is another pod. Static pods have two identities (the kubelet's and the
/// API server's), so they are exempt, as with Multus.
fn check_uid(pod: &PodRef, manifest: &Manifest) -> Result<()> {
    let metadata = &manifest.metadata;
    let is_static = metadata.annotations.get("kubernetes.io/config.source").is_some_and(|source| source != "api");
    match (&pod.uid, &metadata.uid) {
        (Some(asked), Some(known)) if asked != known && !is_static => {
            Err(Fault::TryLater(format!("pod {pod}: K8S_POD_UID: got {asked}, want the pod's uid {known}")))
        }
        _ => Ok(()),
    }
}

fn reference(manifest: &Manifest) -> Option<NetRef> {
    let namespace = manifest.metadata.namespace().parse::<ObjectName>().ok()?;
    let name = manifest.metadata.name.parse::<ObjectName>().ok()?;
    Some(NetRef { namespace, name })
}

fn definition(reference: NetRef, manifest: Manifest) -> Definition {
    let resource_name = manifest.metadata.annotations.get(RESOURCE_NAME).cloned();
    Definition { reference, config: manifest.config, resource_name }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Fault::Config(format!("manifest {}: {e}", path.display())))
}

/// Replaces a file and keeps its mode. The writer holds the directory's lock, so one temporary name is enough.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mode = fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777);
    let replaced = mode.and_then(|mode| atomic_file::replace(path, ".meta-cni.new", text.as_bytes(), mode));
    replaced.map_err(|e| Fault::Io(format!("cannot write {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "# the demo's first pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    k8s.v1.cni.cncf.io/networks: x\n";
    const NAD: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: x}\nspec: {config: '{\"type\": \"bridge\"}'}\n";

    fn pod(name: &str) -> PodRef {
        PodRef { namespace: "default".parse().unwrap(), name: name.parse().unwrap(), uid: None }
    }

    fn net(namespace: &str, name: &str) -> NetRef {
        NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
    }

    #[test]
    fn pods_and_definitions_are_found_among_other_manifests() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("all.yaml"), format!("{POD}---\n{NAD}")).unwrap();
        let json =
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","namespace":"n","annotations":{"k":"v"}}}"#;
        fs::write(dir.path().join("b.json"), json).unwrap();
        fs::write(dir.path().join("notes.txt"), "x a b").unwrap();
        let node = "kind: Node\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.5}]}\n";
        fs::write(dir.path().join("n1.yaml"), node).unwrap();
        let directory = Directory::new(dir.path());
        assert_eq!(directory.annotations(&pod("a")).unwrap()["k8s.v1.cni.cncf.io/networks"], "x");
        let b = PodRef { namespace: "n".parse().unwrap(), ..pod("b") };
        assert_eq!(directory.annotations(&b).unwrap()["k"], "v");
        assert_eq!(directory.annotations(&pod("c")).unwrap_err().code(), 11);

        let (references, multus_namespace) = ([net("other", "x")], "kube-system".parse().unwrap());
        let query = Query {
            pod: Some(&pod("a")),
            annotations: true,
            references: &references,
            optional: &[],
            objects: &[],
            candidates: &[],
            aliases: &[],
            multus_namespace: &multus_namespace,
            policies: false,
            devices: false,
        };
        let facts = directory.resolve(&query).unwrap();
        assert_eq!(facts.policies, None, "nobody asked");
        assert_eq!(facts.definitions.len(), 1);
        assert_eq!(facts.definitions[&net("default", "x")].config.as_deref(), Some(r#"{"type": "bridge"}"#));
        assert!(facts.missing.contains(&net("other", "x")));
        assert_eq!(facts.node.internal_ips, ["10.0.0.5".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(facts.annotations.unwrap()["k8s.v1.cni.cncf.io/networks"], "x");
    }

    #[test]
    fn levels_and_policies_are_read_and_a_damaged_one_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path());
        let multus_namespace = "kube-system".parse().unwrap();
        let read = || {
            let query = Query {
                pod: None,
                annotations: false,
                references: &[],
                optional: &[],
                objects: &[],
                candidates: &[],
                aliases: &[],
                multus_namespace: &multus_namespace,
                policies: true,
                devices: false,
            };
            directory.resolve(&query).map(|facts| facts.policies)
        };
        assert_eq!(read().unwrap(), Some(Policies::Known { facts: policy::Facts::default() }));
        let all = "kind: Namespace\nmetadata: {name: shop, labels: {meta-cni.io/level: baseline}}\n---\nkind: Namespace\nmetadata: {name: bare}\n\
            ---\nkind: AttachmentLevel\nmetadata: {name: baseline}\nspec: {masters: [eth1]}\n---\nkind: AttachmentLevel\nmetadata: {name: restricted}\n";
        fs::write(dir.path().join("all.yaml"), all).unwrap();
        let rules = r#"[{"name":"r","select":"$.a","assert":{"absent":true}}]"#;
        let policy = format!(r#"{{"kind":"AttachmentPolicy","metadata":{{"name":"p"}},"spec":{{"rules":{rules}}}}}"#);
        fs::write(dir.path().join("p.json"), &policy).unwrap();
        let Some(Policies::Known { facts }) = read().unwrap() else { panic!() };
        assert_eq!(facts.namespaces["shop"]["meta-cni.io/level"], "baseline");
        assert!(facts.namespaces["bare"].is_empty() && facts.levels["restricted"].masters.is_empty());
        assert_eq!(
            (facts.levels["baseline"].masters.as_slice(), facts.policies["p"].rules.len()),
            (&["eth1".to_owned()][..], 1)
        );
        for (damaged, why) in [
            (policy.replace(rules, "7"), "p.json: spec: "),
            (policy.replace(r#"{"absent":true}"#, r#"{"absent":1}"#), "p.json: spec: "),
            ("kind: AttachmentPolicy\nspec: {a\n".to_owned(), "p.json: "),
            ("kind: Namespace\nmetadata: {name: shop, labels: [a]}\n".to_owned(), "p.json: metadata.labels: got"),
        ] {
            fs::write(dir.path().join("p.json"), &damaged).unwrap();
            let fault = read().unwrap_err();
            assert!(fault.code() == 7 && fault.to_string().contains(why), "{damaged}: {fault}");
        }
    }

    #[test]
    fn the_status_lands_in_the_pods_document_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.yaml");
        fs::write(&path, format!("{NAD}---\n{POD}")).unwrap();
        let directory = Directory::new(dir.path());
        for status in ["[]", "[{\n    \"name\": \"x\"\n}]"] {
            let status = PodStatus { status: status.to_owned(), added: Vec::new(), beside: Annotations::new() };
            directory.publish(&pod("a"), &status).unwrap();
            let status = &status.status;
            assert_eq!(directory.annotations(&pod("a")).unwrap()[NETWORK_STATUS], *status);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(NAD) && text.contains("# the demo's first pod"), "{text}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_uid_is_another_pod() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), POD.replace("name: a", "name: a\n  uid: u1")).unwrap();
        let directory = Directory::new(dir.path());
        let with = |uid: &str| PodRef { uid: Some(uid.into()), ..pod("a") };
        assert!(directory.annotations(&with("u1")).is_ok());
        let fault = directory.annotations(&with("u2")).unwrap_err();
        assert_eq!(fault.code(), 11);
        assert!(fault.to_string().contains("u1") && fault.to_string().contains("u2"));
    }

    #[test]
    fn a_broken_manifest_of_the_pod_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "kind: Pod\nmetadata: {name: a\n").unwrap();
        let fault = Directory::new(dir.path()).annotations(&pod("a")).unwrap_err();
        assert!(fault.to_string().contains("a.yaml"), "{fault}");
        assert_eq!(fault.code(), 7);
    }
}
