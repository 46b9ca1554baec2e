//! The objects that an explanation rests on: from files, from the API server, or from both. They lie in a directory for the time of the
//! command, where directory mode reads them as the plugin would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use attachments::dialect::Dialects;
use attachments::dialect::alias::{Alias, Candidate};
use attachments::dialect::objects::{ForeignRef, Kind, group_of, has_beside, needed_by};
use attachments::names::{NetRef, ObjectName};
use attachments::policy::Level;
use attachments::selection::Selection;
use meta_cni::cluster::{Annotations, manifest};
use meta_cni_kube::{Access, Selector};
use serde_json::{Value, json};

use crate::access;
use crate::lint::{Source, TEMPLATES};

/// Kind, namespace, name; and the group, where a kind is in two of them, which may say different things of one name.
pub type Key = (String, String, String, String);

/// Objects by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Objects {
    all: BTreeMap<Key, Value>,
    /// The pods that somebody named in a file, in order: those of workloads too.
    pub pods: Vec<(String, String)>,
    /// What could not be read, and what follows.
    pub notes: Vec<String>,
}

impl Objects {
    /// Takes the documents of a file. `namespace` is that of objects that name none.
    pub fn take_file(&mut self, source: &Source, namespace: &str) -> Result<(), String> {
        for (i, document) in manifest::documents(&source.text).into_iter().enumerate() {
            let object = manifest::value(document)
                .map_err(|why| format!("{}: document {}: not a manifest, {why}", source.name, i + 1))?;
            self.take_written(object, namespace);
        }
        Ok(())
    }

    fn take_written(&mut self, mut object: Value, namespace: &str) {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if let Some(items) = object["items"].as_array_mut().filter(|_| kind.ends_with("List")) {
            return std::mem::take(items).into_iter().for_each(|item| self.take_written(item, namespace));
        }
        let is_in_a_namespace = !matches!(kind.as_str(), "Namespace" | "Node" | "AttachmentPolicy" | "AttachmentLevel")
            && Kind::of(&kind).is_none_or(Kind::is_namespaced);
        if is_in_a_namespace && object["metadata"].is_object() && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let template = TEMPLATES.iter().find(|(known, _)| *known == kind).and_then(|(_, at)| object.pointer(at));
        if let Some(template) = template {
            // The pods of a workload, under its name.
            let mut pod = template.clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = object["metadata"]["name"].clone();
            pod["metadata"]["namespace"] = object["metadata"]["namespace"].clone();
            return self.take_written(pod, namespace);
        }
        if kind == "Pod" {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            self.pods.push((text("namespace"), text("name")));
        }
        self.insert(&kind, object);
    }

    fn insert(&mut self, kind: &str, mut object: Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
        let group = Kind::of(&kind).map(|_| group_of(object["apiVersion"].as_str().unwrap_or_default()).to_owned());
        let key = (kind.clone(), text("namespace"), text("name"), group.unwrap_or_default());
        // The API server leaves the kind of a list's items out.
        object["kind"] = json!(kind);
        // What a file says counts before what the API server says.
        self.all.entry(key).or_insert(object);
    }

    /// One object, in its first group.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let first = (kind.to_owned(), namespace.to_owned(), name.to_owned(), String::new());
        let (key, object) = self.all.range(first..).next()?;
        ((&*key.0, &*key.1, &*key.2) == (kind, namespace, name)).then_some(object)
    }

    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all.iter().filter(move |((of, ..), _)| of == kind).map(|(_, object)| object)
    }

    /// The annotations of a pod.
    pub fn annotations(&self, namespace: &str, name: &str) -> Option<Annotations> {
        self.get("Pod", namespace, name).map(annotations_of)
    }

    /// The definitions that a pod's annotations name.
    pub fn named_by(
        &self,
        (namespace, name): (&str, &str),
        multus_namespace: &ObjectName,
        dialects: &Dialects,
    ) -> Vec<NetRef> {
        let Ok(home) = namespace.parse::<ObjectName>() else { return Vec::new() };
        let annotations = self.annotations(namespace, name).unwrap_or_default();
        let annotation = |key: &str| annotations.get(key).map(String::as_str);
        // What cannot be read names nothing; the explanation says what is wrong with it.
        let (mut selection, _) = Selection::read(annotation, &home, multus_namespace, dialects);
        let known: Vec<(NetRef, Annotations)> = match selection.aliases().next() {
            None => Vec::new(),
            Some(_) => self.of_kind("NetworkAttachmentDefinition").filter_map(with_annotations).collect(),
        };
        let candidates = || known.iter().map(|(reference, annotations)| Candidate::of(reference, annotations));
        selection.name_definitions(|alias| alias.among(candidates()));
        selection.definitions().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The level of namespaces without a label, by the node's configuration.
    pub fn default_level(conf: &Value) -> Level {
        conf["level"].as_str().and_then(|level| level.parse().ok()).unwrap_or_default()
    }

    /// Everything as files of a directory, for directory mode.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        for (i, ((kind, _, name, _), object)) in self.all.iter().enumerate() {
            // Names are anybody's text: a file has the object's only where it is a plain one.
            let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
            let path = dir.join(format!("{kind}-{plain}-{i}.json"));
            fs::write(&path, object.to_string()).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(())
    }

    /// The same as texts, as lint reads them, of these kinds.
    pub fn sources(&self, kinds: &[&str]) -> Vec<Source> {
        let wanted = self.all.iter().filter(|((kind, ..), _)| kinds.contains(&kind.as_str()));
        wanted
            .map(|((kind, _, name, _), object)| Source {
                name: format!("{kind} {name}.yaml"),
                text: object.to_string(),
            })
            .collect()
    }
}

fn annotations_of(object: &Value) -> Annotations {
    let written = object["metadata"]["annotations"].as_object().into_iter().flatten();
    written.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn with_annotations(object: &Value) -> Option<(NetRef, Annotations)> {
    let part = |key: &str| object["metadata"][key].as_str()?.parse().ok();
    Some((NetRef { namespace: part("namespace")?, name: part("name")? }, annotations_of(object)))
}

/// Reads a pod from the API server, unless a file has it.
pub async fn read_pod(access: &Access, objects: &mut Objects, namespace: &str, name: &str) -> Result<(), String> {
    if objects.get("Pod", namespace, name).is_some() {
        return Ok(());
    }
    let found = access::object(access, &format!("/api/v1/namespaces/{namespace}/pods"), name).await?;
    let pod = found.ok_or_else(|| format!("pod {namespace}/{name}: the API server has no such pod"))?;
    objects.insert("Pod", pod);
    Ok(())
}

/// Reads what pods and the node name: definitions, namespaces, policies and levels, blocks.
pub async fn read_rest(
    access: &Access,
    objects: &mut Objects,
    references: &[NetRef],
    pods: &[(String, String)],
) -> Result<(), String> {
    for NetRef { namespace, name } in references {
        if objects.get("NetworkAttachmentDefinition", namespace.as_str(), name.as_str()).is_none() {
            let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions");
            if let Some(found) = access::object(access, &path, name.as_str()).await? {
                objects.insert("NetworkAttachmentDefinition", found);
            }
        }
    }
    let of_pods = pods.iter().map(|(namespace, _)| namespace.as_str());
    for namespace in of_pods.chain(references.iter().map(|reference| reference.namespace.as_str())) {
        if objects.get("Namespace", "", namespace).is_none() {
            match access::object(access, "/api/v1/namespaces", namespace).await {
                Ok(found) => found.into_iter().for_each(|found| objects.insert("Namespace", found)),
                Err(why) => {
                    objects.notes.push(format!("its level is not known, and no policy selects it by labels: {why}"))
                }
            }
        }
    }
    for (kind, collection) in [
        ("AttachmentPolicy", "/apis/meta-cni.io/v1alpha1/attachmentpolicies"),
        ("AttachmentLevel", "/apis/meta-cni.io/v1alpha1/attachmentlevels"),
        ("AddressBlock", "/apis/meta-cni.io/v1alpha1/addressblocks"),
    ] {
        let mut found = Vec::new();
        match access::list(access, collection, Selector::default(), |object| found.push(object)).await {
            Ok(()) => found.into_iter().for_each(|object| objects.insert(kind, object)),
            Err(why) => objects.notes.push(format!("going on without objects of {kind}: {why}")),
        }
    }
    Ok(())
}

/// Reads the definitions among which a dialect's names are looked for: those of the namespaces, for a name may be in an annotation.
pub async fn read_named(
    access: &Access,
    objects: &mut Objects,
    dialects: &Dialects,
    pods: &[(String, String)],
) -> Result<(), String> {
    let mut namespaces = BTreeSet::new();
    for (namespace, name) in pods {
        let Ok(home) = namespace.parse::<ObjectName>() else { continue };
        let annotations = objects.annotations(namespace, name).unwrap_or_default();
        let annotation = |key: &str| annotations.get(key).map(String::as_str);
        let (selection, _) = Selection::read(annotation, &home, &home, dialects);
        namespaces.extend(selection.aliases().flat_map(Alias::namespaces).cloned());
    }
    for namespace in namespaces {
        let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions");
        let mut found = Vec::new();
        access::list(access, &path, Selector::default(), |object| found.push(object)).await?;
        found.into_iter().for_each(|object| objects.insert("NetworkAttachmentDefinition", object));
    }
    Ok(())
}

/// Reads the objects of dialects that pods name, those that they need, and those that may count beside them.
pub async fn read_foreign(
    access: &Access,
    objects: &mut Objects,
    dialects: &Dialects,
    pods: &[(String, String)],
) -> Result<(), String> {
    let mut limited = false;
    for (namespace, name) in pods {
        let Ok(home) = namespace.parse::<ObjectName>() else { continue };
        let annotations = objects.annotations(namespace, name).unwrap_or_default();
        let annotation = |key: &str| annotations.get(key).map(String::as_str);
        // Where a default network's definition would be is nothing that a dialect asks.
        let (selection, _) = Selection::read(annotation, &home, &home, dialects);
        let mut next: Vec<ForeignRef> = selection.objects().cloned().chain(selection.candidates()).collect();
        while let Some(reference) = next.pop() {
            let kind = reference.kind;
            let (namespace, name) = (reference.namespace(), reference.name.as_str());
            if objects.get(kind.as_str(), namespace, name).is_none() {
                for path in kind.collections(reference.namespace.as_ref()) {
                    let found = access::object(access, &path, name).await?;
                    found.into_iter().for_each(|found| objects.insert(kind.as_str(), found));
                }
            }
            let known = objects.get(kind.as_str(), namespace, name);
            limited |= known.is_some() && has_beside(&reference);
            next.extend(known.and_then(|known| needed_by(&reference, &known["spec"].to_string())));
        }
    }
    for kind in dialects.on().flat_map(|dialect| dialect.limits()).filter(|_| limited) {
        for path in kind.collections(None) {
            let mut found = Vec::new();
            match access::list(access, &path, Selector::default(), |object| found.push(object)).await {
                Ok(()) => found.into_iter().for_each(|object| objects.insert(kind.as_str(), object)),
                Err(why) => objects.notes.push(format!("going on without objects of {kind}: {why}")),
            }
        }
    }
    Ok(())
}
