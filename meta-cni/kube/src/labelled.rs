//! Follows the objects of a collection whose label has one of several values. The values change while they are followed: the objects of new
//! ones are listed while the watch of the others goes on, and then one watch is taken up for all of them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use crate::follow::{Collection, Event, FORGOTTEN, Log, Trouble, Versioned, list, watch};
use crate::pages::Shape;

/// A collection, and the label by which its objects are selected.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// For the log.
    pub what: &'a str,
    /// Path in the API.
    pub path: &'a str,
    /// Key of the label.
    pub label: &'a str,
}

/// A change of the objects that are selected.
#[derive(Debug)]
pub enum Change<T> {
    /// A list of the objects that have one of these values begins. One that began before and did not end is given up.
    Begin(BTreeSet<String>),
    /// An object of the list.
    Listed(T),
    /// The list is complete, as of this version. Older news of these values may follow, for the watch of all values begins where that of
    /// the others was.
    End(String),
    /// An object is new or changed.
    Applied(T),
    /// An object is gone.
    Deleted(T),
    /// Objects with these values are not followed any more.
    Left(BTreeSet<String>),
}

/// Where the watch is.
struct Watched {
    values: BTreeSet<String>,
    at: String,
}

/// How a watch came to an end.
enum Ended {
    /// By itself.
    Alone(Result<(), Trouble>),
    /// Other values are to be watched; those that are new were listed at this version.
    Other(BTreeSet<String>, Option<String>),
    /// Nobody changes the values any more.
    Unwanted,
}

/// Follows whole objects until the sender of the values is gone. Where there are no values nothing is asked for. `pause` is the least time
/// between two beginnings of the watch for other values: values come and go in bursts.
pub async fn follow_labelled<T: Versioned>(
    client: Client,
    labelled: Labelled<'_>,
    mut values: Receiver<BTreeSet<String>>,
    pause: Duration,
    take: impl Fn(Change<T>),
) {
    let is_heard = AtomicBool::new(false);
    // Two logs, for the list of what is new may fail while the watch goes on.
    let (mut log, mut list_log) = (Log::new(labelled.what, &is_heard), Log::new(labelled.what, &is_heard));
    let mut watched: Option<Watched> = None;
    let mut known = BTreeSet::new();
    loop {
        let outcome = if let Some(Watched { values: current, mut at }) = watched.take() {
            let labels = selector(labelled.label, &current);
            let mut each = |event| pass(event, &take);
            let ended = tokio::select! {
                ended = watch(&client, labelled.at(&labels), Shape::Whole, &mut log, &mut at, &mut each) => Ended::Alone(ended),
                ended = others(&client, labelled, &mut values, &current, pause, &mut list_log, &take) => ended,
            };
            match ended {
                Ended::Alone(outcome) => {
                    if !matches!(outcome, Err(Trouble::Forgotten)) {
                        watched = Some(Watched { values: current, at });
                    }
                    outcome
                }
                Ended::Other(values, listed) => {
                    // Of what was listed, nothing may be missed that was changed since the watch spoke last, nor the other way around.
                    let at = match listed {
                        Some(listed) => older(at, listed),
                        None => Some(at),
                    };
                    leave(&mut known, &values, &take);
                    watched = at.filter(|_| !values.is_empty()).map(|at| Watched { values, at });
                    Ok(())
                }
                Ended::Unwanted => return,
            }
        } else {
            let wanted = values.borrow_and_update().clone();
            leave(&mut known, &wanted, &take);
            if wanted.is_empty() {
                if values.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let listed = all_of(&client, labelled, &wanted, &mut log, &take).await;
            listed.map(|at| watched = Some(Watched { values: wanted, at }))
        };
        match outcome {
            Ok(()) => {}
            Err(trouble) => sleep(log.trouble(&why(trouble))).await,
        }
    }
}

/// Tells of what was followed and is not wanted any more.
fn leave<T>(known: &mut BTreeSet<String>, wanted: &BTreeSet<String>, take: &impl Fn(Change<T>)) {
    let left: BTreeSet<String> = known.difference(wanted).cloned().collect();
    known.clone_from(wanted);
    if !left.is_empty() {
        take(Change::Left(left));
    }
}

/// Waits until other values are wanted than those that are watched, and lists the objects of those that are new.
async fn others<T: Versioned>(
    client: &Client,
    labelled: Labelled<'_>,
    values: &mut Receiver<BTreeSet<String>>,
    current: &BTreeSet<String>,
    pause: Duration,
    log: &mut Log<'_>,
    take: &impl Fn(Change<T>),
) -> Ended {
    let settled = Instant::now() + pause;
    loop {
        if *values.borrow_and_update() == *current {
            if values.changed().await.is_err() {
                return Ended::Unwanted;
            }
            sleep_until(settled).await;
            continue;
        }
        let wanted = values.borrow_and_update().clone();
        let new: BTreeSet<String> = wanted.difference(current).cloned().collect();
        if new.is_empty() {
            return Ended::Other(wanted, None);
        }
        match all_of(client, labelled, &new, log, take).await {
            Ok(at) => return Ended::Other(wanted, Some(at)),
            Err(trouble) => sleep(log.trouble(&why(trouble))).await,
        }
    }
}

/// Lists the objects of these values. Returns the version of the list.
async fn all_of<T: Versioned>(
    client: &Client,
    labelled: Labelled<'_>,
    values: &BTreeSet<String>,
    log: &mut Log<'_>,
    take: &impl Fn(Change<T>),
) -> Result<String, Trouble> {
    take(Change::Begin(values.clone()));
    let labels = selector(labelled.label, values);
    let at = list(client, labelled.at(&labels), Shape::Whole, log, &mut |event| pass(event, take)).await?;
    tracing::info!(values = values.len(), "{}: listed", labelled.what);
    take(Change::End(at.clone()));
    Ok(at)
}

fn pass<T>(event: Event<T>, take: &impl Fn(Change<T>)) {
    match event {
        // Said with the values and the version.
        Event::Begin | Event::End => {}
        Event::Listed(object) => take(Change::Listed(object)),
        Event::Applied(object) => take(Change::Applied(object)),
        Event::Deleted(object) => take(Change::Deleted(object)),
    }
}

fn selector(label: &str, values: &BTreeSet<String>) -> String {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    format!("{label} in ({})", values.join(","))
}

/// The older one of two versions; `None` where that cannot be told.
fn older(one: String, other: String) -> Option<String> {
    let number = |version: &str| version.parse::<u64>().ok();
    Some(if number(&one)? <= number(&other)? { one } else { other })
}

fn why(trouble: Trouble) -> String {
    match trouble {
        Trouble::Forgotten => FORGOTTEN.to_owned(),
        Trouble::Absent(why) | Trouble::Failed(why) => why,
    }
}

impl<'a> Labelled<'a> {
    fn at(self, labels: &'a str) -> Collection<'a> {
        Collection { what: self.what, path: self.path, fields: None, labels: Some(labels) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::sync::watch::Sender;

    use super::*;
    use crate::testing::{Seen, Server, answer};

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    /// What a request is for: `list a,b`, or `watch a,b from 7`.
    fn asked(path: &str) -> String {
        let path = path.replace("%28", "(").replace("%29", ")").replace("%2C", ",");
        let values = path.split(['(', ')']).nth(1).unwrap_or_default().to_owned();
        match path.split(['?', '&']).find_map(|part| part.strip_prefix("resourceVersion=")) {
            Some(version) if path.contains("watch=true") => format!("watch {values} from {version}"),
            _ => format!("list {values}"),
        }
    }

    fn object(name: &str, version: u32) -> serde_json::Value {
        json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
    }

    fn list_of(name: &str, version: u32) -> String {
        let list = json!({"metadata": {"resourceVersion": version.to_string()}, "items": [object(name, version)]});
        answer("200 OK", &list.to_string())
    }

    /// The beginning of the answer to a watch: it has no end.
    fn events(events: &[serde_json::Value]) -> String {
        let chunk = |event: &serde_json::Value| format!("{:x}\r\n{event}\n\r\n", event.to_string().len() + 1);
        let chunks: Vec<String> = events.iter().map(chunk).collect();
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunks.concat())
    }

    /// An API server, and a follower of these values. What is asked and what is heard comes in order.
    async fn following(
        first: &[&str],
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> (Sender<BTreeSet<String>>, UnboundedReceiver<String>) {
        let (said, hear) = unbounded_channel();
        let said = Arc::new(Mutex::new(said));
        let asks = Arc::clone(&said);
        let server = Server::start(move |path| {
            asks.lock().unwrap().send(asked(path)).unwrap();
            answer(&asked(path))
        })
        .await;
        let wanted = Sender::new(values(first));
        let receiver = wanted.subscribe();
        tokio::spawn(async move {
            let labelled = Labelled { what: "things", path: "/apis/x/v1/things", label: "n" };
            let take = move |change: Change<Seen>| {
                let words = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(",");
                let text = match change {
                    Change::Begin(values) => format!("begin {}", words(values)),
                    Change::Listed(seen) => format!("listed {}", seen.metadata.name),
                    Change::End(version) => format!("end {version}"),
                    Change::Applied(seen) => format!("applied {}", seen.metadata.name),
                    Change::Deleted(seen) => format!("deleted {}", seen.metadata.name),
                    Change::Left(values) => format!("left {}", words(values)),
                };
                said.lock().unwrap().send(text).unwrap();
            };
            follow_labelled(server.client.clone(), labelled, receiver, Duration::from_millis(10), take).await;
        });
        (wanted, hear)
    }

    async fn hears(hear: &mut UnboundedReceiver<String>, what: &[&str]) {
        for wanted in what {
            let heard = tokio::time::timeout(Duration::from_secs(10), hear.recv()).await;
            assert_eq!(heard.as_ref().ok().and_then(Option::as_deref), Some(*wanted), "of {what:?}");
        }
    }

    #[tokio::test]
    async fn what_is_new_is_listed_alone_and_the_watch_goes_on_where_it_was() {
        let (wanted, mut hear) = following(&[], |asked| match asked {
            "list a" => list_of("a1", 10),
            "list b,c" => list_of("b1", 20),
            "watch a from 10" => events(&[json!({"type": "MODIFIED", "object": object("a1", 12)})]),
            "watch a,b,c from 12" => events(&[json!({"type": "DELETED", "object": object("b1", 21)})]),
            "watch c from 21" => events(&[json!({"type": "ADDED", "object": object("c1", 22)})]),
            other => panic!("asked for {other}"),
        })
        .await;
        wanted.send_replace(values(&["a"]));
        hears(&mut hear, &["begin a", "list a", "listed a1", "end 10", "watch a from 10", "applied a1"]).await;
        wanted.send_replace(values(&["a", "b", "c"]));
        hears(&mut hear, &["begin b,c", "list b,c", "listed b1", "end 20", "watch a,b,c from 12", "deleted b1"]).await;
        wanted.send_replace(values(&["c"]));
        hears(&mut hear, &["left a,b", "watch c from 21", "applied c1"]).await;
        wanted.send_replace(values(&[]));
        hears(&mut hear, &["left c"]).await;
        // Nothing is asked for until there is something again, and then all that there is.
        wanted.send_replace(values(&["a"]));
        hears(&mut hear, &["begin a", "list a", "listed a1", "end 10", "watch a from 10"]).await;
    }

    #[tokio::test]
    async fn the_watch_goes_on_while_what_is_new_cannot_be_listed() {
        let (wanted, mut hear) = following(&["a"], |asked| match asked {
            "list a" => list_of("a1", 10),
            // The one after which the list of b is asked for: an answer that never comes.
            "list b" => String::new(),
            "watch a from 10" => events(&[json!({"type": "MODIFIED", "object": object("a1", 12)})]),
            other => panic!("asked for {other}"),
        })
        .await;
        hears(&mut hear, &["begin a", "list a", "listed a1", "end 10", "watch a from 10", "applied a1"]).await;
        wanted.send_replace(values(&["a", "b"]));
        hears(&mut hear, &["begin b", "list b"]).await;
        let more = tokio::time::timeout(Duration::from_millis(300), hear.recv()).await;
        assert!(more.is_err(), "the watch of a was given up: {more:?}");
    }

    #[tokio::test]
    async fn a_history_that_is_forgotten_is_listed_for_all_values() {
        let (_wanted, mut hear) = following(&["a", "b"], |asked| match asked {
            "list a,b" => list_of("a1", 10),
            "watch a,b from 10" => {
                let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
                events(&[json!({"type": "ERROR", "object": gone})])
            }
            other => panic!("asked for {other}"),
        })
        .await;
        let listed = ["begin a,b", "list a,b", "listed a1", "end 10", "watch a,b from 10"];
        hears(&mut hear, &listed).await;
        hears(&mut hear, &listed).await;
    }

    #[test]
    fn of_two_versions_the_older_one_is_known_where_they_are_numbers() {
        let older = |one: &str, other: &str| older(one.to_owned(), other.to_owned());
        assert_eq!((older("9", "10").as_deref(), older("10", "9").as_deref()), (Some("9"), Some("9")));
        assert_eq!((older("x", "9"), older("9", "")), (None, None));
    }
}
