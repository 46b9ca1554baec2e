//! Levels and policies for the plugin: followed, and handed out for the namespaces of one pod.
//!
//! The agent never takes what it does not know for nothing: until all is listed, a pod with networks has to wait. What an earlier agent
//! knew lies in a file, `stateDir/policies.json`, for the case that the API server is away when the agent starts.

mod cache;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::api::{AttachmentLevel, AttachmentPolicy};
use attachments::policy::{Facts, Labels};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, Resource};
use meta_cni::atomic_file;
use meta_cni::cluster::wire;
use meta_cni_kube::{Collection, Event, Read, Reader, Versioned, follow, follow_objects};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use cache::{Cache, Specs};

/// How long to wait for the first lists where an earlier agent's file could answer.
const CONFIRM: Duration = Duration::from_secs(2);
/// The most namespaces in the file.
const USED: usize = 256;
/// Longest file.
const LONGEST: u64 = 8 << 20;
/// Name of a file that is being written.
const UNFINISHED: &str = ".policies.unfinished";

/// The cluster's levels and policies. Clones share them.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

struct Inner {
    reader: Reader,
    file: PathBuf,
    state: Mutex<State>,
    complete: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    cache: Cache,
    /// What an earlier agent knew.
    earlier: Option<Facts>,
    /// The namespaces of this node's pods and of their definitions, the last one used first.
    used: Vec<String>,
    /// What the file holds.
    filed: Option<Facts>,
}

impl Policies {
    /// Starts with the file that an earlier agent left in the state directory.
    pub fn open(reader: Reader, state_dir: &Path) -> Self {
        let file = state_dir.join("policies.json");
        let state = State { earlier: read(&file), ..State::default() };
        Self(Arc::new(Inner { reader, file, state: Mutex::new(state), complete: watch::Sender::new(false) }))
    }

    /// Follows the cluster's namespaces, levels and policies; never ends.
    pub async fn run(&self, client: Client) {
        let all = |path| Collection { what: "", path, fields: None, labels: None };
        let paths = (
            Namespace::url_path(&(), None),
            AttachmentPolicy::url_path(&(), None),
            AttachmentLevel::url_path(&(), None),
        );
        tokio::join!(
            follow(client.clone(), Collection { what: "namespaces", ..all(&paths.0) }, |event| self.namespace(event)),
            follow_objects(client.clone(), Collection { what: "attachmentpolicies", ..all(&paths.1) }, |event| {
                self.spec(event, |cache| &mut cache.policies);
            }),
            follow_objects(client, Collection { what: "attachmentlevels", ..all(&paths.2) }, |event| {
                self.spec(event, |cache| &mut cache.levels);
            }),
        );
    }

    fn namespace(&self, event: Event<Named>) {
        let mut state = self.state();
        let namespaces = &mut state.cache.namespaces;
        let is_of_list = matches!(event, Event::Begin | Event::Listed(_));
        match event {
            Event::Begin => namespaces.begin(),
            Event::End => namespaces.end(),
            Event::Listed(Named { metadata }) | Event::Applied(Named { metadata }) => {
                namespaces.apply(metadata.name, metadata.labels.unwrap_or_default());
            }
            Event::Deleted(Named { metadata }) => namespaces.delete(&metadata.name),
        }
        // A list is heard of once, at its end: what is in the file is put together for each time.
        if !is_of_list {
            self.heard(state);
        }
    }

    fn spec<T: DeserializeOwned>(&self, event: Event<Object>, of: impl Fn(&mut Cache) -> &mut Specs<T>) {
        let mut state = self.state();
        let specs = of(&mut state.cache);
        let is_of_list = matches!(event, Event::Begin | Event::Listed(_));
        match event {
            Event::Begin => specs.begin(),
            Event::End => specs.end(),
            Event::Listed(Object { metadata, spec }) | Event::Applied(Object { metadata, spec }) => {
                specs.apply(metadata.name, &spec);
            }
            Event::Deleted(Object { metadata, .. }) => specs.delete(&metadata.name),
        }
        // A list is heard of once, at its end: what is in the file is put together for each time.
        if !is_of_list {
            self.heard(state);
        }
    }

    /// Something may have changed: the file follows.
    fn heard(&self, mut state: MutexGuard<'_, State>) {
        if state.cache.is_complete() {
            state.earlier = None;
            self.0.complete.send_replace(true);
            self.write(&mut state);
        }
    }

    /// A pod of this node is in this namespace: what holds there outlives the agent.
    pub fn expect(&self, namespace: &str) {
        let mut state = self.state();
        if state.used(namespace) && state.cache.is_complete() {
            self.write(&mut state);
        }
    }

    /// Levels and policies for these namespaces, and the bytes of the answer.
    pub async fn of(&self, namespaces: BTreeSet<String>, deadline: Instant) -> (wire::Policies, usize) {
        match self.facts(namespaces, deadline).await {
            Ok((facts, weight)) => (wire::Policies::Known { facts }, weight),
            Err(reason) => (wire::Policies::Unknown { reason }, 0),
        }
    }

    async fn facts(&self, namespaces: BTreeSet<String>, deadline: Instant) -> Result<(Facts, usize), String> {
        let has_file = self.state().earlier.is_some();
        let until = if has_file { deadline.min(Instant::now() + CONFIRM) } else { deadline };
        let mut complete = self.0.complete.subscribe();
        // The sender lives as long as this does.
        if timeout_at(until, complete.wait_for(|complete| *complete)).await.is_err() {
            return self.earlier(&namespaces).ok_or_else(|| "the API server has not listed them in time".to_owned());
        }
        let mut labels = BTreeMap::new();
        for namespace in namespaces {
            let known = self.state().cache.namespaces.get(&namespace).cloned();
            let found = match known {
                Some(known) => known,
                None => self.ask(&namespace, deadline).await?,
            };
            labels.insert(namespace, found);
        }
        let mut state = self.state();
        if labels.keys().filter(|namespace| state.used(namespace)).count() > 0 {
            self.write(&mut state);
        }
        let weight = state.cache.weight();
        state.cache.facts(labels).map(|facts| (facts, weight))
    }

    /// A namespace that is not cached is new, or its labels are long.
    async fn ask(&self, namespace: &str, deadline: Instant) -> Result<Labels, String> {
        let unknown = |why: &str| format!("namespace {namespace}: {why}");
        match self.0.reader.object(&Namespace::url_path(&(), None), namespace, deadline).await {
            Read::Found(json) => match serde_json::from_slice::<Named>(&json) {
                Ok(Named { metadata }) => Ok(metadata.labels.unwrap_or_default()),
                Err(e) => Err(unknown(&format!("the API server answers with what is no namespace: {e}"))),
            },
            Read::Absent => Ok(Labels::new()),
            Read::Unanswered(why) => Err(unknown(&format!("the API server cannot be asked: {why}"))),
        }
    }

    /// What an earlier agent knew of these namespaces, if it knew all of them.
    fn earlier(&self, namespaces: &BTreeSet<String>) -> Option<(Facts, usize)> {
        let state = self.state();
        let mut facts = state.earlier.clone()?;
        if !namespaces.iter().all(|namespace| facts.namespaces.contains_key(namespace)) {
            return None;
        }
        tracing::info!("levels and policies: the API server cannot be asked, an earlier agent's are served");
        facts.namespaces.retain(|namespace, _| namespaces.contains(namespace));
        Some((facts, usize::try_from(LONGEST).unwrap_or(usize::MAX) / 4))
    }

    fn write(&self, state: &mut State) {
        let labels = |name: &String| Some((name.clone(), state.cache.namespaces.get(name)?.clone()));
        // What cannot be read is no reason to keep what is known to be old.
        let Ok(facts) = state.cache.facts(state.used.iter().filter_map(labels).collect()) else { return };
        if state.filed.as_ref() == Some(&facts) {
            return;
        }
        let json = serde_json::to_vec(&facts).unwrap_or_default();
        let dir = self.0.file.parent().unwrap_or(Path::new("/"));
        let written =
            fs::create_dir_all(dir).and_then(|()| atomic_file::replace(&self.0.file, UNFINISHED, &json, 0o600));
        match written {
            Ok(()) => state.filed = Some(facts),
            Err(e) => tracing::debug!("cannot write {}: {e}", self.0.file.display()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers a namespace; true when it is a new one.
    fn used(&mut self, namespace: &str) -> bool {
        let at = self.used.iter().position(|used| used == namespace);
        let name = at.map_or_else(|| namespace.to_owned(), |at| self.used.remove(at));
        self.used.insert(0, name);
        self.used.truncate(USED);
        at.is_none()
    }
}

fn read(file: &Path) -> Option<Facts> {
    let mut json = Vec::new();
    fs::File::open(file).ok()?.take(LONGEST).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A namespace's metadata, as much of it as matters.
#[derive(Clone, Debug, Deserialize)]
struct Named {
    metadata: Meta,
}

/// An object of ours, its spec unread: one that cannot be read must not hide the others.
#[derive(Clone, Debug, Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    labels: Option<Labels>,
}

impl Versioned for Named {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Versioned for Object {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

#[cfg(test)]
mod tests;
