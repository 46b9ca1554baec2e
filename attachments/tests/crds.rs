//! The shipped CRDs. Of our own group every field is bounded, so that no object of a tenant can fill etcd, or a program that
//! reads it. A kind of others, which may be installed already, is shipped as lax as its specification: `kubectl apply` over it
//! must not make objects invalid that are there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// The group of our own kinds.
const OURS: &str = "meta-cni.io";
/// What bounds a value, by the keys of a schema.
const BOUNDS: &[&str] =
    &["maxLength", "maxItems", "maxProperties", "minLength", "minItems", "pattern", "enum", "x-kubernetes-validations"];

/// Every place of a schema that an object may fill without end.
fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
    let mut want = |key: &str| {
        if schema.get(key).is_none() {
            found.push(format!("{path}: {key}"));
        }
    };
    match schema["type"].as_str() {
        Some("string") if schema.get("enum").is_none() => want("maxLength"),
        Some("array") => want("maxItems"),
        Some("object") if schema.get("additionalProperties").is_some() => want("maxProperties"),
        _ => {}
    }
    if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
        found.push(format!("{path}: unknown fields"));
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(&format!("{path}.{key}"), property, found);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            unbounded(&format!("{path}[]"), inner, found);
        }
    }
}

/// Every bound of a schema.
fn bounds(path: &str, schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                if BOUNDS.contains(&key.as_str()) {
                    found.push(format!("{path}.{key}"));
                }
                bounds(&format!("{path}.{key}"), value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| bounds(path, item, found)),
        _ => {}
    }
}

#[test]
fn our_kinds_are_bounded_and_those_of_others_are_not() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let mut kinds = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let crd: Value = serde_saphyr::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        if crd["kind"] != "CustomResourceDefinition" {
            continue;
        }
        kinds += 1;
        let name = crd["metadata"]["name"].as_str().unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let (schema, mut found) = (&version["schema"]["openAPIV3Schema"], Vec::new());
            if crd["spec"]["group"] == OURS {
                unbounded(name, schema, &mut found);
            } else {
                bounds(name, schema, &mut found);
            }
            assert_eq!(found, Vec::<String>::new());
        }
    }
    assert!(kinds >= 1);
}

#[test]
fn the_looks_themselves_see() {
    let schema = json!({"type": "object", "properties": {
        "free": {"type": "string"},
        "short": {"type": "string", "maxLength": 63},
        "one": {"type": "string", "enum": ["a"]},
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let (mut loose, mut tight) = (Vec::new(), Vec::new());
    unbounded("x", &schema, &mut loose);
    assert_eq!(loose, ["x.any: unknown fields", "x.free: maxLength", "x.list: maxItems", "x.list[]: maxLength"]);
    bounds("x", &schema, &mut tight);
    assert_eq!(tight, ["x.properties.map.maxProperties", "x.properties.one.enum", "x.properties.short.maxLength"]);
}
