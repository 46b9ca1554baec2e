//! Events on pods, in Multus's words. They are queued and rate limited: what exceeds the queue is dropped, and no call waits.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use attachments::names::PodRef;
use attachments::text::printable;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use meta_cni_kube::said;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::Metrics;
use super::pod_cache::{PodName, SharedPodCache};

/// The most queued events.
const WAITING: usize = 1024;
/// The size of a burst, and the time after which one more event may go.
const BURST: (u32, Duration) = (20, Duration::from_millis(50));
/// Timeout of one event.
const TRY: Duration = Duration::from_secs(10);
/// The most pods whose last failure is remembered, so that a repeated failure increases the count of its event.
const REMEMBERED: usize = 256;
/// Longest text: the API server takes 1024 bytes.
const LONGEST: usize = 1000;

/// Reason of the event for an added interface.
const ADDED: &str = "AddedInterface";
/// Reason of the event for an interface that a running pod has no more.
const REMOVED: &str = "RemovedInterface";

/// Reason of the event for an interface of a running pod that was made anew.
const REPAIRED: &str = "RepairedInterface";

/// The sending end of the queue.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: Sender<PendingEvent>,
    metrics: Metrics,
}

#[derive(Debug)]
struct PendingEvent {
    of: Object,
    kind: EventType,
    reason: String,
    text: String,
}

/// What an event is about.
#[derive(Clone, Debug)]
enum Object {
    Pod(PodRef),
    /// This node, by name.
    Node(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "pod {pod}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// Publishes queued events.
pub struct EventPublisher {
    receiver: Receiver<PendingEvent>,
    client: Client,
    reporter: Reporter,
    pods: SharedPodCache,
    failures: HashMap<PodName, (String, Recorder)>,
    metrics: Metrics,
}

/// Both ends, for the agent of a node.
pub fn events(client: Client, pods: SharedPodCache, node: &str, metrics: Metrics) -> (EventSender, EventPublisher) {
    let (sender, receiver) = channel(WAITING);
    let reporter = Reporter { controller: "meta-cni".to_owned(), instance: Some(node.to_owned()) };
    let publisher =
        EventPublisher { receiver, client, reporter, pods, failures: HashMap::new(), metrics: metrics.clone() };
    (EventSender { sender, metrics }, publisher)
}

impl EventSender {
    /// An interface was added.
    pub fn added(&self, pod: &PodRef, text: String) {
        self.changed(pod, ADDED, text);
    }

    /// An interface was removed from a running pod.
    pub fn removed(&self, pod: &PodRef, text: String) {
        self.changed(pod, REMOVED, text);
    }

    /// An interface of a running pod was made anew.
    pub fn repaired(&self, pod: &PodRef, text: String) {
        self.changed(pod, REPAIRED, text);
    }

    fn changed(&self, pod: &PodRef, reason: &str, text: String) {
        let (of, kind, reason) = (Object::Pod(pod.clone()), EventType::Normal, reason.to_owned());
        self.enqueue(PendingEvent { of, kind, reason, text });
    }

    /// An ADD failed.
    pub fn failed(&self, pod: PodRef, reason: String, text: String) {
        self.enqueue(PendingEvent { of: Object::Pod(pod), kind: EventType::Warning, reason, text });
    }

    /// Something about a pod's networks is odd.
    pub fn warn(&self, pod: PodRef, reason: &str, text: String) {
        self.failed(pod, reason.to_owned(), text);
    }

    /// Something is wrong with what this node has of the cluster.
    pub fn on_node(&self, node: &str, reason: &str, text: String) {
        let (of, reason) = (Object::Node(node.to_owned()), reason.to_owned());
        self.enqueue(PendingEvent { of, kind: EventType::Warning, reason, text });
    }

    fn enqueue(&self, mut event: PendingEvent) {
        // The queue holds no more of a text than is published.
        event.text = shortened(&event.text).to_owned();
        event.reason.truncate(shortened(&event.reason).len());
        if let Err(full) = self.sender.try_send(event) {
            tracing::debug!("an event is dropped: {full}");
            self.metrics.agent.event_dropped();
        }
    }
}

impl EventPublisher {
    /// Publishes events; never ends.
    pub async fn run(mut self) {
        let mut bucket = Bucket::new(Instant::now());
        while let Some(event) = self.receiver.recv().await {
            sleep_until(bucket.take(Instant::now())).await;
            let of = event.of.clone();
            let why = match timeout(TRY, self.publish(event)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => said(&error),
                Err(_) => format!("no answer in {TRY:?}"),
            };
            tracing::debug!("an event of {of} is lost: {why}");
            self.metrics.agent.event_dropped();
        }
    }

    async fn publish(&mut self, PendingEvent { of, kind, reason, text }: PendingEvent) -> Result<(), kube::Error> {
        let reference = self.reference(&of);
        let recorder = match (kind, &of) {
            (EventType::Warning, Object::Pod(pod)) => self.of_failure(PodName::from(pod), &text),
            _ => self.recorder(),
        };
        let action = match of {
            Object::Pod(_) => "AddInterface",
            Object::Node(_) => "Network",
        };
        let event = Event {
            type_: kind,
            reason,
            note: Some(shortened(&printable(&text)).to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        recorder.publish(&event, &reference).await
    }

    fn reference(&self, of: &Object) -> ObjectReference {
        let reference = ObjectReference { api_version: Some("v1".to_owned()), ..ObjectReference::default() };
        match of {
            Object::Pod(pod) => ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.to_string()),
                name: Some(pod.name.to_string()),
                uid: self.pods.lock().get(&PodName::from(pod)).map(|known| known.uid.clone()).or(pod.uid.clone()),
                ..reference
            },
            // As the kubelet does: `kubectl describe node` looks for the name in place of the uid.
            Object::Node(node) => ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                uid: Some(node.clone()),
                ..reference
            },
        }
    }

    /// A recorder takes all events of one reason for one event, whatever their text. So each interface and each new failure
    /// needs a recorder of its own.
    fn recorder(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }

    fn of_failure(&mut self, pod: PodName, text: &str) -> Recorder {
        let anew = self.recorder();
        if self.failures.len() >= REMEMBERED && !self.failures.contains_key(&pod) {
            self.failures.clear();
        }
        let entry = self.failures.entry(pod).or_insert_with(|| (text.to_owned(), anew.clone()));
        if entry.0 != text {
            *entry = (text.to_owned(), anew);
        }
        entry.1.clone()
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// A token bucket.
struct Bucket {
    /// When the bucket is full again.
    even: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { even: now }
    }

    /// When the next event may go.
    fn take(&mut self, now: Instant) -> Instant {
        let (burst, each) = BURST;
        self.even = self.even.max(now) + each;
        self.even.checked_sub(each * burst).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_a_pace() {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut bucket = Bucket::new(now);
        let waits: Vec<_> = (0..23).map(|_| bucket.take(now).duration_since(now).as_millis()).collect();
        assert!(waits[..20].iter().all(|wait| *wait == 0), "{waits:?}");
        assert_eq!(waits[20..], [50, 100, 150]);
        let later = now + Duration::from_secs(10);
        assert_eq!(bucket.take(later), later);
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(600);
        assert!(shortened(&long).len() <= LONGEST && shortened(&long).ends_with('ä'));
    }
}
