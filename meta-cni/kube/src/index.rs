//! The cache of a followed collection. A value without I/O and clock.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// Objects by name. A relist is merged, so that every cached object can be read meanwhile; objects that the list did not
/// have are dropped when it ends.
#[derive(Debug)]
pub struct Index<K, V> {
    entries: BTreeMap<K, (u32, V)>,
    list: u32,
    complete: bool,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), list: 0, complete: false }
    }
}

impl<K: Ord, V> Index<K, V> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// Adds an object of the list, or a new or changed one. Returns its earlier value.
    pub fn apply(&mut self, name: K, object: V) -> Option<V> {
        self.entries.insert(name, (self.list, object)).map(|(_, object)| object)
    }

    /// Removes an object and returns its value.
    pub fn delete<Q: Ord + ?Sized>(&mut self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(name).map(|(_, object)| object)
    }

    /// The list is complete: objects that it did not have are dropped.
    pub fn end(&mut self) {
        let list = self.list;
        self.entries.retain(|_, (of, _)| *of == list);
        self.complete = true;
    }

    /// Is a first list complete? Until then an object that is not cached may exist.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// One object.
    pub fn get<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(name).map(|(_, object)| object)
    }

    /// The objects of a part of the names.
    pub fn range(&self, names: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.entries.range(names).map(|(name, (_, object))| (name, object))
    }

    /// All objects, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(name, (_, object))| (name, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(index: &'a Index<&'static str, u32>) -> Vec<&'a str> {
        index.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_list_replaces_what_it_does_not_hold_and_only_at_its_end() {
        let mut index = Index::default();
        assert_eq!(index.apply("early", 0), None);
        assert!(!index.is_complete());
        index.begin();
        index.apply("a", 1);
        index.apply("b", 1);
        index.end();
        assert!(index.is_complete());
        assert_eq!(known(&index), ["a", "b"]);

        index.apply("c", 2);
        assert_eq!((index.delete("a"), index.delete("a")), (Some(1), None));
        index.begin();
        assert_eq!(index.apply("b", 3), Some(1));
        assert_eq!(index.get("c"), Some(&2), "served until the list is whole");
        index.end();
        assert_eq!((known(&index), index.get("c")), (vec!["b"], None));
    }

    #[test]
    fn a_list_that_is_broken_off_and_begun_again_leaves_nothing_stale() {
        let mut index = Index::default();
        for names in [vec!["a", "b"], vec!["a"]] {
            index.begin();
            for name in names {
                index.apply(name, 1);
            }
        }
        index.begin();
        index.apply("c", 1);
        index.end();
        assert_eq!(known(&index), ["c"]);
    }
}
