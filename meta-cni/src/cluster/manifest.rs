//! One Kubernetes manifest as text: as much of it as we read, and how an annotation is set in it.

use std::net::IpAddr;
use std::path::Path;

use attachments::cni::object::Object;
use attachments::dialect::danm::tenant;
use attachments::dialect::objects::{ForeignRef, Kind, meaning};
use attachments::finding::Finding;
use attachments::names::ObjectName;
use attachments::policy::{self, Labels};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{Annotations, yaml};
use crate::fault::{Fault, Result};

/// The fields that we read of a Pod or a NetworkAttachmentDefinition.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `metadata`.
    pub metadata: Metadata,
    /// `spec.config` of a definition.
    pub config: Option<String>,
}

/// `metadata`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// `name`.
    pub name: String,
    /// `namespace`, if it is said.
    pub namespace: Option<String>,
    /// `uid`, if it is said.
    pub uid: Option<String>,
    /// `annotations`.
    pub annotations: Annotations,
}

impl Metadata {
    fn read(object: &Object) -> std::result::Result<Self, Finding> {
        let mut annotations = Annotations::new();
        let written = object.object("annotations")?.unwrap_or_default();
        for (key, _) in written.iter() {
            let value = written.text(key).map_err(|finding| finding.under("annotations"))?;
            annotations.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(Self {
            name: object.text("name")?.unwrap_or_default(),
            namespace: object.text("namespace")?,
            uid: object.text("uid")?,
            annotations,
        })
    }

    /// The namespace; `default` where none is said, as kubectl has it.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

/// The documents of a file; each starts with its `---` line, so that joined they are the file again.
pub fn documents(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > 0 && (line.trim_end() == "---" || line.starts_with("--- ")) {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// The manifest, if it is of this kind. A document of the kind that does not parse is an error that names the file.
pub fn parse(document: &str, path: &Path, kind: &str) -> Result<Option<Manifest>> {
    let wrong = |why: String| Fault::Config(format!("manifest {}: {why}", path.display()));
    match of_kind(document, kind).map_err(wrong)? {
        Some(object) => Manifest::read(&object).map(Some).map_err(|finding| wrong(finding.to_string())),
        None => Ok(None),
    }
}

impl Manifest {
    fn read(object: &Object) -> std::result::Result<Self, Finding> {
        let spec = object.object("spec")?.unwrap_or_default();
        Ok(Self {
            metadata: match object.object("metadata")? {
                Some(metadata) => Metadata::read(&metadata).map_err(|finding| finding.under("metadata"))?,
                None => Metadata::default(),
            },
            config: spec.text("config").map_err(|finding| finding.under("spec"))?,
        })
    }
}

/// A document as it is, whatever it is; an empty one is `null`.
pub fn value(document: &str) -> std::result::Result<serde_json::Value, String> {
    if is_json(document) { serde_json::from_str(document).map_err(|e| e.to_string()) } else { yaml::read(document) }
}

/// The InternalIPs of a Node; none of a document of another kind.
pub fn internal_ips(document: &str, path: &Path) -> Result<Vec<IpAddr>> {
    // A damaged document that may be no Node's is not ours to refuse: whoever needs what it holds says so.
    let Some(node) = of_kind(document, "Node").ok().flatten() else { return Ok(Vec::new()) };
    let read = || -> std::result::Result<Vec<IpAddr>, Finding> {
        let status = node.object("status")?.unwrap_or_default();
        let addresses = status.objects("addresses").map_err(|finding| finding.under("status"))?;
        let read = |address: &Object| match address.text("type")?.as_deref() {
            Some("InternalIP") => address.parsed("address", "an IP address"),
            _ => Ok(None),
        };
        let under = |i| move |finding: Finding| finding.under(&format!("status.addresses[{i}]"));
        let found = addresses.iter().enumerate().filter_map(|(i, one)| read(one).map_err(under(i)).transpose());
        found.collect()
    };
    read().map_err(|finding| Fault::Config(format!("manifest {}: {finding}", path.display())))
}

/// Takes what a Namespace, an AttachmentPolicy or an AttachmentLevel says. A damaged one is an error: nobody knows what it
/// forbids.
pub fn policies(document: &str, path: &Path, facts: &mut policy::Facts) -> Result<()> {
    let wrong = |why: String| Fault::Config(format!("manifest {}: {why}", path.display()));
    for kind in ["Namespace", "AttachmentPolicy", "AttachmentLevel"] {
        let Some(object) = of_kind(document, kind).map_err(wrong)? else { continue };
        let metadata = object.object("metadata").map_err(|e| wrong(e.to_string()))?.unwrap_or_default();
        let name = metadata.text("name").map_err(|e| wrong(e.under("metadata").to_string()))?.unwrap_or_default();
        match kind {
            "Namespace" => {
                let labels = metadata.decode::<Labels>("labels", "a map of strings");
                let labels = labels.map_err(|e| wrong(e.under("metadata").to_string()))?;
                facts.namespaces.insert(name, labels.unwrap_or_default());
            }
            "AttachmentPolicy" => drop(facts.policies.insert(name, spec(&object).map_err(wrong)?)),
            _ => drop(facts.levels.insert(name, spec(&object).map_err(wrong)?)),
        }
    }
    Ok(())
}

/// The object of a dialect, with the JSON of its `spec`, if the document is one of these kinds.
pub fn foreign(document: &str, path: &Path, kinds: &[Kind]) -> Result<Option<(ForeignRef, String)>> {
    let wrong = |why: String| Fault::Config(format!("manifest {}: {why}", path.display()));
    for (kind, word) in kinds.iter().flat_map(|kind| kind.spellings().iter().map(move |word| (*kind, *word))) {
        let Some(object) = of_kind(document, word).map_err(wrong)? else { continue };
        let read = || {
            let metadata = object.object("metadata")?.unwrap_or_default();
            let metadata = Metadata::read(&metadata).map_err(|finding| finding.under("metadata"))?;
            let at = |finding: Finding| finding.under("metadata");
            let namespace: ObjectName = metadata.namespace().parse().map_err(|e: Finding| at(e.under("namespace")))?;
            let name = metadata.name.parse().map_err(|e: Finding| at(e.under("name")))?;
            Ok(ForeignRef::within(&namespace, kind, name))
        };
        let reference = read().map_err(|finding: Finding| wrong(finding.to_string()))?;
        let field = |key: &str| match object.get(key) {
            Some(text) => serde_json::from_str(text.get()).map_err(|e| wrong(format!("{key}: {e}"))),
            None => Ok(Value::Null),
        };
        let says = match (kind, field("spec")?) {
            (Kind::TenantConfig, _) => {
                let [devices, ids, privileges] = tenant::KEYS.map(field);
                tenant::says([devices?, ids?, privileges?])
            }
            (_, Value::Null) => Value::Object(serde_json::Map::new()),
            (_, spec) => spec,
        };
        return Ok(Some((reference, meaning(kind, says).to_string())));
    }
    Ok(None)
}

/// `spec` of an object of ours.
fn spec<T: DeserializeOwned>(object: &Object) -> std::result::Result<T, String> {
    let text = object.get("spec").map_or("{}", |spec| spec.get());
    serde_json::from_str(text).map_err(|e| format!("spec: {e}"))
}

/// The document as an object, if it is of this kind.
fn of_kind(document: &str, kind: &str) -> std::result::Result<Option<Object>, String> {
    // Reading YAML costs more than looking for a word that hardly any document holds.
    if !document.contains(kind) {
        return Ok(None);
    }
    let json = document.trim_start().starts_with('{').then(|| Object::parse(document.as_bytes()).ok()).flatten();
    let object = match json {
        Some(object) => object,
        None => Object::parse(yaml::read(document)?.to_string().as_bytes()).map_err(|e| e.to_string())?,
    };
    // Manifests of other kinds may look however they like.
    Ok(object.text("kind").ok().flatten().is_some_and(|found| found == kind).then_some(object))
}

/// The document with an annotation set. Comments and layout of YAML stay as they are where the annotations are written in
/// block style; otherwise the document is written anew.
pub fn annotate(document: &str, path: &Path, key: &str, value: &str) -> Result<String> {
    let failed = |e: String| Fault::Config(format!("manifest {}: cannot set {key}: {e}", path.display()));
    if is_json(document) {
        return annotate_json(document, key, value).map_err(|e| failed(e.to_string()));
    }
    let wanted = annotated_value(document, key, value).map_err(failed)?;
    // Editing text is a guess at its layout; only a reading of the outcome shows that the guess was right.
    let edited = edit_block(document, key, value).filter(|text| yaml::read(text).is_ok_and(|value| value == wanted));
    match edited {
        Some(text) => Ok(text),
        None => {
            let separator = document.lines().next().filter(|line| line.starts_with("---")).map_or("", |_| "---\n");
            Ok(format!("{separator}{}", yaml::write(&wanted)))
        }
    }
}

fn annotate_json(document: &str, key: &str, value: &str) -> std::result::Result<String, serde_json::Error> {
    let mut manifest = Object::parse(document.as_bytes())?;
    let mut metadata = manifest.object("metadata").ok().flatten().unwrap_or_default();
    let mut annotations = metadata.object("annotations").ok().flatten().unwrap_or_default();
    annotations.set(key, &value);
    metadata.set("annotations", &annotations);
    manifest.set("metadata", &metadata);
    Ok(format!("{}\n", manifest.to_json()))
}

fn annotated_value(document: &str, key: &str, value: &str) -> std::result::Result<serde_json::Value, String> {
    let mut manifest = yaml::read(document)?;
    let annotations = &mut manifest["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = serde_json::json!({});
    }
    annotations[key] = value.into();
    Ok(manifest)
}

/// Sets the annotation in block-style YAML: in place of its old value, or as the first annotation.
fn edit_block(document: &str, key: &str, value: &str) -> Option<String> {
    let lines: Vec<&str> = document.split_inclusive('\n').collect();
    let metadata = lines.iter().position(|line| line.trim_end() == "metadata:")?;
    let inside = block(&lines, metadata);
    let indent = indent_of(lines.get(inside.start)?);
    let annotations = inside.clone().find(|i| indent_of(lines[*i]) == indent && lines[*i].trim() == "annotations:");
    let mut out: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    match annotations {
        Some(at) => {
            let inside = block(&lines, at);
            let child = inside.clone().next().map_or(indent + 2, |i| indent_of(lines[i]));
            let old = inside.clone().find(|i| {
                indent_of(lines[*i]) == child && lines[*i].trim_start().trim_start_matches(['"', '\'']).starts_with(key)
            });
            let entry = literal(key, value, child);
            match old {
                Some(old) => {
                    let end = block(&lines, old).end;
                    out.splice(old..end, [entry]);
                }
                None => out.insert(at + 1, entry),
            }
        }
        None => {
            let entry = literal(key, value, indent + 2);
            out.insert(metadata + 1, format!("{}annotations:\n{entry}", " ".repeat(indent)));
        }
    }
    Some(out.concat())
}

/// The lines below `head` that are indented deeper than it.
fn block(lines: &[&str], head: usize) -> std::ops::Range<usize> {
    let depth = indent_of(lines[head]);
    let deeper = |line: &str| line.trim().is_empty() || indent_of(line) > depth;
    let mut end = head + 1 + lines[head + 1..].iter().take_while(|line| deeper(line)).count();
    while end > head + 1 && lines[end - 1].trim().is_empty() {
        end -= 1;
    }
    head + 1..end
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// `key: |-` and the value as it is, line by line: people read it.
fn literal(key: &str, value: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let body: String = value.lines().map(|line| format!("{pad}  {line}\n")).collect();
    format!("{pad}{key}: |-\n{body}")
}

/// What a document is shows in its text, whatever its file is called: flow-style YAML is not always JSON.
fn is_json(document: &str) -> bool {
    document.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(document).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k8s.v1.cni.cncf.io/network-status";

    fn set(document: &str, value: &str) -> String {
        let text = annotate(document, Path::new("x.yaml"), KEY, value).unwrap();
        let manifest = parse(&text, Path::new("x.yaml"), "Pod").unwrap().unwrap();
        assert_eq!(manifest.metadata.annotations[KEY], value, "{text}");
        text
    }

    #[test]
    fn block_style_keeps_comments_and_order() {
        let pod = "kind: Pod # a pod\nmetadata:\n  name: a\n  # nets\n  annotations:\n    x: y # why\nspec:\n  a: 1\n";
        let once = set(pod, "[{\n    \"a\": 1\n}]");
        assert!(once.contains("# a pod") && once.contains("# nets") && once.contains("x: y # why"));
        assert_eq!(set(&once, "[]").lines().count(), pod.lines().count() + 2);
    }

    #[test]
    fn annotations_are_made_where_there_are_none() {
        let text = set("kind: Pod\nmetadata:\n  name: a\n", "[]");
        assert_eq!(text, format!("kind: Pod\nmetadata:\n  annotations:\n    {KEY}: |-\n      []\n  name: a\n"));
    }

    #[test]
    fn other_styles_are_written_anew_with_the_same_content() {
        for pod in [
            "kind: Pod\nmetadata: {name: a, labels: {x: 'y'}}\n",
            "---\nkind: Pod\nmetadata:\n  name: a\n  annotations: {x: y}\n",
            "kind: Pod\nmetadata:\n  name: a\n  annotations:\n",
        ] {
            let text = set(pod, "[1]");
            assert!(text.contains("name: a"), "{text}");
            assert_eq!(text.starts_with("---"), pod.starts_with("---"));
        }
    }

    #[test]
    fn a_node_tells_its_internal_addresses_and_no_other_kind_does() {
        let addresses = "status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.0.0.5}, {type: InternalIP, address: 'fd00::5'}, {type: ExternalIP, address: 192.0.2.1}]}";
        let ips = |document: &str| internal_ips(document, Path::new("n.yaml"));
        let two: Vec<IpAddr> = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(ips(&format!("kind: Node\n{addresses}\n")).unwrap(), two);
        let json = r#"{"kind":"Node","status":{"addresses":[{"type":"InternalIP","address":"10.0.0.5"}]}}"#;
        assert_eq!(ips(json).unwrap(), two[..1]);
        for other in
            ["", "kind: Node\n", "kind: Node\nstatus:\n", "kind: [Node\n", &format!("kind: NodeClass\n{addresses}\n")]
        {
            assert_eq!(ips(other).unwrap(), Vec::<IpAddr>::new(), "{other}");
        }
        let fault =
            ips("kind: Node\nstatus: {addresses: [{type: InternalIP, address: n1}]}\n").unwrap_err().to_string();
        assert_eq!(fault, r#"manifest n.yaml: status.addresses[0].address: got "n1", want an IP address"#);
    }

    #[test]
    fn json_stays_json() {
        let pod = r#"{"kind":"Pod","metadata":{"name":"a","big":12345678901234567890}}"#;
        let text = annotate(pod, Path::new("x.yaml"), KEY, "[]").unwrap();
        assert!(text.contains("12345678901234567890") && text.contains(r#""annotations":{"k8s.v1"#), "{text}");
    }

    #[test]
    fn documents_join_to_the_file_again() {
        let text = "---\na: 1\n---\nb: |\n  --- no\n--- # c\nc: 1\n";
        let parts = documents(text);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts.concat(), text);
    }
}
