//! AddressSets as they are stored, and what a pod asks for by one. The module `address_sets` says which member it gets.

use attachments::api::{AddressSet, AddressSetSpec, ClaimHolder, HolderKind};
use attachments::names::{NetRef, ObjectName, PodRef};
use delegates::ipam::blocks::Pool;
use kube::{Client, Resource};
use meta_cni::cluster::wire::{Cause, Refusal};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::{self, Answer};
use super::facts::{Members, SetRequest, Wanted};
use super::{Networks, PATIENCE, PAUSE, request};

/// The kind in paths.
const PLURAL: &str = "addresssets";

/// An AddressSet as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Stored {
    metadata: OnlyUid,
    spec: AddressSetSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct OnlyUid {
    uid: String,
}

impl Networks {
    /// What an attachment of a pod asks for by an AddressSet: that of the pod's namespace, or else of the definition's.
    pub(super) async fn address_set(
        &self,
        reference: &NetRef,
        (pod, name, key): (&PodRef, &ObjectName, &str),
        pool: &Pool,
        deadline: Instant,
    ) -> Result<Wanted, Refusal> {
        let asked = format!("network-attachment-definition {reference}: {key}");
        let until = (Instant::now() + PATIENCE).min(deadline);
        let mut namespaces = vec![&pod.namespace];
        namespaces.extend(Some(&reference.namespace).filter(|namespace| **namespace != pod.namespace));
        for namespace in &namespaces {
            if let Some(set) = get(&self.0.client, namespace, name, until).await.map_err(|why| later(&asked, &why))? {
                return set.wanted((namespace, name), (&asked, reference), (pod, pool));
            }
        }
        let looked: Vec<&str> = namespaces.iter().map(|namespace| namespace.as_str()).collect();
        let network = reference.name.as_str();
        Err(later(
            &asked,
            &format!("no AddressSet {:?} for network {network:?} in namespaces {}", name.as_str(), looked.join(", ")),
        ))
    }
}

fn later(asked: &str, why: &str) -> Refusal {
    Refusal::new(Cause::Later, format!("{asked}: {why}"))
}

/// Reads one. An API server that gives no answer is asked for a while: it may be restarting.
async fn get(
    client: &Client,
    namespace: &ObjectName,
    name: &ObjectName,
    until: Instant,
) -> Result<Option<Stored>, String> {
    let path = AddressSet::url_path(&(), Some(namespace.as_str()));
    loop {
        let got = api::object::<Stored>(client, &path, name.as_str(), PLURAL);
        let got = timeout_at(until, got).await.unwrap_or_else(|_| Err(Answer::Unanswered("no answer".to_owned())));
        match got {
            Ok(set) => return Ok(Some(set)),
            Err(Answer::Absent) => return Ok(None),
            Err(Answer::Refused(why) | Answer::Lacking(why)) => return Err(why),
            Err(answer) if Instant::now() + PAUSE >= until => {
                let why = if let Answer::Unanswered(why) = answer { why } else { format!("{answer:?}") };
                return Err(format!("AddressSet {namespace}/{name} cannot be read: {why}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Stored {
    /// What a pod asks for by the set, once the set is for the network and its members are the pool's.
    fn wanted(
        &self,
        (namespace, name): (&ObjectName, &ObjectName),
        (asked, reference): (&str, &NetRef),
        (pod, pool): (&PodRef, &Pool),
    ) -> Result<Wanted, Refusal> {
        let refuse = |why: String| {
            Err(Refusal::new(Cause::Configuration, format!("{asked}: AddressSet {namespace}/{name}: {why}")))
        };
        let AddressSetSpec { network, addresses, size } = &self.spec;
        let of = network.split_once('/').unwrap_or((namespace.as_str(), network));
        if of != (reference.namespace.as_str(), reference.name.as_str()) {
            return refuse(format!(
                "spec.network: got {network:?}, want \"{reference}\", the definition of the attachment"
            ));
        }
        let members = match (addresses, size) {
            (Some(addresses), None) if !addresses.is_empty() => {
                let mut slots: Vec<u32> = Vec::with_capacity(addresses.len());
                for address in addresses {
                    let Some(slot) = pool.slot_of(*address).filter(|slot| pool.addresses(*slot).is_some()) else {
                        return refuse(format!(
                            "spec.addresses: got {address}, want an address that pods of {pool} may have"
                        ));
                    };
                    if slots.contains(&slot) {
                        return refuse(format!("spec.addresses: got {address}, want each member once"));
                    }
                    slots.push(slot);
                }
                Members::Slots(slots)
            }
            (None, Some(size)) if *size > 0 => Members::Size(*size),
            _ => return refuse("spec: got neither or both, want one of addresses and size".to_owned()),
        };
        let holder = ClaimHolder {
            kind: HolderKind::AddressSet,
            namespace: namespace.to_string(),
            name: name.to_string(),
            uid: self.metadata.uid.clone(),
        };
        let set = Some(SetRequest { members, pod: request::holder(pod) });
        Ok(Wanted { holder, slot: None, address: String::new(), set })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted(spec: Value) -> Result<Wanted, String> {
        let ipam = r#"{"ranges":[[{"subnet":"10.0.0.0/24","gateway":"10.0.0.1"}],[{"subnet":"fd00::/64"}]]}"#;
        let pool = Pool::read(&attachments::cni::object::Object::parse(ipam.as_bytes()).unwrap(), false).unwrap();
        let set: Stored = serde_json::from_value(json!({"metadata": {"uid": "u9"}, "spec": spec})).unwrap();
        let reference = NetRef { namespace: "shop".parse().unwrap(), name: "lan".parse().unwrap() };
        let pod = PodRef { namespace: "shop".parse().unwrap(), name: "web-0".parse().unwrap(), uid: Some("u1".into()) };
        let (namespace, name) = ("shop".parse().unwrap(), "web".parse().unwrap());
        set.wanted((&namespace, &name), ("asked", &reference), (&pod, &pool)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn members_are_slots_in_the_order_of_the_set_or_a_number() {
        let listed = wanted(json!({"network": "lan", "addresses": ["10.0.0.9", "fd00::7"]})).unwrap();
        let set = listed.set.unwrap();
        assert_eq!((set.members, set.pod.uid.as_str()), (Members::Slots(vec![9, 7]), "u1"));
        assert_eq!(listed.holder.to_string(), "AddressSet shop/web");
        let sized = wanted(json!({"network": "shop/lan", "size": 3})).unwrap();
        assert_eq!(sized.set.unwrap().members, Members::Size(3));
    }

    #[test]
    fn a_set_of_another_network_or_of_other_addresses_is_refused() {
        for (spec, why) in [
            (json!({"network": "wan", "size": 3}), r#"spec.network: got "wan", want "shop/lan""#),
            (json!({"network": "infra/lan", "size": 3}), r#"got "infra/lan""#),
            (json!({"network": "lan", "addresses": ["10.9.0.1"]}), "spec.addresses: got 10.9.0.1, want an address"),
            (json!({"network": "lan", "addresses": ["10.0.0.1"]}), "spec.addresses: got 10.0.0.1, want an address"),
            (json!({"network": "lan", "addresses": ["10.0.0.9", "fd00::9"]}), "got fd00::9, want each member once"),
            (json!({"network": "lan"}), "want one of addresses and size"),
        ] {
            let refused = wanted(spec).unwrap_err();
            assert!(refused.starts_with("asked: AddressSet shop/web: spec") && refused.contains(why), "{refused}");
        }
    }
}
