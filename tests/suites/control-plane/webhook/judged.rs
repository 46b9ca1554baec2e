//! What each webhook refuses and admits, with kubectl's exact words; levels and policies at `kubectl apply`; caches that come back.

use serde_json::{Value, json};

use super::world::{NADS, SOON, World, good, nad, shipped};
use meta_cni_tests::program;

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// A world with everything that is shipped, whose only replica has further flags.
fn world(flags: &[&str]) -> World {
    let mut world = World::new();
    world.install_policies();
    for namespace in ["default", "kube-system"] {
        let metadata = json!({"namespace": namespace, "name": "default"});
        world.plane.api().apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).unwrap();
    }
    world.start_with(0, flags);
    world.until_ready(0);
    world.until_in_force();
    world
}

fn spec() -> Value {
    json!({"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]})
}

fn pod(name: &str, networks: &str) -> Value {
    let metadata = json!({"namespace": "default", "name": name, "annotations": {NETWORKS: networks}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec()})
}

fn overlay(name: &str, vni: u32) -> Value {
    nad(name, &json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": vni}).to_string())
}

fn ptp(name: &str) -> Value {
    nad(name, r#"{"cniVersion":"1.0.0","type":"ptp","ipam":{"type":"host-local","subnet":"10.77.0.0/24"}}"#)
}

/// A file of objects for `kubectl apply -f -`.
fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn network_policies() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "multi-networkpolicies.k8s.cni.cncf.io"},
        "spec": {"group": "k8s.cni.cncf.io", "scope": "Namespaced",
            "names": {"plural": "multi-networkpolicies", "singular": "multi-networkpolicy", "kind": "MultiNetworkPolicy"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn network_policy(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1beta1", "kind": "MultiNetworkPolicy",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations}, "spec": {}})
}

fn policy(name: &str, mode: &str, rule: Value) -> Value {
    let spec = json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "mode": mode, "rules": [rule]});
    json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": name}, "spec": spec})
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// Until a watch has brought what was just made: the count of a cache.
fn until_kept(world: &World, cache: &str, count: &str) {
    let row = format!("cache_objects{{cache=\"{cache}\"}}");
    world.until("cache that has it", || match world.metric(0, &row) {
        Some(kept) if kept == count => Ok(()),
        other => Err(format!("{row}: {other:?}")),
    });
}

#[track_caller]
fn refused(world: &World, object: &Value, words: &str) {
    let (code, said) = world.kubectl_apply(object);
    assert_eq!((code, said.as_str()), (Some(1), words), "{said}");
}

#[track_caller]
fn admitted(world: &World, object: &Value) -> String {
    let (code, said) = world.kubectl_apply(object);
    assert_eq!(code, Some(0), "{said}");
    said
}

#[test]
fn each_webhook_refuses_with_its_bullets_and_admits_what_is_right() {
    let world = world(&["--deny-delete-in-use"]);
    // nads: what other objects say counts.
    admitted(&world, &overlay("red", 4200));
    until_kept(&world, "network-attachment-definitions", "1");
    refused(
        &world,
        &overlay("blue", 4200),
        "The NetworkAttachmentDefinition \"blue\" is invalid: spec.config.vni: Duplicate value: 4200: already used by NetworkAttachmentDefinition default/red on port 4789 [X02]\n",
    );
    admitted(&world, &overlay("blue", 4201));
    for (vni, why) in [
        ("0", "Invalid value: 0: must be an integer from 1 to 16777215 [X01]"),
        ("16777216", "Invalid value: 16777216: must be an integer from 1 to 16777215 [X01]"),
        ("\"7\"", "Invalid value: \"7\": must be a number, remove the quotes [N19]"),
    ] {
        let text = format!(r#"{{"cniVersion":"1.0.0","type":"vxlan","vni":{vni}}}"#);
        let said = format!("The NetworkAttachmentDefinition \"odd\" is invalid: spec.config.vni: {why}\n");
        refused(&world, &nad("odd", &text), &said);
    }
    // nads-system
    let mut system = nad("system", r#"{"cniVersion":"1.0.0","type":"vlan","master":"eth1","vlanId":5000}"#);
    system["metadata"]["namespace"] = json!("kube-system");
    let (code, said) = world.kubectl_apply(&system);
    assert!(code == Some(1) && said.contains("spec.config.vlanId: Invalid value: 5000"), "{said}");
    let mut system = good("system");
    system["metadata"]["namespace"] = json!("kube-system");
    admitted(&world, &system);
    // pods, and one that names what is new.
    refused(
        &world,
        &pod("web-0", "rde"),
        "The Pod \"web-0\" is invalid: metadata.annotations[k8s.v1.cni.cncf.io/networks][0].name: Not found: \"rde\" in namespace \"default\" [P06]\n",
    );
    refused(&world, &pod("web-0", "rde,red@eth0"), PODS_BULLETS);
    admitted(&world, &pod("web-0", "red"));
    until_kept(&world, "pods", "1");
    // nad-delete
    let delete = |name: &str| {
        let mut command = world.plane.kubectl_command();
        command.args(["delete", "network-attachment-definition", name, "--wait=false"]);
        let finished = program::start(&mut command, b"").finish(SOON);
        (finished.code, String::from_utf8_lossy(&[finished.stderr, finished.stdout].concat()).into_owned())
    };
    let (code, said) = delete("red");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said,
        "The NetworkAttachmentDefinition \"red\" is invalid: metadata.name: Forbidden: 1 running pod uses it, first default/web-0; delete those first [L02]\n"
    );
    let (code, said) = delete("blue");
    assert_eq!(code, Some(0), "{said}");
    // ours
    let rule = |select: &str| json!({"name": "r", "select": select, "assert": {"absent": true}});
    refused(
        &world,
        &policy("p", "Enforce", rule("$.a[")),
        "The AttachmentPolicy \"p\" is invalid: spec.rules[0].select: Invalid value: \"$.a[\": not a JSONPath (RFC 9535) from column 5 on [A01]\n",
    );
    admitted(&world, &policy("p", "Enforce", rule("$.config.plugins[*].peers")));
    let opened = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentLevel", "metadata": {"name": "baseline"}, "spec": {"masters": ["eth1"]}});
    admitted(&world, &opened);
    // templates
    let deployment = |networks: &str| {
        let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": {NETWORKS: networks}}, "spec": spec()});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "default", "name": "web"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}})
    };
    refused(
        &world,
        &deployment("red@net7,red@net7"),
        "The Deployment \"web\" is invalid: spec.template.metadata.annotations[k8s.v1.cni.cncf.io/networks][1].interface: Duplicate value: \"net7\": also given to metadata.annotations[k8s.v1.cni.cncf.io/networks][0] [P09]\n",
    );
    let said = admitted(&world, &deployment("red,later"));
    assert!(said.contains("Warning: spec.template.metadata.annotations") && said.contains("[P06]"), "{said}");
    // namespaces
    refused(
        &world,
        &namespace("shop", json!({"meta-cni.io/level": "open"})),
        "The Namespace \"shop\" is invalid: metadata.labels[meta-cni.io/level]: Unsupported value: \"open\": supported values: \"privileged\", \"baseline\", \"restricted\"\n",
    );
    admitted(&world, &namespace("shop", json!({"meta-cni.io/level": "baseline"})));
    world.plane.api().patch("/api/v1/namespaces/default", &json!({"metadata": {"labels": {"tenant": "a"}}})).unwrap();
    let (code, said) = {
        let mut command = world.plane.kubectl_command();
        command.args(["label", "namespace", "default", "tenant-"]);
        let finished = program::start(&mut command, b"").finish(SOON);
        (finished.code, String::from_utf8_lossy(&finished.stderr).into_owned())
    };
    assert!(
        code == Some(0) && said.contains(r#"policy "p" no longer applies; 1 attachment stays unrestricted [L03]"#),
        "{said}"
    );
    // network-policies
    admitted(&world, &network_policies());
    world.plane.kubectl([
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/multi-networkpolicies.k8s.cni.cncf.io",
    ]);
    world.until("webhook that is asked about the new kind", || {
        match world.kubectl_apply(&network_policy("bad", json!({}))) {
            (Some(1), said) if said == MNP_BULLET => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    admitted(&world, &network_policy("good", json!({"k8s.v1.cni.cncf.io/policy-for": "red"})));
    for webhook in ["nads", "nads-system", "nad-delete", "ours", "pods", "templates", "namespaces", "network-policies"]
    {
        let (_, text) = world.probe(0, "/metrics").unwrap();
        let row = |result: &str| {
            let head = format!("webhook_requests_total{{webhook=\"{webhook}\",");
            text.lines().any(|line| line.starts_with(&head) && line.contains(&format!("result=\"{result}\"")))
        };
        assert!(row("allowed") && row("denied"), "{webhook}\n{text}");
    }
    let gauge = r#"network_attachment_definition_instances{networks="vxlan"}"#;
    assert_eq!(world.metric(0, gauge).as_deref(), Some("1"));
}

const PODS_BULLETS: &str = r#"The Pod "web-0" is invalid: 
* metadata.annotations[k8s.v1.cni.cncf.io/networks][0].name: Not found: "rde" in namespace "default" [P06]
* metadata.annotations[k8s.v1.cni.cncf.io/networks][1].interface: Forbidden: "eth0": used by the cluster network [P11]
"#;
const MNP_BULLET: &str = "The MultiNetworkPolicy \"bad\" is invalid: metadata.annotations[k8s.v1.cni.cncf.io/policy-for]: Required value: comma-separated list of networks [M01]\n";

#[test]
fn a_definition_and_its_pod_apply_in_one_file() {
    let world = world(&[]);
    for number in 0..5 {
        let (name, pod_name) = (format!("lan-{number}"), format!("web-{number}"));
        let said = admitted(&world, &list(&[good(&name), pod(&pod_name, &name)]));
        assert!(said.contains(&format!("pod/{pod_name} created")), "{said}");
    }
    // The example of docs/try.md, and once more as it is.
    let example = format!("{}/../examples/kubernetes.yaml", env!("CARGO_MANIFEST_DIR"));
    for word in ["created", "unchanged"] {
        let said = world.plane.kubectl(["apply", "-f", &example]);
        assert_eq!(said.lines().filter(|line| line.ends_with(word)).count(), 5, "{said}");
    }
    // With a namespace of its own, whose level holds from the first object on.
    let mut lan = good("lan");
    lan["metadata"]["namespace"] = json!("shop");
    let (code, said) = world.kubectl_apply(&list(&[namespace("shop", json!({"meta-cni.io/level": "baseline"})), lan]));
    assert!(code == Some(1) && said.contains("namespace/shop created"), "{said}");
    assert!(
        said.contains(r#"spec.config.master: Forbidden: "eth1": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#),
        "{said}"
    );
}

#[test]
fn levels_and_policies_hold_at_apply() {
    let world = world(&[]);
    let api = world.plane.api();
    for level in ["baseline", "restricted"] {
        world.plane.kubectl(["apply", "-f", &shipped(&format!("levels/{level}.yaml"))]);
    }
    admitted(&world, &list(&[good("old"), ptp("own")]));
    let label = |key: &str, value: Option<&str>| {
        api.patch("/api/v1/namespaces/default", &json!({"metadata": {"labels": {key: value}}})).unwrap();
    };
    let until_says = |what: &str, object: &Value, words: &[&str]| {
        world.until(what, || {
            let mut object = object.clone();
            object["metadata"]["name"] = json!("tried");
            let mut command = world.plane.kubectl_command();
            command.args(["apply", "--dry-run=server", "-f", "-"]);
            let finished = program::start(&mut command, object.to_string().as_bytes()).finish(SOON);
            let said = String::from_utf8_lossy(&[finished.stderr, finished.stdout].concat()).into_owned();
            let is_so = match words {
                [] => finished.code == Some(0) && !said.contains("rule \""),
                words => words.iter().all(|words| said.contains(words)),
            };
            if is_so { Ok(()) } else { Err(said) }
        });
    };
    let at = |i: usize| format!("metadata.annotations[{NETWORKS}][{i}]");
    until_says("a pod of old", &pod("x", "old"), &[]);
    label("meta-cni.io/level", Some("baseline"));
    let masters = r#"spec.config.master: Forbidden: "eth1": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#;
    until_says("level at definitions", &good("x"), &[masters]);
    // One that is older, by the pod that names it.
    until_says(
        "level at pods",
        &pod("x", "own,old"),
        &[&format!("{}: Forbidden: network-attachment-definition default/old: {masters}", at(1))],
    );
    until_says("what baseline admits", &pod("x", "own"), &[]);
    label("meta-cni.io/level", Some("restricted"));
    until_says("restricted", &pod("x", "own"), &[r#"level "restricted" rule "namespaces" allows none"#]);
    until_says("restricted at definitions", &ptp("x"), &[r#"level "restricted" rule "definitions""#]);
    label("meta-cni.io/level", None);
    until_says("no level", &pod("x", "old"), &[]);

    label("tenant", Some("a"));
    let rule = json!({"name": "macs", "select": "$.attachment.mac", "assert": {"absent": true}, "message": "ask the network team"});
    let asks = pod("x", r#"[{"name":"old","mac":"02:00:00:00:00:01"}]"#);
    let violation = format!(
        r#"{}.mac: Forbidden: "02:00:00:00:00:01": policy "tenant-a" rule "macs" allows none: ask the network team"#,
        at(0)
    );
    admitted(&world, &policy("tenant-a", "Enforce", rule.clone()));
    until_says("Enforce", &asks, &["is invalid", &violation]);
    admitted(&world, &policy("tenant-a", "Warn", rule.clone()));
    until_says("Warn", &asks, &[&format!("Warning: {violation}"), "pod/tried created"]);
    admitted(&world, &policy("tenant-a", "Audit", rule));
    until_says("Audit", &asks, &[]);
    let counted = |mode: &str| {
        world.metric(0, &format!("webhook_policy_violations_total{{policy=\"tenant-a\",mode=\"{mode}\"}}"))
    };
    assert!(["Enforce", "Warn", "Audit"].iter().all(|mode| counted(mode).is_some()));
    // A new policy says what it will refuse of what is there.
    let masters = json!({"name": "masters", "select": "$.config.plugins[*].master", "assert": {"oneOf": ["eth9"]}, "onMissing": "Pass"});
    let said = admitted(&world, &policy("masters", "Enforce", masters));
    assert!(said.contains(r#"Warning: 1 existing object violates rule "masters", first default/old [A03]"#), "{said}");
}

/// The quotas of docs/dialects/knitter.md (K5).
#[test]
fn the_eleventh_network_of_a_tenant_is_refused_by_quota_and_count() {
    let world = world(&[]);
    world.plane.kubectl(["apply", "-f", &shipped("dialects/knitter/quota.yaml")]);
    until_kept(&world, "attachmentpolicies", "2");
    for number in 1..=10 {
        admitted(&world, &ptp(&format!("net-{number}")));
    }
    until_kept(&world, "network-attachment-definitions", "10");
    refused(
        &world,
        &ptp("net-11"),
        "The NetworkAttachmentDefinition \"net-11\" is invalid: usage.nadsInNamespace: Forbidden: 11: policy \"knitter-quota\" rule \"networks\" allows at most 10\n",
    );
    // What is there may change.
    let mut known = ptp("net-10");
    known["metadata"]["labels"] = json!({"a": "b"});
    admitted(&world, &known);
}

/// What is made while nothing is heard of the API server is known when it is back.
#[test]
fn a_watch_that_is_lost_comes_back_with_what_it_missed() {
    let mut world = world(&[]);
    admitted(&world, &overlay("red", 4200));
    until_kept(&world, "network-attachment-definitions", "1");
    let watched = |world: &World, want: &str| {
        let row = r#"cache_watched{cache="network-attachment-definitions"}"#;
        world.until("word about the watch", || match world.metric(0, row) {
            Some(is) if is == want => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    watched(&world, "1");
    world.plane.cut_api();
    watched(&world, "0");
    let api = world.plane.api();
    // The API server still reaches the webhook, which judges by what it knows.
    assert_eq!(api.post(&format!("{NADS}?dryRun=All"), &overlay("again", 4200)).unwrap_err().code, 422);
    api.post(NADS, &overlay("green", 4300)).unwrap();
    api.delete(&format!("{NADS}/red")).unwrap();
    // What it lacks nobody tells it: nothing is refused for it.
    api.post("/api/v1/namespaces/default/pods", &pod("web-0", "green")).unwrap();
    assert!(world.metric(0, r#"webhook_findings_total{rule="P06",severity="warn"}"#).is_some());
    world.plane.mend_api();
    watched(&world, "1");
    world.until("what was missed", || {
        match (
            api.post(&format!("{NADS}?dryRun=All"), &overlay("new", 4300)),
            api.post(&format!("{NADS}?dryRun=All"), &overlay("new", 4200)),
        ) {
            (Err(refusal), Ok(_)) if refusal.message.contains("[X02]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
