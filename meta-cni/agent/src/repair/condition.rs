//! The condition of a pod that says whether its networks are as they should be. A pod that never had a difference has none.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as PodObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use meta_cni_kube::said;
use serde_json::json;
use tokio::time::timeout;

use crate::pod_cache::PodName;

/// Its type. The agent may write conditions of this prefix and no other.
const TYPE: &str = "meta-cni.io/NetworksReady";
/// Timeout of one PATCH.
const TRY: Duration = Duration::from_secs(15);

/// What the condition says.
pub struct Verdict<'a> {
    /// Its status.
    pub is_well: bool,
    /// One word.
    pub reason: &'a str,
    /// For people.
    pub message: &'a str,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Patched {
    /// The API server has it.
    Written,
    /// The pod is gone, or another one has its name.
    Gone,
}

/// Writes the condition; the error says why a later try may succeed.
pub async fn patch(client: &Client, pod: &PodName, uid: &str, verdict: &Verdict<'_>) -> Result<Patched, String> {
    let Verdict { is_well, reason, message } = verdict;
    let condition = json!({
        "type": TYPE, "status": if *is_well { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
    });
    // Conditions are merged by their types, and the uid is compared: a later pod of the name is not told of.
    let patch = Patch::Strategic(json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}}));
    let api: Api<PartialObjectMeta<PodObject>> = Api::namespaced(client.clone(), pod.namespace.as_str());
    let params = PatchParams::default();
    match timeout(TRY, api.patch_subresource("status", pod.name.as_str(), &params, &patch)).await {
        Ok(Ok(_)) => Ok(Patched::Written),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Ok(Patched::Gone),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 409 && answer.message.contains("UID") => Ok(Patched::Gone),
        Ok(Err(error)) => Err(said(&error)),
        Err(_) => Err(format!("no answer in {TRY:?}")),
    }
}
