//! One review: which objects have rules, what their problems come to.

use delegates::lint::{self as rules, CONFIG, Problem, Severity};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde_json::Value;

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

/// Answers the body of a request. An object that cannot be read is denied, by the uid of its request: an answer without it
/// would count as a failed call, which `failurePolicy: Ignore` admits.
pub fn answer(body: &[u8]) -> Result<Review, NotAReview> {
    let raw: Value = serde_json::from_slice(body)?;
    let uid = raw["request"]["uid"].as_str().filter(|uid| !uid.is_empty()).ok_or(NotAReview::NoUid)?;
    let uid = uid.to_owned();
    match serde_json::from_slice::<Review>(body) {
        Ok(asked) => Ok(review(asked)),
        Err(error) => {
            let what = format!("the object cannot be read: {error}");
            Ok(text::unreadable(uid, &what).into_review())
        }
    }
}

/// Answers a review.
pub fn review(asked: Review) -> Review {
    match asked.try_into() {
        Ok(request) => respond(&request).into_review(),
        Err(_) => text::unreadable(String::new(), "the review has no request").into_review(),
    }
}

fn respond(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let mut allowed = AdmissionResponse::from(request);
    let is_definition = request.kind.kind == "NetworkAttachmentDefinition";
    match request.operation {
        // A definition in use is the janitor's matter; deleting one needs no look at what it says.
        Operation::Delete | Operation::Connect => allowed,
        _ if !is_definition => {
            allowed.warnings = Some(vec![format!("meta-cni has no rules about {}", request.kind.kind)]);
            allowed
        }
        Operation::Create | Operation::Update => match &request.object {
            Some(object) => text::answer(allowed, request, problems(request, object)),
            None => text::unreadable(request.uid.clone(), "request.object: missing, want the object"),
        },
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
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_uid_there_is_no_answer() {
        for body in ["", "[]", "{}", r#"{"request":{"uid":""}}"#, r#"{"request":{"uid":7}}"#] {
            assert!(answer(body.as_bytes()).is_err(), "{body}");
        }
    }

    fn ask(object: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "object": object,
            "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
            "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
        }})
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
            let answered = answer(ask(object).to_string().as_bytes()).unwrap().response.unwrap();
            prop_assert_eq!(&answered.uid, "u");
            prop_assert!(answered.allowed || !answered.result.message.is_empty());
        }
    }
}
