use std::collections::HashSet;

use attachments::policy::Level;
use meta_cni_kube::Event;
use serde_json::{Value, json};

use super::feed::heard;
use super::*;

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn named(name: &str, more: Value) -> Object {
    let mut value = json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "5"}});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object(value)
}

fn nad(name: &str, config: &str) -> Object {
    object(json!({"kind": "NetworkAttachmentDefinition", "spec": {"config": config}, "metadata": {
        "namespace": "shop", "name": name, "uid": "u", "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"fieldsV1": {}}], "labels": null,
        "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}}))
}

fn pod(name: &str, networks: Option<&str>) -> Object {
    let annotations = networks.map(|text| json!({"k8s.v1.cni.cncf.io/networks": text}));
    object(json!({"metadata": {"namespace": "shop", "name": name, "resourceVersion": "5", "annotations": annotations,
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "o", "controller": true}]}}))
}

fn net(name: &str) -> attachments::names::NetRef {
    attachments::names::NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() }
}

/// What a watch of a cache brings at its beginning.
fn listed(facts: &Facts, cache: Cache, objects: Vec<Object>) {
    let mut listed = HashSet::new();
    let events = objects.into_iter().map(Event::Listed);
    for event in std::iter::once(Event::Begin).chain(events).chain([Event::End]) {
        heard(facts, cache, &mut listed, event);
    }
}

#[test]
fn what_is_listed_is_known_and_what_a_later_list_lacks_is_not() {
    let facts = Facts::default();
    assert_eq!(facts.incomplete(), Cache::ALL);
    heard(&facts, Cache::Definitions, &mut HashSet::new(), Event::Listed(nad("early", "{}")));
    assert_eq!(facts.incomplete(), Cache::ALL);
    listed(&facts, Cache::Definitions, vec![nad("lan", r#"{"type":"macvlan"}"#), nad("wan", "{")]);
    listed(&facts, Cache::Pods, vec![pod("web-0", Some("lan")), pod("plain", None)]);
    listed(&facts, Cache::Namespaces, vec![named("shop", json!({}))]);
    let node = json!({"spec": {"podCIDRs": ["10.244.0.0/24"], "taints": []},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}], "images": [{"names": ["x"]}]}});
    listed(&facts, Cache::Nodes, vec![named("n1", node)]);
    listed(&facts, Cache::ServiceCidrs, vec![named("kubernetes", json!({"spec": {"cidrs": ["10.96.0.0/16"]}}))]);
    listed(&facts, Cache::Policies, vec![policy("a", json!({})), policy("b", json!({"mode": "Ask"}))]);
    listed(&facts, Cache::Levels, vec![named("baseline", json!({"spec": {"masters": ["eth1"]}}))]);
    let owner = json!({"namespace": "shop", "name": "blue"});
    let claim = json!({"spec": {"vni": 7, "port": 4789, "owner": owner}, "status": {"members": 3}});
    listed(&facts, Cache::Claims, vec![named("4789-7", claim)]);
    assert_eq!(facts.incomplete(), Vec::new());
    {
        let known = facts.known();
        let counts: Vec<usize> = Cache::ALL.into_iter().map(|cache| known.count(cache)).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 2, 1, 1], "{known:#?}");
        assert_eq!(known.view.claims().get((4789, 7)).unwrap().members, 3);
        assert!(known.view.definition(&net("early")).is_none(), "the list did not have it");
        assert_eq!(known.view.definition(&net("lan")).unwrap().created, Some(1_767_225_600));
        let text = known.texts.get(&net("lan")).unwrap();
        assert_eq!(text.config.as_deref(), Some(r#"{"type":"macvlan"}"#));
        assert_eq!(text.annotations.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(known.view.pod("shop/web-0").unwrap().owner.controller.as_deref(), Some("o"));
    }
    // A list that is broken off and begun again.
    let mut seen = HashSet::new();
    for event in
        [Event::Begin, Event::Listed(nad("lan", "{}")), Event::Begin, Event::Listed(nad("wan", "{}")), Event::End]
    {
        heard(&facts, Cache::Definitions, &mut seen, event);
    }
    assert!(seen.is_empty());
    for cache in Cache::ALL.into_iter().filter(|cache| *cache != Cache::Definitions) {
        listed(&facts, cache, Vec::new());
    }
    let known = facts.known();
    let counts: Vec<usize> = Cache::ALL.into_iter().map(|cache| known.count(cache)).collect();
    assert_eq!(counts, [1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(known.texts.get(&net("lan")).is_none() && known.texts.get(&net("wan")).is_some());
}

#[test]
fn what_is_deleted_is_known_no_more() {
    let facts = Facts::default();
    let mut seen = HashSet::new();
    for (cache, object) in [
        (Cache::Definitions, nad("lan", "{}")),
        (Cache::Pods, pod("web-0", Some("lan"))),
        (Cache::Namespaces, named("shop", json!({}))),
        (Cache::Nodes, named("n1", json!({}))),
        (Cache::ServiceCidrs, named("kubernetes", json!({}))),
        (Cache::Policies, policy("a", json!({}))),
        (Cache::Levels, named("baseline", json!({"spec": {}}))),
        (Cache::Claims, named("4789-7", json!({"spec": {"vni": 7, "port": 4789}}))),
    ] {
        heard(&facts, cache, &mut seen, Event::Applied(object.clone()));
        assert_eq!(facts.known().count(cache), 1, "{cache:?}");
        heard(&facts, cache, &mut seen, Event::Deleted(object));
        assert_eq!(facts.known().count(cache), 0, "{cache:?}");
    }
}

fn policy(name: &str, more: Value) -> Object {
    let mut spec = json!({"rules": [{"name": "r", "select": "$.config.plugins[*].mtu", "assert": {"absent": true}}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    named(name, json!({ "spec": spec }))
}

/// How many policies hold for a namespace; or why nobody knows.
fn held(facts: &Facts, namespace: &str, groups: &[&str]) -> Result<usize, String> {
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let known = facts.known();
    let policies = known.policies_of(namespace, &groups).ok_or("not known")?;
    policies.map(|policies| policies.len()).map_err(|error| error.to_string())
}

#[test]
fn levels_and_policies_hold_by_the_labels_of_a_namespace() {
    let facts = Facts::new(Options::default(), Level::Baseline);
    assert_eq!(held(&facts, "shop", &[]), Err("not known".to_owned()));
    let namespace = |name: &str, labels: Value| {
        let metadata = json!({"name": name, "resourceVersion": "5", "labels": labels});
        facts.change(|known| known.apply(Cache::Namespaces, object(json!({ "metadata": metadata }))));
    };
    namespace("shop", json!({"meta-cni.io/level": "privileged"}));
    namespace("lab", json!({"tenant": "a"}));
    namespace("odd", json!({"meta-cni.io/level": "open"}));
    let apply = |name: &str, spec: Value| facts.change(|known| known.apply(Cache::Policies, policy(name, spec)));
    assert_eq!((held(&facts, "shop", &[]), held(&facts, "lab", &[])), (Ok(0), Ok(2)));
    let odd = held(&facts, "odd", &[]).unwrap_err();
    assert!(odd.starts_with(r#"namespace odd: metadata.labels[meta-cni.io/level]: got "open""#), "{odd}");
    let tenant = json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "exempt": {"groups": ["admins"]}});
    apply("tenant", tenant);
    apply("audit", json!({"mode": "Audit"}));
    assert_eq!((held(&facts, "shop", &[]), held(&facts, "lab", &["x"])), (Ok(1), Ok(4)));
    assert_eq!(held(&facts, "lab", &["admins"]), Ok(3));
    // What nobody can read refuses where it would hold, unless it only warns.
    let bad = |more: Value| {
        let mut spec = json!({"rules": [{"name": "r", "select": "$..a..b", "assert": {"absent": true}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut object = policy("bad", spec);
        object.metadata.resource_version = more.to_string();
        facts.change(|known| known.apply(Cache::Policies, object));
    };
    bad(json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}}));
    let why = held(&facts, "lab", &[]).unwrap_err();
    assert!(why.starts_with(r#"policy "bad": spec.rules[0].select: Invalid value: "$..a..b""#), "{why}");
    assert_eq!(held(&facts, "shop", &[]), Ok(1));
    bad(json!({"mode": "Warn"}));
    assert_eq!(held(&facts, "lab", &[]), Ok(4));
    bad(json!({"mode": "Ask"}));
    assert!(held(&facts, "shop", &[]).unwrap_err().starts_with(r#"policy "bad": spec: unknown variant `Ask`"#));
    bad(json!({"x": "y".repeat(1 << 20)}));
    assert!(held(&facts, "shop", &[]).unwrap_err().ends_with("more than 1048576 bytes of AttachmentPolicies"));
}

/// Whoever leaves what only warned or counted loses no limit (L03).
#[test]
fn only_what_is_enforced_restricts_a_namespace() {
    let mut known = Known::default();
    known.apply(Cache::Policies, policy("a", json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}})));
    known.apply(Cache::Policies, policy("warns", json!({"mode": "Warn"})));
    let labels = crate::cluster::Labels::from([("tenant".to_owned(), "a".to_owned())]);
    assert_eq!(known.view.policies(&labels).collect::<Vec<_>>(), ["a"]);
    let mut softer = policy("a", json!({"mode": "Audit"}));
    softer.metadata.resource_version = "6".to_owned();
    known.apply(Cache::Policies, softer);
    assert_eq!(known.view.policies(&labels).count(), 0);
}

#[test]
fn a_policy_is_compiled_once_for_each_version() {
    let mut policies = Policies::default();
    policies.apply(&policy("a", json!({})));
    // The same version with another text: it was not looked at.
    policies.apply(&policy("a", json!({"mode": "Ask"})));
    assert!(policies.iter().all(|(_, known)| known.read.is_ok()));
    let mut newer = policy("a", json!({"mode": "Ask"}));
    newer.metadata.resource_version = "6".to_owned();
    policies.apply(&newer);
    assert!(policies.iter().all(|(_, known)| known.read.is_err()));
}

#[test]
fn an_attachment_level_opens_and_its_end_closes() {
    let mut policies = Policies::default();
    let level = |version: &str, spec: Value| {
        object(json!({"metadata": {"name": "baseline", "resourceVersion": version}, "spec": spec}))
    };
    let labels = crate::cluster::Labels::new();
    let says = |policies: &Policies| {
        let held = policies.of("shop", &labels, Level::Baseline, &[]);
        held.map(|policies| format!("{policies:?}").contains("bond7")).map_err(|error| error.to_string())
    };
    assert_eq!((policies.knows_level(Level::Baseline), says(&policies)), (false, Ok(false)));
    policies.apply_level(&level("1", json!({"masters": ["bond7"], "vniRanges": [{"min": 7, "max": 9}]})));
    assert_eq!(
        policies.vni_ranges(Level::Baseline).iter().map(|range| (range.min, range.max)).collect::<Vec<_>>(),
        [(7, 9)]
    );
    assert_eq!((policies.knows_level(Level::Baseline), says(&policies)), (true, Ok(true)));
    policies.apply_level(&level("2", json!({"masters": 7})));
    assert!(says(&policies).unwrap_err().starts_with(r#"level "baseline": spec: invalid type"#));
    policies.delete_level("baseline");
    assert!(policies.vni_ranges(Level::Baseline).is_empty());
    assert_eq!((policies.knows_level(Level::Baseline), says(&policies)), (false, Ok(false)));
}

#[test]
fn labels_of_namespaces_are_kept_within_bounds() {
    let mut known = Known::default();
    let namespace =
        |name: &str, length: usize| object(json!({"metadata": {"name": name, "labels": {"a": "x".repeat(length)}}}));
    known.apply(Cache::Namespaces, namespace("long", 4 << 10));
    assert!(known.view.namespace("long").is_none());
    for number in 0..=512 {
        known.apply(Cache::Namespaces, namespace(&format!("n{number}"), (4 << 10) - 1));
    }
    assert!(known.view.namespace("n511").is_some() && known.view.namespace("n512").is_none());
    known.apply(Cache::Namespaces, namespace("n0", 1));
    known.delete(Cache::Namespaces, &namespace("n1", 0).metadata);
    known.apply(Cache::Namespaces, namespace("n512", 9));
    assert!(known.view.namespace("n512").is_some());
    known.end(Cache::Namespaces, &HashSet::from(["n512".to_owned()]));
    assert_eq!(known.count(Cache::Namespaces), 1);
}

#[tokio::test]
async fn who_waits_hears_of_every_change() {
    let facts = Facts::default();
    let heard_of = async {
        facts.changed().await;
        facts.known().view.definition(&net("lan")).is_some()
    };
    let comes = async { facts.change(|known| known.apply(Cache::Definitions, nad("lan", "{}"))) };
    let (is_known, ()) = tokio::join!(heard_of, comes);
    assert!(is_known);
}
