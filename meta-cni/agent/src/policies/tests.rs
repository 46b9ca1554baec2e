use meta_cni_kube::testing::{Server, answer, later};
use serde_json::json;

use super::*;

fn named(namespaces: &[&str]) -> BTreeSet<String> {
    namespaces.iter().map(|name| (*name).to_owned()).collect()
}

fn namespace(name: &str, labels: Value) -> Named {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels, "annotations": {"a": "b"}}})).unwrap()
}

fn object(name: &str, spec: Value) -> Object {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn policy() -> Value {
    json!({"rules": [{"name": "r", "select": "$.a", "assert": {"absent": true}}]})
}

/// All that the API server has.
fn listed(policies: &Policies) {
    policies.namespace(Event::Begin);
    policies.namespace(Event::Listed(namespace("shop", json!({"meta-cni.io/level": "baseline"}))));
    policies.namespace(Event::Listed(namespace("infra", Value::Null)));
    policies.namespace(Event::End);
    policies.spec(Event::Begin, |cache| &mut cache.policies);
    policies.spec(Event::Listed(object("p", policy())), |cache| &mut cache.policies);
    policies.spec(Event::End, |cache| &mut cache.policies);
    policies.spec(Event::Begin, |cache| &mut cache.levels);
    policies.spec(Event::Listed(object("baseline", json!({"masters": ["eth1"]}))), |cache| &mut cache.levels);
    policies.spec(Event::End, |cache| &mut cache.levels);
}

async fn soon(policies: &Policies, namespaces: &[&str]) -> wire::Policies {
    policies.of(named(namespaces), Instant::now() + Duration::from_millis(50)).await.0
}

fn unknown(reason: &str) -> wire::Policies {
    wire::Policies::Unknown { reason: reason.to_owned() }
}

#[tokio::test]
async fn nothing_is_known_until_all_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| answer("500 Internal Server Error", "{}")).await;
    let policies = Policies::open(Reader::new(server.client.clone()), dir.path());
    assert_eq!(soon(&policies, &["shop"]).await, unknown("the API server has not listed them in time"));
    let waiting = policies.of(named(&["shop"]), later());
    let listing = async { listed(&policies) };
    let ((known, _), ()) = tokio::join!(waiting, listing);
    let wire::Policies::Known { facts } = known else { panic!("{known:?}") };
    assert_eq!(facts.namespaces["shop"]["meta-cni.io/level"], "baseline");
    assert_eq!((facts.policies.len(), facts.levels["baseline"].masters.len()), (1, 1));

    policies.spec(Event::Applied(object("p", json!({"rules": 7}))), |cache| &mut cache.policies);
    let wire::Policies::Unknown { reason } = soon(&policies, &["shop"]).await else { panic!() };
    assert!(reason.starts_with("AttachmentPolicy p: spec: "), "{reason}");
    policies.spec(Event::Deleted(object("p", Value::Null)), |cache| &mut cache.policies);
    let wire::Policies::Known { facts } = soon(&policies, &["infra"]).await else { panic!() };
    assert_eq!((facts.policies.len(), &facts.namespaces["infra"]), (0, &Labels::new()));
}

#[tokio::test]
async fn a_namespace_that_is_not_cached_is_asked_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|path| match path.rsplit('/').next() {
        Some("new") => answer("200 OK", r#"{"metadata":{"name":"new","labels":{"meta-cni.io/level":"restricted"}}}"#),
        Some("gone") => answer("404 Not Found", "404 page not found"),
        _ => answer("500 Internal Server Error", "{}"),
    })
    .await;
    let policies = Policies::open(Reader::new(server.client.clone()), dir.path());
    listed(&policies);
    let (known, _) = policies.of(named(&["new", "gone", "shop"]), later()).await;
    let wire::Policies::Known { facts } = known else { panic!("{known:?}") };
    assert_eq!(facts.namespaces["new"]["meta-cni.io/level"], "restricted");
    assert_eq!((&facts.namespaces["gone"], server.asked()), (&Labels::new(), 2));
    let (failed, _) = policies.of(named(&["broken"]), later()).await;
    let wire::Policies::Unknown { reason } = failed else { panic!("{failed:?}") };
    assert!(reason.starts_with("namespace broken: the API server cannot be asked: "), "{reason}");
}

#[tokio::test]
async fn what_was_used_outlives_the_agent_while_the_api_server_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| answer("500 Internal Server Error", "{}")).await;
    let open = || Policies::open(Reader::new(server.client.clone()), dir.path());
    let first = open();
    first.expect("shop");
    assert!(!dir.path().join("policies.json").exists(), "nothing is known yet");
    listed(&first);
    let (known, _) = first.of(named(&["infra"]), later()).await;
    assert!(matches!(known, wire::Policies::Known { .. }));

    let second = open();
    let wire::Policies::Known { facts } = soon(&second, &["shop"]).await else { panic!() };
    assert_eq!((facts.namespaces.len(), facts.policies.len(), facts.levels.len()), (1, 1, 1));
    assert_eq!(facts.namespaces["shop"]["meta-cni.io/level"], "baseline");
    assert!(matches!(soon(&second, &["infra"]).await, wire::Policies::Known { .. }));
    assert_eq!(soon(&second, &["other"]).await, unknown("the API server has not listed them in time"));
    // What the API server tells counts from then on.
    listed(&second);
    second.namespace(Event::Applied(namespace("shop", json!({}))));
    let wire::Policies::Known { facts } = soon(&second, &["shop"]).await else { panic!() };
    assert_eq!(facts.namespaces["shop"], Labels::new());

    fs::write(dir.path().join("policies.json"), "{\"policies\": 7}").unwrap();
    assert_eq!(soon(&open(), &["shop"]).await, unknown("the API server has not listed them in time"));
}

#[test]
fn no_more_namespaces_are_remembered_than_the_file_has_room_for() {
    let mut state = State::default();
    for number in 0..=USED {
        assert!(state.used(&format!("n{number}")));
    }
    assert!(!state.used("n1") && state.used("n0"));
    assert_eq!((state.used.len(), state.used[0].as_str(), state.used[1].as_str()), (USED, "n0", "n1"));
}
