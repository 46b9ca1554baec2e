//! The names of all definitions of the cluster, and those that a dialect has for them: what a pod's list is looked up in without a question
//! to the API server. They are kept only while such a dialect is on.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use attachments::dialect::alias::{Alias, Candidate, KNITTER_NAME, KNITTER_PUBLIC};
use attachments::names::{NetRef, ObjectName};
use attachments::selection::Selection;
use meta_cni::cluster::Annotations;
use meta_cni::cluster::wire::{Cause, Refusal};
use meta_cni::node::MULTUS_NAMESPACE;
use meta_cni_kube::{Event, Index};
use tokio::time::{Instant, sleep};

use super::Definitions;
use crate::pod_cache::PodName;
use crate::watch::Seen;

/// How long a name that no definition has is waited for: the watch may be behind whoever applied it.
const BEHIND: Duration = Duration::from_millis(500);
/// How long the first list is waited for.
const FIRST_LIST: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The annotations that tell of names.
pub const READ: [&str; 2] = [KNITTER_NAME, KNITTER_PUBLIC];

/// What is kept of a definition.
#[derive(Debug, Default)]
struct Known {
    name: Option<Box<str>>,
    is_public: bool,
}

/// The names. A value without I/O and clock.
#[derive(Debug, Default)]
pub struct Names(Index<NetRef, Known>);

impl Names {
    /// Takes an event of the watch.
    pub fn heard(&mut self, event: &Event<Seen>) {
        match event {
            Event::Begin => self.0.begin(),
            Event::End => self.0.end(),
            Event::Listed(seen) | Event::Applied(seen) => {
                let Some(reference) = seen.reference() else { return };
                let Candidate { name, is_public, .. } = Candidate::of(&reference, &seen.metadata.annotations);
                // No list can give a longer one.
                let name = name.filter(|name| name.len() <= Alias::LONGEST).map(Box::from);
                self.0.apply(reference, Known { name, is_public });
            }
            Event::Deleted(seen) => {
                if let Some(reference) = seen.reference() {
                    self.0.delete(&reference);
                }
            }
        }
    }

    /// Is the first list complete?
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// The definitions that have a name.
    pub fn of(&self, alias: &Alias) -> Vec<NetRef> {
        alias.among(self.0.iter().map(|(reference, Known { name, is_public })| Candidate {
            reference,
            name: name.as_deref(),
            is_public: *is_public,
        }))
    }
}

impl Definitions {
    fn names(&self) -> Option<MutexGuard<'_, Names>> {
        // Every change is one insertion or removal, so a panic leaves the index consistent.
        self.0.names.as_ref().map(|names| names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes an event of the watch, where names are kept.
    pub(super) fn heard_names(&self, event: &Event<Seen>) {
        if let Some(mut names) = self.names() {
            names.heard(event);
        }
    }

    /// The definitions that have a name. The API server is not asked.
    pub async fn find(&self, alias: &Alias, deadline: Instant) -> Result<Vec<NetRef>, Refusal> {
        let since = Instant::now();
        loop {
            let Some((is_complete, found)) = self.names().map(|names| (names.is_complete(), names.of(alias))) else {
                let why = "the node agent keeps no such names: `dialects` differs between this node and the agent";
                return Err(Refusal::new(Cause::Configuration, format!("network {:?}: {why}", alias.name)));
            };
            // A definition of the pod's own namespace may be missing in a list that has just begun.
            if is_complete && !found.is_empty() {
                return Ok(found);
            }
            let patience = if is_complete { BEHIND } else { FIRST_LIST };
            if Instant::now() + PAUSE >= deadline.min(since + patience) {
                let why = "the API server has not listed the network-attachment-definitions yet";
                let refusal = || Refusal::new(Cause::Later, format!("network {:?}: {why}", alias.name));
                return if is_complete { Ok(found) } else { Err(refusal()) };
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives the names of a selection the definitions that have them, as far as they are known.
    pub fn settle(&self, selection: &mut Selection) {
        if let Some(names) = self.names() {
            selection.name_definitions(|alias| names.of(alias));
        }
    }

    /// The definitions that a pod of this node names.
    pub(super) fn named_by(&self, pod: &PodName) -> Vec<NetRef> {
        let pods = self.0.pods.lock();
        match self.0.names {
            None => pods.named_by(pod),
            Some(_) => {
                let selection = pods.get(pod).and_then(|known| known.selection.as_ref());
                selection.map(|selection| self.named_in(pod, selection)).unwrap_or_default()
            }
        }
    }

    /// Those that all pods of this node name.
    pub(super) fn named(&self) -> Vec<NetRef> {
        let pods = self.0.pods.lock();
        match self.0.names {
            None => pods.named().collect(),
            Some(_) => pods.selections().flat_map(|(pod, selection)| self.named_in(pod, selection)).collect(),
        }
    }

    fn named_in(&self, pod: &PodName, annotations: &Annotations) -> Vec<NetRef> {
        let Ok(usual) = MULTUS_NAMESPACE.parse::<ObjectName>() else { return Vec::new() };
        let annotation = |key: &str| annotations.get(key).map(String::as_str);
        let (mut selection, _) = Selection::read(annotation, &pod.namespace, &usual, &self.0.dialects);
        self.settle(&mut selection);
        selection.definitions().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::SeenMeta;

    fn seen(namespace: &str, name: &str, annotations: &[(&str, &str)]) -> Seen {
        let annotations = annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Seen { metadata: SeenMeta { namespace, name, annotations, ..SeenMeta::default() } }
    }

    #[test]
    fn names_follow_the_watch() {
        let alias =
            Alias { name: "net_api".into(), namespace: "shop".parse().unwrap(), shared: "admin".parse().unwrap() };
        let found = |names: &Names| names.of(&alias).iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut names = Names::default();
        let public = [(KNITTER_NAME, "net_api"), (KNITTER_PUBLIC, "true")];
        for event in [Event::Begin, Event::Listed(seen("admin", "net-api", &public)), Event::End] {
            names.heard(&event);
        }
        assert!(names.is_complete());
        assert_eq!(found(&names), ["admin/net-api"]);
        names.heard(&Event::Applied(seen("shop", "own", &public[..1])));
        assert_eq!(found(&names), ["shop/own"], "the pod's namespace comes first");
        names.heard(&Event::Deleted(seen("shop", "own", &[])));
        names.heard(&Event::Applied(seen("admin", "net-api", &public[..1])));
        assert!(found(&names).is_empty(), "it is no longer public");
        // What a list does not have is gone with its end.
        names.heard(&Event::Applied(seen("admin", "net-api", &public)));
        for event in [Event::Begin, Event::End] {
            names.heard(&event);
        }
        assert!(found(&names).is_empty());
    }
}
