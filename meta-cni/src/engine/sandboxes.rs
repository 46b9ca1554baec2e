//! The sandboxes of pods that the settled records tell of, for who decides whether a hot-plug is due.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use attachments::names::{ContainerId, IfName, NetworkName, ObjectName, PodRef};

use super::record::{Intent, Key};
use super::store::Store;
use crate::fault::Result;

/// The sandbox of a settled record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The node network.
    pub network: NetworkName,
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_IFNAME.
    pub ifname: IfName,
    /// The pod.
    pub pod: PodRef,
    /// The [`digest`](super::digest) of the annotation that its attachments were made from, where the record tells.
    pub asked: Option<String>,
    /// A hot-plug has begun and is not finished.
    pub is_unfinished: bool,
}

/// The sandboxes of a state directory that belong to pods, each with the time of its record. A record is read again when it was
/// written.
#[derive(Debug, Default)]
pub struct Sandboxes(BTreeMap<String, (Option<SystemTime>, Option<Sandbox>)>);

impl Sandboxes {
    /// Looks at a state directory. A record that cannot be read is passed over.
    pub fn look(&mut self, state_dir: &Path) -> Result<()> {
        let store = Store::new(state_dir);
        let mut now = BTreeMap::new();
        for (key, written) in store.settled_at()? {
            let name = key.to_string();
            let known = self.0.remove(&name).filter(|(then, _)| *then == written).map(|(_, known)| known);
            now.insert(name, (written, known.unwrap_or_else(|| sandbox(&store, &key))));
        }
        self.0 = now;
        Ok(())
    }

    /// The sandbox of a pod. Of two the later one: the other is one that the pod had before.
    pub fn of(&self, namespace: &ObjectName, name: &ObjectName, uid: &str) -> Option<&Sandbox> {
        let is_pods = |pod: &PodRef| {
            pod.namespace == *namespace && pod.name == *name && pod.uid.as_ref().is_none_or(|known| known == uid)
        };
        let found = self.0.values().filter_map(|(written, known)| Some((*written, known.as_ref()?)));
        found.filter(|(_, known)| is_pods(&known.pod)).max_by_key(|(written, _)| *written).map(|(_, known)| known)
    }
}

fn sandbox(store: &Store, key: &Key) -> Option<Sandbox> {
    let file = store.find(key).ok().flatten().filter(|file| file.is_settled() && !file.record.damaged)?;
    let is_unfinished = !file.record.unfinished().is_empty();
    let Intent { pod, asked, .. } = file.record.intent?;
    let Key { network, container, ifname } = key.clone();
    Some(Sandbox { network, container, ifname, pod: pod?, asked, is_unfinished })
}
