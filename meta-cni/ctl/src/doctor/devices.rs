//! The kubelet's socket that tells pods' devices, where definitions name resources.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use attachments::definition::RESOURCE_NAME;
use meta_cni_kube::{PageSize, Pages, Selector, Shape};
use serde_json::Value;

use super::finding::{Finding, Severity};
use super::{Place, on_host};
use crate::access::{Api, block_on};

const DEFINITIONS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

/// Looks for it. Where nobody can be asked for definitions, D43 or D44 says so.
pub fn examine(place: &Place, api: &Api, findings: &mut Vec<Finding>) {
    if !api.is_named() && !api.is_usual() {
        return;
    }
    let socket = place.kubelet_dir.join("pod-resources/kubelet.sock");
    let Err(error) = UnixStream::connect(on_host(&socket)) else { return };
    let asked = block_on(async {
        tokio::time::timeout(Duration::from_secs(10), of_a_resource(api)).await.map_err(|_| "no answer".to_owned())?
    });
    findings.extend(asked.ok().flatten().map(|(name, resource)| finding(&socket, &error, &name, &resource)));
}

fn finding(socket: &Path, error: &io::Error, name: &str, resource: &str) -> Finding {
    let found = format!(
        "the kubelet does not tell pods' devices at {}: {error}; {name} takes devices of {resource}",
        socket.display()
    );
    let advice = "name the kubelet's directory to agent and doctor (--kubelet-dir), and see that the kubelet runs: until then its checkpoint alone tells, and no claims";
    Finding::new("D45", Severity::Warning, found, advice)
}

/// A definition that names a resource, and the resource.
async fn of_a_resource(api: &Api) -> Result<Option<(String, String)>, String> {
    let access = api.open().await?;
    let (every, size) = (Selector::default(), PageSize { objects: 500, bytes: 4 << 20 });
    let mut pages: Pages<Value> = Pages::new(access.client, DEFINITIONS, every, Shape::Metadata, size);
    while let Some(objects) = pages.next().await.map_err(|e| e.to_string())? {
        if let Some(found) = objects.iter().find_map(resource_of) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn resource_of(definition: &Value) -> Option<(String, String)> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let metadata = &definition["metadata"];
    let resource = text(&metadata["annotations"][RESOURCE_NAME])?;
    Some((format!("{}/{}", text(&metadata["namespace"])?, text(&metadata["name"])?), resource))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_that_names_a_resource_is_found() {
        let of = |annotations: Value| {
            resource_of(&json!({"metadata": {"namespace": "n", "name": "a", "annotations": annotations}}))
        };
        assert_eq!(of(json!({RESOURCE_NAME: "v/nic"})), Some(("n/a".to_owned(), "v/nic".to_owned())));
        for none in [json!({RESOURCE_NAME: ""}), json!({"other": "x"}), Value::Null] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn what_is_found_names_socket_and_definition() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("kubelet.sock");
        let error = UnixStream::connect(&socket).unwrap_err();
        let one = finding(&socket, &error, "n/a", "v/nic");
        assert!(one.found.contains("kubelet.sock: No such file") && one.found.ends_with("n/a takes devices of v/nic"));
        // Who cannot ask for definitions says so elsewhere.
        let mut findings = Vec::new();
        let api = Api { kubeconfig: Some(dir.path().join("none")), context: None };
        examine(&Place::below(dir.path()), &api, &mut findings);
        assert_eq!(findings, []);
    }
}
