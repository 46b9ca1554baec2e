//! Keys with values in the keys' order, in one allocation: a large overlay has a hundred thousand entries, which are computed, compared and
//! dropped. A tree that grows in the keys' order is twice as large, and slower.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<K, V>(Vec<(K, V)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V: Copy> Table<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The place of a key among all.
    pub fn place(&self, key: &K) -> Option<usize> {
        self.find(key).ok()
    }

    /// The value at a place.
    pub fn at(&self, place: usize) -> Option<V> {
        self.0.get(place).map(|(_, value)| *value)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is the key there?
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Gives one key a value. Many are [`Extend`]ed.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }

    /// Each key and its value, in the keys' order.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.0.iter().copied()
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl<K: Ord + Copy, V: Copy> Extend<(K, V)> for Table<K, V> {
    /// Of several values of a key the last one counts.
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, pairs: T) {
        self.0.extend(pairs);
        self.settle();
    }
}

impl<K: Ord + Copy, V: Copy> Table<K, V> {
    /// Brings the pairs in order.
    fn settle(&mut self) {
        if self.0.is_sorted_by(|one, next| one.0 < next.0) {
            return;
        }
        // Values of one key stay in the order in which they came.
        self.0.sort_by_key(|(key, _)| *key);
        self.0.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                kept.1 = later.1;
            }
            is_same
        });
    }
}

impl<K: Ord + Copy, V: Copy> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        // A vector of pairs becomes the table as it is.
        let mut table = Self(pairs.into_iter().collect());
        table.settle();
        table
    }
}

#[cfg(test)]
impl<K: Ord + Copy, V: Copy> Table<K, V> {
    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
impl<K: Ord + Copy, V: Copy, const N: usize> From<[(K, V); N]> for Table<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_values_of_a_key_the_last_counts_and_keys_are_in_order() {
        let mut table: Table<u8, char> = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd'), (3, 'e')].into();
        assert_eq!(table.iter().collect::<Vec<_>>(), [(1, 'b'), (2, 'd'), (3, 'e')]);
        table.extend([(1, 'f'), (0, 'g')]);
        table.insert(2, 'h');
        table.insert(4, 'i');
        table.remove(&3);
        table.remove(&9);
        assert_eq!(table, [(0, 'g'), (1, 'f'), (2, 'h'), (4, 'i')].into());
        assert_eq!((table.get(&4), table.get(&3), table.contains_key(&0)), (Some(&'i'), None, true));
        table.remove(&1);
        assert_eq!((table.len(), table.values().collect::<String>()), (3, "ghi".to_owned()));
        assert_eq!((table.place(&2), table.at(1), table.place(&3), table.at(3)), (Some(1), Some('h'), None, None));
    }
}
