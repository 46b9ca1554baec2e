//! Who uses a definition, and which addresses they hold on it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use attachments::names::Mac;

use super::pod::{Attached, PodName};

/// The pods of one definition. Sets of pairs weigh half of what a map of lists does.
#[derive(Debug, Default)]
pub struct Usage {
    pods: BTreeSet<PodName>,
    addresses: BTreeSet<(IpAddr, PodName)>,
    macs: BTreeSet<(Mac, PodName)>,
}

impl Usage {
    /// The pods, in the order of their names.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &PodName> {
        self.pods.iter()
    }

    /// The pods that hold an address: more than one while a workload moves.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = &PodName> + Clone {
        held(&self.addresses, address)
    }

    /// The pods that hold a hardware address.
    pub fn holders_of_mac(&self, mac: Mac) -> impl Iterator<Item = &PodName> + Clone {
        held(&self.macs, mac)
    }

    /// Every address that is held, in order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &PodName)> {
        self.addresses.iter().map(|(address, pod)| (*address, pod))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    pub(super) fn add(&mut self, pod: &PodName, attached: &Attached) {
        self.pods.insert(pod.clone());
        self.addresses.extend(attached.addresses.iter().map(|address| (*address, pod.clone())));
        self.macs.extend(attached.macs.iter().map(|mac| (*mac, pod.clone())));
    }

    pub(super) fn remove(&mut self, pod: &PodName, attached: &Attached) {
        self.pods.remove(pod);
        for address in &attached.addresses {
            self.addresses.remove(&(*address, pod.clone()));
        }
        for mac in &attached.macs {
            self.macs.remove(&(*mac, pod.clone()));
        }
    }
}

fn held<K: Ord + Copy>(all: &BTreeSet<(K, PodName)>, key: K) -> impl Iterator<Item = &PodName> + Clone {
    let first: (K, PodName) = (key, Arc::from(""));
    all.range(first..).take_while(move |(of, _)| *of == key).map(|(_, pod)| pod)
}
