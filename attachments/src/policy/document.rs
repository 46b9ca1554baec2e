//! What a rule sees: a definition, or what a pod asks of one network, with its surroundings.
//!
//! `{request, nad, config, attachment, pod, usage}`; docs/policy.md lists the fields. A definition has no `attachment` and no `pod`. At ADD
//! there is neither `request` nor `usage`. A rule that speaks of what a document cannot have is not judged by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::canon::{Canonical, Origin, canonical};
use super::select::Step;
use super::spec::AppliesTo;
use crate::finding::Finding;
use crate::selection::NetworkSelection;

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// Where a definition has its configuration.
const CONFIG: &str = "spec.config";

/// A definition.
#[derive(Clone, Copy, Debug)]
pub struct Nad<'a> {
    /// Its namespace; empty for a network of the cluster.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its labels, where they are known.
    pub labels: Option<&'a Labels>,
    /// Its annotations, where they are known.
    pub annotations: Option<&'a Labels>,
    /// `spec.config`, where it is known. A blank one stands for a file of the node, of which a rule sees nothing.
    pub config: Option<&'a str>,
}

/// A pod.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; a pod that is still to be named has none.
    pub name: Option<&'a str>,
    /// Its labels, where they are known.
    pub labels: Option<&'a Labels>,
    /// `spec.serviceAccountName`, where it is known.
    pub service_account: Option<&'a str>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
}

/// A request at admission.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// CREATE or UPDATE.
    pub operation: String,
    /// Name of the user.
    pub user: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Namespace of the object.
    pub namespace: String,
    /// Labels of that namespace.
    pub ns_labels: Labels,
    /// What exists there already, by count, the object that asks included.
    #[serde(skip)]
    pub usage: BTreeMap<String, u64>,
}

/// A document that rules judge.
#[derive(Clone, Debug)]
pub struct Document {
    value: Value,
    kind: AppliesTo,
    /// The element of a pod's annotation; empty for a definition.
    element: String,
    /// The definition of an attachment, as `namespace/name`.
    definition: String,
    origins: Vec<Origin>,
    unknown: Vec<&'static str>,
}

impl Document {
    /// A definition. `request` is what asks for it; at ADD nothing does.
    pub fn of_definition(nad: &Nad<'_>, request: Option<&Request>) -> Result<Self, Finding> {
        let mut document = Self::new(AppliesTo::NetworkAttachmentDefinition, request);
        document.unknown.extend(["attachment", "pod"]);
        document.set("nad", document_nad(nad));
        document.unknown_of(nad);
        document.configure(nad).map_err(|finding| finding.under(CONFIG))?;
        Ok(document)
    }

    /// What a pod asks of one network. `element` is the path of the request in the pod, `nad` the definition that it names.
    pub fn of_attachment(
        pod: &Pod<'_>,
        selection: &NetworkSelection,
        element: &str,
        nad: Option<&Nad<'_>>,
        request: Option<&Request>,
    ) -> Result<Self, Finding> {
        let mut document = Self::new(AppliesTo::Pod, request);
        element.clone_into(&mut document.element);
        let mut asked: Value = serde_json::from_str(&selection.to_object().to_json()).unwrap_or_default();
        // Which definition it names is told by `nad`.
        if let Some(asked) = asked.as_object_mut() {
            asked.retain(|key, _| key != "name" && key != "namespace");
        }
        document.set("attachment", asked);
        let mut told = json!({"namespace": pod.namespace, "hostNetwork": pod.host_network});
        set_some(&mut told, "name", pod.name);
        set_some(&mut told, "labels", pod.labels);
        set_some(&mut told, "serviceAccount", pod.service_account);
        document.set("pod", told);
        document.unknown.extend(pod.labels.is_none().then_some("pod.labels"));
        document.unknown.extend(pod.service_account.is_none().then_some("pod.serviceAccount"));
        if let Some(nad) = nad {
            document.definition = match nad.namespace {
                "" => nad.name.to_owned(),
                namespace => format!("{namespace}/{}", nad.name),
            };
            let mut told = document_nad(nad);
            told["own"] = (nad.namespace == pod.namespace).into();
            document.set("nad", told);
            document.unknown_of(nad);
            let at = format!("network-attachment-definition {}: {CONFIG}", document.definition);
            document.configure(nad).map_err(|finding| finding.under(&at))?;
        }
        Ok(document)
    }

    fn new(kind: AppliesTo, request: Option<&Request>) -> Self {
        let (element, definition) = (String::new(), String::new());
        let value = Value::Object(Map::new());
        let mut document = Self { value, kind, element, definition, origins: Vec::new(), unknown: Vec::new() };
        match request {
            Some(request) => {
                document.set("request", json!(request));
                document.set("usage", json!(request.usage));
            }
            None => document.unknown.extend(["request", "usage"]),
        }
        document
    }

    fn set(&mut self, key: &str, value: Value) {
        self.value[key] = value;
    }

    fn unknown_of(&mut self, nad: &Nad<'_>) {
        self.unknown.extend(nad.labels.is_none().then_some("nad.labels"));
        self.unknown.extend(nad.annotations.is_none().then_some("nad.annotations"));
    }

    fn configure(&mut self, nad: &Nad<'_>) -> Result<(), Finding> {
        let Some(text) = nad.config else {
            self.unknown.push("config");
            return Ok(());
        };
        if text.trim().is_empty() {
            return Ok(());
        }
        let Canonical { value, origins } = canonical(text)?;
        self.set("config", value);
        self.origins = origins;
        Ok(())
    }

    /// The document itself.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What it is.
    pub fn kind(&self) -> AppliesTo {
        self.kind
    }

    /// Can it have all of these parts?
    pub(super) fn knows(&self, uses: &BTreeSet<String>) -> bool {
        let is_unknown = |used: &String| {
            self.unknown.iter().any(|unknown| {
                let (part, whole) = (used.to_ascii_lowercase(), unknown.to_ascii_lowercase());
                part == whole || part.strip_prefix(&whole).is_some_and(|rest| rest.starts_with('.'))
            })
        };
        !uses.iter().any(is_unknown)
    }

    /// The path by which its author knows the whole document.
    pub(super) fn whole(&self) -> String {
        if self.element.is_empty() { CONFIG.to_owned() } else { self.element.clone() }
    }

    /// The path by which its author knows a node.
    pub(super) fn path(&self, steps: &[Step<'_>]) -> String {
        let Some((Step::Key(part), rest)) = steps.split_first() else { return self.whole() };
        match *part {
            "config" => {
                let inside = self.in_config(rest);
                if self.element.is_empty() {
                    inside
                } else {
                    format!("{} ({} {inside})", self.element, self.definition)
                }
            }
            "attachment" => join(self.element.clone(), rest),
            "nad" if !self.element.is_empty() => join(self.element.clone(), without_own(rest)),
            "nad" | "pod" => join("metadata".to_owned(), rest),
            part => join(part.to_owned(), rest),
        }
    }

    fn in_config(&self, steps: &[Step<'_>]) -> String {
        let [Step::Key("plugins"), Step::Index(i), rest @ ..] = steps else { return join(CONFIG.to_owned(), steps) };
        let Some(origin) = self.origins.get(*i) else { return join(CONFIG.to_owned(), steps) };
        let plugin = under(CONFIG.to_owned(), &origin.path);
        match rest {
            [Step::Key("subnets"), Step::Index(i), ..] if *i < origin.subnets.len() => {
                under(plugin, &origin.subnets[*i])
            }
            rest => join(plugin, rest),
        }
    }
}

fn document_nad(nad: &Nad<'_>) -> Value {
    let mut told = json!({"name": nad.name});
    set_some(&mut told, "namespace", Some(nad.namespace).filter(|namespace| !namespace.is_empty()));
    set_some(&mut told, "labels", nad.labels);
    set_some(&mut told, "annotations", nad.annotations);
    told
}

fn set_some(object: &mut Value, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

/// `own` is no field of anybody's.
fn without_own<'s, 'a>(steps: &'s [Step<'a>]) -> &'s [Step<'a>] {
    if steps == [Step::Key("own")] { &[] } else { steps }
}

fn under(at: String, path: &str) -> String {
    if path.is_empty() { at } else { format!("{at}.{path}") }
}

fn join(mut at: String, steps: &[Step<'_>]) -> String {
    for step in steps {
        match step {
            Step::Index(i) => at.push_str(&format!("[{i}]")),
            // As `metadata.labels[meta-cni.io/level]`.
            Step::Key(key) if key.contains(['.', '/', '[', ' ']) => at.push_str(&format!("[{key}]")),
            Step::Key(key) => {
                at.push('.');
                at.push_str(key);
            }
        }
    }
    at
}
