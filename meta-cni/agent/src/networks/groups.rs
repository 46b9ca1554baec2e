//! The networks of a node, in groups of which one watch each is followed: a request names all networks of its group in its address, and
//! servers and the proxies before them bound the length of one. A value without I/O.

use std::collections::BTreeSet;

/// The most bytes that the names of one group take in an address: some 340 overlays. Proxies take 8 KiB and more for all of it.
const MOST: usize = 4 << 10;

/// Bytes of a name in an address: the comma behind it is written as three.
fn length(network: &str) -> usize {
    network.len() + 3
}

/// Puts networks that are new into groups that have room, and takes out those that were left. No network changes its group.
pub fn share(groups: &mut Vec<BTreeSet<String>>, networks: &BTreeSet<String>) {
    for group in groups.iter_mut() {
        group.retain(|network| networks.contains(network));
    }
    let mut used: Vec<usize> = groups.iter().map(|group| group.iter().map(|network| length(network)).sum()).collect();
    for network in networks {
        if groups.iter().any(|group| group.contains(network)) {
            continue;
        }
        let room = used.iter().position(|used| used + length(network) <= MOST).unwrap_or_else(|| {
            groups.push(BTreeSet::new());
            used.push(0);
            used.len() - 1
        });
        groups[room].insert(network.clone());
        used[room] += length(network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(numbers: impl Iterator<Item = u32>) -> BTreeSet<String> {
        numbers.map(|number| format!("4789-{}", 10_000 + number)).collect()
    }

    #[test]
    fn a_thousand_networks_are_few_groups_and_none_moves_when_others_come_and_go() {
        let mut groups = Vec::new();
        share(&mut groups, &networks(0..100));
        assert_eq!(groups, [networks(0..100)]);
        share(&mut groups, &networks(0..1000));
        let sizes = |groups: &[BTreeSet<String>]| groups.iter().map(BTreeSet::len).collect::<Vec<_>>();
        assert_eq!(sizes(&groups), [315, 315, 315, 55]);
        assert!(networks(0..100).is_subset(&groups[0]));
        let before = groups.clone();
        // Half of the first group goes; what comes takes its room.
        share(&mut groups, &networks((150..1000).chain(2000..2100)));
        assert_eq!(sizes(&groups), [265, 315, 315, 55]);
        assert!(groups[0].is_superset(&networks(2000..2100)) && groups[1..] == before[1..]);
        share(&mut groups, &BTreeSet::new());
        assert_eq!(sizes(&groups), [0; 4]);
        // Names of any length have their place.
        let long: BTreeSet<String> = (0..100).map(|number| format!("{number:063}")).collect();
        share(&mut groups, &long);
        assert_eq!(sizes(&groups), [62, 38, 0, 0]);
    }
}
