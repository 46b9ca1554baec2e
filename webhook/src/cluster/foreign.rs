//! The objects of dialects, and the pods that name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use attachments::cni::object::Object;
use attachments::dialect::objects::{ForeignRef, Kind};

use super::pod::PodName;

/// Longest `spec` that is kept, in bytes: anybody's text. An agent hands out no longer one.
const LONGEST: usize = 2 << 10;

/// What is known of them.
#[derive(Debug, Default)]
pub struct Foreign {
    objects: BTreeMap<ForeignRef, Box<str>>,
    users: HashMap<ForeignRef, BTreeSet<PodName>>,
}

impl Foreign {
    /// An object is there, or has changed. Of one that is too long only its name is known.
    pub fn apply(&mut self, reference: ForeignRef, spec: &str) {
        let spec = if spec.len() <= LONGEST { spec } else { "" };
        self.objects.insert(reference, spec.into());
    }

    /// An object is gone.
    pub fn delete(&mut self, reference: &ForeignRef) {
        self.objects.remove(reference);
    }

    /// A list of a kind was read: objects that it did not have are gone.
    pub fn retain(&mut self, kind: Kind, is_listed: impl Fn(&ForeignRef) -> bool) {
        self.objects.retain(|reference, _| reference.kind != kind || is_listed(reference));
    }

    /// Is it there?
    pub fn has(&self, reference: &ForeignRef) -> bool {
        self.objects.contains_key(reference)
    }

    /// The `spec` of an object; of one that is not there, or is too long, nothing.
    pub fn spec(&self, reference: &ForeignRef) -> Option<Object> {
        Object::parse(self.objects.get(reference)?.as_bytes()).ok()
    }

    /// The objects of a kind in order.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&ForeignRef, Object)> {
        let of_kind = self.objects.iter().filter(move |(reference, _)| reference.kind == kind);
        of_kind.filter_map(|(reference, spec)| Some((reference, Object::parse(spec.as_bytes()).ok()?)))
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.objects.keys().filter(|reference| reference.kind == kind).count()
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
