//! How many slots somebody may get.

use super::{Pool, Span, locate};
use crate::ipam::number;
use crate::networks::state::Slots;

impl Pool {
    /// How many slots of these runs somebody may get: all but those that are excluded, a gateway's or a subnet's own. A pool of millions is as few
    /// steps as it has holes.
    pub fn usable(&self, runs: &[Slots]) -> u32 {
        let of = |run: &Slots| {
            let end = run.first.saturating_add(run.count).min(self.capacity());
            let (mut count, mut at) = (0, run.first);
            while let Some(first) = self.usable_from(at).filter(|first| *first < end) {
                let next = self.sets.iter().map(|set| self.stretch(set, first)).min().unwrap_or(end).min(end);
                count += next - first;
                at = next;
            }
            count
        };
        runs.iter().map(of).sum()
    }

    /// The first slot behind this one, which somebody may get, at which a hole or another range may begin in the set.
    fn stretch(&self, set: &[Span], slot: u32) -> u32 {
        let Some((span, ip)) = locate(set, slot) else { return slot + 1 };
        let mut length = number(span.last) - number(ip) + 1;
        let hole = self.holes[self.holes.partition_point(|hole| hole.network() <= ip)..].first();
        let holes = hole.map(|hole| hole.network()).into_iter().chain([span.subnet.broadcast()]);
        for special in holes.filter(|special| special.is_ipv4() == ip.is_ipv4() && *special > ip) {
            length = length.min(number(special) - number(ip));
        }
        slot.saturating_add(u32::try_from(length).unwrap_or(u32::MAX))
    }
}
