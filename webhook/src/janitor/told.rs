//! What was told by an event already: once for each conflict and day. Pure.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::conflicts::Conflict;

/// The most events of one pass. What is left comes with the next.
pub const MOST: usize = 50;
/// The most conflicts that are remembered.
const REMEMBERED: usize = 10_000;
/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The conflicts of a day that were told.
#[derive(Debug, Default)]
pub struct Told {
    day: i64,
    keys: HashSet<u64>,
}

impl Told {
    /// Those of the conflicts that are to be told at a time, in seconds since 1970, each with a key that every janitor gives it on
    /// that day.
    pub fn due<'a>(&mut self, conflicts: &'a [Conflict], now: i64) -> Vec<(u64, &'a Conflict)> {
        let day = now.div_euclid(DAY);
        if self.day != day || self.keys.len() > REMEMBERED {
            (self.day, self.keys) = (day, HashSet::new());
        }
        let keyed = conflicts.iter().map(|conflict| (key(conflict, day), conflict));
        keyed.filter(|(key, _)| !self.keys.contains(key)).take(MOST).collect()
    }

    /// This one is told.
    pub fn tell(&mut self, key: u64) {
        self.keys.insert(key);
    }
}

fn key(conflict: &Conflict, day: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&conflict.uid, &conflict.text, day).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use attachments::names::NetRef;

    use super::*;

    fn conflicts(number: usize) -> Vec<Conflict> {
        let of = |number| Conflict {
            reference: NetRef { namespace: "shop".parse().unwrap(), name: format!("d{number}").parse().unwrap() },
            uid: format!("u{number}").into(),
            text: "x".to_owned(),
        };
        (0..number).map(of).collect()
    }

    #[test]
    fn a_conflict_is_told_once_a_day_and_many_are_told_pass_by_pass() {
        let (all, mut told) = (conflicts(MOST + 1), Told::default());
        let noon = 1_795_000_000 - 1_795_000_000 % DAY + DAY / 2;
        let first: Vec<u64> = told.due(&all, noon).into_iter().map(|(key, _)| key).collect();
        assert_eq!(first.len(), MOST);
        first.iter().for_each(|key| told.tell(*key));
        let rest = told.due(&all, noon + 60);
        assert_eq!(rest.iter().map(|(_, conflict)| conflict.uid.as_ref()).collect::<Vec<_>>(), [format!("u{MOST}")]);
        let (last, _) = rest[0];
        told.tell(last);
        assert!(told.due(&all, noon + DAY / 2 - 1).is_empty());
        assert_eq!(told.due(&all, noon + DAY / 2).len(), MOST);
        // Another janitor has the same keys, and another text is told anew.
        assert_eq!(Told::default().due(&all, noon)[0].0, first[0]);
        let mut changed = all.clone();
        changed[0].text = "y".to_owned();
        assert_ne!(Told::default().due(&changed, noon)[0].0, first[0]);
    }
}
