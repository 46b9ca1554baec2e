//! The VNIs that were drawn a moment ago: their definitions may not have reached the caches yet, and somebody else asks already.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use attachments::text::hash;

use crate::cluster::Pair;

/// So long a VNI is kept for the definition that it was drawn for.
pub(super) const KEPT: Duration = Duration::from_secs(60);

/// The most that are kept. Whoever lets definitions be refused by the thousand pushes the oldest out.
const MOST: usize = 16_384;

/// An identifier that one network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// UDP port and VNI.
    Pair(Pair),
    /// The hash of a device's name, and a VLAN of it.
    Vlan(u64, u32),
}

/// Identifiers that this replica gave away.
#[derive(Debug, Default)]
pub struct Drawn {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Whose it is, by a hash, and until when.
    given: HashMap<Identifier, (u64, Instant)>,
    /// In the order in which they end.
    order: VecDeque<(Instant, Identifier)>,
}

impl Drawn {
    /// Keeps a pair for a definition. False where it is kept for another one. A dry run only asks.
    ///
    /// It knows of this replica alone, and spares it claims in vain; what holds for all replicas is the claim ([`super::claim`]).
    pub fn reserve(&self, pair: Pair, owner: &str, now: Instant, is_dry_run: bool) -> bool {
        self.keep(Identifier::Pair(pair), owner, now, is_dry_run)
    }

    /// The same for whatever identifier.
    pub fn keep(&self, key: Identifier, owner: &str, now: Instant, is_dry_run: bool) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now);
        let owner = hash(owner);
        if kept.given.get(&key).is_some_and(|(other, _)| *other != owner) {
            return false;
        }
        if !is_dry_run {
            let until = now + KEPT;
            kept.given.insert(key, (owner, until));
            kept.order.push_back((until, key));
        }
        true
    }
}

impl Kept {
    fn forget(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.front().copied() {
            if until > now && self.order.len() < MOST {
                break;
            }
            self.order.pop_front();
            // Asked for again meanwhile, it ends later.
            if self.given.get(&key).is_some_and(|(_, last)| *last == until) {
                self.given.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_is_one_definitions_for_a_minute_and_a_dry_run_takes_none() {
        let (drawn, now) = (Drawn::default(), Instant::now());
        let pair = (4789, 7);
        assert!(drawn.reserve(pair, "shop/a", now, true) && drawn.reserve(pair, "shop/b", now, true));
        assert!(drawn.reserve(pair, "shop/a", now, false));
        for is_dry_run in [true, false] {
            assert!(!drawn.reserve(pair, "shop/b", now, is_dry_run));
            assert!(drawn.reserve((8472, 7), "shop/b", now, is_dry_run));
        }
        // Asked for again, it is kept anew.
        assert!(drawn.reserve(pair, "shop/a", now + KEPT / 2, false));
        assert!(!drawn.reserve(pair, "shop/b", now + KEPT, false));
        assert!(drawn.reserve(pair, "shop/b", now + KEPT * 3 / 2, false));
        assert!(
            drawn.keep(Identifier::Vlan(3, 7), "shop/a", now, false)
                && !drawn.keep(Identifier::Vlan(3, 7), "shop/b", now, false)
        );
        assert!(drawn.keep(Identifier::Vlan(4, 7), "shop/b", now, false));
    }

    #[test]
    fn no_number_of_requests_fills_the_memory() {
        let (drawn, now) = (Drawn::default(), Instant::now());
        for vni in 0..20_000 {
            assert!(drawn.reserve((4789, vni), "shop/a", now, false));
            assert!(drawn.reserve((4789, 77_777), "shop/z", now, false));
        }
        let kept = drawn.kept.lock().unwrap();
        assert!(kept.given.len() <= MOST && kept.order.len() <= MOST, "{} {}", kept.given.len(), kept.order.len());
    }
}
