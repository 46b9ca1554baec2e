//! What the attachments of a pod ask of networks' addresses: read from the pod's selection.

use std::collections::BTreeMap;
use std::net::IpAddr;

use attachments::api::{ClaimHolder, HolderKind};
use attachments::cni::conf::NetworkConf;
use attachments::dialect::knitter;
use attachments::dialect::objects::ForeignRef;
use attachments::names::{NetRef, ObjectName, PodRef};
use attachments::selection::{ADDRESS_SET, NetworkSelection, Selection, address};
use delegates::ipam::blocks::Pool;

use super::facts::Wanted;

/// What a pod asks for, by definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pod: Option<PodRef>,
    by_definition: BTreeMap<NetRef, Vec<Request>>,
}

/// What one attachment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// No address.
    Nothing,
    /// Any address.
    Any,
    /// `ips`.
    Addresses(Vec<IpAddr>),
    /// `ipam-claim-reference`.
    IpamClaim(ObjectName),
    /// `meta-cni.io/address-set`, or a dialect's word for it.
    AddressSet(ObjectName, &'static str),
}

impl Requests {
    /// By what a pod selects.
    pub fn of_pod(pod: &PodRef, selection: &Selection) -> Self {
        let mut by_definition: BTreeMap<NetRef, Vec<Request>> = BTreeMap::new();
        for element in selection.elements() {
            let of_object = element.target.foreign().map(ForeignRef::as_definition);
            if let Some(reference) = element.target.definition().cloned().or(of_object) {
                by_definition.entry(reference).or_default().push(Request::of(element));
            }
        }
        Self { pod: Some(pod.clone()), by_definition }
    }

    /// The pod.
    pub fn pod(&self) -> Option<&PodRef> {
        self.pod.as_ref()
    }

    /// What is asked of a definition, each once.
    pub fn of(&self, reference: &NetRef) -> Vec<Request> {
        let mut all: Vec<Request> = Vec::new();
        for request in self.by_definition.get(reference).into_iter().flatten() {
            if !all.contains(request) {
                all.push(request.clone());
            }
        }
        if all.is_empty() {
            all.push(Request::Any);
        }
        all
    }
}

impl Request {
    fn of(element: &NetworkSelection) -> Self {
        // An address that pods share is in their configurations, and no slot is asked for.
        if element.addresses.is_some_and(|request| request.is_none()) || !element.shared.is_empty() {
            return Self::Nothing;
        }
        if let Some(set) = &element.address_set {
            let key = if element.target.alias().is_some() { knitter::IP_GROUP } else { ADDRESS_SET };
            return Self::AddressSet(set.clone(), key);
        }
        if let Some(claim) = &element.ipam_claim {
            return Self::IpamClaim(claim.clone());
        }
        match element.ips.iter().filter_map(|text| address(text)).collect::<Vec<IpAddr>>() {
            ips if ips.is_empty() => Self::Any,
            ips => Self::Addresses(ips),
        }
    }
}

/// The slot of the addresses that a pod names. `None` where they are none of the pool's, or of several slots: the plugin tells.
pub fn of_pod(pod: &PodRef, ips: &[IpAddr], pool: &Pool) -> Option<Wanted> {
    let slot = ips.first().and_then(|ip| pool.slot_of(*ip))?;
    if ips.iter().any(|ip| pool.slot_of(*ip) != Some(slot)) {
        return None;
    }
    let address = ips.first().map(ToString::to_string).unwrap_or_default();
    Some(Wanted { holder: holder(pod), slot: Some(slot), address, set: None })
}

/// A pod, as claims name it.
pub fn holder(pod: &PodRef) -> ClaimHolder {
    ClaimHolder {
        kind: HolderKind::Pod,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.clone().unwrap_or_default(),
    }
}

/// Name of the CNI network that a definition's text makes.
pub fn network_name(config: &str, reference: &NetRef) -> String {
    let named = NetworkConf::parse(config.as_bytes()).ok().and_then(|conf| conf.name);
    named.map_or_else(|| reference.name.to_string(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use attachments::dialect::Dialects;
    use meta_cni::cluster::Annotations;

    use super::*;

    fn pod() -> PodRef {
        PodRef { namespace: "shop".parse().unwrap(), name: "web".parse().unwrap(), uid: Some("u1".to_owned()) }
    }

    fn requests(text: &str) -> Requests {
        let annotations = Annotations::from([("k8s.v1.cni.cncf.io/networks".to_owned(), text.to_owned())]);
        let annotation = |name: &str| annotations.get(name).map(String::as_str);
        let home = "kube-system".parse().unwrap();
        let (selection, _) = Selection::read(annotation, &pod().namespace, &home, &Dialects::default());
        Requests::of_pod(&pod(), &selection)
    }

    #[test]
    fn each_attachment_asks_for_its_own() {
        let lan = NetRef { namespace: "shop".parse().unwrap(), name: "lan".parse().unwrap() };
        let read = requests(
            r#"[{"name":"lan"},{"name":"lan","ips":["10.0.0.5/24","fd00::5"]},{"name":"lan","ipam-claim-reference":"vm"},{"name":"lan"}]"#,
        );
        let ips = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(read.of(&lan), [Request::Any, Request::Addresses(ips), Request::IpamClaim("vm".parse().unwrap())]);
        let other = NetRef { name: "wan".parse().unwrap(), ..lan.clone() };
        assert_eq!((read.of(&other), requests("{").of(&lan)), (vec![Request::Any], vec![Request::Any]));
    }

    #[test]
    fn an_address_that_pods_share_is_asked_of_no_pool() {
        let mut selection = Selection::default();
        let net = NetRef { namespace: "shop".parse().unwrap(), name: "lan".parse().unwrap() };
        let mut element = NetworkSelection::new(attachments::selection::SelectionTarget::Definition(net.clone()));
        element.ips = vec!["10.0.0.5".to_owned()];
        element.shared = vec!["10.0.0.5".parse().unwrap()];
        selection.networks.push(element);
        assert_eq!(Requests::of_pod(&pod(), &selection).of(&net), [Request::Nothing]);
    }

    #[test]
    fn addresses_of_one_slot_are_that_slot_and_nonsense_is_the_plugins_to_refuse() {
        let ipam = r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#;
        let ipam = attachments::cni::object::Object::parse(ipam.as_bytes()).unwrap();
        let pool = Pool::read(&ipam, false).unwrap();
        let slot = |ips: &[&str]| {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            of_pod(&pod(), &ips, &pool).map(|wanted| (wanted.slot.unwrap(), wanted.address, wanted.holder.uid))
        };
        assert_eq!(slot(&["fd00::7", "10.0.0.7"]), Some((7, "fd00::7".to_owned(), "u1".to_owned())));
        assert_eq!((slot(&["10.0.0.7", "fd00::8"]), slot(&["192.0.2.1"]), slot(&[])), (None, None, None));
        let lan = NetRef { namespace: "shop".parse().unwrap(), name: "lan".parse().unwrap() };
        assert_eq!(network_name(r#"{"name":"red","type":"vxlan"}"#, &lan), "red");
        assert_eq!(network_name(r#"{"type":"vxlan"}"#, &lan), "lan");
    }
}
