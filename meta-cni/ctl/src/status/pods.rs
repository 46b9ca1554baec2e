//! Pods as the API server knows them: what they ask for, and what their `network-status` says.

use std::collections::BTreeMap;

use attachments::dialect::Dialects;
use attachments::names::ObjectName;
use attachments::selection::Selection;
use attachments::status::NETWORK_STATUS;
use meta_cni::node::MULTUS_NAMESPACE;
use meta_cni_kube::{Access, Selector};
use serde_json::Value;

use super::compare;
use crate::access;

/// One pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `namespace/name`.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node; empty while it has none.
    pub node: String,
    /// `status.phase`.
    pub phase: String,
    /// Its `network-status`.
    pub status: Option<String>,
    /// What it asks for and does not show.
    pub differences: Vec<String>,
}

impl Pod {
    /// Is it the pod with this uid? A pod without one is taken for it.
    pub fn is_of(&self, uid: Option<&str>) -> bool {
        uid.is_none_or(|uid| uid == self.uid)
    }

    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let status = metadata["annotations"][NETWORK_STATUS].as_str().map(str::to_owned);
        let phase = text(&object["status"]["phase"]);
        // Before its sandbox is made there is nothing to show, and nothing comes after its end.
        let has_sandbox = object["status"]["podIP"].is_string() || phase == "Running";
        let is_due =
            object["spec"]["hostNetwork"] != true && has_sandbox && !matches!(phase.as_str(), "Succeeded" | "Failed");
        let differences = match wanted(object) {
            Err(why) => vec![why],
            Ok(wanted) if is_due && !(wanted.is_empty() && status.is_none()) => {
                compare::wanted(&wanted, status.as_deref())
            }
            Ok(_) => Vec::new(),
        };
        Self {
            name: format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"])),
            uid: text(&metadata["uid"]),
            node: text(&object["spec"]["nodeName"]),
            phase,
            status,
            differences,
        }
    }
}

/// What a pod selects: the name in `network-status`, and the interface where it is asked for.
fn wanted(object: &Value) -> Result<Vec<(String, Option<String>)>, String> {
    let text = |key: &str| object["metadata"]["annotations"][key].as_str();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").parse::<ObjectName>();
    let (Ok(namespace), Ok(multus)) = (namespace, MULTUS_NAMESPACE.parse()) else { return Ok(Vec::new()) };
    let selection = Selection::from_annotations(text, &namespace, &multus, &Dialects::default());
    let selection = selection.map_err(|finding| finding.to_string())?;
    let each = |one: &attachments::selection::NetworkSelection| {
        (one.target.to_string(), one.interface.as_ref().map(ToString::to_string))
    };
    Ok(selection.networks.iter().map(each).collect())
}

/// These pods; none for one that is not there.
pub async fn named(
    access: &Access,
    names: &[(String, String)],
) -> Result<BTreeMap<(String, String), Option<Pod>>, String> {
    let mut found = BTreeMap::new();
    for (namespace, name) in names {
        let object = access::object(access, &format!("/api/v1/namespaces/{namespace}/pods"), name).await?;
        found.insert((namespace.clone(), name.clone()), object.as_ref().map(Pod::of));
    }
    Ok(found)
}

/// The pods of a node that have networks of their own, or a status.
pub async fn on_node(access: &Access, node: &str) -> Result<Vec<Pod>, String> {
    if access::object(access, "/api/v1/nodes", node).await?.is_none() {
        return Err(format!("node {node}: the API server has no such node"));
    }
    let fields = format!("spec.nodeName={node}");
    let selector = Selector { fields: Some(&fields), labels: None };
    let mut pods = Vec::new();
    access::list(access, "/api/v1/pods", selector, |object| pods.push(Pod::of(&object))).await?;
    pods.retain(|pod| pod.status.is_some() || !pod.differences.is_empty());
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(networks: &str, status: Option<&str>, rest: Value) -> Pod {
        let mut annotations = json!({"k8s.v1.cni.cncf.io/networks": networks});
        if let Some(status) = status {
            annotations[NETWORK_STATUS] = json!(status);
        }
        let mut object =
            json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u", "annotations": annotations}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        Pod::of(&object)
    }

    #[test]
    fn a_pod_shows_what_it_asks_for_once_it_has_a_sandbox() {
        let running = json!({"status": {"phase": "Running"}});
        let shown = r#"[{"name":"cbr0","interface":"eth0"},{"name":"shop/lan","interface":"net1"}]"#;
        assert!(pod("lan", Some(shown), running.clone()).differences.is_empty());
        assert_eq!(
            pod("lan, lan", Some(shown), running.clone()).differences,
            ["shop/lan is asked for and not in network-status"]
        );
        assert_eq!(pod("lan", None, running.clone()).differences, ["network-status is not written"]);
        for unheard in [
            json!({"status": {"phase": "Pending"}}),
            json!({"status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}),
            json!({"status": {"phase": "Running"}, "spec": {"hostNetwork": true}}),
        ] {
            assert!(pod("lan", None, unheard.clone()).differences.is_empty(), "{unheard}");
        }
        assert!(pod("[{", None, running).differences[0].contains("k8s.v1.cni.cncf.io/networks"));
        assert!(pod("", None, json!({})).is_of(None) && !pod("", None, json!({})).is_of(Some("v")));
    }
}
