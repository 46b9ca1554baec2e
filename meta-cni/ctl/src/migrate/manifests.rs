//! What a migration reads and prints: manifests and files of nodes, definitions, and a line for each thing that stays behind.

use std::path::Path;

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use meta_cni::cluster::manifest;
use serde_json::{Value, json};

/// What becomes of the files.
#[derive(Debug, Default)]
pub struct Migration {
    /// The objects, each with what is to be known of it.
    pub objects: Vec<(Vec<String>, Value)>,
    /// What cannot be moved, a line each.
    pub left: Vec<String>,
    /// What is left out and missed by nobody, a line each.
    pub skipped: Vec<String>,
}

/// A document of a file.
pub enum Part {
    /// A configuration of a node, by the name of its file.
    Conf {
        /// The file's name, without its directory.
        file: String,
        /// Its text.
        text: String,
    },
    /// An object.
    Object(Value),
}

/// Reads the files by name and text. Fails with the first that cannot be read.
pub fn read_all(files: &[(String, String)]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (name, text) in files {
        read(name, text, &mut parts)?;
    }
    Ok(parts)
}

fn read(name: &str, text: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    let file = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if file.ends_with(".conf") || file.ends_with(".conflist") {
        Object::parse(text.as_bytes()).map_err(|e| format!("{name}: {e}; want a JSON object"))?;
        parts.push(Part::Conf { file, text: text.to_owned() });
        return Ok(());
    }
    for (i, document) in manifest::documents(text).into_iter().enumerate() {
        let object = manifest::value(document).map_err(|why| format!("{name}: document {}: {why}", i + 1))?;
        each(object, &mut |object| parts.push(Part::Object(object)));
    }
    Ok(())
}

/// Each object of a document: those of a list by themselves.
pub fn each(mut object: Value, take: &mut impl FnMut(Value)) {
    let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut).filter(|_| is_list) {
        return std::mem::take(items).into_iter().for_each(|item| each(item, take));
    }
    // An empty document is none.
    if object.is_object() {
        take(object);
    }
}

/// How messages name an object.
pub fn called(object: &Value) -> String {
    let text = |value: &Value, usual: &str| value.as_str().unwrap_or(usual).to_owned();
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"], "object"),
        text(&metadata["namespace"], "default"),
        text(&metadata["name"], "")
    )
}

/// A definition.
pub fn definition(namespace: &str, name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": config},
    })
}

/// A configuration as the text of a definition.
pub fn config(conf: &NetworkConf) -> String {
    let plugins: Vec<&Object> = conf.plugins.iter().map(|plugin| &plugin.object).collect();
    match plugins.as_slice() {
        [alone] if alone.get("cniVersion").is_some() => alone.to_json(),
        _ => {
            let mut list = Object::new();
            list.set("cniVersion", &conf.version.as_str());
            list.set_some("name", conf.name.as_ref());
            list.set("plugins", &plugins);
            list.to_json()
        }
    }
}
