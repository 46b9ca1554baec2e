//! Facts for an ADD: from the caches, else by bounded reads of the API server within the time that the plugin waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use attachments::dialect::objects::{self, ForeignRef};
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::selection::Selection;
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::Resource;
use meta_cni::cluster::wire::{
    self, AliasLookup, Cause, Join, LONGEST_ANNOTATION, Lookup, ObjectLookup, Outcome, Refusal, Resolve, Resolved,
};
use meta_cni::cluster::{Annotations, named_in};
use meta_cni_kube::{Read, Reader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::addresses::Addresses;
use super::definitions::{Definitions, Fact};
use super::devices::Devices;
use super::foreign::Foreign;
use super::networks::Networks;
use super::networks::request::Requests;
use super::pod_cache::{Pod, PodName, SharedPodCache};
use super::policies::Policies;
use super::watch::Seen;

/// The longest time for an answer.
const LONGEST: Duration = Duration::from_secs(3600);
/// The most definitions that one pod may name. The plugin's own limit, `maxAttachments`, is far lower.
const MOST: usize = 1024;
/// Definitions of one request that are looked up at once: no request takes all the reads that the agent may have under way.
const AT_ONCE: usize = 8;
/// The most bytes of definitions in one answer.
const HEAVIEST: usize = 4 << 20;
/// A request that waits holds texts up to this many bytes; further texts are fetched when the answer is made.
const HELD: usize = 32 << 10;
/// How long a request waits for the annotations of a pod that is not known here yet and asks for an address.
const GLANCE: Duration = Duration::from_secs(2);
/// Memory for answers that are not sent yet, in units of 4 KiB.
const ROOM: (u32, usize) = (4096, 4 << 10);

/// Who knows what a request asks for.
#[derive(Clone)]
pub struct Sources {
    /// The API server, within the time that a request has.
    pub reader: Reader,
    /// The pods of this node.
    pub pods: SharedPodCache,
    /// The definitions of the cluster.
    pub definitions: Definitions,
    /// Levels and policies.
    pub policies: Policies,
    /// The devices of this node's pods.
    pub devices: Devices,
    /// The addresses of the node and the API server.
    pub addresses: Addresses,
    /// The networks that span nodes.
    pub networks: Networks,
    /// The objects of dialects.
    pub foreign: Foreign,
}

/// Answers requests for facts.
#[derive(Clone)]
pub struct Facts {
    /// Who knows them.
    pub sources: Sources,
    room: Arc<Semaphore>,
}

/// The memory of an answer until it is sent.
pub type Room = OwnedSemaphorePermit;

impl Facts {
    /// Facts by these sources.
    pub fn new(sources: Sources) -> Self {
        Self { sources, room: Arc::new(Semaphore::new(ROOM.0 as usize)) }
    }

    /// Answers a request.
    pub async fn resolve(&self, request: Resolve) -> Result<(Resolved, Room), Refusal> {
        let deadline = deadline(request.wait_ms);
        let mut wanted: BTreeSet<NetRef> = request.references.into_iter().collect();
        let mut annotations = None;
        if request.annotations {
            let Some(pod) = &request.pod else {
                return Err(Refusal::new(Cause::Malformed, "annotations are wanted of no pod"));
            };
            let found = self.annotations(pod, deadline).await?;
            bounded(pod, &found)?;
            wanted.extend(named_in(&found, &pod.namespace, &request.multus_namespace));
            annotations = Some(found);
        }
        // Names that nobody has are waited for together.
        let named = request.aliases.iter().take(MOST).map(|alias| self.sources.definitions.find(alias, deadline));
        let named = try_join_all(named).await?;
        wanted.extend(named.iter().filter(|found| found.len() == 1).flatten().cloned());
        let who = request.pod.as_ref().map_or_else(|| "the node".to_owned(), |pod| format!("pod {pod}"));
        let optional: BTreeSet<NetRef> = request.optional.into_iter().filter(|one| !wanted.contains(one)).collect();
        let number = wanted.len().max(request.aliases.len()) + optional.len();
        if number > MOST {
            let message = format!("{who}: got {number} definitions that are named, want at most {MOST}");
            return Err(Refusal::new(Cause::Configuration, message));
        }
        // A pod that selects nothing waits for no policy.
        let selects = annotations.as_ref().is_none_or(|annotations| !annotations.is_empty());
        let joins_here = request.pod.is_some() && request.policies && !request.joins;
        let pod = request.pod.clone().filter(|_| joins_here);
        let user = request.pod.clone().filter(|_| request.devices);
        let judged = request.pod.filter(|_| request.policies && selects).map(|pod| {
            let own = pod.namespace.to_string();
            wanted.iter().map(|reference| reference.namespace.to_string()).chain([own]).collect::<BTreeSet<_>>()
        });
        let facts = self.look_up(wanted, optional, deadline).await;
        let objects = self.sources.foreign.of(request.objects, request.candidates, deadline).await;
        if joins_here {
            let pod = pod.as_ref();
            self.join_all(&facts, (pod, annotations.as_ref(), &request.multus_namespace), deadline).await?;
        }
        let weight: usize = facts.iter().map(|(_, fact)| fact.weight).sum();
        if weight > HEAVIEST {
            let message = format!("{who}: got {weight} bytes of definitions that are named, want at most {HEAVIEST}");
            return Err(Refusal::new(Cause::Configuration, message));
        }
        let (policies, of_policies) = match judged {
            Some(namespaces) => {
                let (policies, weight) = self.sources.policies.of(namespaces, deadline).await;
                (Some(policies), weight)
            }
            None => (None, 0),
        };
        let weight = weight + of_policies;
        let devices = match user {
            Some(pod) => self.devices(&pod, &facts, &objects, deadline).await,
            None => None,
        };
        let room =
            self.room(weight + annotations.iter().flatten().map(|(_, text)| text.len()).sum::<usize>(), deadline);
        let room = room.await?;
        // No await from here until the answer is a frame: only one answer is made at a time.
        let definitions = facts.into_iter().map(|(reference, fact)| self.lookup(reference, fact)).collect();
        let named = request.aliases.into_iter().zip(named);
        let aliases = named.map(|(alias, found)| AliasLookup { alias, found }).collect();
        let node = self.sources.addresses.known();
        Ok((Resolved { annotations, definitions, node, policies, devices, objects, aliases }, room))
    }

    /// The pod's devices of the resources that definitions name. None where none names one: then the kubelet is not asked.
    async fn devices(
        &self,
        pod: &PodRef,
        facts: &[(NetRef, Fact)],
        objects: &[ObjectLookup],
        deadline: Instant,
    ) -> Option<wire::Devices> {
        let of_object = |one: &ObjectLookup| match &one.outcome {
            Outcome::Found { config: Some(spec), .. } => objects::resource(&one.reference, spec),
            _ => None,
        };
        let mut resources: BTreeSet<String> = objects.iter().filter_map(of_object).collect();
        for (reference, fact) in facts {
            if let Some(Outcome::Found { resource_name: Some(resource), .. }) = self.outcome(reference, fact).as_deref()
            {
                resources.insert(resource.clone());
            }
        }
        resources.remove("");
        if resources.is_empty() {
            return None;
        }
        let known = self.sources.pods.lock().get(&PodName::from(pod)).cloned();
        Some(self.sources.devices.of(pod, known.as_ref(), &resources, deadline).await)
    }

    /// Makes sure of what an ADD needs of networks that span nodes.
    pub async fn join(&self, request: Join) -> Result<(), Refusal> {
        let deadline = deadline(request.wait_ms);
        if request.references.len() + request.objects.len() > MOST {
            let number = request.references.len() + request.objects.len();
            let message = format!("pod {}: got {number} definitions to join, want at most {MOST}", request.pod);
            return Err(Refusal::new(Cause::Configuration, message));
        }
        let facts = self.look_up(request.references.into_iter().collect(), BTreeSet::new(), deadline).await;
        for (reference, fact) in &facts {
            // What is gone or unreadable by now is what the plugin attaches all the same: it has the text.
            if let Some(Outcome::Unreachable { reason }) = fact.outcome.as_deref() {
                let text = format!(
                    "network-attachment-definition {reference}: not known here any more, and the API server cannot be asked: {reason}"
                );
                return Err(Refusal::new(Cause::Later, text));
            }
        }
        // One text after the other: together they may be larger than the agent.
        let mut pools = Vec::new();
        for (reference, fact) in &facts {
            if let Some(Outcome::Found { config: Some(config), .. }) = self.outcome(reference, fact).as_deref() {
                pools.extend(self.sources.networks.pools_of(reference, config));
            }
        }
        let pod = (!request.plain).then_some(&request.pod);
        let objects = self.objects(request.objects, deadline).await?;
        for (key, config) in &objects {
            pools.extend(self.sources.networks.pools_of(key, config));
        }
        self.sources.networks.tell_overlaps(&request.pod, &pools);
        if !objects.is_empty() {
            let requests = self.requests(pod, None, &request.multus_namespace, deadline).await;
            for (key, config) in &objects {
                self.sources.networks.ensure(key, config, &requests, deadline).await?;
            }
        }
        self.join_all(&facts, (pod, None, &request.multus_namespace), deadline).await
    }

    /// The networks that objects are, each by its name among those of definitions, with its configuration. What is gone by now, or is made
    /// of a file, the plugin attaches as it has it.
    async fn objects(&self, wanted: Vec<ForeignRef>, deadline: Instant) -> Result<Vec<(NetRef, String)>, Refusal> {
        let mut configurations = Vec::new();
        for ObjectLookup { reference, outcome } in self.sources.foreign.of(wanted, Vec::new(), deadline).await {
            match outcome {
                Outcome::Found { config: Some(spec), .. } => {
                    configurations
                        .extend(objects::spanning(&reference, &spec).map(|text| (reference.as_definition(), text)));
                }
                Outcome::Unreachable { reason } => {
                    return Err(Refusal::new(Cause::Later, format!("{reference}: {reason}")));
                }
                _ => {}
            }
        }
        Ok(configurations)
    }

    async fn look_up(
        &self,
        wanted: BTreeSet<NetRef>,
        optional: BTreeSet<NetRef>,
        deadline: Instant,
    ) -> Vec<(NetRef, Fact)> {
        let each = wanted.into_iter().map(|one| (one, false)).chain(optional.into_iter().map(|one| (one, true)));
        let each = each.map(|(reference, is_optional)| async move {
            let fact = self.sources.definitions.know(&reference, is_optional, deadline).await;
            (reference, fact)
        });
        let mut each = stream::iter(each).buffered(AT_ONCE);
        let (mut facts, mut held) = (Vec::new(), 0);
        while let Some((reference, mut fact)) = each.next().await {
            held += fact.weight;
            if held > HELD && matches!(fact.outcome.as_deref(), Some(Outcome::Found { .. })) {
                fact.outcome = None;
            }
            facts.push((reference, fact));
        }
        facts
    }

    /// The same for definitions that were looked up.
    async fn join_all(
        &self,
        facts: &[(NetRef, Fact)],
        (pod, annotations, multus_namespace): (Option<&PodRef>, Option<&Annotations>, &ObjectName),
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let mut requests = None;
        for (reference, fact) in facts {
            let outcome = self.outcome(reference, fact);
            let Some(Outcome::Found { config: Some(config), .. }) = outcome.as_deref() else { continue };
            if requests.is_none() && !self.sources.networks.pools_of(reference, config).is_empty() {
                requests = Some(self.requests(pod, annotations, multus_namespace, deadline).await);
            }
            let asked = requests.clone().unwrap_or_default();
            self.sources.networks.ensure(reference, config, &asked, deadline).await?;
        }
        Ok(())
    }

    /// What a definition is, its text from the disk where memory was short.
    fn outcome(&self, reference: &NetRef, fact: &Fact) -> Option<Arc<Outcome>> {
        fact.outcome.clone().or_else(|| self.sources.definitions.text(reference))
    }

    /// What the pod asks of networks' addresses. A pod that is not known in time asks for nothing: the plugin refuses what it cannot have,
    /// and the runtime comes again.
    async fn requests(
        &self,
        pod: Option<&PodRef>,
        annotations: Option<&Annotations>,
        multus_namespace: &ObjectName,
        deadline: Instant,
    ) -> Requests {
        let Some(pod) = pod else { return Requests::default() };
        if let Some(annotations) = annotations {
            return self.read_requests(pod, annotations, multus_namespace, deadline).await;
        }
        match self.annotations(pod, deadline.min(Instant::now() + GLANCE)).await {
            Ok(annotations) => self.read_requests(pod, &annotations, multus_namespace, deadline).await,
            Err(refusal) => {
                tracing::debug!("what pod {pod} asks of networks' addresses is not known: {}", refusal.message);
                Requests::default()
            }
        }
    }

    async fn read_requests(
        &self,
        pod: &PodRef,
        annotations: &Annotations,
        multus_namespace: &ObjectName,
        deadline: Instant,
    ) -> Requests {
        let annotation = |name: &str| annotations.get(name).map(String::as_str);
        let dialects = self.sources.foreign.dialects();
        // What cannot be read asks for nothing: binding the pod tells what is wrong.
        let (mut selection, _) = Selection::read(annotation, &pod.namespace, multus_namespace, dialects);
        self.sources.definitions.settle(&mut selection);
        if selection.elements().any(|element| element.reserved.iter().any(Option::is_some)) {
            selection = self.settled(selection, pod, deadline).await;
        }
        Requests::of_pod(pod, &selection)
    }

    /// A selection that names addresses by objects, with the addresses. One that cannot be settled stays as it is: the plugin tells why.
    async fn settled(&self, selection: Selection, pod: &PodRef, deadline: Instant) -> Selection {
        let foreign = &self.sources.foreign;
        let found = foreign.of(selection.objects().cloned().collect(), selection.candidates(), deadline).await;
        let spec = |lookup: ObjectLookup| match lookup.outcome {
            Outcome::Found { config: Some(spec), .. } => Some((lookup.reference, spec)),
            _ => None,
        };
        let objects = found.into_iter().filter_map(spec).collect();
        foreign.dialects().settle(&selection, &objects, &pod.namespace, false).unwrap_or(selection)
    }

    /// Waits for memory for an answer. A frame is longer than its texts, because quotes are escaped.
    async fn room(&self, weight: usize, deadline: Instant) -> Result<Room, Refusal> {
        let units = u32::try_from((2 * weight).div_ceil(ROOM.1)).unwrap_or(ROOM.0).min(ROOM.0);
        match timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(units)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Refusal::new(
                Cause::Later,
                "the node agent answers others and had no memory for this answer in time",
            )),
        }
    }

    fn lookup(&self, reference: NetRef, fact: Fact) -> Lookup {
        let outcome = match fact.outcome.or_else(|| self.sources.definitions.text(&reference)) {
            Some(outcome) => Arc::unwrap_or_clone(outcome),
            None => {
                Outcome::Unreachable { reason: "its text was dropped for others' before it could be served".to_owned() }
            }
        };
        Lookup { reference, outcome }
    }

    async fn annotations(&self, pod: &PodRef, deadline: Instant) -> Result<Annotations, Refusal> {
        let later = |text: String| Refusal::new(Cause::Later, format!("pod {pod}: {text}"));
        if let Some(known) = self.sources.pods.lock().get(&PodName::from(pod)).filter(|known| known.is(pod))
            && let Some(selection) = &known.selection
        {
            return Ok(selection.clone());
        }
        let collection = PodObject::url_path(&(), Some(pod.namespace.as_str()));
        match self.sources.reader.object(&collection, pod.name.as_str(), deadline).await {
            Read::Found(json) => {
                let object: Seen = serde_json::from_slice(&json)
                    .map_err(|e| later(format!("the API server answers with what is no pod: {e}")))?;
                match Pod::read(object.metadata) {
                    Some((_, read)) if read.is(pod) => Ok(read.selection.unwrap_or_default()),
                    Some((_, read)) => {
                        let asked = pod.uid.as_deref().unwrap_or_default();
                        Err(later(format!("K8S_POD_UID: got {asked}, want the pod's uid {}", read.uid)))
                    }
                    None => Err(later("the API server knows it without a name".to_owned())),
                }
            }
            Read::Absent => Err(later("the API server knows no such pod; it may not be there yet".to_owned())),
            Read::Unanswered(why) => {
                Err(later(format!("not known here yet, and the API server cannot be asked: {why}")))
            }
        }
    }
}

/// When a request that waits so long is answered.
pub fn deadline(wait_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait_ms).min(LONGEST)
}

/// Refuses annotations that are too long, before they are parsed.
fn bounded(pod: &PodRef, annotations: &Annotations) -> Result<(), Refusal> {
    match annotations.iter().find(|(_, text)| text.len() > LONGEST_ANNOTATION) {
        Some((key, text)) => Err(Refusal::new(
            Cause::Configuration,
            format!("pod {pod}: annotation {key}: got {} bytes, want at most {LONGEST_ANNOTATION}", text.len()),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_that_is_too_long_is_refused_unread() {
        let pod = PodRef { namespace: "n".parse().unwrap(), name: "p".parse().unwrap(), uid: None };
        let of = |length: usize| Annotations::from([("networks".to_owned(), "x".repeat(length))]);
        assert_eq!(bounded(&pod, &of(LONGEST_ANNOTATION)), Ok(()));
        let refusal = bounded(&pod, &of(LONGEST_ANNOTATION + 1)).unwrap_err();
        assert_eq!(refusal.cause, Cause::Configuration);
        assert_eq!(refusal.message, "pod n/p: annotation networks: got 262145 bytes, want at most 262144");
    }
}
