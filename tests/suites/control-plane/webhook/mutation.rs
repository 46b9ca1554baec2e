//! What the webhook changes in objects.

use std::collections::HashSet;

use meta_cni_tests::cluster::Api;
use meta_cni_tests::node::{NETWORKS, STATUS};
use serde_json::{Value, json};

use super::world::{NADS, World, nad, shipped};

const PODS: &str = "/api/v1/namespaces/default/pods";
const OVERLAY: &str = r#"{"cniVersion": "1.1.0", "type": "vxlan", "note": 1.40e3}"#;
/// The registration of another injector, as far as it is asked about nothing.
const INJECTOR: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/network-resources-injector-config";

/// The VNI in the text of a definition.
#[track_caller]
fn vni(definition: &Value) -> u64 {
    let text = definition["spec"]["config"].as_str().unwrap();
    serde_json::from_str::<Value>(text).unwrap()["vni"].as_u64().unwrap_or_else(|| panic!("no VNI: {text}"))
}

fn stored(api: &Api, name: &str) -> Value {
    api.get(&format!("{NADS}/{name}")).unwrap()
}

fn injecting(world: &World) -> Option<String> {
    world.metric(0, "webhook_injection_active")
}

fn pod(name: &str, annotations: Value, resources: Value) -> Value {
    let container = json!({"name": "main", "image": "registry.k8s.io/pause", "resources": resources});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations}, "spec": {"containers": [container]},
    })
}

/// Nobody else makes the account that every pod has.
fn make_account(api: &Api) {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "default"}});
    api.apply(&account).unwrap();
}

#[test]
fn an_overlay_without_a_vni_gets_one_and_always_the_same() {
    let world = World::served(1);
    let api = world.plane.api();
    let (code, said) = world.kubectl_apply(&nad("blue", OVERLAY));
    assert_eq!(code, Some(0), "{said}");
    let first = stored(&api, "blue");
    let drawn = vni(&first);
    assert!((100_000..=165_535).contains(&drawn), "{drawn}");
    // Everything else is as its author wrote it.
    assert_eq!(first["spec"]["config"], OVERLAY.replace("\"vxlan\"", &format!("\"vxlan\", \"vni\": {drawn}")));
    // Applied again from the file, with something new in it, and once more.
    for config in [OVERLAY.replace("1.40e3", "1400"), OVERLAY.to_owned()] {
        let (code, said) = world.kubectl_apply(&nad("blue", &config));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(vni(&stored(&api, "blue")), drawn);
    }
    api.delete(&format!("{NADS}/blue")).unwrap();
    api.post(NADS, &nad("blue", OVERLAY)).unwrap();
    assert_eq!(vni(&stored(&api, "blue")), drawn);
    // Another one has another, and what has one keeps it.
    api.post(NADS, &nad("red", OVERLAY)).unwrap();
    assert_ne!(vni(&stored(&api, "red")), drawn);
    let own = r#"{"cniVersion":"1.1.0","plugins":[{"type":"vxlan","vni":4200}]}"#;
    assert_eq!(api.post(NADS, &nad("own", own)).unwrap()["spec"]["config"], own);
}

#[test]
fn fifty_definitions_at_once_have_fifty_vnis() {
    let world = World::served(1);
    let apis: Vec<Api> = (0..10).map(|_| world.plane.api()).collect();
    let make = |(thread, api): (usize, Api)| {
        move || -> Vec<u64> {
            let each = (0..5).map(|i| api.post(NADS, &nad(&format!("net-{thread}-{i}"), OVERLAY)).unwrap());
            each.map(|definition| vni(&definition)).collect()
        }
    };
    let vnis: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = apis.into_iter().enumerate().map(make).map(|thread| scope.spawn(thread)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(vnis.iter().collect::<HashSet<_>>().len(), 50, "{vnis:?}");
}

const CLAIMS: &str = "/apis/meta-cni.io/v1alpha1/vniclaims";

#[test]
fn what_is_drawn_is_claimed_before_it_is_answered_whichever_replica_draws() {
    let mut world = World::new();
    world.install_claims();
    for number in 0..2 {
        world.start_with(number, &["--vni-range", "100000-100059"]);
    }
    (0..2).for_each(|number| world.until_ready(number));
    world.until_in_force();
    let api = world.plane.api();
    assert_eq!(api.get(CLAIMS).unwrap()["items"], json!([]), "dry runs claim nothing");
    let apis: Vec<Api> = (0..10).map(|_| world.plane.api()).collect();
    let make = |(thread, api): (usize, Api)| {
        move || -> Vec<(String, u64)> {
            let names = (0..2).map(|i| format!("net-{thread}-{i}"));
            // A claim that is answered late is its definition's all the same.
            let post = |name: &str| loop {
                match api.post(NADS, &nad(name, OVERLAY)) {
                    Err(refusal) if refusal.message.contains("apply again") => {}
                    answer => return answer.unwrap(),
                }
            };
            names.map(|name| (name.clone(), vni(&post(&name)))).collect()
        }
    };
    let drawn: Vec<(String, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = apis.into_iter().enumerate().map(make).map(|thread| scope.spawn(thread)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(drawn.iter().map(|(_, vni)| vni).collect::<HashSet<_>>().len(), 20, "{drawn:?}");
    for (name, vni) in &drawn {
        let claim = api.get(&format!("{CLAIMS}/4789-{vni}")).unwrap();
        let spec = json!({"vni": vni, "port": 4789, "owner": {"namespace": "default", "name": name}});
        assert_eq!(
            (&claim["spec"], &claim["metadata"]["labels"]["meta-cni.io/network"]),
            (&spec, &json!(format!("4789-{vni}")))
        );
    }
    // Nobody has heard of the definition that a claim names: its VNI is taken all the same.
    let ghost = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "VniClaim", "metadata": {"name": "4789-4200"},
        "spec": {"vni": 4200, "port": 4789, "owner": {"namespace": "default", "name": "ghost"}},
    });
    api.post(CLAIMS, &ghost).unwrap();
    let of_ghost = OVERLAY.replace("1.40e3", "1400, \"vni\": 4200");
    let text = "spec.config.vni: Duplicate value: 4200: claimed by NetworkAttachmentDefinition default/ghost on port 4789 [X02]";
    world.until("word of the claim", || match api.post(&format!("{NADS}?dryRun=All"), &nad("late", &of_ghost)) {
        Err(refusal) if refusal.code == 422 && refusal.message.contains(text) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    api.post(NADS, &nad("ghost", &of_ghost)).unwrap();
}

#[test]
fn where_claims_are_unknown_a_vni_is_drawn_and_a_warning_says_so() {
    let world = World::served(1);
    let (code, said) = world.kubectl_apply(&nad("blue", OVERLAY));
    assert_eq!(code, Some(0), "{said}");
    let drawn = vni(&stored(&world.plane.api(), "blue"));
    let warning = format!(
        "Warning: spec.config.vni: VNI {drawn} on UDP port 4789 is drawn and not claimed: the API server has no vniclaims.meta-cni.io: apply deploy/crds [X15]"
    );
    assert!(said.lines().any(|line| line == warning), "{said}");
}

#[test]
fn a_dry_run_leaves_nothing_and_an_exhausted_range_is_told() {
    let world = World::served_with(1, &["--vni-range", "100000-100002"]);
    let api = world.plane.api();
    for name in ["d", "e", "f", "g"] {
        let tried = api.post(&format!("{NADS}?dryRun=All"), &nad(name, OVERLAY)).unwrap();
        assert!((100_000..=100_002).contains(&vni(&tried)), "{tried}");
    }
    let vnis: HashSet<u64> =
        ["a", "b", "c"].into_iter().map(|name| vni(&api.post(NADS, &nad(name, OVERLAY)).unwrap())).collect();
    assert_eq!(vnis, HashSet::from([100_000, 100_001, 100_002]));
    let (code, said) = world.kubectl_apply(&nad("d", OVERLAY));
    assert_eq!((code, said.as_str()), (Some(1), EXHAUSTED));
    assert_eq!(api.get(&format!("{NADS}/d")).unwrap_err().code, 404);
    // There is room on another port, and for who names a VNI.
    let port = OVERLAY.replace("1.40e3", "1400, \"port\": 4790");
    assert!((100_000..=100_002).contains(&vni(&api.post(NADS, &nad("d", &port)).unwrap())));
    api.post(NADS, &nad("e", &OVERLAY.replace("1.40e3", "1400, \"vni\": 7"))).unwrap();
}

const EXHAUSTED: &str = "The NetworkAttachmentDefinition \"d\" is invalid: spec.config.vni: Required value: no VNI of 100000-100002 is free on UDP port 4789; \
    delete a network, set a VNI outside of it, or have --vni-range widened [X15]\n";

#[test]
fn a_vni_is_drawn_from_what_the_level_opens() {
    let mut world = World::new();
    world.plane.kubectl(["apply", "-f", &shipped("crds/attachment-levels.yaml")]);
    world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/attachmentlevels.meta-cni.io"]);
    world.start(0);
    world.until_ready(0);
    world.until_in_force();
    let api = world.plane.api();
    api.patch("/api/v1/namespaces/default", &json!({"metadata": {"labels": {"meta-cni.io/level": "baseline"}}}))
        .unwrap();
    let try_one = |name: &str| api.post(&format!("{NADS}?dryRun=All"), &nad(name, OVERLAY));
    let text = "spec.config.vni: Required value: level \"baseline\" opens no VNI; have 100000-165535 opened in AttachmentLevel \"baseline\" [X15]";
    world.until("level", || match try_one("blue") {
        Err(refusal) if refusal.code == 422 && refusal.message.contains(text) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let level = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentLevel", "metadata": {"name": "baseline"},
        "spec": {"vniRanges": [{"min": 4000, "max": 4099}, {"min": 100_007, "max": 100_008}]},
    });
    api.apply(&level).unwrap();
    world.until("what is open", || try_one("blue").map_err(|refusal| refusal.to_string()));
    for name in ["blue", "red"] {
        assert!([100_007, 100_008].contains(&vni(&try_one(name).unwrap())), "{name}");
    }
}

#[test]
fn a_status_that_a_pod_brings_along_is_removed() {
    let world = World::served(1);
    let api = world.plane.api();
    make_account(&api);
    let (code, said) = world.kubectl_apply(&pod("restored", json!({STATUS: "[]", "a": "b"}), json!({})));
    assert_eq!(code, Some(0), "{said}");
    let warning = format!("Warning: metadata.annotations[{STATUS}]: removed, for only the node agent writes it [P27]");
    assert!(said.lines().any(|line| line == warning), "{said}");
    let annotations = &api.get(&format!("{PODS}/restored")).unwrap()["metadata"]["annotations"];
    assert!(annotations.get(STATUS).is_none() && annotations["a"] == "b", "{annotations}");
}

#[test]
fn what_networks_need_is_injected_where_it_is_asked_for_and_nobody_else_does_it() {
    let world = World::served_with(1, &["--inject"]);
    let api = world.plane.api();
    make_account(&api);
    for (name, rack) in [("fast", "a"), ("other", "b")] {
        let mut definition = nad(name, r#"{"cniVersion":"1.0.0","type":"macvlan","master":"eth1"}"#);
        definition["metadata"]["annotations"] = json!({
            "k8s.v1.cni.cncf.io/resourceName": "vendor.com/vf", "k8s.v1.cni.cncf.io/nodeSelector": format!("rack={rack}"),
        });
        api.post(NADS, &definition).unwrap();
    }
    let injected = |name: &str| {
        let pod = api.post(PODS, &pod(name, json!({NETWORKS: "fast,fast"}), json!({"limits": {"cpu": "1"}})));
        let pod = pod.map_err(|refusal| refusal.to_string())?;
        let spec = &pod["spec"];
        Ok::<Value, String>(json!([spec["containers"][0]["resources"], spec["nodeSelector"]]))
    };
    let resources =
        json!({"requests": {"cpu": "1", "vendor.com/vf": "2"}, "limits": {"cpu": "1", "vendor.com/vf": "2"}});
    assert_eq!(injected("web-0"), Ok(json!([resources, {"rack": "a"}])));
    assert_eq!(injecting(&world).as_deref(), Some("1"));

    let refused = |resources: Value, networks: &str, text: &str| {
        let (code, said) = world.kubectl_apply(&pod("refused", json!({NETWORKS: networks}), resources));
        assert_eq!((code, said), (Some(1), format!("The Pod \"refused\" is invalid: {text}\n")));
    };
    let one = json!({"limits": {"vendor.com/vf": "1"}, "requests": {"vendor.com/vf": "1"}});
    let text = "spec.containers[0].resources.requests[vendor.com/vf]: Invalid value: \"1\": the pod's networks use 2, first default/fast; \
        ask for 2, or leave it out [P34]";
    refused(one, "fast,fast", text);
    let text = "metadata.annotations[k8s.v1.cni.cncf.io/networks][1]: Forbidden: default/other is on nodes with rack=b, and default/fast on \
        nodes with rack=a [P35]";
    refused(json!({}), "fast,other", text);

    let other = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "network-resources-injector-config"}, "webhooks": [],
    });
    api.apply(&other).unwrap();
    let until = |active: &str| {
        world.until("word of the other injector", || match injecting(&world) {
            Some(now) if now == active => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    until("0");
    assert_eq!(injected("web-1"), Ok(json!([{"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}, null])));
    let words =
        "nothing is injected into pods: the MutatingWebhookConfiguration network-resources-injector-config does it";
    assert!(world.log(0).contains(words), "{}", world.log(0));
    api.delete(INJECTOR).unwrap();
    until("1");
    assert_eq!(injected("web-2"), Ok(json!([resources, {"rack": "a"}])));
}

#[test]
fn nothing_is_injected_unless_it_is_asked_for() {
    let world = World::served(1);
    let api = world.plane.api();
    make_account(&api);
    let mut definition = nad("fast", r#"{"cniVersion":"1.0.0","type":"macvlan","master":"eth1"}"#);
    definition["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/resourceName": "vendor.com/vf"});
    api.post(NADS, &definition).unwrap();
    let made = api.post(PODS, &pod("web", json!({NETWORKS: "fast"}), json!({}))).unwrap();
    assert_eq!(made["spec"]["containers"][0]["resources"], json!({}));
    assert_eq!(injecting(&world).as_deref(), Some("0"));
}
