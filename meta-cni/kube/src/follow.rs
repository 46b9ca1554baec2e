//! Follows a collection, by its metadata or by whole objects: lists it in pages, then watches it, for as long as the program runs.
//!
//! A page has as many objects as fit into the bytes of [`PAGE`]: the metadata of one object may be more than a megabyte.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::TryStreamExt;
use kube::Client;
use kube::api::WatchParams;
use kube::core::{Request, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{chain, said};
use crate::pages::{PageError, PageSize, Pages, Selector, Shape};

/// One page is the peak of the program's memory.
const PAGE: PageSize = PageSize { objects: 500, bytes: 2 << 20 };
/// The same of whole objects: what is not read yet is ten times as large as what is kept of it.
const WHOLE_PAGE: PageSize = PageSize { objects: 100, ..PAGE };
/// Timeout of the answer to a watch.
const ANSWER: Duration = Duration::from_secs(60);
/// A watch ends after this time and is resumed. A watch that is silent for longer is dead.
const WATCH: u32 = 290;
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 5);
/// The least that a try again waits, at first and in the end. Up to as much again is added at random: the agents of a cluster
/// must not come back at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two looks for a kind that the API server does not have.
const ABSENT: Duration = Duration::from_secs(20);
/// What is said of HTTP 410.
pub(crate) const FORGOTTEN: &str = "the API server has forgotten where the watch was (410)";
/// A watch that the server ends sooner is a failure: it is not to be asked without a pause.
const SHORTEST_WATCH: Duration = Duration::from_millis(200);

/// The part of an object's metadata that a follower reads.
pub trait Versioned: Clone + DeserializeOwned {
    /// `metadata.resourceVersion`.
    fn version(&self) -> &str;
}

/// A change of the collection.
#[derive(Debug)]
pub enum Event<T> {
    /// A list begins.
    Begin,
    /// An object of the list.
    Listed(T),
    /// The list is complete.
    End,
    /// An object is new or changed.
    Applied(T),
    /// An object is gone.
    Deleted(T),
}

/// The collection to follow.
#[derive(Clone, Copy, Debug)]
pub struct Collection<'a> {
    /// For the log.
    pub what: &'a str,
    /// Path in the API.
    pub path: &'a str,
    /// A field selector.
    pub fields: Option<&'a str>,
    /// A label selector.
    pub labels: Option<&'a str>,
}

impl<'a> From<Collection<'a>> for Selector<'a> {
    fn from(collection: Collection<'a>) -> Self {
        Self { fields: collection.fields, labels: collection.labels }
    }
}

/// Why a list or watch ended.
pub(crate) enum Trouble {
    /// The API server has no such kind, or none any more.
    Absent(String),
    /// The API server no longer has the version of the watch (HTTP 410): list anew.
    Forgotten,
    Failed(String),
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 410 => Self::Forgotten,
            kube::Error::Api(status) if status.code == 404 => Self::Absent(said(&error)),
            other => Self::Failed(said(other)),
        }
    }
}

impl From<PageError> for Trouble {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Api(error) => error.into(),
            PageError::Other(why) => Self::Failed(why),
        }
    }
}

/// Follows the metadata of a collection; never ends.
pub async fn follow<T: Versioned>(client: Client, collection: Collection<'_>, take: impl FnMut(Event<T>)) {
    follow_heard(client, collection, Shape::Metadata, &AtomicBool::new(false), take).await;
}

/// Follows the objects of a collection of few; never ends. A kind that the API server does not have is an empty collection, unless a part
/// of it is selected by labels: whoever selects knows of objects, and must not take them for gone.
pub async fn follow_objects<T: Versioned>(client: Client, collection: Collection<'_>, take: impl FnMut(Event<T>)) {
    follow_heard(client, collection, Shape::Whole, &AtomicBool::new(false), take).await;
}

/// Follows a collection as [`follow`] or [`follow_objects`] do. `is_heard` is true while changes arrive: false before the first list, and from
/// a failure until the watch is back.
pub async fn follow_heard<T: Versioned>(
    client: Client,
    collection: Collection<'_>,
    shape: Shape,
    is_heard: &AtomicBool,
    mut take: impl FnMut(Event<T>),
) {
    let what = collection.what;
    let mut log = Log::new(what, is_heard);
    let mut version = None;
    let may_be_absent = shape == Shape::Whole && collection.labels.is_none();
    loop {
        let outcome = match version.take() {
            None => list(&client, collection, shape, &mut log, &mut take).await.map(|listed| {
                tracing::info!("{what}: listed");
                version = Some(listed);
            }),
            Some(mut at) => {
                let outcome = watch(&client, collection, shape, &mut log, &mut at, &mut take).await;
                let is_gone = may_be_absent && matches!(outcome, Err(Trouble::Absent(_)));
                if !is_gone && !matches!(outcome, Err(Trouble::Forgotten)) {
                    version = Some(at);
                }
                outcome
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Trouble::Forgotten) => sleep(log.trouble(FORGOTTEN)).await,
            Err(Trouble::Absent(_)) if may_be_absent => {
                take(Event::Begin);
                take(Event::End);
                log.absent();
                sleep(ABSENT).await;
            }
            Err(Trouble::Failed(why) | Trouble::Absent(why)) => sleep(log.trouble(&why)).await,
        }
    }
}

/// Lists the collection. Returns the version to watch from.
pub(crate) async fn list<T: Versioned>(
    client: &Client,
    collection: Collection<'_>,
    shape: Shape,
    log: &mut Log<'_>,
    take: &mut impl FnMut(Event<T>),
) -> Result<String, Trouble> {
    take(Event::Begin);
    let size = if shape == Shape::Whole { WHOLE_PAGE } else { PAGE };
    let mut pages = Pages::new(client.clone(), collection.path, collection.into(), shape, size);
    while let Some(objects) = pages.next().await? {
        log.well();
        objects.into_iter().for_each(|object| take(Event::Listed(object)));
    }
    take(Event::End);
    Ok(pages.version().to_owned())
}

/// Watches from a version until the server ends the watch.
pub(crate) async fn watch<T: Versioned>(
    client: &Client,
    collection: Collection<'_>,
    shape: Shape,
    log: &mut Log<'_>,
    at: &mut String,
    take: &mut impl FnMut(Event<T>),
) -> Result<(), Trouble> {
    let mut params = WatchParams::default().timeout(WATCH);
    params.field_selector = collection.fields.map(str::to_owned);
    params.label_selector = collection.labels.map(str::to_owned);
    let request = Request::new(collection.path);
    let request = match shape {
        Shape::Metadata => request.watch_metadata(&params, at),
        Shape::Whole => request.watch(&params, at),
    };
    let request = request.map_err(kube::Error::BuildRequest)?;
    let began = Instant::now();
    let events = timeout(ANSWER, client.request_events::<T>(request)).await;
    let mut events = pin!(events.map_err(|_| Trouble::Failed(format!("no watch within {ANSWER:?}")))??);
    log.well();
    loop {
        let Ok(event) = timeout(SILENCE, events.try_next()).await else {
            return Err(Trouble::Failed(format!("nothing was heard for {SILENCE:?}")));
        };
        match event? {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                object.version().clone_into(at);
                take(Event::Applied(object));
            }
            Some(WatchEvent::Deleted(object)) => {
                object.version().clone_into(at);
                take(Event::Deleted(object));
            }
            Some(WatchEvent::Bookmark(mark)) => *at = mark.metadata.resource_version,
            Some(WatchEvent::Error(status)) if status.code == 410 => return Err(Trouble::Forgotten),
            Some(WatchEvent::Error(status)) => return Err(Trouble::Failed(chain(&kube::Error::Api(status)))),
            None if began.elapsed() < SHORTEST_WATCH => {
                return Err(Trouble::Failed("the server ended the watch".to_owned()));
            }
            None => return Ok(()),
        }
    }
}

/// The backoff, and the log: the first failure and the recovery are logged, repeated failures as debug.
pub(crate) struct Log<'a> {
    what: &'a str,
    is_heard: &'a AtomicBool,
    failing: bool,
    is_absent: bool,
    backoff: ExponentialBackoff,
}

impl<'a> Log<'a> {
    pub(crate) fn new(what: &'a str, is_heard: &'a AtomicBool) -> Self {
        Self { what, is_heard, failing: false, is_absent: false, backoff: backoff() }
    }

    fn well(&mut self) {
        if self.failing {
            tracing::info!("{}: the watch is back", self.what);
        }
        self.is_heard.store(true, Ordering::Relaxed);
        (self.failing, self.is_absent, self.backoff) = (false, false, backoff());
    }

    fn absent(&mut self) {
        if !self.is_absent {
            tracing::info!("{}: the API server does not have this kind", self.what);
        }
        self.is_absent = true;
        // What is not there does not change.
        self.is_heard.store(true, Ordering::Relaxed);
    }

    /// A failure. Returns how long to wait before the next try.
    pub(crate) fn trouble(&mut self, why: &str) -> Duration {
        if self.failing {
            tracing::debug!("{}: {why}", self.what);
        } else {
            tracing::warn!("{}: the watch is broken and will be taken up again: {why}", self.what);
        }
        self.failing = true;
        self.is_heard.store(false, Ordering::Relaxed);
        self.backoff.next().unwrap_or(BACKOFF.1)
    }
}

fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(BACKOFF.0).with_max_delay(BACKOFF.1);
    builder.with_factor(2.0).with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::testing::{Seen, Server, answer};

    /// The value of a key of a request's query.
    fn number(path: &str, key: &str) -> Option<usize> {
        path.split(['?', '&']).find_map(|part| part.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }

    fn object(number: usize, padding: usize) -> serde_json::Value {
        let labels = json!({"padding": "x".repeat(padding)});
        json!({"metadata": {"namespace": "n", "name": format!("d{number}"), "resourceVersion": "5", "labels": labels}})
    }

    async fn followed(server: &Server, until: impl Fn(&[String]) -> bool) -> Vec<String> {
        followed_as(Shape::Metadata, server, until).await
    }

    async fn followed_as(shape: Shape, server: &Server, until: impl Fn(&[String]) -> bool) -> Vec<String> {
        let (sender, mut receiver) = unbounded_channel();
        let take = move |event: Event<Seen>| {
            let text = match event {
                Event::Begin => "begin".to_owned(),
                Event::End => "end".to_owned(),
                Event::Listed(seen) => seen.metadata.name,
                Event::Applied(seen) => format!("applied {}", seen.metadata.name),
                Event::Deleted(seen) => format!("deleted {}", seen.metadata.name),
            };
            let _ = sender.send(text);
        };
        let collection = Collection { what: "things", path: "/apis/x/v1/things", fields: None, labels: None };
        let mut heard = Vec::new();
        let hear = async {
            while !until(&heard) {
                heard.extend(receiver.recv().await);
            }
        };
        let is_heard = AtomicBool::new(false);
        tokio::select! {
            () = follow_heard(server.client.clone(), collection, shape, &is_heard, take) => {}
            () = hear => {}
        }
        heard
    }

    #[tokio::test]
    async fn objects_of_any_size_are_listed_once_each_and_then_watched() {
        const ALL: usize = 10;
        let server = Server::start(|path| {
            if path.contains("watch=true") {
                let event = |kind: &str| json!({"type": kind, "object": object(3, 10)}).to_string();
                return answer("200 OK", &format!("{}\n{}\n", event("MODIFIED"), event("DELETED")));
            }
            let (first, limit) = (number(path, "continue").unwrap_or_default(), number(path, "limit").unwrap());
            let end = (first + limit).min(ALL);
            let items: Vec<_> = (first..end).map(|number| object(number, 700 << 10)).collect();
            let next = if end < ALL { end.to_string() } else { String::new() };
            answer(
                "200 OK",
                &json!({"metadata": {"resourceVersion": "7", "continue": next}, "items": items}).to_string(),
            )
        })
        .await;
        let heard = followed(&server, |heard| heard.last().is_some_and(|last| last == "deleted d3")).await;
        let mut want = vec!["begin".to_owned()];
        want.extend((0..ALL).map(|number| format!("d{number}")));
        want.extend(["end", "applied d3", "deleted d3"].map(str::to_owned));
        assert_eq!(heard, want);
    }

    #[tokio::test]
    async fn a_kind_that_is_not_there_is_an_empty_collection_only_for_whom_it_may_be() {
        let status =
            |code: u32| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}).to_string();
        let server = Server::start(move |path| match path {
            // There, and gone while it is watched.
            path if path.contains("watch=true") => answer("404 Not Found", &status(404)),
            _ => answer("200 OK", &json!({"metadata": {"resourceVersion": "7"}, "items": [object(1, 1)]}).to_string()),
        })
        .await;
        let heard = followed_as(Shape::Whole, &server, |heard| heard.len() >= 5).await;
        assert_eq!(heard, ["begin", "d1", "end", "begin", "end"]);
        let server = Server::start(move |_| answer("404 Not Found", &status(404))).await;
        let heard = followed_as(Shape::Whole, &server, |heard| heard.len() >= 3).await;
        assert_eq!(heard, ["begin", "begin", "end"]);
        let heard = followed(&server, |heard| heard.len() >= 2).await;
        assert_eq!(heard, ["begin", "begin"], "nothing says that there is nothing");
    }

    #[tokio::test]
    async fn whether_changes_arrive_is_told() {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500}).to_string();
        let server = Server::start(move |path| {
            if path.contains("watch=true") {
                return answer("500 Internal Server Error", &status);
            }
            answer("200 OK", &json!({"metadata": {"resourceVersion": "7"}, "items": []}).to_string())
        })
        .await;
        let is_heard = AtomicBool::new(false);
        let collection = Collection { what: "things", path: "/apis/x/v1/things", fields: None, labels: None };
        let mut at_end = None;
        let take = |event: Event<Seen>| {
            if matches!(event, Event::End) {
                at_end = Some(is_heard.load(Ordering::Relaxed));
            }
        };
        let lost = async {
            while server.asked() < 3 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = follow_heard(server.client.clone(), collection, Shape::Whole, &is_heard, take) => {}
            () = lost => {}
        }
        assert_eq!((at_end, is_heard.load(Ordering::Relaxed)), (Some(true), false));
    }

    #[tokio::test]
    async fn a_history_that_is_forgotten_is_listed_anew_and_none_is_a_list_too() {
        let server = Server::start(|path| {
            if path.contains("watch=true") {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
                return answer("200 OK", &format!("{}\n", json!({"type": "ERROR", "object": status})));
            }
            answer("200 OK", &json!({"metadata": {"resourceVersion": "7"}, "items": null}).to_string())
        })
        .await;
        let heard = followed(&server, |heard| heard.len() >= 4).await;
        assert_eq!(heard, ["begin", "end", "begin", "end"]);
    }
}
