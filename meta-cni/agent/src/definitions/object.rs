//! A definition as the API server answers it, read as far as an attachment depends on it.

use attachments::definition::{NetworkAttachmentDefinitionSpec, RESOURCE_NAME};
use meta_cni::cluster::wire::{LONGEST_DEFINITION, Outcome};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::watch::SeenMeta;

/// Longest name of a resource: a domain's, a slash and a label (Kubernetes' own rule), with room.
const LONGEST_RESOURCE: usize = 512;
/// Longest reason that is quoted.
const LONGEST_REASON: usize = 300;

#[derive(Deserialize)]
struct Object<'a> {
    metadata: SeenMeta,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

/// Version and content of an object. One that does not parse, or is too large, is an error of its own.
pub fn read(json: &[u8]) -> Result<(String, Outcome), serde_json::Error> {
    let object: Object<'_> = serde_json::from_slice(json)?;
    let SeenMeta { resource_version, mut annotations, .. } = object.metadata;
    let spec = object.spec.map_or("null", RawValue::get);
    let outcome = match serde_json::from_str::<Option<NetworkAttachmentDefinitionSpec>>(spec) {
        Ok(spec) => found(spec.and_then(|spec| spec.config), annotations.remove(RESOURCE_NAME)),
        Err(e) => Outcome::Broken { reason: shortened(format!("spec: {e}")) },
    };
    Ok((resource_version, outcome))
}

fn found(config: Option<String>, resource_name: Option<String>) -> Outcome {
    let length = config.as_ref().map_or(0, String::len);
    if length > LONGEST_DEFINITION {
        return Outcome::TooLarge { size: length as u64, limit: LONGEST_DEFINITION as u64 };
    }
    match resource_name.as_ref().map_or(0, String::len) {
        long if long > LONGEST_RESOURCE => Outcome::Broken {
            reason: format!("metadata.annotations[{RESOURCE_NAME}]: got {long} bytes, want at most {LONGEST_RESOURCE}"),
        },
        _ => Outcome::Found { config, resource_name },
    }
}

fn shortened(mut text: String) -> String {
    let end = (0..=LONGEST_REASON.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(annotations: Value, spec: Value) -> Outcome {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "n", "name": "a", "resourceVersion": "7", "annotations": annotations},
            "spec": spec,
        });
        let (revision, outcome) = read(object.to_string().as_bytes()).unwrap();
        assert_eq!(revision, "7");
        outcome
    }

    #[test]
    fn an_object_that_does_not_parse_is_an_error_of_its_own() {
        let found = Outcome::Found { config: Some("{}".into()), resource_name: Some("r".into()) };
        assert_eq!(of(json!({RESOURCE_NAME: "r", "other": "x"}), json!({"config": "{}"})), found);
        assert_eq!(of(json!({}), Value::Null), Outcome::Found { config: None, resource_name: None });
        assert!(matches!(of(json!({}), json!({"config": 7})), Outcome::Broken { reason } if reason.contains('7')));
        let long = json!({ "config": [], "x": "y".repeat(1000) });
        assert!(matches!(of(json!({}), long), Outcome::Broken { reason } if reason.len() <= LONGEST_REASON));
        assert!(read(b"[]").is_err() && read(b"{}").is_err());
    }

    #[test]
    fn what_is_too_large_is_not_carried() {
        let fits = Outcome::Found { config: Some("x".repeat(LONGEST_DEFINITION)), resource_name: None };
        assert_eq!(of(json!({}), json!({"config": "x".repeat(LONGEST_DEFINITION)})), fits);
        let (size, limit) = (LONGEST_DEFINITION as u64 + 1, LONGEST_DEFINITION as u64);
        let over = of(json!({}), json!({"config": "x".repeat(LONGEST_DEFINITION + 1)}));
        assert_eq!(over, Outcome::TooLarge { size, limit });
        let resource = of(json!({RESOURCE_NAME: "x".repeat(600)}), json!({}));
        assert!(matches!(resource, Outcome::Broken { reason } if reason.contains("got 600 bytes, want at most 512")));
    }
}
