//! A request to change an object, from its body to its answer.

use std::time::{Duration, Instant};

use attachments::policy::Level;
use attachments::rule::Rule;
use delegates::lint::Severity;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse};
use serde_json::Value;
use tokio::time::timeout;

use super::injectors::{Injection, Injectors};
use super::{Draw, Drawn, Mutation, Opened, Settings, mutate, options};
use crate::facts::{Cache, Facts, Known};
use crate::review::{self, Answered, NotAReview};
use crate::rules::{self, Operation, Request};
use crate::text;

/// Longest wait for a watch to bring what was made just before: a file may have a definition and its pod, or a namespace and its definition.
const PATIENCE: Duration = Duration::from_millis(500);

/// What changes objects, and what it remembers.
#[derive(Debug)]
pub struct Mutator {
    options: options::MutateOptions,
    drawn: Drawn,
    /// Whether somebody else injects.
    pub injectors: Injectors,
}

/// A request as it was read.
#[derive(Debug)]
pub struct Asked {
    request: AdmissionRequest<DynamicObject>,
    operation: Operation,
    object: Value,
    old: Option<Value>,
}

impl Mutator {
    /// By these flags.
    pub fn new(options: &options::MutateOptions) -> Self {
        Self { options: options.clone(), drawn: Drawn::default(), injectors: Injectors::new(options.inject) }
    }

    /// May a VNI be drawn? Not before every one that is taken is known.
    pub fn is_ready_for(&self, asked: &Asked, facts: &Facts) -> bool {
        asked.request.kind.kind != "NetworkAttachmentDefinition" || facts.known().is_complete(Cache::Definitions)
    }

    /// Waits until what the request needs is known, but not for long.
    pub async fn wait(&self, asked: &Asked, facts: &Facts) {
        let comes = async {
            loop {
                if self.knows(asked, &facts.known()) {
                    return;
                }
                facts.changed().await;
            }
        };
        let _ = timeout(PATIENCE, comes).await;
    }

    fn knows(&self, asked: &Asked, known: &Known) -> bool {
        match asked.request.kind.kind.as_str() {
            "NetworkAttachmentDefinition" => known.view.namespace(asked.namespace()).is_some(),
            "Pod" if self.options.inject => rules::missing(&asked.as_request(), &known.view).is_empty(),
            _ => true,
        }
    }

    /// Answers a request by what is known now.
    pub fn answer(&self, asked: &Asked, facts: &Facts) -> Answered {
        let known = facts.known();
        let opened = opened(asked.namespace(), &known);
        let settings = Settings {
            draw: Draw {
                range: self.options.vni_range,
                opened: opened.as_ref(),
                drawn: &self.drawn,
                now: Instant::now(),
                uid: &asked.request.uid,
                is_dry_run: asked.request.dry_run,
            },
            injects: self.injectors.injection() == Injection::On,
        };
        let Mutation { patch, problems } = mutate(&asked.as_request(), &settings, &known.view);
        let counted =
            |problem: &delegates::lint::Problem| (problem.rule.map_or("", Rule::id).to_owned(), problem.severity);
        let counted: Vec<(String, Severity)> = problems.iter().map(counted).collect();
        let response = text::answer(AdmissionResponse::from(&asked.request), &asked.request, problems);
        let response = match response.allowed && !patch.0.is_empty() {
            true => response.clone().with_patch(patch).unwrap_or(response),
            false => response,
        };
        Answered {
            review: response.into_review(),
            operation: review::word(&asked.request.operation),
            problems: counted,
        }
    }
}

impl Asked {
    /// Reads a body. What has no object that could be changed is answered at once.
    pub fn read(body: &[u8]) -> Result<Result<Self, Answered>, NotAReview> {
        let uid = review::uid(body)?;
        let request = match review::request(body) {
            Ok(request) => request,
            Err(why) => {
                let review = text::unreadable(uid, &why).into_review();
                return Ok(Err(Answered { review, operation: "", problems: Vec::new() }));
            }
        };
        let value = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let operation = match request.operation {
            kube::core::admission::Operation::Create => Operation::Create,
            kube::core::admission::Operation::Update => Operation::Update,
            _ => Operation::Delete,
        };
        let object = request.object.as_ref().map(value).unwrap_or_default();
        let old = request.old_object.as_ref().map(value);
        Ok(Ok(Self { operation, object, old, request }))
    }

    fn namespace(&self) -> &str {
        self.request.namespace.as_deref().unwrap_or_default()
    }

    fn as_request(&self) -> Request<'_> {
        let user = &self.request.user_info;
        Request {
            operation: self.operation,
            group: &self.request.kind.group,
            kind: &self.request.kind.kind,
            namespace: self.namespace(),
            name: &self.request.name,
            object: &self.object,
            old: self.old.as_ref(),
            user: user.username.as_deref().unwrap_or_default(),
            groups: user.groups.as_deref().unwrap_or_default(),
        }
    }
}

/// What the level of a namespace opens. `privileged` opens everything, `restricted` is refused whatever it says.
fn opened(namespace: &str, known: &Known) -> Option<Opened> {
    let level = known.level_of(namespace).filter(|level| *level == Level::Baseline)?;
    Some(Opened { level: level.to_string(), ranges: known.policies.vni_ranges(level).to_vec() })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn review(kind: &str, object: &Value) -> Vec<u8> {
        let group = if kind == "Pod" { "" } else { "k8s.cni.cncf.io" };
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "object": object, "namespace": "shop", "name": "a",
            "kind": {"group": group, "version": "v1", "kind": kind}, "resource": {"group": group, "version": "v1", "resource": "x"},
        }})
        .to_string()
        .into_bytes()
    }

    fn overlay() -> Vec<u8> {
        review(
            "NetworkAttachmentDefinition",
            &json!({"metadata": {"name": "a"}, "spec": {"config": r#"{"type":"vxlan"}"#}}),
        )
    }

    fn read(body: &[u8]) -> Asked {
        Asked::read(body).unwrap().unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_answered_by_its_uid_or_not_at_all() {
        for body in ["", "[]", "{}", r#"{"request":{"uid":""}}"#, r#"{"request":{"uid":7}}"#] {
            assert!(Asked::read(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = String::from_utf8(review("Pod", &json!("x"))).unwrap().replace(r#""x","#, &format!("{deep},"));
        let answered = Asked::read(body.as_bytes()).unwrap().unwrap_err();
        let response = answered.review.response.unwrap();
        assert!(response.uid == "u" && !response.allowed && response.result.code == 422, "{response:?}");
    }

    #[test]
    fn a_change_is_a_json_patch_and_a_refusal_has_none() {
        let answer = |range: (u32, u32)| {
            let (min, max) = range;
            let vni_range = attachments::policy::spec::VniRange { min, max };
            let mutator = Mutator::new(&options::MutateOptions { vni_range, inject: false });
            let others =
                [read(&overlay()), read(&String::from_utf8(overlay()).unwrap().replace("\"a\"", "\"b\"").into_bytes())];
            others.map(|asked| mutator.answer(&asked, &Facts::default()))
        };
        let [first, second] = answer((7, 7));
        let response = first.review.response.unwrap();
        let patch: Value = serde_json::from_slice(&response.patch.unwrap()).unwrap();
        assert_eq!(patch, json!([{"op": "replace", "path": "/spec/config", "value": r#"{"type":"vxlan","vni":7}"#}]));
        assert!(response.allowed && first.operation == "CREATE" && first.problems.is_empty());
        assert!(!second.is_allowed());
        assert_eq!(second.problems, [("X15".to_owned(), Severity::Deny)]);
        let response = second.review.response.unwrap();
        assert!(response.patch.is_none());
        assert_eq!(response.result.details.unwrap().causes[0].field, "spec.config.vni");
    }

    #[test]
    fn what_has_nothing_to_change_is_let_by() {
        let mutator = Mutator::new(&options::MutateOptions::default());
        for (kind, object) in [
            ("Pod", json!({"metadata": {"name": "a"}, "spec": {}})),
            ("Pod", Value::Null),
            ("Other", json!({"metadata": {}})),
            ("NetworkAttachmentDefinition", json!({"metadata": {"name": "a"}, "spec": {"config": 7}})),
        ] {
            let answered = mutator.answer(&read(&review(kind, &object)), &Facts::default());
            let response = answered.review.response.unwrap();
            assert!(response.allowed && response.patch.is_none() && response.warnings.is_none(), "{kind} {object}");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_known_yet_is_waited_for_and_not_for_long() {
        let (mutator, facts) = (Mutator::new(&options::MutateOptions::default()), Facts::default());
        let asked = read(&overlay());
        assert!(!mutator.is_ready_for(&asked, &facts));
        let began = Instant::now();
        mutator.wait(&asked, &facts).await;
        assert!(began.elapsed() >= PATIENCE);
        let namespace = json!({"metadata": {"name": "shop"}});
        let comes = async {
            tokio::task::yield_now().await;
            facts.change(|known| known.apply(Cache::Namespaces, serde_json::from_value(namespace).unwrap()));
        };
        let began = Instant::now();
        tokio::join!(mutator.wait(&asked, &facts), comes);
        assert!(began.elapsed() < PATIENCE);
        mutator.wait(&read(&review("Pod", &json!({"metadata": {}}))), &facts).await;
    }
}
