//! What is known of the objects of the networks that this node is in. A value without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use attachments::api::{AddressBlock, AddressClaim, OverlayMember, VniClaim};
use delegates::networks::NetworkId;

use super::objects::{Address, Block, Claim, Kind, Member, Raw, Stored, number};

/// The objects of one kind.
pub struct Cache<K: Kind> {
    /// By network and name.
    objects: BTreeMap<(String, String), Arc<Stored<K>>>,
    /// Networks whose objects of this kind are all known, each with a version: nothing is missing that happened up to it.
    listed: BTreeMap<String, u64>,
    /// What was said of objects that cannot be read.
    said: BTreeMap<String, String>,
}

/// A list of the objects of some networks that is under way. Until it is whole, what was known before is served.
pub struct Listing<K: Kind> {
    networks: BTreeSet<String>,
    objects: Vec<Arc<Stored<K>>>,
}

impl<K: Kind> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: BTreeMap::new(), said: BTreeMap::new() }
    }
}

impl<K: Kind> Default for Listing<K> {
    fn default() -> Self {
        Self::of(BTreeSet::new())
    }
}

impl<K: Kind> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::PLURAL).field("listed", &self.listed).finish_non_exhaustive()
    }
}

impl<K: Kind> Listing<K> {
    /// A list of the objects of these networks.
    pub fn of(networks: BTreeSet<String>) -> Self {
        Self { networks, objects: Vec::new() }
    }

    /// A list of the objects of this one.
    pub fn of_network(id: &NetworkId) -> Self {
        Self::of([id.to_string()].into())
    }

    /// An object of the list.
    pub fn add(&mut self, raw: Raw, cache: &mut Cache<K>) {
        let name = raw.metadata.name.clone();
        let Some(stored) = cache.read(raw) else { return };
        let network = K::network(&stored.spec);
        if !self.networks.contains(&network) {
            cache.pass_over(&name, format!("its spec is of network {network}, and its labels or its name are not"));
            return;
        }
        // What is known already is there once: there may be thousands.
        let is_same = |known: &&Arc<Stored<K>>| {
            known.meta == stored.meta && known.spec == stored.spec && known.status == stored.status
        };
        let known = cache.objects.get(&(network, name)).filter(is_same).map(Arc::clone);
        self.objects.push(known.unwrap_or_else(|| Arc::new(stored)));
    }
}

impl<K: Kind> Cache<K> {
    /// Takes a list that is whole. Returns the networks of which it was news.
    pub fn listed(&mut self, mut list: Listing<K>, version: &str) -> BTreeSet<String> {
        let version = number(version);
        // The watch may know more than a list whose answer was long under way.
        let is_news = |network: &String| self.listed.get(network).is_none_or(|known| *known <= version);
        list.networks.retain(is_news);
        list.objects.retain(|object| list.networks.contains(&K::network(&object.spec)));
        let names: BTreeSet<&str> = list.objects.iter().map(|object| object.meta.name.as_str()).collect();
        for network in &list.networks {
            // What came with an answer after the list was made stays.
            let gone = self.of(network).filter(|one| one.version() <= version && !names.contains(&*one.meta.name));
            for name in gone.map(|one| one.meta.name.clone()).collect::<Vec<_>>() {
                self.objects.remove(&(network.clone(), name));
            }
            self.listed.insert(network.clone(), version);
        }
        for object in list.objects {
            self.put(object);
        }
        list.networks
    }

    /// An object is new or changed, as the watch tells. Returns its network, if that is news.
    pub fn applied(&mut self, raw: Raw) -> Option<String> {
        let stored = self.read(raw)?;
        self.is_news(&stored).then(|| self.put(Arc::new(stored)))?
    }

    /// An object is gone, as the watch tells. Returns its network, if that is news.
    pub fn deleted(&mut self, raw: Raw) -> Option<String> {
        let gone = Stored::<K>::read(raw).ok()?;
        if !self.is_news(&gone) {
            return None;
        }
        let network = K::network(&gone.spec);
        let key = (network.clone(), gone.meta.name.clone());
        // A later object of the name stays.
        let is_it = self
            .objects
            .get(&key)
            .is_some_and(|known| known.meta.uid == gone.meta.uid || gone.version() >= known.version());
        is_it.then(|| self.objects.remove(&key))?.map(|_| network)
    }

    /// Is news of the watch as young as the list of the network? The watch may have been taken up where it was before the list was made.
    fn is_news(&mut self, object: &Stored<K>) -> bool {
        let version = object.version();
        let Some(known) = self.listed.get_mut(&K::network(&object.spec)).filter(|known| **known <= version) else {
            return false;
        };
        *known = version;
        true
    }

    /// An object as the API server answered it. Returns its network, if that is news.
    pub fn apply(&mut self, raw: Raw) -> Option<String> {
        self.read(raw).and_then(|stored| self.put(Arc::new(stored)))
    }

    /// An older version than the one that is known is no news.
    fn put(&mut self, stored: Arc<Stored<K>>) -> Option<String> {
        let network = K::network(&stored.spec);
        let key = (network.clone(), stored.meta.name.clone());
        if self.objects.get(&key).is_some_and(|known| known.version() > stored.version()) {
            return None;
        }
        self.objects.insert(key, stored);
        Some(network)
    }

    fn read(&mut self, raw: Raw) -> Option<Stored<K>> {
        let name = raw.metadata.name.clone();
        match Stored::read(raw) {
            Ok(stored) => {
                self.said.remove(&name);
                Some(stored)
            }
            Err(why) => {
                self.pass_over(&name, why);
                None
            }
        }
    }

    /// One line for each text that is wrong, however often the object is listed.
    fn pass_over(&mut self, name: &str, why: String) {
        if self.said.get(name) != Some(&why) {
            tracing::warn!("{} {name}: ignored: {why}", K::PLURAL);
            self.said.insert(name.to_owned(), why);
        }
    }

    /// An object that the API server does not have.
    pub fn absent(&mut self, id: &NetworkId, name: &str) {
        self.objects.remove(&(id.as_str().to_owned(), name.to_owned()));
    }

    /// Are all objects of a network known?
    pub fn is_listed(&self, id: &NetworkId) -> bool {
        self.listed.contains_key(id.as_str())
    }

    /// The networks are not followed any more.
    pub fn forget(&mut self, networks: &BTreeSet<String>) {
        self.listed.retain(|network, _| !networks.contains(network));
        self.objects.retain(|(network, _), _| !networks.contains(network));
    }

    /// The objects of a network, by name.
    pub fn of(&self, network: &str) -> impl Iterator<Item = &Arc<Stored<K>>> {
        let key = |tail: &str| (format!("{network}{tail}"), String::new());
        self.objects.range(key("")..key("\0")).map(|(_, object)| object)
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
            claim: self.claims.of(id.as_str()).find(|claim| claim.meta.name == id.as_str()).cloned(),
            members: self.members.of(id.as_str()).cloned().collect(),
            blocks: self.blocks.of(id.as_str()).cloned().collect(),
            addresses: self.addresses.of(id.as_str()).cloned().collect(),
            is_listed: self.claims.is_listed(id)
                && self.members.is_listed(id)
                && self.blocks.is_listed(id)
                && self.addresses.is_listed(id),
        }
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

    /// The nodes of the members that are known.
    fn names(known: &Known, id: &NetworkId) -> Vec<String> {
        known.view(id).members.iter().map(|one| one.spec.node.clone()).collect()
    }

    fn list(known: &mut Known, id: &NetworkId, members: &[Raw], version: &str) -> usize {
        let mut list = Listing::of_network(id);
        members.iter().for_each(|raw| list.add(raw.clone(), &mut known.members));
        known.members.listed(list, version).len()
    }

    #[test]
    fn an_older_version_is_no_news_and_a_list_drops_what_it_does_not_hold() {
        let id = NetworkId::overlay(4789, 7);
        let mut known = Known::default();
        assert_eq!(known.members.applied(member("a", "1", 3)), None, "of a network that nobody listed");
        assert_eq!(list(&mut known, &id, &[member("a", "1", 5), member("b", "2", 6)], "6"), 1);
        assert!(known.members.is_listed(&id) && !known.view(&id).is_listed);
        assert_eq!(known.members.applied(member("a", "1", 7)).as_deref(), Some("4789-7"));
        // Our own change is answered before the watch tells of the one before it.
        known.members.apply(member("a", "9", 9));
        assert_eq!(known.members.applied(member("a", "1", 8)), None);
        assert_eq!(known.members.deleted(member("a", "1", 8)), None);
        assert_eq!(known.members.deleted(member("c", "3", 8)), None, "nobody knows it");
        assert_eq!(names(&known, &id), ["a", "b"]);
        // A list that was made before the last news has nothing to say.
        assert_eq!(list(&mut known, &id, &[], "7"), 0);
        assert_eq!(names(&known, &id), ["a", "b"]);
        // What an answer said stays, though the list was made before it.
        known.members.apply(member("d", "4", 12));
        assert_eq!(list(&mut known, &id, &[member("a", "9", 9)], "11"), 1);
        assert_eq!(names(&known, &id), ["a", "d"]);
        let wrong = json!({"metadata": {"name": "4789-7.c"}, "spec": {"network": "4789-7", "node": 7}});
        assert_eq!(known.members.apply(serde_json::from_value(wrong).unwrap()), None);
        assert_eq!(names(&known, &id), ["a", "d"]);
        known.members.forget(&[id.to_string()].into());
        assert!(names(&known, &id).is_empty() && !known.members.is_listed(&id));
    }

    #[test]
    fn a_watch_that_is_taken_up_before_the_list_brings_nothing_back() {
        let id = NetworkId::overlay(4789, 7);
        let mut known = Known::default();
        // a was deleted and made again, b was deleted, then the list was made.
        list(&mut known, &id, &[member("a", "9", 20)], "21");
        for (news, is_deletion) in [
            (member("a", "1", 15), false),
            (member("b", "2", 16), false),
            (member("a", "1", 17), true),
            (member("b", "2", 18), true),
            (member("a", "9", 19), false),
            (member("a", "9", 20), false),
        ] {
            let heard = if is_deletion { known.members.deleted(news) } else { known.members.applied(news) };
            assert_eq!((heard, names(&known, &id)), (None, vec!["a".to_owned()]));
        }
        assert_eq!(known.view(&id).members[0].meta.resource_version, "20");
        assert_eq!(known.members.deleted(member("a", "9", 22)).as_deref(), Some("4789-7"));
        assert!(names(&known, &id).is_empty());
    }

    #[test]
    fn an_object_of_another_network_than_its_labels_is_not_listed() {
        let mut known = Known::default();
        let other = NetworkId::overlay(4789, 8);
        list(&mut known, &other, &[member("a", "1", 5)], "6");
        assert!(names(&known, &other).is_empty() && names(&known, &NetworkId::overlay(4789, 7)).is_empty());
        assert!(known.members.said["4789-7.a"].contains("4789-7"));
    }
}
