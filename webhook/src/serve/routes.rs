//! Paths, and the bounds of a request: the length of its body, its time, and the memory of all bodies together.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ask;
use super::connections::Connection;
use crate::Shared;
use crate::review::{self, Answered, NotAReview};

/// Longest body: an object, and what it was before, of 1.5 MiB each, in JSON.
const LONGEST: u64 = 8 << 20;
/// Bodies up to this length are read as they come.
const USUAL: u64 = 256 << 10;
/// Longer ones at once.
const LONG_AT_ONCE: usize = 4;
/// All at once.
const AT_ONCE: usize = 256;
/// The time of a request that names none, and the longest.
const BUDGET: Duration = Duration::from_secs(4);

/// The webhooks of the configuration: the last part of a path, and a label of metrics.
const WEBHOOKS: &[&str] = &[
    "nads",
    "nads-system",
    "nad-delete",
    "ours",
    "pods",
    "templates",
    "namespaces",
    "network-policies",
    // Of dialects that are on.
    "genie",
    "genie-pods",
    "genie-templates",
    "genie-policies",
    "danm",
    "danm-delete",
    "danm-pods",
    "danm-templates",
    "knitter-pods",
    "knitter-templates",
];

/// Those of the other configuration: on a path they have no `mutate-`.
const MUTATING: &[&str] = &["mutate-nads", "mutate-nads-system", "mutate-pods", "mutate-danm"];

/// An answer of HTTP.
pub type Reply = Response<Full<Bytes>>;

/// What is asked: the first part of a path.
#[derive(Clone, Copy)]
enum Review {
    Validate,
    Mutate,
}

/// What is answered on which path.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
    seats: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// Why a body was not answered with a review.
pub(super) enum Refusal {
    TooLong,
    Broken(String),
    Late,
    NotAReview(NotAReview),
    Early,
    Panic,
}

impl Router {
    /// Routes of a server.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, seats: Arc::new(Semaphore::new(AT_ONCE)), long: Arc::new(Semaphore::new(LONG_AT_ONCE)) }
    }

    /// What all parts share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The service of a connection.
    pub fn service(
        self,
        connection: Connection,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Reply,
        Error = Infallible,
        Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>,
    > {
        service_fn(move |request| {
            let (router, under_way) = (self.clone(), connection.request());
            let reply: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                let reply = router.reply(request).await;
                drop(under_way);
                Ok(reply)
            });
            reply
        })
    }

    async fn reply(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        let (review, webhooks, before, name) = if let Some(name) = path.strip_prefix("/validate/") {
            (Review::Validate, WEBHOOKS, "", name)
        } else if let Some(name) = path.strip_prefix("/mutate/") {
            (Review::Mutate, MUTATING, "mutate-", name)
        } else {
            return text(StatusCode::NOT_FOUND, "want /validate/WEBHOOK or /mutate/WEBHOOK\n");
        };
        let known = webhooks.iter().copied().filter_map(|webhook| Some((webhook, webhook.strip_prefix(before)?)));
        let Some((webhook, _)) = known.clone().find(|(_, known)| *known == name) else {
            let known: Vec<&str> = known.map(|(_, known)| known).collect();
            return text(StatusCode::NOT_FOUND, &format!("no such webhook, want one of: {}\n", known.join(", ")));
        };
        if request.method() != Method::POST {
            let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "want POST\n");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return reply;
        }
        let began = Instant::now();
        let budget = budget(request.uri().query());
        let answered = timeout(budget, self.answer(request.into_body(), review)).await.unwrap_or(Err(Refusal::Late));
        let (reply, operation, result) = match answered {
            Ok(answered) => {
                let result = if answered.is_allowed() { "allowed" } else { "denied" };
                let operation = answered.operation;
                self.shared.metrics.found(answered.problems);
                match serde_json::to_vec(&answered.review) {
                    Ok(json) => (reply(StatusCode::OK, "application/json", json), operation, result),
                    Err(e) => (text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{e}\n")), operation, "failed"),
                }
            }
            Err(refusal) => {
                let (code, result, why) = refusal.told();
                tracing::debug!(webhook, result, "{why}");
                (text(code, &format!("{why}\n")), "", result)
            }
        };
        self.shared.metrics.answered(webhook, operation, result, began.elapsed());
        reply
    }

    async fn answer(&self, body: Incoming, review: Review) -> Result<Answered, Refusal> {
        let seat = self.seats.acquire().await;
        let declared = body.size_hint().upper();
        if declared.is_some_and(|length| length > LONGEST) {
            return Err(Refusal::TooLong);
        }
        let is_long = declared.is_none_or(|length| length > USUAL);
        let turn = if is_long { self.long.acquire().await.ok() } else { None };
        let limit = usize::try_from(LONGEST).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => Refusal::TooLong,
            false => Refusal::Broken(error.to_string()),
        })?;
        let body = body.to_bytes();
        let request = guarded(|| review::read(&body))?.map_err(Refusal::NotAReview)?;
        // Whoever waits for what is missing holds up nobody.
        drop((body, turn, seat));
        match (request, review) {
            (Ok(request), Review::Validate) => ask::validate(&self.shared, &request).await,
            (Ok(request), Review::Mutate) => ask::mutate(&self.shared, &request).await,
            (Err(denied), _) => Ok(*denied),
        }
    }
}

/// A panic is a fault of ours, and ends one request.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Refusal::Panic)
}

impl Refusal {
    fn told(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::TooLong => {
                let why = format!("a body longer than {LONGEST} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, "too_long", why)
            }
            Self::Broken(why) => (StatusCode::BAD_REQUEST, "broken", format!("the body broke off: {why}")),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "late", "no answer in time".to_owned()),
            Self::Early => {
                let why = "the definitions of the cluster are not all known yet, nor which VNIs are taken";
                (StatusCode::SERVICE_UNAVAILABLE, "early", why.to_owned())
            }
            Self::NotAReview(why) => (StatusCode::BAD_REQUEST, "unreadable", why.to_string()),
            Self::Panic => {
                let why = "the review failed, which is a fault of meta-cni's; its log says where";
                (StatusCode::INTERNAL_SERVER_ERROR, "panic", why.to_owned())
            }
        }
    }
}

/// Less than what the API server waits, which it says as `timeout=5s`: an answer of ours says more than its own.
fn budget(query: Option<&str>) -> Duration {
    let named = query.into_iter().flat_map(|query| query.split('&')).find_map(|part| part.strip_prefix("timeout="));
    let seconds = named.and_then(|value| value.strip_suffix('s')?.parse::<u32>().ok());
    let named = seconds.map(|seconds| Duration::from_secs(u64::from(seconds)) * 4 / 5);
    named.filter(|budget| !budget.is_zero()).map_or(BUDGET, |budget| budget.min(BUDGET))
}

/// A reply with a text.
pub fn text(code: StatusCode, text: &str) -> Reply {
    reply(code, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

/// A reply.
pub fn reply(code: StatusCode, kind: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = code;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_before_the_api_server_gives_up() {
        for (query, seconds) in [
            (None, 4.0),
            (Some("timeout=5s"), 4.0),
            (Some("a=b&timeout=3s"), 2.4),
            (Some("timeout=30s"), 4.0),
            (Some("timeout=0s"), 4.0),
            (Some("timeout=1m0s"), 4.0),
            (Some("timeout=-1s"), 4.0),
        ] {
            assert_eq!(budget(query), Duration::from_secs_f64(seconds), "{query:?}");
        }
    }
}
