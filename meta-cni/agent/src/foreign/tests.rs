//! What the agent knows of the objects of dialects, and what it says where it does not.

use attachments::dialect::danm::Danm;
use meta_cni_kube::testing::{Server, answer, later};
use serde_json::json;

use super::*;

#[test]
fn one_name_in_two_groups_is_one_object_unless_the_two_differ() {
    let reference = ForeignRef::within(&"shop".parse().unwrap(), Kind::DanmNet, "internal".parse().unwrap());
    let spec = |alloc: &str| {
        let spec = json!({"NetworkID": "int", "Options": {"cidr": "10.0.0.0/24", "alloc": alloc}});
        meaning(Kind::DanmNet, spec).to_string()
    };
    assert_eq!(one_of(&reference, Vec::new()), Outcome::Missing);
    let found = one_of(&reference, vec![spec("gAA="), spec("gAB=")]);
    assert!(matches!(found, Outcome::Found { config: Some(_), .. }), "their states may differ: {found:?}");
    let Outcome::Broken { reason } = one_of(&reference, vec![spec(""), "{}".to_owned()]) else { panic!() };
    let want = "DanmNet shop/internal is in the groups danm.k8s.io and danm.io, and the two differ: delete one of them";
    assert_eq!(reason, want);
}

#[test]
fn a_changed_object_replaces_the_earlier_and_a_deleted_one_is_gone() {
    let object = |plugin: &str| {
        let text = json!({"metadata": {"name": "net1", "namespace": "shop", "resourceVersion": "1"}, "spec": {"plugin": plugin}});
        serde_json::from_value::<Object>(text).unwrap()
    };
    let mut index = Index::default();
    let reference = object("a").reference(Kind::Logicalnetwork).unwrap();
    for event in [Event::Begin, Event::Listed(object("a")), Event::End, Event::Applied(object("b"))] {
        take(Kind::Logicalnetwork, &mut index, event);
    }
    assert_eq!(index.get(&reference).map(String::as_str), Some(r#"{"plugin":"b"}"#));
    take(Kind::Logicalnetwork, &mut index, Event::Applied(object(&"x".repeat(LONGEST))));
    assert_eq!(index.get(&reference).map(String::as_str), Some(TOO_LONG), "it is there, and not kept");
    take(Kind::Logicalnetwork, &mut index, Event::Applied(object("b")));
    take(Kind::Logicalnetwork, &mut index, Event::Deleted(object("b")));
    assert_eq!(index.get(&reference), None);
}

#[tokio::test]
async fn what_limits_a_network_of_tenants_comes_with_it_or_it_is_said_why_not() {
    let dialects = || Dialects { danm: Some(Danm::default()), ..Dialects::default() };
    let object = |object: Value| serde_json::from_value::<Object>(object).unwrap();
    let tell = |foreign: &Foreign, kind: Kind, group: usize, objects: Vec<Object>| {
        let mut index = lock(&foreign.0.kinds[&kind][group]);
        take(kind, &mut index, Event::Begin);
        objects.into_iter().for_each(|object| take(kind, &mut index, Event::Listed(object)));
        take(kind, &mut index, Event::End);
    };
    let network = object(json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": {"NetworkID": "a"}}));
    let of = |kind| ForeignRef::within(&"shop".parse().unwrap(), kind, "a".parse().unwrap());
    let ask = async |foreign: &Foreign, kind| foreign.of(vec![of(kind)], Vec::new(), later()).await;
    let with = async |code: &'static str, body: Value| {
        let body = body.to_string();
        let server = Server::start(move |_| answer(code, &body)).await;
        let foreign = Foreign::new(dialects(), Reader::new(server.client.clone()));
        tell(&foreign, Kind::TenantNetwork, 1, vec![network.clone()]);
        tell(&foreign, Kind::DanmNet, 1, vec![network.clone()]);
        tell(&foreign, Kind::TenantConfig, 0, vec![]);
        (0..2).for_each(|group| tell(&foreign, Kind::ReservedIP, group, vec![]));
        (server, foreign)
    };
    let config = |name: &str| json!({"metadata": {"name": name}, "hostDevices": [{"name": "ens3", "alloc": "gA=="}], "status": {}});

    let status =
        |code: u16, message: &str| json!({"kind": "Status", "status": "Failure", "code": code, "message": message});
    let (_server, foreign) = with("403 Forbidden", status(403, "tenantconfigs is forbidden")).await;
    let Outcome::Unreachable { reason } = &ask(&foreign, Kind::TenantNetwork).await[1].outcome else { panic!() };
    let want = "what limits it is not known here yet: tenantconfigs: the API server cannot be asked: ";
    assert!(reason.starts_with(want) && reason.contains("tenantconfigs is forbidden"), "{reason}");
    assert_eq!(ask(&foreign, Kind::DanmNet).await.len(), 1, "nothing limits it");
    tell(&foreign, Kind::TenantConfig, 1, vec![object(config("b")), object(config("a"))]);
    let known = ask(&foreign, Kind::TenantNetwork).await;
    assert_eq!((known.len(), known[1].reference.to_string().as_str()), (2, "TenantConfig a"));
    let limits = Some(r#"{"hostDevices":[{"name":"ens3"}]}"#.to_owned());
    assert_eq!(known[1].outcome, Outcome::Found { config: limits, resource_name: None });
    tell(&foreign, Kind::TenantConfig, 1, vec![]);
    assert_eq!(ask(&foreign, Kind::TenantNetwork).await.len(), 1, "there is none");
    let reserved = |name: &str, network: &str, address: &str| {
        let spec = json!({"network": {"name": network}, "ips": [{"address": address}]});
        object(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
    };
    tell(&foreign, Kind::ReservedIP, 1, vec![reserved("r", "a", "10.0.0.7"), reserved("s", "b", "10.0.0.8")]);
    let known = ask(&foreign, Kind::TenantNetwork).await;
    assert_eq!((known.len(), known[1].reference.to_string().as_str()), (2, "ReservedIP shop/r"));
    assert_eq!(foreign.kept(&of(Kind::TenantNetwork)), ["10.0.0.7".parse().unwrap()].into());

    let (_server, foreign) = with("404 Not Found", status(404, "no such kind")).await;
    assert_eq!(ask(&foreign, Kind::TenantNetwork).await.len(), 1, "the other group is not served");
    let (_server, foreign) = with("200 OK", json!({"items": [config("z")]})).await;
    let read = ask(&foreign, Kind::TenantNetwork).await;
    assert_eq!(read[1].reference.to_string(), "TenantConfig z", "one that is not followed yet");
}

#[test]
fn a_long_spec_is_not_handed_out() {
    assert!(matches!(within("x".repeat(LONGEST + 1)), Outcome::TooLarge { size, .. } if size > LONGEST as u64));
    assert!(matches!(within("{}".to_owned()), Outcome::Found { .. }));
}
