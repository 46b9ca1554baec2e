//! One validating review: judged by what is known, and again after a look for what was missing.

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

#[cfg(test)]
mod tests {
    use meta_cni_kube::Reader;
    use meta_cni_kube::testing::{Server, answer};
    use serde_json::{Value, json};
    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::certs::served::Served;
    use crate::facts::{Cache, Facts, Object};
    use crate::metrics::Metrics;
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
        (Shared { facts, metrics, readiness, served }, server)
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
}
