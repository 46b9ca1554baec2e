//! The objects of dialects for the plugin: followed while their dialect is on, and handed out with what they need.
//!
//! With no dialect on, nothing is asked of the API server. An object that is not cached is new, or the first list is not complete: then
//! it is read, within the time that the plugin waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attachments::dialect::Dialects;
use attachments::dialect::danm::tenant;
use attachments::dialect::objects::{ForeignRef, Kind, beside, disagreement, is_limited, meaning, needed_by};
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
        let networks: BTreeSet<&ForeignRef> = networks.filter(|one| is_limited(one)).collect();
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
        let mut lookups = Vec::new();
        for reference in networks.into_iter().filter_map(|one| beside(one, known.iter())).collect::<BTreeSet<_>>() {
            let outcome = self.outcome(reference, deadline).await;
            lookups.push(ObjectLookup { reference: reference.clone(), outcome });
        }
        lookups
    }

    /// The objects that say what pods may have of networks. Of a group whose list is not complete the API server is asked.
    async fn limits(&self, deadline: Instant) -> Result<BTreeSet<ForeignRef>, String> {
        let listed = |index: &Mutex<Index<ForeignRef, String>>| {
            let index = lock(index);
            index.is_complete().then(|| index.iter().map(|(one, _)| one.clone()).collect::<Vec<_>>())
        };
        let mut known = BTreeSet::new();
        for kind in self.0.dialects.on().flat_map(|dialect| dialect.limits()) {
            for (path, index) in kind.collections(None).iter().zip(self.0.kinds.get(kind).into_iter().flatten()) {
                known.extend(match listed(index) {
                    Some(names) => names,
                    None => self.names(*kind, path, deadline).await?,
                });
            }
        }
        Ok(known)
    }

    async fn names(&self, kind: Kind, collection: &str, deadline: Instant) -> Result<Vec<ForeignRef>, String> {
        let unknown = |why: String| format!("what limits it is not known here yet: {}: {why}", kind.plural());
        match self.0.reader.metadata(collection, deadline).await {
            Read::Found(json) => match serde_json::from_slice::<List>(&json) {
                Ok(list) => Ok(list.items.iter().flatten().filter_map(|object| object.reference(kind)).collect()),
                Err(e) => Err(unknown(format!("the API server answers with what is no list: {e}"))),
            },
            Read::Absent => Ok(Vec::new()),
            Read::Unanswered(why) => Err(unknown(format!("the API server cannot be asked: {why}"))),
        }
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
mod tests {
    use attachments::dialect::danm::Danm;
    use meta_cni_kube::testing::{Server, answer, later};
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

    #[tokio::test]
    async fn what_limits_a_network_of_tenants_comes_with_it_or_it_is_said_why_not() {
        let dialects = || Dialects { danm: Some(Danm::default()), ..Dialects::default() };
        let object = |object: Value| serde_json::from_value::<Object>(object).unwrap();
        let tell = |foreign: &Foreign, kind: Kind, group: usize, objects: Vec<Object>| {
            let mut index = lock(&foreign.0.kinds[&kind][group]);
            take(kind, &mut index, Event::Begin);
            objects.into_iter().for_each(|object| take(kind, &mut index, Event::Listed(object)));
            take(kind, &mut index, Event::End);
        };
        let network = object(json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": {"NetworkID": "a"}}));
        let of = |kind| ForeignRef::within(&"shop".parse().unwrap(), kind, "a".parse().unwrap());
        let ask = async |foreign: &Foreign, kind| foreign.of(vec![of(kind)], Vec::new(), later()).await;
        let with = async |code: &'static str, body: Value| {
            let body = body.to_string();
            let server = Server::start(move |_| answer(code, &body)).await;
            let foreign = Foreign::new(dialects(), Reader::new(server.client.clone()));
            tell(&foreign, Kind::TenantNetwork, 1, vec![network.clone()]);
            tell(&foreign, Kind::DanmNet, 1, vec![network.clone()]);
            tell(&foreign, Kind::TenantConfig, 0, vec![]);
            (server, foreign)
        };
        let config = |name: &str| json!({"metadata": {"name": name}, "hostDevices": [{"name": "ens3", "alloc": "gA=="}], "status": {}});

        let status =
            |code: u16, message: &str| json!({"kind": "Status", "status": "Failure", "code": code, "message": message});
        let (_server, foreign) = with("403 Forbidden", status(403, "tenantconfigs is forbidden")).await;
        let Outcome::Unreachable { reason } = &ask(&foreign, Kind::TenantNetwork).await[1].outcome else { panic!() };
        let want = "what limits it is not known here yet: tenantconfigs: the API server cannot be asked: ";
        assert!(reason.starts_with(want) && reason.contains("tenantconfigs is forbidden"), "{reason}");
        assert_eq!(ask(&foreign, Kind::DanmNet).await.len(), 1, "nothing limits it");
        tell(&foreign, Kind::TenantConfig, 1, vec![object(config("b")), object(config("a"))]);
        let known = ask(&foreign, Kind::TenantNetwork).await;
        assert_eq!((known.len(), known[1].reference.to_string().as_str()), (2, "TenantConfig a"));
        let limits = Some(r#"{"hostDevices":[{"name":"ens3"}]}"#.to_owned());
        assert_eq!(known[1].outcome, Outcome::Found { config: limits, resource_name: None });
        tell(&foreign, Kind::TenantConfig, 1, vec![]);
        assert_eq!(ask(&foreign, Kind::TenantNetwork).await.len(), 1, "there is none");

        let (_server, foreign) = with("404 Not Found", status(404, "no such kind")).await;
        assert_eq!(ask(&foreign, Kind::TenantNetwork).await.len(), 1, "the other group is not served");
        let (_server, foreign) = with("200 OK", json!({"items": [config("z")]})).await;
        let read = ask(&foreign, Kind::TenantNetwork).await;
        assert_eq!(read[1].reference.to_string(), "TenantConfig z", "one that is not followed yet");
    }

    #[test]
    fn a_long_spec_is_not_handed_out() {
        assert!(matches!(within("x".repeat(LONGEST + 1)), Outcome::TooLarge { size, .. } if size > LONGEST as u64));
        assert!(matches!(within("{}".to_owned()), Outcome::Found { .. }));
    }
}
