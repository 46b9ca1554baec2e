//! The agent's service on the socket: it forwards each request to the part that answers it.

use std::time::Duration;

use meta_cni::cluster::wire::{AgentRequest, Answer, Cause, Choose, Health, Publish, Published, Refusal};
use meta_cni_kube::log::Levels;
use tokio::sync::watch;

use super::conf::Blockers;
use super::events::EventSender;
use super::network_choice::NetworkChoice;
use super::pod_cache::PodName;
use super::publish::Publisher;
use super::queue::Status;
use super::resolve::{Facts, deadline};
use super::serve::{Reply, Service};

/// The parts that answer requests.
pub struct AgentService {
    /// Name of the node.
    pub node: String,
    /// Facts about pods and definitions.
    pub facts: Facts,
    /// Chooses networks.
    pub choice: NetworkChoice,
    /// Publishes statuses.
    pub publisher: Publisher,
    /// Queues events.
    pub events: EventSender,
    /// The levels of the log.
    pub levels: Levels,
    /// What keeps the node from being ready.
    pub readiness: watch::Receiver<Blockers>,
}

impl Service for AgentService {
    async fn answer(&self, request: AgentRequest) -> Reply {
        let answer = match request {
            AgentRequest::Resolve(request) => match self.facts.resolve(request).await {
                Ok((resolved, room)) => return Reply { answer: Answer::Resolved(resolved), room: Some(room) },
                Err(refusal) => Answer::Refused(refusal),
            },
            AgentRequest::Join(request) => match self.facts.join(request).await {
                Ok(()) => Answer::Noted,
                Err(refusal) => Answer::Refused(refusal),
            },
            AgentRequest::Choose(Choose { pod, wait_ms }) => match self.choice.choose(&pod, deadline(wait_ms)).await {
                Ok(name) => Answer::Chosen(name),
                Err(refusal) => Answer::Refused(refusal),
            },
            AgentRequest::Publish(request) => Answer::Published(self.publish(request).await),
            AgentRequest::AddFailure(failure) => {
                self.events.failed(failure.pod, failure.reason, failure.message);
                Answer::Noted
            }
            AgentRequest::Health => Answer::Healthy(self.health()),
            AgentRequest::LogLevel(level) => match self.levels.set(&level) {
                Ok(()) => {
                    tracing::info!(level, "the log has another level");
                    Answer::Noted
                }
                Err(message) => Answer::Refused(Refusal::new(Cause::Configuration, message)),
            },
        };
        answer.into()
    }
}

impl AgentService {
    async fn publish(&self, Publish { pod, status, added, annotations, wait_ms }: Publish) -> Published {
        let status = Status { uid: pod.uid.clone(), text: status, beside: annotations };
        let written = self.publisher.publish(PodName::from(&pod), status, Duration::from_millis(wait_ms)).await;
        // Events come after the status, so that they do not delay it at the API server.
        added.into_iter().for_each(|text| self.events.added(&pod, text));
        Published { written }
    }

    fn health(&self) -> Health {
        Health {
            node: self.node.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pods_known: self.facts.sources.pods.lock().is_complete(),
            definitions_known: self.facts.sources.definitions.is_complete(),
            blockers: self.readiness.borrow().clone(),
            dialects: self.facts.sources.foreign.dialects().on().map(|dialect| dialect.to_string()).collect(),
        }
    }
}
