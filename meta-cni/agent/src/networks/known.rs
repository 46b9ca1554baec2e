//! What is known of the objects of the networks that this node is in. A value without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use attachments::api::{AddressBlock, AddressClaim, OverlayMember, VniClaim};
use delegates::networks::NetworkId;
use meta_cni_kube::{Event, Index};

use super::objects::{Address, Block, Claim, Kind, Member, Raw, Stored};

/// The objects of one kind, by network and name.
pub struct Cache<K: Kind> {
    index: Index<(String, String), Arc<Stored<K>>>,
    /// Networks whose objects of this kind were all listed.
    listed: BTreeSet<NetworkId>,
    /// What was said of objects that cannot be read.
    said: BTreeMap<String, String>,
}

impl<K: Kind> Default for Cache<K> {
    fn default() -> Self {
        Self { index: Index::default(), listed: BTreeSet::new(), said: BTreeMap::new() }
    }
}

impl<K: Kind> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::PLURAL).field("listed", &self.listed).finish_non_exhaustive()
    }
}

impl<K: Kind> Cache<K> {
    /// Takes an event of the watch of these networks. Returns the network that it concerns; `None` for all.
    pub fn heard(&mut self, event: Event<Raw>, watched: &BTreeSet<NetworkId>) -> Option<String> {
        match event {
            Event::Begin => self.index.begin(),
            Event::End => {
                self.index.end();
                self.listed.clone_from(watched);
            }
            Event::Listed(raw) | Event::Applied(raw) => return self.apply(raw),
            Event::Deleted(raw) => return self.deleted(raw),
        }
        None
    }

    /// An object as the API server answered it. An older version than the one known is no news. Returns its network.
    pub fn apply(&mut self, raw: Raw) -> Option<String> {
        let name = raw.metadata.name.clone();
        let stored = match Stored::<K>::read(raw) {
            Ok(stored) => stored,
            Err(why) => {
                // One line for each text that is wrong, however often the object is listed.
                if self.said.insert(name.clone(), why.clone()).as_ref() != Some(&why) {
                    tracing::warn!("{} {name}: ignored: {why}", K::PLURAL);
                }
                return None;
            }
        };
        self.said.remove(&name);
        let network = K::network(&stored.spec);
        let key = (network.clone(), name);
        if let Some(known) = self.index.get(&key)
            && known.meta.uid == stored.meta.uid
            && !stored.is_newer_than(known)
        {
            // Put back, so that the list that is under way does not drop it.
            let known = Arc::clone(known);
            self.index.apply(key, known);
            return None;
        }
        self.index.apply(key, Arc::new(stored));
        Some(network)
    }

    fn deleted(&mut self, raw: Raw) -> Option<String> {
        let gone = Stored::<K>::read(raw).ok()?;
        let network = K::network(&gone.spec);
        let key = (network.clone(), gone.meta.name.clone());
        // A later object of the name stays.
        let is_it =
            self.index.get(&key).is_some_and(|known| known.meta.uid == gone.meta.uid || gone.is_newer_than(known));
        is_it.then(|| self.index.delete(&key))?.map(|_| network)
    }

    /// All objects of a network were applied: those of these names.
    pub fn listed(&mut self, id: &NetworkId, names: &BTreeSet<String>) {
        let gone = self.of(id).filter(|one| !names.contains(&one.meta.name)).map(|one| one.meta.name.clone());
        for name in gone.collect::<Vec<_>>() {
            self.index.delete(&(id.as_str().to_owned(), name));
        }
        self.listed.insert(id.clone());
    }

    /// An object that the API server does not have.
    pub fn absent(&mut self, id: &NetworkId, name: &str) {
        self.index.delete(&(id.as_str().to_owned(), name.to_owned()));
    }

    /// Are all objects of a network known?
    pub fn is_listed(&self, id: &NetworkId) -> bool {
        self.listed.contains(id)
    }

    /// The node is not in the network any more.
    pub fn forget(&mut self, id: &NetworkId) {
        self.listed.remove(id);
    }

    /// The objects of a network, by name.
    pub fn of(&self, id: &NetworkId) -> impl Iterator<Item = &Arc<Stored<K>>> {
        let key = |tail: &str| (format!("{id}{tail}"), String::new());
        self.index.range(key("")..key("\0")).map(|(_, object)| object)
    }
}

/// The objects of the networks that this node is in.
#[derive(Debug, Default)]
pub struct Known {
    /// Claims.
    pub claims: Cache<VniClaim>,
    /// Members.
    pub members: Cache<OverlayMember>,
    /// Blocks.
    pub blocks: Cache<AddressBlock>,
    /// Claims of addresses.
    pub addresses: Cache<AddressClaim>,
}

/// The objects of one network.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Its claim.
    pub claim: Option<Arc<Claim>>,
    /// Its members, this node's too.
    pub members: Vec<Arc<Member>>,
    /// Its blocks.
    pub blocks: Vec<Arc<Block>>,
    /// The claims of its addresses.
    pub addresses: Vec<Arc<Address>>,
    /// All of them are known.
    pub is_listed: bool,
}

impl Known {
    /// What is known of a network.
    pub fn view(&self, id: &NetworkId) -> View {
        View {
            claim: self.claims.of(id).find(|claim| claim.meta.name == id.as_str()).cloned(),
            members: self.members.of(id).cloned().collect(),
            blocks: self.blocks.of(id).cloned().collect(),
            addresses: self.addresses.of(id).cloned().collect(),
            is_listed: self.claims.is_listed(id)
                && self.members.is_listed(id)
                && self.blocks.is_listed(id)
                && self.addresses.is_listed(id),
        }
    }

    /// The node is not in the network any more.
    pub fn forget(&mut self, id: &NetworkId) {
        self.claims.forget(id);
        self.members.forget(id);
        self.blocks.forget(id);
        self.addresses.forget(id);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(node: &str, uid: &str, version: u32) -> Raw {
        let spec =
            json!({"network": "4789-7", "node": node, "vteps": ["192.0.2.1"], "mac": "02:00:00:00:00:01", "mtu": 1450});
        let metadata = json!({"name": format!("4789-7.{node}"), "uid": uid, "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn an_older_version_is_no_news_and_a_list_drops_what_it_does_not_hold() {
        let id = NetworkId::overlay(4789, 7);
        let watched = BTreeSet::from([id.clone()]);
        let mut known = Known::default();
        let names = |known: &Known| known.view(&id).members.iter().map(|one| one.spec.node.clone()).collect::<Vec<_>>();
        for raw in [member("a", "1", 5), member("b", "2", 6)] {
            known.members.apply(raw);
        }
        known.members.listed(&id, &["4789-7.a".to_owned(), "4789-7.b".to_owned()].into());
        assert!(known.members.is_listed(&id) && !known.view(&id).is_listed);
        assert_eq!(known.members.heard(Event::Applied(member("a", "1", 4)), &watched), None);
        assert_eq!(known.members.heard(Event::Applied(member("a", "1", 7)), &watched).as_deref(), Some("4789-7"));
        // The end of an earlier object of the name comes late.
        known.members.heard(Event::Applied(member("a", "9", 9)), &watched);
        assert_eq!(known.members.heard(Event::Deleted(member("a", "1", 8)), &watched), None);
        assert_eq!(names(&known), ["a", "b"]);
        known.members.heard(Event::Begin, &watched);
        known.members.heard(Event::Listed(member("a", "9", 9)), &watched);
        assert_eq!(names(&known), ["a", "b"], "served until the list is whole");
        known.members.heard(Event::End, &watched);
        assert_eq!(names(&known), ["a"]);
        let wrong = json!({"metadata": {"name": "4789-7.c"}, "spec": {"network": "4789-7", "node": 7}});
        assert_eq!(known.members.apply(serde_json::from_value(wrong).unwrap()), None);
        assert_eq!(names(&known), ["a"]);
    }
}
