//! What people see of it.

use serde_json::json;

use super::world::{NADS, World, good, nad};

#[test]
fn a_bad_definition_is_refused_with_a_bullet_for_each_problem_and_a_good_one_is_stored() {
    let world = World::served(1);
    let config = r#"{"cniVersion":"1.0.0","plugins":[
        {"type":"macvlan","master":"eth1","mode":"brigde","ipam":{"type":"host-local","subnet":"10.9.0.5/24"}},
        {"type":"vlan","master":"eth1","vlanId":4095}]}"#;
    let (code, said) = world.kubectl_apply(&nad("bad", config));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said, BULLETS, "{said}");
    assert_eq!(world.plane.api().get(&format!("{NADS}/bad")).unwrap_err().code, 404);

    let (code, said) = world.kubectl_apply(&good("lan"));
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Warning: ")).collect();
    assert_eq!((code, &said[..]), (Some(0), &["networkattachmentdefinition.k8s.cni.cncf.io/lan created"][..]));
    // The admission in the API server's own words, for controllers and their events.
    let refusal = world.plane.api().post(NADS, &nad("bad", config)).unwrap_err();
    assert!(
        refusal
            .message
            .starts_with("admission webhook \"nads.meta-cni.io\" denied the request: spec.config.plugins[0]"),
        "{refusal}"
    );
    let denied = r#"webhook_requests_total{webhook="nads",operation="CREATE",result="denied"}"#;
    assert!(world.metric(0, denied).is_some());
}

const BULLETS: &str = r#"Warning: spec.config.plugins[0].ipam.type: "host-local" allocates per node; duplicates are likely on a shared segment, use a cluster-wide IPAM [I13]
The NetworkAttachmentDefinition "bad" is invalid: 
* spec.config.plugins[0].mode: Unsupported value: "brigde": supported values: "bridge", "passthru", "private", "vepa" [N21]
* spec.config.plugins[0].ipam.subnet: Invalid value: "10.9.0.5/24": host bits set, use "10.9.0.0/24" [I03]
* spec.config.plugins[1].vlanId: Invalid value: 4095: must be an integer from 0 to 4094 [N26]
"#;

#[test]
fn what_only_warns_is_stored_and_shown() {
    let world = World::served(1);
    let (code, said) = world.kubectl_apply(&nad("old", r#"{"type":"macvlan","master":"eth1"}"#));
    assert_eq!(code, Some(0), "{said}");
    let warning = "Warning: spec.config.cniVersion: Required value: assumed \"0.1.0\", which reports one address per family; set \"1.0.0\" [N08]";
    assert!(said.lines().any(|line| line == warning), "{said}");
    assert!(said.contains("networkattachmentdefinition.k8s.cni.cncf.io/old created"), "{said}");
}

#[test]
fn labels_finalizers_and_the_end_wait_for_nobody() {
    // Nobody answers: what is stored was stored before.
    let world = World::new();
    world.plane.kubectl(["delete", "validatingwebhookconfiguration", "meta-cni-webhook"]);
    let api = world.plane.api();
    let mut old = nad("old", "{");
    old["metadata"]["finalizers"] = json!(["example.com/kept"]);
    world.until("a time without the webhook", || api.apply(&old).map_err(|refusal| refusal.to_string()));
    world.plane.kubectl(["apply", "-k", &super::world::shipped("kustomize/webhook")]);
    world.until("the webhook's refusal", || match api.post(&format!("{NADS}?dryRun=All"), &good("new")) {
        Err(refusal) if refusal.message.contains("failed calling webhook \"nads.meta-cni.io\"") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let path = format!("{NADS}/old");
    api.patch(&path, &json!({"metadata": {"labels": {"a": "b"}}})).unwrap();
    let refusal = api.patch(&path, &json!({"spec": {"config": "{}"}})).unwrap_err();
    assert!(refusal.message.contains("failed calling webhook"), "{refusal}");
    api.delete(&path).unwrap();
    api.patch(&path, &json!({"metadata": {"finalizers": null}})).unwrap();
    assert_eq!(api.get(&path).unwrap_err().code, 404);
}

/// Everything is down, the webhook too: what a cluster needs to come up is stored all the same.
#[test]
fn nothing_that_a_cluster_needs_to_recover_waits_for_the_webhook() {
    let world = World::new();
    let api = world.plane.api();
    world.until("the webhook's refusal", || match api.post(&format!("{NADS}?dryRun=All"), &good("new")) {
        Err(refusal) if refusal.message.contains("failed calling webhook") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for namespace in ["kube-system", "meta-cni", "default"] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "default"}});
        api.apply(&account).unwrap();
        let annotations = json!({"k8s.v1.cni.cncf.io/networks": "lan"});
        let container = json!({
            "name": "main", "image": "registry.k8s.io/pause",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        });
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [container],
        });
        let metadata = json!({"namespace": namespace, "name": "pod", "annotations": annotations});
        api.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).unwrap();
        let metadata = json!({"namespace": namespace, "name": "set", "annotations": annotations});
        let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": annotations}, "spec": spec});
        let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
        api.apply(&json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})).unwrap();
    }
    for mut cluster in [good("primary"), nad("overlay", r#"{"cniVersion":"1.0.0","type":"vxlan","vni":7}"#)] {
        cluster["metadata"]["namespace"] = json!("kube-system");
        api.apply(&cluster).unwrap();
    }
}

#[test]
fn the_api_server_restarts_and_asks_again() {
    let mut world = World::served(2);
    world.plane.kill_api();
    // Alive and ready: what would be gained by a restart?
    for number in [0, 1] {
        assert!(world.probe(number, "/livez").unwrap().0.contains(" 200 "));
        assert!(world.probe(number, "/readyz").unwrap().0.contains(" 200 "));
    }
    world.plane.start_api();
    world.until_in_force();
    world.must_answer();
    let api = world.plane.api();
    api.post(NADS, &good("lan")).unwrap();
    world.until("cache that hears again", || {
        let log = world.log(0);
        if log.contains("network-attachment-definitions: the watch is back") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_replica_is_alive_and_not_ready_until_it_knows_everything_there_is() {
    let mut world = World::new();
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/meta-cni-webhook";
    let api = world.plane.api();
    let whole = api.get(role).unwrap()["rules"].clone();
    let lesser: Vec<_> = whole.as_array().unwrap().iter().filter(|rule| rule["resources"] != json!(["pods"])).collect();
    api.patch(role, &json!({"rules": lesser})).unwrap();
    world.start(0);
    world.until("replica that waits for pods alone", || match world.probe(0, "/readyz")? {
        (status, body) if status.contains(" 503 ") && body == "waiting for all pods\n" => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    assert!(world.probe(0, "/livez").unwrap().0.contains(" 200 "));
    let synced = |cache: &str| world.metric(0, &format!("cache_synced{{cache=\"{cache}\"}}"));
    assert_eq!((synced("pods").as_deref(), synced("namespaces").as_deref()), (Some("0"), Some("1")));
    assert_eq!(world.metric(0, "webhook_cabundle_in_sync").as_deref(), Some("1"));
    api.patch(role, &json!({ "rules": whole })).unwrap();
    world.until_ready(0);
    assert_eq!(synced("pods").as_deref(), Some("1"));
    world.until_in_force();
    world.must_answer();
}

#[test]
fn a_kind_that_is_missing_is_not_waited_for_and_is_heard_of_when_it_comes() {
    let mut world = World::without_definitions();
    world.start(0);
    world.until_ready(0);
    for kind in ["network-attachment-definitions", "attachmentpolicies", "attachmentlevels"] {
        assert_eq!(world.metric(0, &format!("cache_synced{{cache=\"{kind}\"}}")).as_deref(), Some("1"));
        assert!(world.log(0).contains(&format!("{kind}: the API server does not have this kind")), "{kind}");
    }
    world.install_definitions();
    world.until_in_force();
    world.must_answer();
    world.plane.api().post(NADS, &good("lan")).unwrap();
    let kept = r#"cache_objects{cache="network-attachment-definitions"}"#;
    world.until("cache that has the definition", || match world.metric(0, kept) {
        Some(count) if count == "1" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
