//! The objects of dialects, and the pods that name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use attachments::cni::object::Object;
use attachments::dialect::objects::{ForeignRef, Kind};

use super::pod::PodName;

/// Longest `spec` that is kept, in bytes: anybody's text. An agent hands out no longer one.
const LONGEST: usize = 2 << 10;

/// What is known of them. A kind may be in two groups, each named with its version: an object has what it says in each of them.
#[derive(Debug, Default)]
pub struct Foreign {
    objects: BTreeMap<ForeignRef, BTreeMap<&'static str, Box<str>>>,
    users: HashMap<ForeignRef, BTreeSet<PodName>>,
}

impl Foreign {
    /// An object is there, or has changed. Of one that is too long only its name is known.
    pub fn apply(&mut self, reference: ForeignRef, version: &'static str, says: &str) {
        let says = if says.len() <= LONGEST { says } else { "" };
        self.objects.entry(reference).or_default().insert(version, says.into());
    }

    /// An object is gone.
    pub fn delete(&mut self, reference: &ForeignRef, version: &'static str) {
        let Some(groups) = self.objects.get_mut(reference) else { return };
        groups.remove(version);
        if groups.is_empty() {
            self.objects.remove(reference);
        }
    }

    /// A list of a kind was read: objects that it did not have are gone.
    pub fn retain(&mut self, kind: Kind, version: &'static str, is_listed: impl Fn(&ForeignRef) -> bool) {
        let of_kind = self.objects.keys().filter(|reference| reference.kind == kind);
        let gone: Vec<ForeignRef> = of_kind.filter(|reference| !is_listed(reference)).cloned().collect();
        gone.iter().for_each(|reference| self.delete(reference, version));
    }

    /// Is it there?
    pub fn has(&self, reference: &ForeignRef) -> bool {
        self.objects.contains_key(reference)
    }

    /// What an object says; of one that is not there, or is too long, nothing.
    pub fn spec(&self, reference: &ForeignRef) -> Option<Object> {
        self.groups(reference).find_map(|(_, spec)| spec)
    }

    /// The same in each group that has it.
    pub fn groups(&self, reference: &ForeignRef) -> impl Iterator<Item = (&'static str, Option<Object>)> {
        let groups = self.objects.get(reference).into_iter().flatten();
        groups.map(|(version, says)| (*version, Object::parse(says.as_bytes()).ok()))
    }

    /// The objects of a kind in order, each once.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&ForeignRef, Object)> {
        let of_kind = self.objects.keys().filter(move |reference| reference.kind == kind);
        of_kind.filter_map(|reference| Some((reference, self.spec(reference)?)))
    }

    /// How many objects of a kind there are in a group.
    pub fn count(&self, kind: Kind, version: &'static str) -> usize {
        let of_kind = self.objects.iter().filter(|(reference, _)| reference.kind == kind);
        of_kind.filter(|(_, groups)| groups.contains_key(version)).count()
    }

    /// The pods that name an object, in order.
    pub fn users(&self, reference: &ForeignRef) -> impl ExactSizeIterator<Item = &PodName> {
        static NOBODY: BTreeSet<PodName> = BTreeSet::new();
        self.users.get(reference).unwrap_or(&NOBODY).iter()
    }

    pub(super) fn add_user(&mut self, reference: &ForeignRef, pod: &PodName) {
        self.users.entry(reference.clone()).or_default().insert(pod.clone());
    }

    pub(super) fn remove_user(&mut self, reference: &ForeignRef, pod: &PodName) {
        let Some(users) = self.users.get_mut(reference) else { return };
        users.remove(pod);
        if users.is_empty() {
            self.users.remove(reference);
        }
    }
}
