//! Events of networks: on the Node what keeps it from a network, on a pod what is odd about its networks. Each is told once, not at each try.

use std::time::Duration;

use attachments::names::{NetRef, PodRef};
use delegates::ipam::blocks::Pool;
use delegates::networks::NetworkId;
use tokio::time::Instant;

use super::{Networks, may_need};

/// The same text about a network is not told again for that long: who is refused tries again every few seconds.
const AGAIN: Duration = Duration::from_secs(600);
/// What is remembered of what was told.
const REMEMBERED: usize = 256;
/// Event of a pod that cannot tell the addresses of two of its networks apart. The networks are separate, and may overlap.
const OVERLAPPING: &str = "OverlappingSubnets";

impl Networks {
    /// Tells of something on the Node.
    pub(super) fn tell_on_node(&self, id: &NetworkId, reason: &'static str, text: String) {
        let (mut state, now) = (self.state(), Instant::now());
        let key = (id.clone(), reason);
        if state.told.get(&key).is_some_and(|(told, at)| *told == text && now.duration_since(*at) < AGAIN) {
            return;
        }
        state.told.retain(|_, (_, at)| now.duration_since(*at) < AGAIN);
        if state.told.len() < REMEMBERED {
            state.told.insert(key, (text.clone(), now));
        }
        drop(state);
        tracing::warn!("{text}");
        self.0.events.on_node(&self.0.settings.node, reason, text);
    }

    /// Tells a pod of networks of its whose subnets overlap. `pools` are those of the definitions that it attaches to ([`Self::pools_of`]).
    pub fn tell_overlaps(&self, pod: &PodRef, pools: &[(NetRef, Pool)]) {
        let Some(text) = overlap(pools) else { return };
        let name = format!("{pod} {}", pod.uid.as_deref().unwrap_or_default());
        let mut state = self.state();
        if state.overlapping.contains(&name) {
            return;
        }
        if state.overlapping.len() == REMEMBERED {
            state.overlapping.pop_front();
        }
        state.overlapping.push_back(name);
        drop(state);
        self.0.events.warn(pod.clone(), OVERLAPPING, text);
    }

    /// The pools of a definition, as this node reads it.
    pub fn pools_of(&self, reference: &NetRef, config: &str) -> Vec<(NetRef, Pool)> {
        let needs = if may_need(config) { self.needs(config, reference) } else { Vec::new() };
        needs.into_iter().filter_map(|need| Some((reference.clone(), need.pool?))).collect()
    }
}

/// What is to be said of the pools of one pod's definitions; `None` where no two overlap.
fn overlap(pools: &[(NetRef, Pool)]) -> Option<String> {
    for (i, (one, pool)) in pools.iter().enumerate() {
        // A chain may have two parts in one network.
        for (other, others) in pools[..i].iter().filter(|(other, _)| other != one) {
            for subnet in pool.subnets() {
                let meets = |theirs: &ipnet::IpNet| subnet.contains(theirs) || theirs.contains(&subnet);
                if let Some(theirs) = others.subnets().find(meets) {
                    return Some(format!(
                        "networks {other} and {one} of the pod have overlapping subnets, {theirs} and {subnet}: which of the two an address means is up to the pod's routes"
                    ));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use delegates::networks::needs;

    use super::*;

    fn pool(name: &str, subnet: &str) -> (NetRef, Pool) {
        let reference = NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
        let config = format!(r#"{{"type":"macvlan","name":"{name}","ipam":{{"type":"blocks","subnet":"{subnet}"}}}}"#);
        let pool = needs(&config, &reference).remove(0).pool.unwrap();
        (reference, pool)
    }

    #[test]
    fn two_networks_of_a_pod_that_overlap_are_named_with_their_subnets() {
        let (a, b, c) = (pool("a", "10.42.0.0/24"), pool("b", "10.42.0.0/16"), pool("c", "fd42::/64"));
        let text = overlap(&[a.clone(), c.clone(), b.clone()]).unwrap();
        assert!(text.contains("shop/a and shop/b") && text.contains("10.42.0.0/24 and 10.42.0.0/16"), "{text}");
        assert_eq!(overlap(&[a, c, pool("d", "10.43.0.0/24")]), None);
        assert_eq!(overlap(&[b]), None);
    }
}
