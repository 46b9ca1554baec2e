//! IPAMClaims of the Network Plumbing Working Group: an address for longer than a pod. We read `spec`, and write `status`, which nobody but
//! people reads again. The kind is not ours, and need not be there.

use attachments::api::{ClaimHolder, HolderKind};
use attachments::names::ObjectName;
use delegates::ipam::blocks::Pool;
use ipnet::IpNet;
use kube::Client;
use meta_cni::cluster::wire::{Cause, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{self, Answer};
use super::facts::Wanted;

/// Group and version.
const API: &str = "k8s.cni.cncf.io/v1alpha1";
/// The kind in paths.
const PLURAL: &str = "ipamclaims";
/// `status.ips` has room for so many.
const MOST_IPS: usize = 2;

/// An IPAMClaim as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpamClaim {
    metadata: OnlyUid,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct OnlyUid {
    uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    network: String,
    ip_requests: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    ips: Vec<String>,
    owner_pod: Value,
}

/// A status that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The IPAMClaim.
    pub holder: ClaimHolder,
    ips: Vec<String>,
    pod: String,
}

fn path(namespace: &str) -> String {
    format!("/apis/{API}/namespaces/{namespace}/{PLURAL}")
}

/// Reads one. `Absent` where there is none, `Lacking` where there is no such kind.
pub async fn get(client: &Client, namespace: &str, name: &str) -> Result<IpamClaim, Answer> {
    match api::object(client, &path(namespace), name, PLURAL).await {
        Err(Answer::Refused(why)) if why.starts_with("the API server has no ") => Err(Answer::Lacking(why)),
        other => other,
    }
}

impl IpamClaim {
    /// What an attachment of a pod asks for by it. `asked` are the words for the definition.
    pub fn wanted(
        &self,
        (namespace, name): (&ObjectName, &ObjectName),
        (asked, network): (&str, &str),
        pool: &Pool,
    ) -> Result<Wanted, Refusal> {
        let refuse = |why: String| {
            let text = format!("{asked}: ipam-claim-reference: IPAMClaim {namespace}/{name}: {why}");
            Err(Refusal::new(Cause::Configuration, text))
        };
        let Spec { network: of, ip_requests } = &self.spec;
        if of != network {
            return refuse(format!(
                "spec.network: got {of:?}, want {network:?}, the name of the definition's CNI network"
            ));
        }
        let mut slot = None;
        for text in ip_requests {
            let address = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse());
            let of_pool = address.ok().and_then(|ip| pool.slot_of(ip));
            match (of_pool, slot) {
                (None, _) => return refuse(format!("spec.ipRequests: got {text:?}, want an address of {pool}")),
                (Some(this), Some(first)) if this != first => {
                    let first = pool.numbered(first);
                    let first = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                    return refuse(format!(
                        "spec.ipRequests: got {text:?}, want the addresses of one slot, as {first}"
                    ));
                }
                (Some(this), _) => slot = Some(this),
            }
        }
        let holder = ClaimHolder { uid: self.metadata.uid.clone(), ..holder(namespace, name) };
        let address = ip_requests.first().cloned().unwrap_or_default();
        Ok(Wanted { holder, slot, address, set: None })
    }

    /// The status once a pod has a slot; `None` where that is what it says.
    pub fn told(&self, holder: &ClaimHolder, pod: &str, (pool, slot): (&Pool, u32)) -> Option<Told> {
        let addresses = pool.addresses(slot)?;
        let ips: Vec<String> = addresses.iter().take(MOST_IPS).map(|one| one.address.to_string()).collect();
        let owner = &self.status.owner_pod;
        let is_owner = owner == pod || owner["name"] == pod;
        (self.status.ips != ips || !is_owner).then(|| Told { holder: holder.clone(), ips, pod: pod.to_owned() })
    }
}

/// An IPAMClaim by its name.
pub fn holder(namespace: &ObjectName, name: &ObjectName) -> ClaimHolder {
    let (namespace, name) = (namespace.to_string(), name.to_string());
    ClaimHolder { kind: HolderKind::IpamClaim, namespace, name, uid: String::new() }
}

/// Writes a status. An IPAMClaim that is gone, or another one of its name, is told nothing.
pub async fn tell(client: &Client, told: &Told) -> Result<(), Answer> {
    let Told { holder, ips, pod } = told;
    let path = path(&holder.namespace);
    let mut last = Ok(());
    // `ownerPod` is a text in some versions of the kind, and an object with the name in others.
    for owner in [json!(pod), json!({"name": pod})] {
        let patch = json!({"metadata": {"uid": holder.uid}, "status": {"ips": ips, "ownerPod": owner}});
        last = match api::patch_status(client, &path, &holder.name, patch, PLURAL).await {
            Ok(()) | Err(Answer::Absent | Answer::Conflict) => return Ok(()),
            Err(Answer::Refused(why)) => Err(Answer::Refused(why)),
            Err(other) => return Err(other),
        };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        let ipam = r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#;
        Pool::read(&attachments::cni::object::Object::parse(ipam.as_bytes()).unwrap(), false).unwrap()
    }

    fn claim(spec: Value, status: Value) -> IpamClaim {
        serde_json::from_value(json!({"metadata": {"uid": "u7"}, "spec": spec, "status": status})).unwrap()
    }

    fn wanted(spec: Value) -> Result<Wanted, String> {
        let (namespace, name) = ("shop".parse().unwrap(), "vm".parse().unwrap());
        let wanted = claim(spec, json!({})).wanted((&namespace, &name), ("shop/lan", "red"), &pool());
        wanted.map_err(|refusal| refusal.message)
    }

    #[test]
    fn the_claim_is_for_the_network_that_it_names_and_may_name_an_address() {
        let any = wanted(json!({"network": "red", "interface": "net1"})).unwrap();
        assert_eq!(
            (any.slot, any.holder.uid.as_str(), any.holder.to_string().as_str()),
            (None, "u7", "IPAMClaim shop/vm")
        );
        let one = wanted(json!({"network": "red", "ipRequests": ["10.0.0.7/24", "fd00::7/64"]})).unwrap();
        assert_eq!(one.slot, Some(7));
        for (spec, words) in [
            (json!({"network": "blue"}), r#"IPAMClaim shop/vm: spec.network: got "blue", want "red""#),
            (json!({}), r#"spec.network: got "", want "red""#),
            (
                json!({"network": "red", "ipRequests": ["192.0.2.1"]}),
                r#"spec.ipRequests: got "192.0.2.1", want an address of 10.0.0.0/24 with fd00::/64"#,
            ),
            (json!({"network": "red", "ipRequests": ["x"]}), r#"got "x""#),
            (json!({"network": "red", "ipRequests": ["10.0.0.7", "fd00::8"]}), "as 10.0.0.7 and fd00::7"),
        ] {
            let refused = wanted(spec).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_status_is_written_when_it_says_something_else_in_either_form() {
        let said = |status: Value| {
            let claim = claim(json!({}), status);
            claim.told(&ClaimHolder::default(), "web", (&pool(), 7)).map(|told| told.ips)
        };
        let ips = json!(["10.0.0.7/24", "fd00::7/64"]);
        let both = Some(vec!["10.0.0.7/24".to_owned(), "fd00::7/64".to_owned()]);
        assert_eq!(said(json!({})), both);
        assert_eq!(said(json!({"ips": ips, "ownerPod": "other"})), both);
        assert_eq!(said(json!({"ips": ips, "ownerPod": "web"})), None);
        assert_eq!(said(json!({"ips": ips, "ownerPod": {"name": "web"}})), None);
        assert_eq!(claim(json!({}), json!({})).told(&ClaimHolder::default(), "web", (&pool(), 0)), None);
    }
}
