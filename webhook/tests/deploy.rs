//! The shipped manifests: every field is one of its type, nobody has more rights than the webhook needs, and no webhook is left to
//! defaults.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhook,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn kustomization(dir: &str) -> (std::path::PathBuf, Value) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(dir);
    let list = serde_saphyr::from_str(&read(&dir.join("kustomization.yaml"))).unwrap();
    (dir, list)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn manifests(dir: &str) -> Vec<Value> {
    let (dir, list) = kustomization(dir);
    let files = list["resources"].as_array().unwrap().iter().map(|file| file.as_str().unwrap());
    files.flat_map(|file| serde_saphyr::from_multiple::<Value>(&read(&dir.join(file))).unwrap()).collect()
}

fn find<T: DeserializeOwned>(kind: &str) -> T {
    let found = manifests("kustomize/webhook").into_iter().find(|manifest| manifest["kind"] == kind);
    serde_json::from_value(found.unwrap_or_else(|| panic!("no {kind}"))).unwrap()
}

fn configuration() -> ValidatingWebhookConfiguration {
    find("ValidatingWebhookConfiguration")
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
    let read: T = serde_json::from_value(manifest.clone()).unwrap_or_else(|e| panic!("{e}: {manifest}"));
    let mut lost = Vec::new();
    unknown(manifest["kind"].as_str().unwrap(), manifest, &serde_json::to_value(&read).unwrap(), &mut lost);
    lost
}

#[test]
fn every_field_is_one_of_its_type() {
    let mut kinds = 0;
    for manifest in ["kustomize/webhook", "samples"].into_iter().flat_map(manifests) {
        let lost = match manifest["kind"].as_str().unwrap() {
            "Namespace" => lost::<Namespace>(&manifest),
            "ServiceAccount" => lost::<ServiceAccount>(&manifest),
            "ClusterRole" => lost::<ClusterRole>(&manifest),
            "ClusterRoleBinding" => lost::<ClusterRoleBinding>(&manifest),
            "Role" => lost::<Role>(&manifest),
            "RoleBinding" => lost::<RoleBinding>(&manifest),
            "Deployment" => lost::<Deployment>(&manifest),
            "Service" => lost::<Service>(&manifest),
            "PodDisruptionBudget" => lost::<PodDisruptionBudget>(&manifest),
            "NetworkPolicy" => lost::<NetworkPolicy>(&manifest),
            "ValidatingWebhookConfiguration" => lost::<ValidatingWebhookConfiguration>(&manifest),
            "MutatingWebhookConfiguration" => lost::<MutatingWebhookConfiguration>(&manifest),
            "ValidatingAdmissionPolicy" => lost::<ValidatingAdmissionPolicy>(&manifest),
            "ValidatingAdmissionPolicyBinding" => lost::<ValidatingAdmissionPolicyBinding>(&manifest),
            other => panic!("a manifest of the kind {other} that nothing here looks at"),
        };
        assert!(lost.is_empty(), "{lost:?}");
        kinds += 1;
    }
    assert_eq!(kinds, 16);
}

#[test]
fn the_rights_are_what_the_webhook_does_and_by_name() {
    let said = |rules: Option<Vec<PolicyRule>>| {
        let mut said = Vec::new();
        for rule in rules.unwrap() {
            let names = rule.resource_names.unwrap_or_default().join(" ");
            for group in rule.api_groups.unwrap() {
                let resources = rule.resources.iter().flatten();
                said.extend(
                    resources.map(|resource| format!("{group}/{resource} [{names}]: {}", rule.verbs.join(" "))),
                );
            }
        }
        said
    };
    let cluster: ClusterRole = find("ClusterRole");
    assert_eq!(
        said(cluster.rules),
        [
            "k8s.cni.cncf.io/network-attachment-definitions []: get list watch",
            "meta-cni.io/attachmentpolicies []: get list watch",
            "meta-cni.io/attachmentlevels []: get list watch",
            "meta-cni.io/vniclaims []: get list watch create",
            "/namespaces []: get list watch",
            "/pods []: list watch",
            "/nodes []: list watch",
            "networking.k8s.io/servicecidrs []: list watch",
            "admissionregistration.k8s.io/validatingwebhookconfigurations [meta-cni-webhook]: get list watch patch",
            "admissionregistration.k8s.io/mutatingwebhookconfigurations [meta-cni-webhook]: get list watch patch",
            "admissionregistration.k8s.io/mutatingwebhookconfigurations []: list watch",
            "meta-cni.io/attachmentpolicies/status []: patch",
            "events.k8s.io/events []: create",
            "meta-cni.io/vniclaims []: delete",
            "meta-cni.io/vniclaims/status []: patch",
            "meta-cni.io/overlaymembers []: list",
            "meta-cni.io/addressblocks []: list update delete",
            "meta-cni.io/addressclaims []: list update delete",
            "meta-cni.io/addresssets []: list",
            "k8s.cni.cncf.io/ipamclaims []: list",
        ]
    );
    let own: Role = find("Role");
    // Secrets can be made in this namespace, which is why nothing else is in it.
    assert_eq!(own.metadata.namespace.as_deref(), Some("meta-cni"));
    assert_eq!(
        said(own.rules),
        [
            "/secrets [meta-cni-webhook-ca meta-cni-webhook-tls]: get list watch update",
            "/configmaps [meta-cni-webhook-replicas]: get patch",
            "coordination.k8s.io/leases [meta-cni-webhook meta-cni-janitor]: get patch",
            "/secrets []: create",
            "/configmaps []: create",
            "coordination.k8s.io/leases []: create",
        ]
    );
}

#[test]
fn no_webhook_is_left_to_defaults_and_the_bundle_is_not_ours_to_ship() {
    let mut said = Vec::new();
    for webhook in configuration().webhooks.unwrap() {
        let service = webhook.client_config.service.unwrap();
        assert!(webhook.client_config.ca_bundle.is_none(), "{}", webhook.name);
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("meta-cni", "meta-cni-webhook"));
        assert_eq!(service.path.unwrap(), format!("/validate/{}", webhook.name.strip_suffix(".meta-cni.io").unwrap()));
        assert_eq!((webhook.side_effects.as_str(), webhook.match_policy.as_deref()), ("None", Some("Equivalent")));
        assert_eq!(webhook.admission_review_versions, ["v1"]);
        assert!(webhook.namespace_selector.is_some() && webhook.object_selector.is_some(), "{}", webhook.name);
        assert!(webhook.rules.unwrap().iter().all(|rule| rule.scope.is_some()), "{}", webhook.name);
        said.push(format!(
            "{} {} {}s",
            webhook.name,
            webhook.failure_policy.unwrap(),
            webhook.timeout_seconds.unwrap()
        ));
    }
    assert_eq!(
        said,
        [
            "nads.meta-cni.io Fail 5s",
            "nads-system.meta-cni.io Ignore 5s",
            "nad-delete.meta-cni.io Ignore 3s",
            "ours.meta-cni.io Fail 5s",
            "pods.meta-cni.io Ignore 5s",
            "templates.meta-cni.io Ignore 3s",
            "namespaces.meta-cni.io Ignore 3s",
            "network-policies.meta-cni.io Ignore 3s",
        ]
    );
}

/// The webhooks that the component of a dialect adds.
fn added(dialect: &str) -> Vec<ValidatingWebhook> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/dialects/{dialect}/webhook.yaml"));
    let patches: Vec<Value> = serde_saphyr::from_str(&read(&file)).unwrap();
    let webhook = |patch: Value| {
        assert_eq!((&patch["op"], &patch["path"]), (&json!("add"), &json!("/webhooks/-")));
        let mut lost = Vec::new();
        let webhook: ValidatingWebhook = serde_json::from_value(patch["value"].clone()).unwrap();
        unknown("", &patch["value"], &serde_json::to_value(&webhook).unwrap(), &mut lost);
        assert!(lost.is_empty(), "{lost:?}");
        webhook
    };
    patches.into_iter().map(webhook).collect()
}

#[test]
fn what_dialects_add_is_theirs_and_left_to_no_default() {
    for dialect in ["danm", "genie"] {
        for webhook in added(dialect) {
            let name = webhook.name.strip_suffix(".meta-cni.io").unwrap();
            assert!(name.split('-').next() == Some(dialect), "{name}");
            let service = webhook.client_config.service.unwrap();
            assert_eq!(service.path.unwrap(), format!("/validate/{name}"));
            assert_eq!((webhook.side_effects.as_str(), webhook.match_policy.as_deref()), ("None", Some("Equivalent")));
            assert!(
                webhook.namespace_selector.is_some()
                    && webhook.object_selector.is_some()
                    && webhook.match_conditions.is_some()
            );
            assert!(webhook.rules.as_ref().unwrap().iter().all(|rule| rule.scope.is_some()));
            // Pods and what makes them wait for nobody.
            let rules = serde_json::to_string(&webhook.rules).unwrap();
            let is_of_dialect = !["pods", "deployments", "networkpolicies"].iter().any(|kind| rules.contains(kind));
            let is_of_dialect = is_of_dialect && !rules.contains("DELETE");
            let failure = if is_of_dialect { "Fail" } else { "Ignore" };
            assert_eq!(webhook.failure_policy.as_deref(), Some(failure), "{name}");
        }
        let flag = read(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/dialects/{dialect}/webhook-flag.yaml")),
        );
        assert!(flag.contains(&format!("value: --dialects={dialect}\n")), "{flag}");
    }
}

#[test]
fn what_changes_objects_is_not_left_to_defaults_either() {
    let configuration: MutatingWebhookConfiguration = find("MutatingWebhookConfiguration");
    assert_eq!(configuration.metadata.name, self::configuration().metadata.name, "one flag names both");
    let mut said = Vec::new();
    for webhook in configuration.webhooks.unwrap() {
        let service = webhook.client_config.service.unwrap();
        assert!(webhook.client_config.ca_bundle.is_none(), "{}", webhook.name);
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("meta-cni", "meta-cni-webhook"));
        let name = webhook.name.strip_prefix("mutate-").unwrap().strip_suffix(".meta-cni.io").unwrap();
        assert_eq!(service.path.unwrap(), format!("/mutate/{name}"));
        assert_eq!(webhook.match_policy.as_deref(), Some("Equivalent"));
        assert_eq!(webhook.reinvocation_policy.as_deref(), Some("IfNeeded"));
        assert_eq!(webhook.admission_review_versions, ["v1"]);
        assert!(webhook.object_selector.is_some() && webhook.match_conditions.is_some(), "{}", webhook.name);
        let (failure, system) = (webhook.failure_policy.unwrap(), ["kube-system", "meta-cni"].map(str::to_owned));
        let first = webhook.namespace_selector.unwrap().match_expressions.unwrap().remove(0);
        let is_system = (first.operator.as_str(), first.values.as_deref()) == ("In", Some(&system[..]));
        assert!(is_system || (first.operator.as_str(), first.values.as_deref()) == ("NotIn", Some(&system[..])));
        let rules = webhook.rules.unwrap();
        assert!(rules.iter().all(|rule| rule.scope.as_deref() == Some("Namespaced")));
        let asked: Vec<String> = rules.iter().flat_map(|rule| rule.operations.iter().flatten()).cloned().collect();
        if failure == "Fail" {
            assert!(!is_system && rules[0].api_groups.as_deref() == Some(&["k8s.cni.cncf.io".to_owned()][..]));
        }
        said.push(format!(
            "{} {failure} {}s {} {}",
            webhook.name,
            webhook.timeout_seconds.unwrap(),
            webhook.side_effects,
            asked.join(" ")
        ));
    }
    assert_eq!(
        said,
        [
            "mutate-nads.meta-cni.io Fail 5s NoneOnDryRun CREATE UPDATE",
            "mutate-nads-system.meta-cni.io Ignore 5s NoneOnDryRun CREATE UPDATE",
            "mutate-pods.meta-cni.io Ignore 5s None CREATE",
        ]
    );
}

/// What must be there before a webhook can be: nodes, pods, and everything in the namespaces of the cluster and the webhook.
#[test]
fn what_fails_closed_is_nothing_that_a_cluster_needs_to_come_up() {
    for webhook in configuration().webhooks.unwrap() {
        if webhook.failure_policy.as_deref() != Some("Fail") {
            continue;
        }
        let rules = serde_json::to_value(webhook.rules.unwrap()).unwrap();
        for rule in rules.as_array().unwrap() {
            let selector = serde_json::to_value(webhook.namespace_selector.as_ref().unwrap()).unwrap();
            match rule["apiGroups"][0].as_str().unwrap() {
                "k8s.cni.cncf.io" => assert_eq!(
                    selector["matchExpressions"][0],
                    json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "meta-cni"]})
                ),
                // Written by people alone.
                "meta-cni.io" => assert_eq!(rule["resources"], json!(["attachmentpolicies", "attachmentlevels"])),
                other => panic!("{other} fails closed"),
            }
            assert!(!rule["operations"].to_string().contains("DELETE"));
        }
    }
}

#[test]
fn the_deployment_runs_as_nobody_and_survives_a_drain() {
    let deployment: Deployment = find("Deployment");
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    let pod = spec.template.spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!(
        (security.run_as_non_root, security.seccomp_profile.unwrap().type_.as_str()),
        (Some(true), "RuntimeDefault")
    );
    assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.volumes.is_none());
    let affinity = pod.affinity.unwrap().pod_anti_affinity.unwrap();
    assert!(affinity.required_during_scheduling_ignored_during_execution.is_none());
    assert!(affinity.preferred_during_scheduling_ignored_during_execution.is_some());
    let container = &pod.containers[0];
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.read_only_root_filesystem, security.allow_privilege_escalation), (Some(true), Some(false)));
    let capabilities = security.capabilities.as_ref().unwrap();
    assert!(capabilities.drop.as_deref() == Some(&["ALL".to_owned()]) && capabilities.add.is_none());
    assert_eq!(container.image.as_deref(), Some("meta-cni"), "the name that `images` replaces");
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert!(limits.contains_key("memory") && !limits.contains_key("cpu"));
    let path = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe.as_ref().unwrap().http_get.as_ref().unwrap().path.clone().unwrap()
    };
    assert_eq!(
        (path(&container.liveness_probe), path(&container.readiness_probe)),
        ("/livez".into(), "/readyz".into())
    );
    let budget: PodDisruptionBudget = find("PodDisruptionBudget");
    let labels = spec.template.metadata.unwrap().labels;
    assert_eq!(budget.spec.unwrap().selector.unwrap().match_labels, labels);
    let service: Service = find("Service");
    assert_eq!(service.spec.unwrap().selector, labels);
    assert_eq!(kustomization("kustomize/webhook").1["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}
