//! The watches that keep the view: this node's pods as metadata, and the definitions of the whole cluster.
//!
//! kube's watcher takes up a broken watch where it was, and lists anew where the API server has forgotten (410). Here is
//! when to try again, what is kept of an object, and what the log says.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use attachments::definition::NetworkAttachmentDefinition;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use tokio::time::sleep;

use super::api::chain;
use super::view::{Pod, PodName, Shared, definition};

/// Objects in one page of a list: it decides the peak of memory.
const PAGE: u32 = 50;
/// Before the first try again, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Only metadata is asked for.
pub type PodMeta = PartialObjectMeta<PodObject>;
/// An object that does not parse is an error of that object alone.
pub type DefinitionObject = DeserializeGuard<NetworkAttachmentDefinition>;

/// Keeps the pods of a node; never ends. `seen` hears of each pod that comes or changes.
pub async fn pods(client: Client, node: &str, view: Shared, mut seen: impl FnMut(&PodName)) {
    let config = Config::default().fields(&format!("spec.nodeName={node}")).page_size(PAGE);
    let take = |event: Event<PodMeta>| match event {
        Event::Init => view.lock().pods.begin(),
        Event::InitDone => view.lock().pods.end(),
        Event::InitApply(object) | Event::Apply(object) => {
            if let Some((name, pod)) = Pod::read(object.metadata) {
                view.lock().pods.apply(name.clone(), pod);
                seen(&name);
            }
        }
        Event::Delete(object) => {
            if let Some((name, _)) = Pod::read(object.metadata) {
                view.lock().pods.delete(&name);
            }
        }
    };
    follow("pods", Api::all(client), config, take).await;
}

/// Keeps the definitions; never ends.
pub async fn definitions(client: Client, view: Shared) {
    let config = Config::default().page_size(PAGE);
    let take = |event: Event<DefinitionObject>| match event {
        Event::Init => view.lock().definitions.begin(),
        Event::InitDone => view.lock().definitions.end(),
        Event::InitApply(object) | Event::Apply(object) => {
            if let Some((reference, outcome)) = definition(&object) {
                view.lock().definitions.apply(reference, outcome);
            }
        }
        Event::Delete(object) => {
            if let Some((reference, _)) = definition(&object) {
                view.lock().definitions.delete(&reference);
            }
        }
    };
    follow("network-attachment-definitions", Api::all(client), config, take).await;
}

async fn follow<K>(what: &str, api: Api<K>, config: Config, mut take: impl FnMut(Event<K>))
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = pin!(watcher::watcher(api, config));
    let (mut failing, mut pause) = (false, PAUSE.0);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // A list announces itself before it is asked for.
                if !matches!(event, Event::Init) {
                    if failing {
                        tracing::info!("{what}: the watch is back");
                    }
                    (failing, pause) = (false, PAUSE.0);
                }
                if matches!(event, Event::InitDone) {
                    tracing::info!("{what}: listed");
                }
                take(event);
            }
            Err(error) => {
                let text = chain(&error);
                if failing {
                    tracing::debug!("{what}: {text}");
                } else {
                    tracing::warn!("{what}: the watch is broken and will be taken up again: {text}");
                }
                failing = true;
                sleep(spread(pause)).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Between half and all of a pause: the agents of a cluster must not come back at once.
fn spread(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause.mul_f64(0.5 + f64::from(nanos % 1000) / 2000.0)
}
