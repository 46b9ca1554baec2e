//! One review: which objects have rules, what their problems come to.
//!
//! [`respond`] is pure: a request and what is known. What it misses it names, so that whoever serves can look for it first.

mod judge;
#[cfg(test)]
#[path = "review/tests.rs"]
mod judged;
mod ours;
mod policies;

use delegates::lint::{Rule, Severity};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde::Deserialize;
use serde_json::Value;

use crate::facts::{Facts, Known};
use crate::{rules, text};

pub use judge::{Judgement, Missing, judge};

/// A review of whatever object.
pub type Review = AdmissionReview<DynamicObject>;

/// What cannot be answered with a review: nobody could tell which one it is about.
#[derive(Debug, thiserror::Error)]
pub enum NotAReview {
    /// The body is no JSON.
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// Without a uid the API server takes no answer.
    #[error("request.uid: missing, want the uid of the request")]
    NoUid,
}

/// An answer, and what is counted of it.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub review: Review,
    /// The operation that was asked about; empty where the request could not be read.
    pub operation: &'static str,
    /// Rule and severity of each problem.
    pub problems: Vec<(String, Severity)>,
}

impl Answered {
    /// May the object be stored?
    pub fn is_allowed(&self) -> bool {
        self.review.response.as_ref().is_some_and(|response| response.allowed)
    }
}

/// Of a body no more than what an answer cannot do without: nothing else can fail before it is read.
#[derive(Deserialize)]
struct Asked {
    request: Option<AskedRequest>,
}

#[derive(Deserialize)]
struct AskedRequest {
    #[serde(default)]
    uid: String,
}

/// A request that could be read.
#[derive(Debug)]
pub struct Request {
    request: AdmissionRequest<DynamicObject>,
    /// The object as rules read it; `null` where there is none.
    object: Value,
    old: Option<Value>,
}

/// Reads the body of a request. An object that cannot be read is denied, by the uid of its request: an answer without it
/// would count as a failed call, which `failurePolicy: Ignore` admits.
pub fn read(body: &[u8]) -> Result<Result<Request, Box<Answered>>, NotAReview> {
    let uid = uid(body)?;
    let denied = |why: &str, operation| {
        let review = text::unreadable(uid.clone(), why).into_review();
        Ok(Err(Box::new(Answered { review, operation, problems: Vec::new() })))
    };
    let request = match request(body) {
        Ok(request) => request,
        Err(why) => return denied(&why, ""),
    };
    if request.object.is_none() && matches!(request.operation, Operation::Create | Operation::Update) {
        return denied("request.object: missing, want the object", word(&request.operation));
    }
    let value = |object: &DynamicObject| {
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        serde_json::to_value(object).unwrap_or_default()
    };
    let object = request.object.as_ref().map(value).unwrap_or_default();
    let old = request.old_object.as_ref().map(value);
    Ok(Ok(Request { request, object, old }))
}

/// Answers a request by what is known, and says what is not. `unanswered` is what could not be asked for.
pub fn respond(asked: &Request, known: &Known, unanswered: &Missing) -> (Answered, Judgement) {
    let request = &asked.request;
    let operation = match request.operation {
        Operation::Create => rules::Operation::Create,
        Operation::Update => rules::Operation::Update,
        Operation::Delete => rules::Operation::Delete,
        Operation::Connect => {
            let review = AdmissionResponse::from(request).into_review();
            return (Answered { review, operation: "CONNECT", problems: Vec::new() }, Judgement::default());
        }
    };
    let name = match request.name.as_str() {
        "" => asked.object["metadata"]["name"].as_str().unwrap_or_default(),
        name => name,
    };
    let mut judgement = judge::judge(
        &rules::Request {
            operation,
            group: &request.kind.group,
            kind: &request.kind.kind,
            namespace: request.namespace.as_deref().unwrap_or_default(),
            name,
            object: &asked.object,
            old: asked.old.as_ref(),
            user: request.user_info.username.as_deref().unwrap_or_default(),
            groups: request.user_info.groups.as_deref().unwrap_or_default(),
        },
        known,
        unanswered,
    );
    let problems = std::mem::take(&mut judgement.problems);
    let counted = |problem: &delegates::lint::Problem| (problem.rule.map_or("", Rule::id).to_owned(), problem.severity);
    let counted: Vec<(String, Severity)> = problems.iter().map(counted).collect();
    let response = text::answer(AdmissionResponse::from(request), request, problems);
    (Answered { review: response.into_review(), operation: word(&request.operation), problems: counted }, judgement)
}

/// Answers the body of a request by what is known, and looks for nothing else.
pub fn answer(body: &[u8], facts: &Facts) -> Result<Answered, NotAReview> {
    Ok(match read(body)? {
        Ok(request) => respond(&request, &facts.known(), &Missing::default()).0,
        Err(denied) => *denied,
    })
}

/// Answers the body of a request to change an object: nothing is changed yet.
pub fn mutate(body: &[u8]) -> Result<Answered, NotAReview> {
    let uid = uid(body)?;
    let (response, operation) = match request(body) {
        Ok(request) => (AdmissionResponse::from(&request), word(&request.operation)),
        Err(why) => (text::unreadable(uid, &why), ""),
    };
    Ok(Answered { review: response.into_review(), operation, problems: Vec::new() })
}

fn uid(body: &[u8]) -> Result<String, NotAReview> {
    let asked: Asked = serde_json::from_slice(body)?;
    asked.request.map(|request| request.uid).filter(|uid| !uid.is_empty()).ok_or(NotAReview::NoUid)
}

fn request(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: Review = serde_json::from_slice(body).map_err(|error| format!("the object cannot be read: {error}"))?;
    review.try_into().map_err(|_| "the review has no request".to_owned())
}

fn word(operation: &Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn asked(body: &[u8]) -> Result<Answered, NotAReview> {
        answer(body, &Facts::default())
    }

    #[test]
    fn without_a_uid_there_is_no_answer() {
        for body in ["", "[]", "{}", r#"{"request":{"uid":""}}"#, r#"{"request":{"uid":7}}"#] {
            assert!(asked(body.as_bytes()).is_err() && mutate(body.as_bytes()).is_err(), "{body}");
        }
    }

    fn ask(object: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "object": object,
            "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
            "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
        }})
    }

    /// A definition whose configuration nobody can attach.
    fn bad() -> Value {
        ask(json!({"metadata": {"name": "a"}, "spec": {"config": "[]"}}))
    }

    #[test]
    fn an_object_nested_too_deep_is_denied_by_its_uid() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = bad().to_string().replace(r#""[]""#, &deep);
        for answered in [asked(body.as_bytes()).unwrap(), mutate(body.as_bytes()).unwrap()] {
            let response = answered.review.response.unwrap();
            assert!(response.uid == "u" && !response.allowed, "{response:?}");
            assert_eq!(response.result.code, 422);
        }
    }

    #[test]
    fn group_and_kind_decide_and_not_the_kind_alone() {
        let mut body = bad();
        let denied = asked(body.to_string().as_bytes()).unwrap();
        assert!(!denied.is_allowed() && denied.operation == "CREATE");
        assert_eq!(denied.problems, [("N03".to_owned(), Severity::Deny)]);
        body["request"]["kind"]["group"] = json!("example.com");
        let allowed = asked(body.to_string().as_bytes()).unwrap();
        assert!(allowed.is_allowed() && allowed.problems.is_empty());
        assert_eq!(allowed.review.response.unwrap().warnings, None);
    }

    #[test]
    fn nothing_is_changed_yet() {
        let answered = mutate(bad().to_string().as_bytes()).unwrap();
        assert!(answered.is_allowed());
        let response = answered.review.response.unwrap();
        assert_eq!((response.uid.as_str(), response.patch), ("u", None));
    }

    proptest! {
        #[test]
        fn any_object_is_answered_by_its_uid(text in ".{0,120}", pick in 0usize..6) {
            let object = match pick {
                0 => json!(null),
                1 => json!(text),
                2 => json!({"metadata": text}),
                3 => json!({"metadata": {"name": text}, "spec": text}),
                4 => json!({"metadata": {"name": "a"}, "spec": {"config": [text]}}),
                _ => json!({"apiVersion": "v1", "kind": "x", "metadata": {"name": "a"}, "spec": {"config": text}}),
            };
            let answered = asked(ask(object).to_string().as_bytes()).unwrap().review.response.unwrap();
            prop_assert_eq!(&answered.uid, "u");
            prop_assert!(answered.allowed || !answered.result.message.is_empty());
        }
    }
}
