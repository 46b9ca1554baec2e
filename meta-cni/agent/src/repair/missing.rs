//! Pods of this node that ask for networks and of whose sandboxes there is no record: another plugin has answered their ADD.

use std::collections::BTreeMap;

use attachments::cni::object::Object;
use attachments::names::PodRef;
use meta_cni::engine::Sandboxes;
use meta_cni_kube::Reader;

use crate::Options;
use crate::error::{Error, Result};
use crate::pod_cache::{PodName, SharedPodCache};
use crate::pod_now::PodNow;

/// Remembers who had no record at the last look: a sandbox that is made anew has none for a moment.
#[derive(Debug, Default)]
pub struct Missing {
    last: BTreeMap<PodName, String>,
    sandboxes: Sandboxes,
}

impl Missing {
    /// The pods without a record, by name, with their uids. The API server is asked about those alone that had none the last time either.
    pub async fn look(
        &mut self,
        options: &Options,
        conf: &Object,
        pods: &SharedPodCache,
        reader: &Reader,
    ) -> Result<BTreeMap<PodName, String>> {
        let system = conf.decode::<Vec<String>>("systemNamespaces", "a list of namespaces")?;
        let system = system.unwrap_or_else(|| vec!["kube-system".to_owned()]);
        self.sandboxes.look(&options.state_dir).map_err(|fault| Error::Io(fault.to_string()))?;
        let mut now = pods.lock().unattached();
        now.retain(|pod, uid| {
            !system.iter().any(|namespace| namespace == pod.namespace.as_str())
                && self.sandboxes.of(&pod.namespace, &pod.name, uid).is_none()
        });
        let mut missing = BTreeMap::new();
        for (pod, uid) in &now {
            if self.last.get(pod) != Some(uid) {
                continue;
            }
            let of = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: Some(uid.clone()) };
            let found = PodNow::ask(reader, &of).await?;
            if found.is_some_and(|found| found.is_alive(uid) && found.has_started()) {
                missing.insert(pod.clone(), uid.clone());
            }
        }
        self.last = now;
        Ok(missing)
    }
}
