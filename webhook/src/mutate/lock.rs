//! Locks on VLANs that were drawn: what a VniClaim is for a VNI. A Lease is made before the network is answered with its VLAN, so no two
//! networks are given one, whichever replicas they ask and whatever their caches have heard of.
//!
//! It is there for a minute, until the stored network tells every replica. Whoever made it takes it away; one that was left behind is
//! taken away by whoever comes upon it.

use std::time::Duration;

use attachments::names::NetRef;
use delegates::lint::{Kind, Problem, Severity};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use meta_cni_kube::{Read, Reader, said};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::claim::Claimed;
use super::drawn::KEPT;
use crate::certs::Clock;

/// Makes locks.
pub struct Locker {
    client: Client,
    reader: Reader,
    /// The namespace of the Leases.
    namespace: String,
    clock: Clock,
}

impl Locker {
    /// Locks at this API server.
    pub fn new(client: Client, namespace: &str, clock: Clock) -> Self {
        Self { reader: Reader::new(client.clone()), client, namespace: namespace.to_owned(), clock }
    }

    /// Locks a VLAN of a device, by the hash of its name, in the name of a network.
    pub async fn lock(&self, (device, vlan): (u64, u32), owner: &NetRef, deadline: Instant) -> Claimed {
        let name = format!("vlan-{device:016x}-{vlan}");
        let path = Lease::url_path(&(), Some(&self.namespace));
        loop {
            match self.make(&path, &name, owner, deadline).await {
                Ok(uid) => {
                    self.end_later(path, name, uid);
                    return Claimed::Ours;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Claimed::Failed(Box::new(unlocked(vlan, &error))),
            }
            let lease: Value = match self.reader.object(&path, &name, deadline).await {
                Read::Found(json) => serde_json::from_slice(&json).unwrap_or_default(),
                // It has gone meanwhile.
                Read::Absent => continue,
                Read::Unanswered(why) => return Claimed::Failed(Box::new(unanswered(vlan, &why))),
            };
            if lease["spec"]["holderIdentity"] == json!(owner.to_string()) {
                return Claimed::Ours;
            }
            if !self.is_over(&lease) {
                return Claimed::Others;
            }
            let uid = lease["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            match timeout_at(deadline, end(&self.client, &path, &name, uid)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Claimed::Failed(Box::new(unanswered(vlan, &why))),
                Err(_) => return Claimed::Failed(Box::new(unanswered(vlan, "no answer in time"))),
            }
        }
    }

    async fn make(&self, path: &str, name: &str, owner: &NetRef, deadline: Instant) -> Result<String, kube::Error> {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": owner.to_string(), "leaseDurationSeconds": KEPT.as_secs()}});
        let request = Request::new(path).create(&PostParams::default(), lease.to_string().into_bytes());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let late = || kube::Error::Service("no answer in time".into());
        let made: Value = timeout_at(deadline, self.client.request(request)).await.map_err(|_| late())??;
        Ok(made["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }

    /// Was it made so long ago that its network is stored, or never will be?
    fn is_over(&self, lease: &Value) -> bool {
        let made = lease["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let made = made.map(|time: k8s_openapi::jiff::Timestamp| time.as_second());
        let kept = i64::try_from(KEPT.as_secs()).unwrap_or(i64::MAX);
        made.is_some_and(|made| made.saturating_add(kept) < (self.clock)())
    }

    fn end_later(&self, path: String, name: String, uid: String) {
        let client = self.client.clone();
        tokio::spawn(async move {
            sleep(KEPT + Duration::from_secs(1)).await;
            if let Err(why) = end(&client, &path, &name, uid).await {
                tracing::debug!("lease {name} stays until somebody comes upon it: {why}");
            }
        });
    }
}

/// Deletes a Lease, unless it is another by now.
async fn end(client: &Client, path: &str, name: &str, uid: String) -> Result<(), String> {
    let preconditions = Preconditions { uid: Some(uid), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let request = Request::new(path).delete(name, &params).map_err(|e| e.to_string())?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(said(&error)),
    }
}

/// Where nobody may make Leases the network is stored all the same: two at once are few.
fn unlocked(vlan: u32, error: &kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) if !matches!(status.code, 408 | 429 | 500..) => {
            let text = format!("VLAN {vlan} is drawn and not locked: {}", said(error));
            Problem { severity: Severity::Warn, ..Problem::unruled(Kind::Remark, "spec.Options.vlan", "", text) }
        }
        _ => unanswered(vlan, &said(error)),
    }
}

/// The lock may be there or not: applied again, the network finds it.
fn unanswered(vlan: u32, why: &str) -> Problem {
    let text = format!("VLAN {vlan} could not be locked, apply again: {why}");
    Problem::unruled(Kind::Required, "spec.Options.vlan", "", text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use meta_cni_kube::testing::{Server, answer, later};

    use super::*;

    fn owner() -> NetRef {
        NetRef { namespace: "shop".parse().unwrap(), name: "blue".parse().unwrap() }
    }

    fn lease(holder: &str) -> String {
        json!({"metadata": {"name": "vlan-0000000000000007-200", "uid": "u", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "spec": {"holderIdentity": holder}}).to_string()
    }

    fn refusal(code: u16) -> String {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "x", "message": "no"});
        answer(&format!("{code} x"), &status.to_string())
    }

    /// What comes of a lock at this second, where the API server says these to those who make it, one after the other.
    async fn locked(second: i64, makes: Vec<String>, holder: &'static str) -> (Claimed, usize) {
        let times = AtomicUsize::new(0);
        let server = Server::start(move |path| {
            if path.contains("/leases/vlan-0000000000000007-200") {
                return answer("200 OK", &lease(holder));
            }
            let time = times.fetch_add(1, Ordering::Relaxed);
            makes.get(time).or(makes.last()).cloned().unwrap_or_default()
        })
        .await;
        let locker = Locker::new(server.client.clone(), "meta-cni", Arc::new(move || second));
        (locker.lock((7, 200), &owner(), later()).await, server.asked())
    }

    #[tokio::test]
    async fn a_vlan_is_the_first_ones_for_a_minute() {
        let made = || answer("201 Created", &lease("shop/blue"));
        assert!(matches!(locked(20, vec![made()], "").await, (Claimed::Ours, 1)));
        assert!(matches!(locked(20, vec![refusal(409)], "shop/blue").await, (Claimed::Ours, 2)));
        assert!(matches!(locked(70, vec![refusal(409)], "shop/red").await, (Claimed::Others, 2)));
        // Left behind, it is taken away and made anew.
        assert!(matches!(locked(71, vec![refusal(409), made()], "shop/red").await, (Claimed::Ours, 4)));
    }

    #[tokio::test]
    async fn where_nobody_may_lock_it_is_a_warning_and_where_nobody_answers_a_refusal() {
        for (code, severity) in [(403, Severity::Warn), (500, Severity::Deny), (429, Severity::Deny)] {
            let (Claimed::Failed(problem), _) = locked(20, vec![refusal(code)], "").await else { panic!("{code}") };
            assert_eq!(problem.severity, severity, "{problem}");
        }
    }
}
