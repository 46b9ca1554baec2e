//! One review: which objects have rules, what their problems come to.

use delegates::lint::{self as rules, CONFIG, Problem, Rule, Severity};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde::Deserialize;

use crate::facts::Facts;
use crate::text;

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

/// Answers the body of a request. An object that cannot be read is denied, by the uid of its request: an answer without it
/// would count as a failed call, which `failurePolicy: Ignore` admits.
pub fn answer(body: &[u8], facts: &Facts) -> Result<Answered, NotAReview> {
    let uid = uid(body)?;
    Ok(match request(body) {
        Ok(request) => respond(&request, facts),
        Err(why) => Answered { review: text::unreadable(uid, &why).into_review(), operation: "", problems: Vec::new() },
    })
}

pub(crate) fn uid(body: &[u8]) -> Result<String, NotAReview> {
    let asked: Asked = serde_json::from_slice(body)?;
    asked.request.map(|request| request.uid).filter(|uid| !uid.is_empty()).ok_or(NotAReview::NoUid)
}

pub(crate) fn request(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: Review = serde_json::from_slice(body).map_err(|error| format!("the object cannot be read: {error}"))?;
    review.try_into().map_err(|_| "the review has no request".to_owned())
}

/// The rules of the request's group and kind.
fn respond(request: &AdmissionRequest<DynamicObject>, _facts: &Facts) -> Answered {
    let allowed = AdmissionResponse::from(request);
    let rules = match (request.kind.group.as_str(), request.kind.kind.as_str()) {
        ("k8s.cni.cncf.io", "NetworkAttachmentDefinition") => problems,
        _ => |_: &AdmissionRequest<DynamicObject>, _: &DynamicObject| Vec::new(),
    };
    let (response, problems) = match (&request.operation, &request.object) {
        // A definition in use is the janitor's matter; deleting one needs no look at what it says.
        (Operation::Delete | Operation::Connect, _) => (allowed, Vec::new()),
        (Operation::Create | Operation::Update, Some(object)) => {
            let problems = rules(request, object);
            let counted = problems
                .iter()
                .map(|problem| (problem.rule.map_or("", Rule::id).to_owned(), problem.severity))
                .collect();
            (text::answer(allowed, request, problems), counted)
        }
        (Operation::Create | Operation::Update, None) => {
            (text::unreadable(request.uid.clone(), "request.object: missing, want the object"), Vec::new())
        }
    };
    Answered { review: response.into_review(), operation: word(&request.operation), problems }
}

pub(crate) fn word(operation: &Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn problems(request: &AdmissionRequest<DynamicObject>, object: &DynamicObject) -> Vec<Problem> {
    let name = object.metadata.name.as_deref().filter(|name| !name.is_empty());
    let mut problems = rules::definition(name, &object.data["spec"]);
    let config = |object: &DynamicObject| object.data["spec"]["config"].clone();
    let is_unchanged = request.operation == Operation::Update
        && request.old_object.as_ref().is_some_and(|old| config(old) == config(object));
    // What was stored before there were rules must still take a label, and lose its finalizers.
    if is_unchanged {
        for problem in problems.iter_mut().filter(|problem| problem.path.starts_with(CONFIG)) {
            problem.severity = Severity::Warn;
        }
    }
    problems
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
            assert!(asked(body.as_bytes()).is_err(), "{body}");
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
        let response = asked(body.as_bytes()).unwrap().review.response.unwrap();
        assert!(response.uid == "u" && !response.allowed, "{response:?}");
        assert_eq!(response.result.code, 422);
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
