//! Problems as the API server and kubectl show them.

use attachments::text::printable;
use delegates::lint::{Problem, Severity};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse};
use kube::core::response::{Status, StatusCause, StatusDetails, StatusSummary, reason};

/// kubectl shows every cause in a line of its own; controllers put only the message into an event.
const CAUSES: usize = 50;
const CAUSES_IN_MESSAGE: usize = 3;

/// The field of what is wrong with an object as a whole.
const OBJECT: &str = "metadata.name";

/// The API server passes 4096 characters of warnings on, and cuts each at 256.
const WARNINGS: usize = 10;
const WARNING_LENGTH: usize = 256;

/// The answer to a request whose object has these problems.
pub fn answer(
    mut response: AdmissionResponse,
    request: &AdmissionRequest<DynamicObject>,
    problems: Vec<Problem>,
) -> AdmissionResponse {
    let (denials, remarks): (Vec<Problem>, Vec<Problem>) =
        problems.into_iter().partition(|problem| problem.severity == Severity::Deny);
    let warnings = warnings(&remarks);
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    if denials.is_empty() {
        return response;
    }
    let generated = || {
        let metadata = request.object.as_ref().map(|object| &object.metadata);
        metadata.and_then(|metadata| metadata.name.clone().or(metadata.generate_name.clone())).unwrap_or_default()
    };
    let name = if request.name.is_empty() { generated() } else { request.name.clone() };
    let details = StatusDetails {
        name,
        group: request.kind.group.clone(),
        kind: request.kind.kind.clone(),
        causes: causes(&denials),
        ..nothing()
    };
    response.allowed = false;
    response.result = invalid(message(&denials), Some(details));
    response
}

/// A denial of what nobody could look at.
pub fn unreadable(uid: String, what: &str) -> AdmissionResponse {
    let mut denied = AdmissionResponse::invalid(what);
    denied.uid = uid;
    denied.result = invalid(printable(what).into_owned(), None);
    denied
}

fn invalid(message: String, details: Option<StatusDetails>) -> Status {
    Status {
        status: Some(StatusSummary::Failure),
        code: 422,
        message,
        metadata: None,
        reason: reason::INVALID.to_owned(),
        details,
    }
}

fn nothing() -> StatusDetails {
    let (name, group, kind, uid) = Default::default();
    StatusDetails { name, group, kind, uid, causes: Vec::new(), retry_after_seconds: 0 }
}

fn causes(denials: &[Problem]) -> Vec<StatusCause> {
    let cause = |problem: &Problem| StatusCause {
        reason: problem.kind.reason().to_owned(),
        message: printable(&problem.message()).into_owned(),
        // kubectl sets a colon behind the field, also where there is none.
        field: if problem.path.is_empty() { OBJECT.to_owned() } else { printable(&problem.path).into_owned() },
    };
    let mut causes: Vec<StatusCause> = denials.iter().take(CAUSES).map(cause).collect();
    if denials.len() > CAUSES {
        let message = format!("and {} more problems", denials.len() - CAUSES);
        causes.push(StatusCause { reason: String::new(), message, field: String::new() });
    }
    causes
}

fn message(denials: &[Problem]) -> String {
    let mut parts: Vec<String> = denials.iter().take(CAUSES_IN_MESSAGE).map(Problem::to_string).collect();
    if denials.len() > CAUSES_IN_MESSAGE {
        parts.push(format!("and {} more", denials.len() - CAUSES_IN_MESSAGE));
    }
    printable(&parts.join("; ")).into_owned()
}

fn warnings(remarks: &[Problem]) -> Vec<String> {
    let mut warnings: Vec<String> =
        remarks.iter().take(WARNINGS).map(|problem| cut(&printable(&problem.to_string()))).collect();
    if remarks.len() > WARNINGS {
        warnings.push(format!("and {} more warnings", remarks.len() - WARNINGS));
    }
    warnings
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WARNING_LENGTH - 3) {
        Some((end, _)) if text.chars().count() > WARNING_LENGTH => format!("{}...", &text[..end]),
        _ => text.to_owned(),
    }
}
