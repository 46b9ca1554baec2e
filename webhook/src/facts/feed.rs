//! Feeds the caches from watches, for as long as the program runs.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use kube::Client;
use meta_cni_kube::{Collection, Event, follow_heard};

use super::Facts;
use super::cache::Cache;
use super::known::key;
use super::object::Object;

/// Follows everything; never ends. A kind that the API server does not have is looked for again, and holds up none of the others.
pub async fn feed(client: Client, facts: &Facts) {
    join_all(facts.watched.iter().map(|(cache, watched)| one(client.clone(), facts, *cache, watched))).await;
}

async fn one(client: Client, facts: &Facts, cache: Cache, watched: &AtomicBool) {
    let (name, path) = (cache.name(), cache.path());
    let collection = Collection { what: &name, path: &path, fields: cache.fields(), labels: None };
    let mut listed = HashSet::new();
    let take = |event| heard(facts, cache, &mut listed, event);
    follow_heard(client, collection, cache.shape(), watched, take).await;
}

/// Takes what a watch says. `listed` are the objects of the list that is being read.
pub(super) fn heard(facts: &Facts, cache: Cache, listed: &mut HashSet<String>, event: Event<Object>) {
    facts.change(|known| match event {
        Event::Begin => listed.clear(),
        Event::Listed(object) => {
            let key = key(&object.metadata);
            known.apply(cache, object);
            if known.keeps(cache, &key) {
                listed.insert(key);
            }
        }
        Event::Applied(object) => known.apply(cache, object),
        Event::Deleted(object) => known.delete(cache, &object.metadata),
        Event::End => known.end(cache, &std::mem::take(listed)),
    });
}
