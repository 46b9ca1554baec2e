//! The objects of dialects for the plugin: followed while their dialect is on, and handed out with what they need.
//!
//! With no dialect on, nothing is asked of the API server. An object that is not cached is new, or the first list is not complete: then
//! it is read, within the time that the plugin waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::dialect::Dialects;
use attachments::dialect::objects::{ForeignRef, Kind, disagreement, meaning, needed_by};
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
        let kinds = dialects.on().flat_map(|dialect| dialect.networks()).map(groups).collect();
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

    /// These objects, and those that they need.
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
        found
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
                    Ok(object) => found.push(meaning(reference.kind, object.spec).to_string()),
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
            match meaning(kind, object.spec).to_string() {
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

/// As much of an object as matters.
#[derive(Clone, Debug, Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    resource_version: String,
}

impl Object {
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_name_in_two_groups_is_one_object_unless_the_two_differ() {
        let reference = ForeignRef::within(&"shop".parse().unwrap(), Kind::DanmNet, "internal".parse().unwrap());
        let spec = |alloc: &str| {
            let spec = json!({"NetworkID": "int", "Options": {"cidr": "10.0.0.0/24", "alloc": alloc}});
            meaning(Kind::DanmNet, spec).to_string()
        };
        assert_eq!(one_of(&reference, Vec::new()), Outcome::Missing);
        let found = one_of(&reference, vec![spec("gAA="), spec("gAB=")]);
        assert!(matches!(found, Outcome::Found { config: Some(_), .. }), "their states may differ: {found:?}");
        let Outcome::Broken { reason } = one_of(&reference, vec![spec(""), "{}".to_owned()]) else { panic!() };
        let want =
            "DanmNet shop/internal is in the groups danm.k8s.io and danm.io, and the two differ: delete one of them";
        assert_eq!(reason, want);
    }

    #[test]
    fn a_changed_object_replaces_the_earlier_and_a_deleted_one_is_gone() {
        let object = |plugin: &str| {
            let text = json!({"metadata": {"name": "net1", "namespace": "shop", "resourceVersion": "1"}, "spec": {"plugin": plugin}});
            serde_json::from_value::<Object>(text).unwrap()
        };
        let mut index = Index::default();
        let reference = object("a").reference(Kind::Logicalnetwork).unwrap();
        for event in [Event::Begin, Event::Listed(object("a")), Event::End, Event::Applied(object("b"))] {
            take(Kind::Logicalnetwork, &mut index, event);
        }
        assert_eq!(index.get(&reference).map(String::as_str), Some(r#"{"plugin":"b"}"#));
        take(Kind::Logicalnetwork, &mut index, Event::Applied(object(&"x".repeat(LONGEST))));
        assert_eq!(index.get(&reference).map(String::as_str), Some(TOO_LONG), "it is there, and not kept");
        take(Kind::Logicalnetwork, &mut index, Event::Applied(object("b")));
        take(Kind::Logicalnetwork, &mut index, Event::Deleted(object("b")));
        assert_eq!(index.get(&reference), None);
    }

    #[test]
    fn a_long_spec_is_not_handed_out() {
        assert!(matches!(within("x".repeat(LONGEST + 1)), Outcome::TooLarge { size, .. } if size > LONGEST as u64));
        assert!(matches!(within("{}".to_owned()), Outcome::Found { .. }));
    }
}
