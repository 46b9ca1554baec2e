//! One review: answered by what is known, and again after a look for what was missing.

use std::time::Duration;

use tokio::time::Instant;

use super::routes::{Refusal, guarded};
use crate::Shared;
use crate::review::{self, Answered, Missing, Request};

/// Answers a request. Nothing is refused because of what the caches lack before the API server said so.
pub async fn validate(shared: &Shared, request: &Request) -> Result<Answered, Refusal> {
    let facts = &shared.facts;
    let (mut found, mut unanswered, mut asked) = (Vec::new(), Missing::default(), Missing::default());
    loop {
        let judge = || facts.with(&found, |known| review::respond(request, known, &unanswered));
        let (answered, judgement) = guarded(judge)?;
        // What is asked for grows with each round and has an end: it is all in the request.
        let missing = judgement.missing.without(&asked);
        if missing.is_empty() {
            shared.metrics.violated(&judgement.violations);
            return Ok(answered);
        }
        if asked.is_empty() {
            facts.wait_for(&missing).await;
        }
        let looked = facts.look_for(&missing).await;
        found.extend(looked.found);
        unanswered.extend(looked.unanswered);
        asked.extend(missing);
    }
}

/// How long claims may take: half of what the API server waits for a changed definition (`mutating.yaml`).
const CLAIM: Duration = Duration::from_millis(2500);

/// Changes the object of a request, likewise. What the API server does not say either is judged later.
pub async fn mutate(shared: &Shared, request: &Request) -> Result<Answered, Refusal> {
    let Shared { facts, mutator, .. } = shared;
    if !mutator.is_ready_for(request, &facts.known()) {
        return Err(Refusal::Early);
    }
    let (mut found, mut asked) = (Vec::new(), Missing::default());
    loop {
        let missing = guarded(|| facts.with(&found, |known| mutator.missing(request, known)))?.without(&asked);
        if missing.is_empty() {
            break;
        }
        if asked.is_empty() {
            facts.wait_for(&missing).await;
        }
        found.extend(facts.look_for(&missing).await.found);
        asked.extend(missing);
    }
    let (deadline, mut taken) = (Instant::now() + CLAIM, Vec::new());
    loop {
        let mut answer = guarded(|| facts.with(&found, |known| mutator.answer(request, known, &taken)))?;
        match mutator.claim(request, &mut answer, deadline).await {
            Some(identifier) => taken.push(identifier),
            None => return Ok(answer.told(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use meta_cni_kube::Reader;
    use meta_cni_kube::testing::{Server, answer};
    use serde_json::{Value, json};
    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::certs::served::Served;
    use crate::facts::{Cache, Facts, Object};
    use crate::metrics::Metrics;
    use crate::mutate::Mutator;
    use crate::mutate::options::MutateOptions;
    use crate::readiness::Readiness;

    fn object(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    fn lan() -> Value {
        json!({"metadata": {"namespace": "shop", "name": "lan"}, "spec": {"config": r#"{"cniVersion":"1.0.0","type":"ptp"}"#}})
    }

    /// A webhook in a cluster of one namespace, whose API server answers with this.
    async fn shared(code: &'static str, body: Value) -> (Shared, Server) {
        let body = body.to_string();
        let server = Server::start(move |_| answer(code, &body)).await;
        let facts = Facts::default().asking(Reader::new(server.client.clone()));
        facts.change(|known| known.apply(Cache::Namespaces, object(json!({"metadata": {"name": "shop"}}))));
        let (metrics, readiness, served) = (Metrics::default(), Readiness::default(), Served::default());
        let mutator = Mutator::new(&MutateOptions { inject: true, ..MutateOptions::default() });
        (Shared { facts, mutator, metrics, readiness, served }, server)
    }

    fn pod() -> Request {
        let metadata =
            json!({"name": "web-0", "namespace": "shop", "annotations": {"k8s.v1.cni.cncf.io/networks": "lan"}});
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}});
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "namespace": "shop", "name": "web-0", "object": object,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
        }});
        review::read(review.to_string().as_bytes()).unwrap().unwrap()
    }

    async fn asked(shared: &Shared) -> (bool, Vec<String>, String) {
        let Ok(answered) = validate(shared, &pod()).await else { panic!("no answer") };
        let response = answered.review.response.unwrap();
        (response.allowed, response.warnings.unwrap_or_default(), response.result.message)
    }

    #[tokio::test]
    async fn what_the_watch_brings_in_time_is_not_asked_for() {
        let (shared, server) = shared("404 Not Found", json!({"kind": "Status", "code": 404})).await;
        let comes = async {
            sleep(Duration::from_millis(50)).await;
            shared.facts.change(|known| known.apply(Cache::Definitions, object(lan())));
        };
        let (answered, ()) = tokio::join!(asked(&shared), comes);
        assert_eq!((answered, server.asked()), ((true, Vec::new(), String::new()), 0));
    }

    #[tokio::test]
    async fn what_the_api_server_has_is_as_good_as_known_and_is_not_kept() {
        let (shared, server) = shared("200 OK", lan()).await;
        assert_eq!(asked(&shared).await, (true, Vec::new(), String::new()));
        assert_eq!((server.asked(), shared.facts.known().count(Cache::Definitions)), (1, 0));
    }

    #[tokio::test]
    async fn what_the_api_server_does_not_have_either_is_refused() {
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        let (shared, server) = shared("404 Not Found", status).await;
        let (is_allowed, _, message) = asked(&shared).await;
        assert!(!is_allowed && message.contains("\"lan\" in namespace \"shop\" [P06]"), "{message}");
        assert_eq!(server.asked(), 1);
    }

    /// What a definition in namespace `new` gets, which no watch has brought, from an API server that has these objects.
    async fn in_new_namespace(namespace: Option<Value>, level: Option<Value>) -> (bool, String, usize) {
        let found = |object: Option<Value>| match object {
            Some(object) => answer("200 OK", &object.to_string()),
            None => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404});
                answer("404 Not Found", &status.to_string())
            }
        };
        let (namespace, level) = (found(namespace), found(level));
        let server = Server::start(move |path| match path {
            "/api/v1/namespaces/new" => namespace.clone(),
            "/apis/meta-cni.io/v1alpha1/attachmentlevels/baseline" => level.clone(),
            other => panic!("{other} was asked for"),
        })
        .await;
        let facts = Facts::default().asking(Reader::new(server.client.clone()));
        let (metrics, readiness, served) = (Metrics::default(), Readiness::default(), Served::default());
        let config = r#"{"cniVersion":"1.0.0","type":"macvlan","master":"eth1"}"#;
        let object = json!({"metadata": {"name": "lan", "namespace": "new"}, "spec": {"config": config}});
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "namespace": "new", "name": "lan", "object": object,
            "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
            "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
        }});
        let request = review::read(review.to_string().as_bytes()).unwrap().unwrap();
        let mutator = Mutator::new(&MutateOptions::default());
        let shared = Shared { facts, mutator, metrics, readiness, served };
        let Ok(answered) = validate(&shared, &request).await else { panic!("no answer") };
        let response = answered.review.response.unwrap();
        (response.allowed, response.result.message, server.asked())
    }

    #[tokio::test]
    async fn a_namespace_and_what_is_open_at_its_level_are_asked_for_one_after_the_other() {
        let namespace = json!({"metadata": {"name": "new", "labels": {"meta-cni.io/level": "baseline"}}});
        let level = |masters: Value| json!({"metadata": {"name": "baseline"}, "spec": {"masters": masters}});
        let opened = in_new_namespace(Some(namespace.clone()), Some(level(json!(["eth1"])))).await;
        assert_eq!(opened, (true, String::new(), 2));
        for level in [Some(level(json!([]))), None] {
            let (is_allowed, message, asked) = in_new_namespace(Some(namespace.clone()), level).await;
            assert!(!is_allowed && message.contains(r#"level "baseline" rule "masters""#), "{message}");
            assert_eq!(asked, 2);
        }
        // One that is not there has no label; whether it may be missing is the API server's affair.
        assert_eq!(in_new_namespace(None, None).await, (true, String::new(), 1));
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_refuses_nothing() {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "message": "no"});
        let (failing, _server) = shared("500 Internal Server Error", status).await;
        let (silent, server) = shared("200 OK", lan()).await;
        server.close();
        for shared in [failing, silent] {
            let (is_allowed, warnings, message) = asked(&shared).await;
            assert!(is_allowed, "{message}");
            assert!(warnings[0].contains("; the API server could not be asked [P06]"), "{warnings:?}");
        }
    }

    fn overlay(namespace: &str) -> Request {
        let object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "a", "namespace": namespace}, "spec": {"config": r#"{"type":"vxlan"}"#}});
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "namespace": namespace, "name": "a", "object": object,
            "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
            "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
        }});
        review::read(review.to_string().as_bytes()).unwrap().unwrap()
    }

    #[tokio::test]
    async fn no_vni_is_drawn_before_those_that_are_taken_are_known() {
        let (shared, server) = shared("200 OK", json!({})).await;
        assert!(matches!(mutate(&shared, &overlay("shop")).await, Err(Refusal::Early)));
        shared.facts.change(|known| known.end(Cache::Definitions, &HashSet::new()));
        assert!(matches!(mutate(&shared, &overlay("shop")).await, Err(Refusal::Early)), "claims are not known");
        shared.facts.change(|known| known.end(Cache::Claims, &HashSet::new()));
        let Ok(answered) = mutate(&shared, &overlay("shop")).await else { panic!("no answer") };
        assert!(answered.review.response.unwrap().patch.is_some());
        assert_eq!(server.asked(), 0);
    }

    #[tokio::test]
    async fn the_level_of_a_namespace_that_is_new_limits_what_is_drawn() {
        let labels = json!({"meta-cni.io/level": "baseline"});
        // Asked for the AttachmentLevel, it says the same, which opens nothing.
        let (shared, server) = shared("200 OK", json!({"metadata": {"name": "new", "labels": labels}})).await;
        shared.facts.change(|known| {
            known.end(Cache::Definitions, &HashSet::new());
            known.end(Cache::Claims, &HashSet::new());
        });
        let Ok(answered) = mutate(&shared, &overlay("new")).await else { panic!("no answer") };
        let response = answered.review.response.unwrap();
        assert!(response.result.message.contains(r#"level "baseline" opens no VNI"#), "{response:?}");
        assert_eq!(server.asked(), 2);
    }

    /// A webhook whose API server has claims of the pairs with these VNIs already, all another definition's, and what it answers.
    async fn drawn(taken: &'static [u32], request: &Request) -> (Answered, Vec<String>) {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (heard, number) = (std::sync::Arc::clone(&asked), std::sync::atomic::AtomicUsize::new(0));
        let other = json!({"spec": {"owner": {"namespace": "infra", "name": "red"}}}).to_string();
        let exists =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "AlreadyExists"});
        let server = Server::start(move |path| {
            heard.lock().unwrap().push(path.to_owned());
            if !path.ends_with("/vniclaims?") && !path.ends_with("/vniclaims") {
                return answer("200 OK", &other);
            }
            match number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                number if number < taken.len() => answer("409 Conflict", &exists.to_string()),
                _ => answer("201 Created", "{}"),
            }
        })
        .await;
        let facts = Facts::default();
        facts.change(|known| {
            known.apply(Cache::Namespaces, object(json!({"metadata": {"name": "shop"}})));
            known.end(Cache::Definitions, &HashSet::new());
            known.end(Cache::Claims, &HashSet::new());
        });
        let vni_range = attachments::policy::spec::VniRange { min: 7, max: 9 };
        let mutator = Mutator::new(&MutateOptions { vni_range, ..MutateOptions::default() })
            .claiming(crate::mutate::claim::Claimer::new(server.client.clone()));
        let (metrics, readiness, served) = (Metrics::default(), Readiness::default(), Served::default());
        let shared = Shared { facts, mutator, metrics, readiness, served };
        let Ok(answered) = mutate(&shared, request).await else { panic!("no answer") };
        let asked = asked.lock().unwrap().clone();
        (answered, asked)
    }

    #[tokio::test]
    async fn a_vni_that_another_replica_was_quicker_to_claim_is_passed_over() {
        let vni = |answered: &Answered| {
            let patch = answered.review.response.clone().unwrap().patch?;
            let patch: Value = serde_json::from_slice(&patch).unwrap();
            let config: Value = serde_json::from_str(patch[0]["value"].as_str().unwrap()).unwrap();
            config["vni"].as_u64()
        };
        let (first, asked) = drawn(&[], &overlay("shop")).await;
        assert_eq!(asked.len(), 1, "{asked:?}");
        let (next, asked) = drawn(&[7], &overlay("shop")).await;
        assert_eq!(asked.len(), 3, "{asked:?}");
        let (first, next) = (vni(&first).unwrap(), vni(&next).unwrap());
        assert_eq!(next, if first == 9 { 7 } else { first + 1 });
        let (full, _) = drawn(&[7, 8, 9], &overlay("shop")).await;
        assert!(!full.is_allowed() && full.problems[0].0 == "X15", "{full:?}");
    }

    #[tokio::test]
    async fn a_vni_that_need_not_last_is_not_claimed() {
        let with = |key: &str, value: Value| {
            let mut review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
                "uid": "u", "operation": "CREATE", "userInfo": {}, "namespace": "shop",
                "object": {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                    "metadata": {"namespace": "shop"}, "spec": {"config": r#"{"type":"vxlan"}"#}},
                "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
                "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
            }});
            review["request"][key] = value;
            review::read(review.to_string().as_bytes()).unwrap().unwrap()
        };
        let mut tried = with("dryRun", json!(true));
        for request in [&mut tried, &mut with("name", json!(""))] {
            let (answered, asked) = drawn(&[], request).await;
            assert!(answered.review.response.unwrap().patch.is_some() && asked.is_empty(), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn what_a_pod_needs_is_looked_for_before_it_is_injected() {
        let mut definition = lan();
        definition["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/nodeSelector": "rack=a"});
        let (shared, server) = shared("200 OK", definition).await;
        shared.mutator.injectors.nobody_else();
        let Ok(answered) = mutate(&shared, &pod()).await else { panic!("no answer") };
        assert!(answered.review.response.unwrap().patch.is_some());
        assert_eq!(server.asked(), 1);
    }
}
