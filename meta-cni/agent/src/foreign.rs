//! The objects of dialects for the plugin: followed while their dialect is on, and handed out with what they need.
//!
//! With no dialect on, nothing is asked of the API server. An object that is not cached is new, or the first list is not complete: then
//! it is read, within the time that the plugin waits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::dialect::Dialects;
use attachments::dialect::danm::reserved::of_network;
use attachments::dialect::danm::tenant;
use attachments::dialect::objects::{ForeignRef, Kind, Objects, beside, disagreement, has_beside, meaning, needed_by};
use futures::future::join_all;
use kube::Client;
use meta_cni::cluster::wire::{ObjectLookup, Outcome};
use meta_cni_kube::{Collection, Event, Index, Read, Reader, Versioned, follow_objects};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// Longest `spec` that is kept and handed out, in bytes: anybody's text.
const LONGEST: usize = 8 << 10;
/// What is kept in the place of a longer one. Whoever asks for it reads it, and hears that it is too long.
const TOO_LONG: &str = "";
/// The most objects of one request, with those that they need.
const MOST: usize = 256;

/// The objects of the dialects that are on. Clones share them.
#[derive(Clone)]
pub struct Foreign(Arc<Inner>);

struct Inner {
    dialects: Dialects,
    reader: Reader,
    /// By kind, of each of its groups.
    kinds: BTreeMap<Kind, Vec<Mutex<Index<ForeignRef, String>>>>,
}

impl Foreign {
    /// Nothing is known yet.
    pub fn new(dialects: Dialects, reader: Reader) -> Self {
        let groups = |kind: &Kind| (*kind, kind.api_versions().iter().map(|_| Mutex::default()).collect());
        let kinds = dialects.on().flat_map(|dialect| dialect.networks().iter().chain(dialect.limits()));
        let kinds = kinds.map(groups).collect();
        Self(Arc::new(Inner { dialects, reader, kinds }))
    }

    /// The dialects that are on.
    pub fn dialects(&self) -> &Dialects {
        &self.0.dialects
    }

    /// Follows the objects; never ends.
    pub async fn run(&self, client: Client) {
        let groups = self.0.kinds.iter().flat_map(|(kind, indexes)| {
            kind.collections(None).into_iter().zip(indexes).map(move |(path, index)| (kind, path, index))
        });
        join_all(groups.map(|(kind, path, index)| {
            let client = client.clone();
            async move {
                let all = Collection { what: kind.plural(), path: &path, fields: None, labels: None };
                follow_objects(client, all, |event| take(*kind, &mut lock(index), event)).await;
            }
        }))
        .await;
        std::future::pending::<()>().await;
    }

    /// These objects, those that they need, and those that count beside them.
    pub async fn of(
        &self,
        wanted: Vec<ForeignRef>,
        candidates: Vec<ForeignRef>,
        deadline: Instant,
    ) -> Vec<ObjectLookup> {
        let mut found = Vec::new();
        for reference in candidates.into_iter().take(MOST) {
            let outcome = match self.is_absent(&reference) {
                true => Outcome::Missing,
                false => self.outcome(&reference, deadline).await,
            };
            found.push(ObjectLookup { reference, outcome });
        }
        let mut seen = BTreeSet::new();
        let mut next = wanted;
        while let Some(reference) = next.pop() {
            if seen.len() == MOST || !seen.insert(reference.clone()) {
                continue;
            }
            let outcome = self.outcome(&reference, deadline).await;
            if let Outcome::Found { config: Some(spec), .. } = &outcome {
                next.extend(needed_by(&reference, spec));
            }
            found.push(ObjectLookup { reference, outcome });
        }
        found.extend(self.beside(&found, deadline).await);
        found
    }

    /// What counts beside networks that were found. Where it cannot be known what does, they cannot be used.
    async fn beside(&self, found: &[ObjectLookup], deadline: Instant) -> Vec<ObjectLookup> {
        let is_found = |lookup: &&ObjectLookup| matches!(lookup.outcome, Outcome::Found { .. });
        let networks = found.iter().filter(is_found).map(|lookup| &lookup.reference);
        let networks: BTreeSet<&ForeignRef> = networks.filter(|one| has_beside(one)).collect();
        if networks.is_empty() {
            return Vec::new();
        }
        let known = match self.limits(deadline).await {
            Ok(known) => known,
            Err(reason) => {
                let unknown = |one: &ForeignRef| ObjectLookup {
                    reference: one.clone(),
                    outcome: Outcome::Unreachable { reason: reason.clone() },
                };
                return networks.into_iter().map(unknown).collect();
            }
        };
        let named = |one: &ForeignRef| found.iter().any(|lookup| lookup.reference == *one);
        let beside: BTreeSet<&ForeignRef> = networks.into_iter().flat_map(|one| beside(one, &known)).collect();
        let mut lookups = Vec::new();
        for reference in beside.into_iter().filter(|one| !named(one)) {
            let outcome = self.outcome(reference, deadline).await;
            lookups.push(ObjectLookup { reference: reference.clone(), outcome });
        }
        lookups
    }

    /// The objects that say what pods may have of networks. Of a group whose list is not complete the API server is asked.
    async fn limits(&self, deadline: Instant) -> Result<Objects, String> {
        let listed = |index: &Mutex<Index<ForeignRef, String>>| {
            let index = lock(index);
            index.is_complete().then(|| index.iter().map(|(one, spec)| (one.clone(), spec.clone())).collect::<Vec<_>>())
        };
        let mut known = Objects::new();
        for kind in self.0.dialects.on().flat_map(|dialect| dialect.limits()) {
            for (path, index) in kind.collections(None).iter().zip(self.0.kinds.get(kind).into_iter().flatten()) {
                known.extend(match listed(index) {
                    Some(objects) => objects,
                    None => self.list(*kind, path, deadline).await?,
                });
            }
        }
        Ok(known)
    }

    async fn list(&self, kind: Kind, collection: &str, deadline: Instant) -> Result<Vec<(ForeignRef, String)>, String> {
        let unknown = |why: String| format!("what limits it is not known here yet: {}: {why}", kind.plural());
        match self.0.reader.list(collection, deadline).await {
            Read::Found(json) => match serde_json::from_slice::<List>(&json) {
                Ok(list) => {
                    let read = |object: Object| Some((object.reference(kind)?, object.says(kind)));
                    Ok(list.items.into_iter().flatten().filter_map(read).collect())
                }
                Err(e) => Err(unknown(format!("the API server answers with what is no list: {e}"))),
            },
            Read::Absent => Ok(Vec::new()),
            Read::Unanswered(why) => Err(unknown(format!("the API server cannot be asked: {why}"))),
        }
    }

    /// The addresses of a network that ReservedIPs keep, as far as it is known.
    pub fn kept(&self, network: &ForeignRef) -> BTreeSet<IpAddr> {
        let mut kept = BTreeSet::new();
        for index in self.0.kinds.get(&Kind::ReservedIP).into_iter().flatten() {
            let index = lock(index);
            let of_network = of_network(network, index.iter());
            kept.extend(of_network.iter().flat_map(|(_, one)| &one.addresses).map(|(address, _)| *address));
        }
        kept
    }

    /// Every group of the kind is known whole, and has no such object.
    fn is_absent(&self, reference: &ForeignRef) -> bool {
        let knows_none = |index: &Mutex<Index<ForeignRef, String>>| {
            let index = lock(index);
            index.is_complete() && index.get(reference).is_none()
        };
        self.0.kinds.get(&reference.kind).is_some_and(|indexes| indexes.iter().all(knows_none))
    }

    async fn outcome(&self, reference: &ForeignRef, deadline: Instant) -> Outcome {
        let Some(indexes) = self.0.kinds.get(&reference.kind) else {
            let reason = "the node agent follows no such objects: `dialects` differs between this node and the agent";
            return Outcome::Broken { reason: reason.to_owned() };
        };
        let known: Vec<String> = indexes.iter().filter_map(|index| lock(index).get(reference).cloned()).collect();
        match known.is_empty() || known.iter().any(|spec| spec == TOO_LONG) {
            false => one_of(reference, known),
            true => self.ask(reference, deadline).await,
        }
    }

    async fn ask(&self, reference: &ForeignRef, deadline: Instant) -> Outcome {
        let mut found = Vec::new();
        for path in reference.kind.collections(reference.namespace.as_ref()) {
            match self.0.reader.object(&path, reference.name.as_str(), deadline).await {
                Read::Found(json) => match serde_json::from_slice::<Object>(&json) {
                    Ok(object) => found.push(object.says(reference.kind)),
                    Err(e) => {
                        return Outcome::Broken {
                            reason: format!("the API server answers with what is no object: {e}"),
                        };
                    }
                },
                Read::Absent => {}
                Read::Unanswered(why) => {
                    let reason = format!("not known here yet, and the API server cannot be asked: {why}");
                    return Outcome::Unreachable { reason };
                }
            }
        }
        one_of(reference, found)
    }
}

/// What the groups of a kind say of one name.
fn one_of(reference: &ForeignRef, specs: Vec<String>) -> Outcome {
    let mut specs = specs.into_iter();
    let Some(first) = specs.next() else { return Outcome::Missing };
    if specs.any(|other| other != first) {
        return Outcome::Broken { reason: disagreement(reference) };
    }
    within(first)
}

fn within(spec: String) -> Outcome {
    match spec.len() {
        size if size > LONGEST => Outcome::TooLarge { size: size as u64, limit: LONGEST as u64 },
        _ => Outcome::Found { config: Some(spec), resource_name: None },
    }
}

fn take(kind: Kind, index: &mut Index<ForeignRef, String>, event: Event<Object>) {
    match event {
        Event::Begin => index.begin(),
        Event::End => index.end(),
        Event::Listed(object) | Event::Applied(object) => {
            let Some(reference) = object.reference(kind) else { return };
            match object.says(kind) {
                spec if spec.len() <= LONGEST => drop(index.apply(reference, spec)),
                _ => drop(index.apply(reference, TOO_LONG.to_owned())),
            }
        }
        Event::Deleted(object) => {
            if let Some(reference) = object.reference(kind) {
                index.delete(&reference);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal, so a panic leaves the cache consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As much of a list as matters.
#[derive(Deserialize)]
struct List {
    /// `null` where there is none.
    items: Option<Vec<Object>>,
}

/// As much of an object as matters.
#[derive(Clone, Debug, Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    /// What follows are the fields of a TenantConfig of DANM, which has no `spec`.
    #[serde(default, rename = "hostDevices")]
    host_devices: Value,
    #[serde(default, rename = "networkIds")]
    network_ids: Value,
    #[serde(default, rename = "allowedClusterNetworks")]
    allowed_cluster_networks: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    resource_version: String,
}

impl Object {
    /// What it says, without what its own system writes there.
    fn says(self, kind: Kind) -> String {
        let says = match kind {
            Kind::TenantConfig => tenant::says([self.host_devices, self.network_ids, self.allowed_cluster_networks]),
            _ => self.spec,
        };
        meaning(kind, says).to_string()
    }

    fn reference(&self, kind: Kind) -> Option<ForeignRef> {
        let namespace = match kind.is_namespaced() {
            true => Some(self.metadata.namespace.parse().ok()?),
            false => None,
        };
        Some(ForeignRef { kind, namespace, name: self.metadata.name.parse().ok()? })
    }
}

impl Versioned for Object {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

#[cfg(test)]
mod tests;
