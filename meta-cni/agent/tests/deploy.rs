//! The shipped manifests: what the API server would read in them is all that they say, and they allow no more than the agent
//! needs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The agent's policies: of pods, events, claims, members and blocks.
const POLICIES: usize = 6;

fn kustomization(name: &str) -> (PathBuf, Value) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    let list = serde_saphyr::from_str(&read(&dir.join("kustomization.yaml"))).unwrap();
    (dir, list)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The documents of every file that a kustomization lists.
fn manifests(name: &str) -> Vec<Value> {
    let (dir, list) = kustomization(name);
    let resources = list["resources"].as_array().unwrap().iter().map(|resource| resource.as_str().unwrap());
    let files = resources.filter(|resource| resource.ends_with(".yaml"));
    files.flat_map(|file| serde_saphyr::from_multiple::<Value>(&read(&dir.join(file))).unwrap()).collect()
}

fn find<T: DeserializeOwned>(kind: &str) -> T {
    let of_kind = manifests("kustomize/base").into_iter().find(|manifest| manifest["kind"] == kind);
    serde_json::from_value(of_kind.unwrap_or_else(|| panic!("no {kind}"))).unwrap()
}

fn pod() -> PodSpec {
    find::<DaemonSet>("DaemonSet").spec.unwrap().template.spec.unwrap()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// Every leaf of what is written that the type did not take.
fn unknown(path: &str, written: &Value, read: &Value, lost: &mut Vec<String>) {
    match written {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| unknown(&format!("{path}.{key}"), value, &read[key], lost));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| unknown(&format!("{path}[{i}]"), item, &read[i], lost));
        }
        _ if written != read => lost.push(format!("{path}: {written}")),
        _ => {}
    }
}

fn lost<T: DeserializeOwned + Serialize>(manifest: &Value) -> Vec<String> {
    let read: T = serde_json::from_value(manifest.clone()).unwrap();
    let mut lost = Vec::new();
    unknown(manifest["kind"].as_str().unwrap(), manifest, &serde_json::to_value(&read).unwrap(), &mut lost);
    lost
}

#[test]
fn every_field_is_one_of_its_type() {
    let mut kinds = Vec::new();
    for manifest in ["kustomize/base", "uninstall"].into_iter().flat_map(manifests) {
        let kind = manifest["kind"].as_str().unwrap().to_owned();
        let lost = match kind.as_str() {
            "ServiceAccount" => lost::<ServiceAccount>(&manifest),
            "ClusterRole" => lost::<ClusterRole>(&manifest),
            "ClusterRoleBinding" => lost::<ClusterRoleBinding>(&manifest),
            "ConfigMap" => lost::<ConfigMap>(&manifest),
            "DaemonSet" => lost::<DaemonSet>(&manifest),
            "ValidatingAdmissionPolicy" => lost::<ValidatingAdmissionPolicy>(&manifest),
            "ValidatingAdmissionPolicyBinding" => lost::<ValidatingAdmissionPolicyBinding>(&manifest),
            other => panic!("a manifest of the kind {other} that nothing here looks at"),
        };
        assert!(lost.is_empty(), "{lost:?}");
        kinds.push(kind);
    }
    let (policy, binding) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding");
    let rights = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"];
    let policies = [policy, binding].repeat(POLICIES);
    assert_eq!(kinds, [&rights[..], &policies, &["ConfigMap", "DaemonSet", "DaemonSet"]].concat());
    let misspelt = json!({"kind": "ServiceAccount", "metadata": {"nmae": "x"}});
    assert_eq!(lost::<ServiceAccount>(&misspelt), ["ServiceAccount.metadata.nmae: \"x\""], "the look itself sees");
}

#[test]
fn the_role_allows_what_the_agent_does_and_nothing_else() {
    let role: ClusterRole = find("ClusterRole");
    let mut allowed = Vec::new();
    for rule in role.rules.unwrap() {
        assert!(rule.non_resource_urls.is_none());
        for group in rule.api_groups.unwrap() {
            let resources = rule.resources.iter().flatten();
            allowed.extend(resources.map(|resource| format!("{group}/{resource}: {}", rule.verbs.join(" "))));
        }
    }
    let needed = [
        "/pods: get list watch",
        "/pods/status: patch",
        "/namespaces: get list watch",
        "k8s.cni.cncf.io/network-attachment-definitions: get list watch",
        "meta-cni.io/attachmentpolicies: get list watch",
        "meta-cni.io/attachmentlevels: get list watch",
        "meta-cni.io/vniclaims: get list watch create patch",
        "meta-cni.io/overlaymembers: get list watch create patch delete",
        "meta-cni.io/addressblocks: get list watch create patch delete",
        "meta-cni.io/addressclaims: get list watch create patch delete",
        "meta-cni.io/addressblocks/status: patch",
        "meta-cni.io/addressclaims/status: patch",
        "meta-cni.io/addresssets: get",
        "whereabouts.cni.cncf.io/ippools: list",
        "k8s.cni.cncf.io/ipamclaims: get",
        "k8s.cni.cncf.io/ipamclaims/status: patch",
        "/nodes: get list watch",
        "events.k8s.io/events: create patch",
    ];
    assert_eq!(allowed, needed);
}

#[test]
fn every_policy_is_in_force_and_for_the_agent_alone() {
    let account: ServiceAccount = find("ServiceAccount");
    let metadata = account.metadata;
    let user = format!("system:serviceaccount:{}:{}", metadata.namespace.unwrap(), metadata.name.unwrap());
    let of_kind = |kind: &str| {
        let all = manifests("kustomize/base").into_iter().filter(|manifest| manifest["kind"] == kind);
        all.collect::<Vec<_>>()
    };
    let (policies, bindings) = (of_kind("ValidatingAdmissionPolicy"), of_kind("ValidatingAdmissionPolicyBinding"));
    assert_eq!((policies.len(), bindings.len()), (POLICIES, POLICIES));
    for policy in policies {
        let name = &policy["metadata"]["name"];
        let bound: Vec<_> = bindings.iter().filter(|binding| binding["spec"]["policyName"] == *name).collect();
        assert_eq!(bound.len(), 1, "{name}");
        assert_eq!(bound[0]["spec"]["validationActions"], json!(["Deny"]), "{name}");
        let spec: ValidatingAdmissionPolicySpec = serde_json::from_value(policy["spec"].clone()).unwrap();
        assert_eq!(spec.failure_policy.as_deref(), Some("Fail"), "{name}");
        let conditions = spec.match_conditions.unwrap();
        assert_eq!(conditions[0].expression, format!("request.userInfo.username == '{user}'"), "{name}");
    }
}

#[test]
fn the_agent_runs_beside_everything_and_opens_no_port() {
    let pod = pod();
    assert_eq!((pod.host_network, pod.host_pid), (Some(true), Some(true)));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    let toleration = &pod.tolerations.as_ref().unwrap()[0];
    assert_eq!((toleration.operator.as_deref(), &toleration.key, &toleration.effect), (Some("Exists"), &None, &None));
    for container in containers(&pod) {
        // A port that a host-network pod declares is the node's: a second agent could not come before the first one goes.
        assert!(container.ports.is_none(), "{}", container.name);
        assert_eq!(container.image.as_deref(), Some("meta-cni"), "the name that `images` replaces");
        let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        for probe in probes.into_iter().flatten() {
            assert!(probe.exec.is_some() && probe.tcp_socket.is_none() && probe.http_get.is_none());
        }
    }
    assert!(pod.containers[0].readiness_probe.is_some());
}

#[test]
fn no_container_has_more_of_the_node_than_it_names() {
    let pod = pod();
    for container in containers(&pod) {
        let security = container.security_context.as_ref().unwrap();
        assert!(security.privileged.is_none() && security.read_only_root_filesystem == Some(true));
        assert_eq!(security.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
        let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
        // Throttled, an agent answers late, and every ADD that asks it is late.
        assert!(limits.contains_key("memory") && !limits.contains_key("cpu"));
    }
}

#[test]
fn what_uninstalls_may_do_what_the_agent_may_and_needs_no_directory() {
    let uninstall = manifests("uninstall").into_iter().find(|manifest| manifest["kind"] == "DaemonSet").unwrap();
    let uninstall: DaemonSet = serde_json::from_value(uninstall).unwrap();
    let (agent, pod) = (pod(), uninstall.spec.unwrap().template.spec.unwrap());
    assert_eq!((pod.host_network, pod.host_pid, &pod.volumes), (Some(true), Some(true), &None));
    assert_eq!((pod.automount_service_account_token, pod.tolerations), (Some(false), agent.tolerations));
    let security = |container: &Container| container.security_context.clone().unwrap();
    let agent = security(&agent.containers[0]);
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        assert_eq!(security(container).capabilities, agent.capabilities, "{}", container.name);
        assert!(container.command.as_ref().unwrap().contains(&"--in-host".to_owned()), "{}", container.name);
    }
}

#[test]
fn what_is_deleted_again_holds_no_kind() {
    let (_, whole) = kustomization("kustomize");
    assert_eq!(whole["resources"], json!(["../crds", "base"]));
    assert!(manifests("kustomize/base").iter().all(|manifest| manifest["kind"] != "CustomResourceDefinition"));
}

#[test]
fn the_configuration_that_is_shipped_is_an_empty_one() {
    let map: ConfigMap = find("ConfigMap");
    assert_eq!(serde_json::from_str::<Value>(&map.data.unwrap()["node.json"]).unwrap(), json!({}));
}

#[test]
fn the_image_that_is_named_is_of_this_version() {
    for name in ["kustomize/base", "uninstall"] {
        assert_eq!(kustomization(name).1["images"][0]["newTag"], env!("CARGO_PKG_VERSION"), "{name}");
    }
}

/// The chart's directory.
fn chart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm/meta-cni").join(file)
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each value has a type and a description in the schema; gives the paths that lack one.
fn undescribed(path: &str, value: &Value, schema: &Value, lacking: &mut Vec<String>) {
    let is_described = schema["description"].is_string() && schema["type"].is_string();
    if !path.is_empty() && !is_described {
        lacking.push(path.to_owned());
    }
    // Where the schema names no properties the value is passed on: a toleration, the resources of a container.
    if let (Some(fields), true) = (value.as_object(), schema["properties"].is_object()) {
        for (key, value) in fields {
            undescribed(&format!("{path}.{key}"), value, &schema["properties"][key], lacking);
        }
    }
}

#[test]
fn every_value_of_the_chart_is_described_and_every_described_one_is_there() {
    let (values, schema) = (yaml(&chart("values.yaml")), yaml(&chart("values.schema.json")));
    let mut lacking = Vec::new();
    undescribed("", &values, &schema, &mut lacking);
    assert!(lacking.is_empty(), "{lacking:?}");
    undescribed("", &json!({"new": 1, "agent": {"new": {}}}), &schema, &mut lacking);
    assert_eq!(lacking, [".agent.new", ".new"], "the look itself sees");
    for (part, described) in schema["properties"].as_object().unwrap() {
        for key in described["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            assert!(values[part].get(key).is_some(), "{part}.{key} has no default in values.yaml");
        }
    }
}

#[test]
fn the_chart_is_of_this_version_and_made_of_the_manifests() {
    let about = yaml(&chart("Chart.yaml"));
    assert_eq!(
        (about["version"].as_str(), about["appVersion"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), about["version"].as_str())
    );
    for (link, file) in [
        ("files/base", "kustomize/base"),
        ("files/webhook", "kustomize/webhook"),
        ("files/uninstall", "uninstall"),
        ("files/crds", "crds"),
        ("crds/network-attachment-definitions.yaml", "crds/network-attachment-definitions.yaml"),
    ] {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        assert_eq!(chart(link).canonicalize().unwrap(), deploy.join(file).canonicalize().unwrap(), "{link}");
    }
    // A file that is new in the manifests is a file of the chart, too.
    let agent = read(&chart("templates/agent.yaml"));
    for resource in kustomization("kustomize/base").1["resources"].as_array().unwrap() {
        let name = resource.as_str().unwrap();
        assert!(name == "../webhook" || agent.contains(&format!("{:?}", name.trim_end_matches(".yaml"))), "{name}");
    }
    let webhook = read(&chart("templates/webhook.yaml"));
    for resource in kustomization("kustomize/webhook").1["resources"].as_array().unwrap() {
        let name = resource.as_str().unwrap().trim_end_matches(".yaml");
        assert!(webhook.contains(&format!("{name:?}")), "{name}");
    }
}
