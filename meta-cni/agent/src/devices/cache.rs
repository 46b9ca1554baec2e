//! What the kubelet told, for as long as the pod is there: it is asked once for each pod. A value without I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::pod_resources::ByResource;
use crate::pod_cache::PodName;

/// The most pods that are remembered. A kubelet runs 110 by default.
const PODS: usize = 512;
/// The most devices of a pod that is remembered.
const DEVICES: usize = 1024;

/// Devices of pods. A pod that was made anew under a name is another pod: its uid is.
#[derive(Debug, Default)]
pub struct Cache {
    pods: HashMap<PodName, (String, Arc<ByResource>)>,
    /// Names in the order of their first entry; some are gone.
    order: VecDeque<PodName>,
}

impl Cache {
    /// The devices of a pod.
    pub fn get(&self, name: &PodName, uid: &str) -> Option<Arc<ByResource>> {
        self.pods.get(name).filter(|(known, _)| known == uid).map(|(_, devices)| Arc::clone(devices))
    }

    /// Remembers them. The pod that was asked about first makes room.
    pub fn put(&mut self, name: PodName, uid: String, devices: Arc<ByResource>) {
        if devices.values().map(Vec::len).sum::<usize>() > DEVICES {
            return;
        }
        if self.pods.insert(name.clone(), (uid, devices)).is_none() {
            self.order.push_back(name);
        }
        while self.pods.len() > PODS {
            let Some(oldest) = self.order.pop_front() else { return };
            self.pods.remove(&oldest);
        }
    }

    /// A pod is gone.
    pub fn forget(&mut self, name: &PodName) {
        if self.pods.remove(name).is_some() {
            self.order.retain(|other| other != name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> PodName {
        PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn devices(ids: &[&str]) -> Arc<ByResource> {
        Arc::new([("v/nic".to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())].into())
    }

    #[test]
    fn a_pod_made_anew_has_no_devices_of_the_old_one() {
        let mut cache = Cache::default();
        cache.put(named("a"), "u1".into(), devices(&["d1"]));
        assert_eq!(cache.get(&named("a"), "u1"), Some(devices(&["d1"])));
        assert_eq!(cache.get(&named("a"), "u2"), None);
        cache.put(named("a"), "u2".into(), devices(&["d2"]));
        assert_eq!((cache.get(&named("a"), "u1"), cache.get(&named("a"), "u2")), (None, Some(devices(&["d2"]))));
        cache.forget(&named("a"));
        assert_eq!(cache.get(&named("a"), "u2"), None);
        assert!(cache.order.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = Cache::default();
        for number in 0..2 * PODS {
            cache.put(named(&format!("p{number}")), "u".into(), devices(&["d"]));
        }
        assert_eq!((cache.pods.len(), cache.order.len()), (PODS, PODS));
        assert_eq!(cache.get(&named("p0"), "u"), None);
        let many: Vec<String> = (0..=DEVICES).map(|number| format!("d{number}")).collect();
        cache.put(named("many"), "u".into(), Arc::new([("v/nic".to_owned(), many)].into()));
        assert_eq!(cache.get(&named("many"), "u"), None);
    }
}
