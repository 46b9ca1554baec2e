//! What the members of an overlay mean for a node, as entries. Pure.

use super::Entries;
use crate::networks::state::{Membership, NetworkState, PoolState};

/// For how many entries room is made before they are counted: a file may say nonsense.
const MOST: u32 = 1 << 20;

/// The entries that follow from a network's state; none where the network is no overlay.
pub fn entries_of(state: &NetworkState) -> Entries {
    let pool = state.pool.as_ref();
    state.overlay.as_ref().map(|membership| entries(membership, pool)).unwrap_or_default()
}

/// Every usable slot of a member is a station with its neighbours, be there a pod or not: the pod that gets the slot is reachable
/// with its first packet. What a member says of a pod by name wins over what anybody's slots say.
fn entries(membership: &Membership, pool: Option<&PoolState>) -> Entries {
    let mut entries = Entries::default();
    // A member that calls this node's tunnel end its own would make the node send frames to itself.
    let others = || membership.members.iter().filter(|member| member.vtep != membership.vtep);
    // Room for all at once: a vector that grows is there twice for a moment.
    let room: usize = others().flat_map(|member| &member.slots).map(|run| run.count.min(MOST) as usize).sum();
    let families = pool.map_or(0, |pool| pool.pool.families().count());
    let (mut stations, mut neighbours) = (Vec::new(), Vec::new());
    stations.reserve(room.min(MOST as usize));
    neighbours.reserve(room.saturating_mul(families).min(MOST as usize));
    for member in others() {
        entries.members.insert(member.vtep, member.mac);
        let Some(PoolState { pool, claimed, .. }) = pool else { continue };
        let capacity = pool.capacity();
        for slot in member.slots.iter().flat_map(|slots| slots.iter().take_while(|slot| *slot < capacity)) {
            // A pod of this node takes over from one of that node.
            if claimed.contains_key(&slot) {
                continue;
            }
            let (Some(mac), Some(addresses)) = (pool.mac(slot), pool.addresses(slot)) else { continue };
            stations.push((mac, member.vtep));
            neighbours.extend(addresses.iter().map(|one| (one.address.addr(), mac)));
        }
    }
    for member in others() {
        for endpoint in &member.endpoints {
            stations.push((endpoint.mac, member.vtep));
            neighbours.extend(endpoint.ips.iter().map(|ip| (*ip, endpoint.mac)));
        }
    }
    Entries {
        members: entries.members,
        stations: stations.into_iter().collect(),
        neighbours: neighbours.into_iter().collect(),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use attachments::cni::object::Object;
    use attachments::names::Mac;

    use super::*;
    use crate::ipam::blocks::Pool;
    use crate::networks::state::{FORMAT, Member, Slots};

    /// The state of node `own` of some with tunnel ends NETn and MAC addresses 02:..:n; each has 16 slots of the pool, from 16 * n on.
    pub(crate) fn state(own: u8, nodes: &[u8], vtep: impl Fn(u8) -> String, ipam: Option<&str>) -> NetworkState {
        let slots = |n: u8| vec![Slots { first: 16 * u32::from(n), count: 16 }];
        let pool = ipam.map(|ipam| Pool::read(&Object::parse(ipam.as_bytes()).unwrap(), false).unwrap());
        let members = nodes.iter().filter(|n| **n != own).map(|n| Member {
            node: format!("n{n}"),
            vtep: vtep(*n).parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, *n]),
            slots: if pool.is_some() { slots(*n) } else { Vec::new() },
            endpoints: Vec::new(),
        });
        let overlay = Membership {
            vtep: vtep(own).parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, own]),
            mtu: if vtep(own).contains(':') { 1430 } else { 1450 },
            members: members.collect(),
            routing: Default::default(),
        };
        let pool = pool.map(|pool| PoolState { pool, slots: slots(own), claimed: Default::default(), exhausted: None });
        NetworkState { format: FORMAT, node: format!("n{own}"), overlay: Some(overlay), pool }
    }
}

#[cfg(test)]
mod tests {
    use attachments::names::Mac;

    use super::testing::state;
    use super::*;
    use crate::networks::state::{Endpoint, Slots};

    const IPAM: &str = r#"{"ranges":[[{"subnet":"10.42.0.0/24"}],[{"subnet":"fd42::/64"}]],"exclude":["10.42.0.34"]}"#;

    fn vtep(n: u8) -> String {
        format!("192.0.2.{n}")
    }

    #[test]
    fn a_members_slots_are_stations_with_their_addresses() {
        let state = state(1, &[1, 2, 3], vtep, Some(IPAM));
        let entries = entries_of(&state);
        let two = vtep(2).parse().unwrap();
        assert_eq!(
            entries.members,
            [(two, Mac([2, 0, 0, 0, 0, 2])), (vtep(3).parse().unwrap(), Mac([2, 0, 0, 0, 0, 3]))].into()
        );
        // One address of the second node is excluded.
        assert_eq!((entries.stations.len(), entries.neighbours.len()), (31, 62));
        let mac = Mac([0x0a, 0x58, 10, 42, 0, 33]);
        assert_eq!(entries.stations.get(&mac), Some(&two));
        for ip in ["10.42.0.33", "fd42::21"] {
            assert_eq!(entries.neighbours.get(&ip.parse().unwrap()), Some(&mac), "{ip}");
        }
        assert!(!entries.neighbours.contains_key(&"10.42.0.17".parse().unwrap()), "a slot of the node itself");
        let mut kept = state.clone();
        kept.pool.as_mut().unwrap().claimed.insert(33, "IPAMClaim shop/vm".to_owned());
        let kept = entries_of(&kept);
        assert!(!kept.stations.contains_key(&mac) && !kept.neighbours.contains_key(&"10.42.0.33".parse().unwrap()));
        assert_eq!(kept.stations.len(), 30, "the rest is as it was");
    }

    #[test]
    fn an_endpoint_wins_over_slots_and_nonsense_makes_no_loop() {
        let mut state = state(1, &[1, 2, 3], vtep, Some(IPAM));
        let overlay = state.overlay.as_mut().unwrap();
        let (mac, ip) = (Mac([2, 9, 9, 9, 9, 9]), "10.42.0.33".parse().unwrap());
        overlay.members[1].endpoints = vec![Endpoint { mac, ips: vec![ip] }];
        // Slots behind the pool's end, and a member at this node's own tunnel end.
        overlay.members[1].slots.push(Slots { first: u32::MAX - 3, count: 64 });
        overlay.members.push(overlay.members[0].clone());
        overlay.members[2].vtep = overlay.vtep;
        let entries = entries_of(&state);
        assert_eq!(
            (entries.neighbours.get(&ip), entries.stations.get(&mac)),
            (Some(&mac), Some(&vtep(3).parse().unwrap()))
        );
        assert_eq!((entries.members.len(), entries.stations.len()), (2, 32));
        assert!(!entries.stations.values().any(|end| *end == vtep(1).parse::<std::net::IpAddr>().unwrap()));
        state.overlay = None;
        assert_eq!(entries_of(&state), Entries::default());
    }
}
