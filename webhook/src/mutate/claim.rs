//! Claims of VNIs that were drawn: a VniClaim is made before the definition is answered with its VNI. The API server has one of a name, so no
//! two definitions are given one pair, whichever replicas they ask and whatever their caches have heard of.
//!
//! The claim is provisional: it names its owner without a uid, for the definition is not stored yet. The janitor takes away what
//! nobody has come for within a minute. A claim of one's own is found again, by whoever applies the same definition anew.

use attachments::api::{ClaimOwner, GROUP, NETWORK, VniClaim, VniClaimSpec};
use attachments::names::NetRef;
use attachments::rule::Rule;
use delegates::lint::{CONFIG, Kind, Problem};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use meta_cni_kube::{Read, Reader, said};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::cluster::Pair;

/// What came of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The pair is the definition's.
    Ours,
    /// It is another definition's.
    Others,
    /// It could not be claimed, and what follows.
    Failed(Box<Problem>),
}

/// Makes claims.
pub struct Claimer {
    client: Client,
    reader: Reader,
}

/// What the API server says to a new claim.
enum Made {
    Created,
    Exists,
    /// It does not take claims, from us or at all.
    Refused(String),
    Unanswered(String),
}

impl Claimer {
    /// Claims at this API server.
    pub fn new(client: Client) -> Self {
        Self { reader: Reader::new(client.clone()), client }
    }

    /// Claims a pair in the name of a definition.
    pub async fn claim(&self, pair: Pair, owner: &NetRef, deadline: Instant) -> Claimed {
        loop {
            match self.make(pair, owner, deadline).await {
                Made::Created => return Claimed::Ours,
                Made::Refused(why) => return Claimed::Failed(Box::new(unclaimed(pair, &why))),
                Made::Unanswered(why) => return Claimed::Failed(Box::new(unanswered(pair, &why))),
                Made::Exists => {}
            }
            match self.reader.object(&VniClaim::url_path(&(), None), &name(pair), deadline).await {
                Read::Found(json) => return if is_of(&json, owner) { Claimed::Ours } else { Claimed::Others },
                // It has gone meanwhile.
                Read::Absent => {}
                Read::Unanswered(why) => return Claimed::Failed(Box::new(unanswered(pair, &why))),
            }
        }
    }

    async fn make(&self, pair: Pair, owner: &NetRef, deadline: Instant) -> Made {
        let (port, vni) = pair;
        let owner =
            ClaimOwner { namespace: owner.namespace.to_string(), name: owner.name.to_string(), uid: String::new() };
        let name = name(pair);
        let mut claim = VniClaim::new(&name, VniClaimSpec { vni, port, owner, mtu: None });
        claim.metadata.labels = Some([(NETWORK.to_owned(), name)].into());
        let request = serde_json::to_vec(&claim).map_err(|e| e.to_string()).and_then(|body| {
            let request = Request::new(VniClaim::url_path(&(), None));
            request.create(&PostParams::default(), body).map_err(|e| e.to_string())
        });
        let request = match request {
            Ok(request) => request,
            Err(why) => return Made::Refused(why),
        };
        match timeout_at(deadline, self.client.request::<Value>(request)).await {
            Ok(Ok(_)) => Made::Created,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Made::Exists,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                Made::Refused(format!("the API server has no vniclaims.{GROUP}: apply deploy/crds"))
            }
            Ok(Err(kube::Error::Api(status))) if !matches!(status.code, 408 | 429 | 500..) => {
                Made::Refused(said(&kube::Error::Api(status)))
            }
            Ok(Err(error)) => Made::Unanswered(said(&error)),
            Err(_) => Made::Unanswered("no answer in time".to_owned()),
        }
    }
}

fn name((port, vni): Pair) -> String {
    format!("{port}-{vni}")
}

fn is_of(claim: &[u8], owner: &NetRef) -> bool {
    let claim: Value = serde_json::from_slice(claim).unwrap_or_default();
    let is = |key: &str, name: &str| claim["spec"]["owner"][key] == json!(name);
    is("namespace", owner.namespace.as_str()) && is("name", owner.name.as_str())
}

/// Where there are no claims the definition is stored all the same, as the nodes' agents refuse what they cannot claim.
fn unclaimed((port, vni): Pair, why: &str) -> Problem {
    let text = format!("VNI {vni} on UDP port {port} is drawn and not claimed: {why}");
    Problem::remark(Rule::NoVniLeft, format!("{CONFIG}.vni"), text)
}

/// The claim may be there or not: applied again, the definition finds it.
fn unanswered((port, vni): Pair, why: &str) -> Problem {
    let text = format!("VNI {vni} on UDP port {port} could not be claimed, apply again: {why}");
    Problem::of(Rule::NoVniLeft, Kind::Required, format!("{CONFIG}.vni"), "", text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use meta_cni_kube::testing::{Server, answer, later};

    use super::*;

    fn claim_of(name: &str) -> String {
        let owner = json!({"namespace": "shop", "name": name});
        json!({"metadata": {"name": "4789-7"}, "spec": {"vni": 7, "port": 4789, "owner": owner}}).to_string()
    }

    fn refusal(code: u16, reason: &str) -> String {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"});
        answer(&format!("{code} {reason}"), &status.to_string())
    }

    fn blue() -> NetRef {
        NetRef { namespace: "shop".parse().unwrap(), name: "blue".parse().unwrap() }
    }

    /// What comes of a claim where the API server says this to the claim, and that to who reads it.
    async fn claimed(to_claim: String, to_reader: String) -> (Claimed, usize) {
        let is_read = |path: &str| path.ends_with("/4789-7");
        let server = Server::start(move |path| if is_read(path) { to_reader.clone() } else { to_claim.clone() }).await;
        let claimed = Claimer::new(server.client.clone()).claim((4789, 7), &blue(), later()).await;
        (claimed, server.asked())
    }

    #[tokio::test]
    async fn a_claim_that_is_there_is_its_owners() {
        let exists = || refusal(409, "AlreadyExists");
        let made = claimed(answer("201 Created", &claim_of("blue")), String::new()).await;
        assert!(matches!(made, (Claimed::Ours, 1)), "{made:?}");
        let own = claimed(exists(), answer("200 OK", &claim_of("blue"))).await;
        assert!(matches!(own, (Claimed::Ours, 2)), "{own:?}");
        for other in [claim_of("red"), "{}".to_owned()] {
            let others = claimed(exists(), answer("200 OK", &other)).await;
            assert!(matches!(others, (Claimed::Others, 2)), "{others:?}");
        }
    }

    #[tokio::test]
    async fn a_claim_that_has_gone_meanwhile_is_made_again() {
        let times = AtomicUsize::new(0);
        let server = Server::start(move |path| match path.ends_with("/4789-7") {
            true => refusal(404, "NotFound"),
            false if times.fetch_add(1, Ordering::Relaxed) == 0 => refusal(409, "AlreadyExists"),
            false => answer("201 Created", &claim_of("blue")),
        })
        .await;
        let claimed = Claimer::new(server.client.clone()).claim((4789, 7), &blue(), later()).await;
        assert!(matches!(claimed, Claimed::Ours) && server.asked() == 3, "{claimed:?}");
    }

    #[tokio::test]
    async fn where_nobody_takes_claims_it_is_a_warning_and_where_nobody_answers_a_refusal() {
        for (code, reason, text) in [
            (404, "NotFound", "drawn and not claimed: the API server has no vniclaims.meta-cni.io: apply deploy/crds"),
            (403, "Forbidden", "drawn and not claimed: "),
            (500, "InternalError", "could not be claimed, apply again: "),
            (429, "TooManyRequests", "could not be claimed, apply again: "),
        ] {
            let (Claimed::Failed(problem), _) = claimed(refusal(code, reason), String::new()).await else {
                panic!("{code}")
            };
            assert!(
                problem.text.starts_with(&format!(
                    "VNI 7 on UDP port 4789 {}",
                    if code < 500 && code != 429 { "is " } else { "" }
                )),
                "{problem}"
            );
            assert!(problem.text.contains(text), "{problem}");
            let is_warning = problem.severity == delegates::lint::Severity::Warn;
            assert_eq!(is_warning, text.starts_with("drawn"), "{problem}");
        }
        let server = Server::start(|_| String::new()).await;
        server.close();
        let soon = Instant::now() + Duration::from_millis(50);
        let late = Claimer::new(server.client.clone()).claim((4789, 7), &blue(), soon).await;
        let Claimed::Failed(problem) = late else { panic!("{late:?}") };
        assert!(problem.text.ends_with("apply again: no answer in time"), "{problem}");
    }
}
