//! What a pod is now, where the cache, which knows annotations alone, does not tell enough.

use std::time::Duration;

use attachments::names::PodRef;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::Resource;
use meta_cni_kube::{Read, Reader};
use serde::Deserialize;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// Longest wait for the API server.
const ASK: Duration = Duration::from_secs(5);

/// The part of a pod that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodNow {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl PodNow {
    /// Asks the API server. None where it has no such pod.
    pub async fn ask(reader: &Reader, pod: &PodRef) -> Result<Option<Self>> {
        let collection = PodObject::url_path(&(), Some(pod.namespace.as_str()));
        match reader.object(&collection, pod.name.as_str(), Instant::now() + ASK).await {
            Read::Found(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|e| Error::Io(format!("the API server answers with what is no pod: {e}"))),
            Read::Absent => Ok(None),
            Read::Unanswered(why) => Err(Error::Io(format!("the API server cannot be asked: {why}"))),
        }
    }

    /// Is it the pod of this uid, with a network of its own, and neither over nor being deleted?
    pub fn is_alive(&self, uid: &str) -> bool {
        let is_over = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        self.metadata.uid == uid && self.metadata.deletion_timestamp.is_none() && !is_over && !self.spec.host_network
    }

    /// Has a container of it started? Then its sandbox has its networks.
    pub fn has_started(&self) -> bool {
        self.status.phase == "Running"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_alive_that_has_a_network_of_its_own_and_is_not_over() {
        for (pod, want) in [
            (json!({"metadata": {"uid": "u"}, "spec": {}, "status": {"phase": "Running"}}), (true, true)),
            (json!({"metadata": {"uid": "u"}, "status": {"phase": "Pending"}}), (true, false)),
            (json!({"metadata": {"uid": "v"}, "status": {"phase": "Running"}}), (false, true)),
            (json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}}), (false, false)),
            (json!({"metadata": {"uid": "u"}, "spec": {"hostNetwork": true}}), (false, false)),
            (json!({"metadata": {"uid": "u"}, "status": {"phase": "Succeeded"}}), (false, false)),
            (json!({"metadata": {"uid": "u"}, "status": {"phase": "Failed"}}), (false, false)),
        ] {
            let now: PodNow = serde_json::from_value(pod.clone()).unwrap();
            assert_eq!((now.is_alive("u"), now.has_started()), want, "{pod}");
        }
    }
}
