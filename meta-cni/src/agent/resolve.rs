//! Facts for an ADD: from the view where it knows, else by one read of the API server within the asker's time.

use std::collections::BTreeSet;
use std::time::Duration;

use attachments::names::{NetRef, PodRef};
use futures::future::join_all;
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

use super::addresses::Addresses;
use super::api::said;
use super::view::{Pod, PodName, Shared, definition};
use super::watch::{DefinitionObject, PodMeta};
use crate::cluster::wire::{Cause, Lookup, Outcome, Refusal, Resolve, Resolved};
use crate::cluster::{Annotations, named_in};

/// Nobody waits longer for a call of the runtime.
const LONGEST: Duration = Duration::from_secs(3600);

/// Where facts come from.
#[derive(Clone)]
pub struct Facts {
    /// The API server.
    pub client: Client,
    /// What is known already.
    pub view: Shared,
    /// Where the node and the API server are.
    pub addresses: Addresses,
}

impl Facts {
    /// Everything that is asked for.
    pub async fn resolve(&self, request: Resolve) -> Result<Resolved, Refusal> {
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms).min(LONGEST);
        let mut wanted: BTreeSet<NetRef> = request.references.into_iter().collect();
        let mut annotations = None;
        if request.annotations {
            let Some(pod) = &request.pod else {
                return Err(Refusal::new(Cause::Malformed, "annotations are wanted of no pod"));
            };
            let found = self.annotations(pod, deadline).await?;
            wanted.extend(named_in(&found, &pod.namespace, &request.multus_namespace));
            annotations = Some(found);
        }
        let optional: BTreeSet<NetRef> = request.optional.into_iter().filter(|one| !wanted.contains(one)).collect();
        let each = wanted.into_iter().map(|one| (one, false)).chain(optional.into_iter().map(|one| (one, true)));
        let each = each.map(|(reference, is_optional)| self.definition(reference, is_optional, deadline));
        Ok(Resolved { annotations, definitions: join_all(each).await, node: self.addresses.known() })
    }

    async fn annotations(&self, pod: &PodRef, deadline: Instant) -> Result<Annotations, Refusal> {
        let later = |text: String| Refusal::new(Cause::Later, format!("pod {pod}: {text}"));
        if let Some(known) = self.view.lock().pods.get(&PodName::from(pod)).filter(|known| known.is(pod)) {
            return Ok(known.annotations.clone());
        }
        let api: Api<PodMeta> = Api::namespaced(self.client.clone(), pod.namespace.as_str());
        match timeout_at(deadline, api.get_opt(pod.name.as_str())).await {
            Ok(Ok(Some(object))) => match Pod::read(object.metadata) {
                Some((_, read)) if read.is(pod) => Ok(read.annotations),
                Some((_, read)) => {
                    let asked = pod.uid.as_deref().unwrap_or_default();
                    Err(later(format!("K8S_POD_UID: got {asked}, want the pod's uid {}", read.uid)))
                }
                None => Err(later("the API server knows it without a name".to_owned())),
            },
            Ok(Ok(None)) => Err(later("the API server knows no such pod; it may not be there yet".to_owned())),
            Ok(Err(error)) => {
                Err(later(format!("not known here yet, and the API server cannot be asked: {}", said(&error))))
            }
            Err(_) => Err(later("not known here yet, and the API server gives no answer in time".to_owned())),
        }
    }

    async fn definition(&self, reference: NetRef, is_optional: bool, deadline: Instant) -> Lookup {
        let known = {
            let view = self.view.lock();
            let known = view.definitions.get(&reference).cloned();
            known.or_else(|| (is_optional && view.definitions.is_complete()).then_some(Outcome::Missing))
        };
        let outcome = match known {
            Some(known) => known,
            None => self.read(&reference, deadline).await,
        };
        Lookup { reference, outcome }
    }

    async fn read(&self, reference: &NetRef, deadline: Instant) -> Outcome {
        let api: Api<DefinitionObject> = Api::namespaced(self.client.clone(), reference.namespace.as_str());
        match timeout_at(deadline, api.get_opt(reference.name.as_str())).await {
            Ok(Ok(Some(object))) => match definition(&object) {
                Some((_, outcome)) => outcome,
                None => Outcome::Broken { reason: "the API server knows it without a name".to_owned() },
            },
            Ok(Ok(None)) => Outcome::Missing,
            // A cluster that does not know definitions at all has none.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Missing,
            Ok(Err(error)) => Outcome::Unreachable { reason: said(&error) },
            Err(_) => Outcome::Unreachable { reason: "no answer in time".to_owned() },
        }
    }
}
