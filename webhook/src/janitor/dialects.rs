//! Networks of dialects that own VNIs: claims name them as if they were definitions.

use attachments::api::{ClaimOwner, VniClaim};
use attachments::cni::object::Object;
use attachments::dialect::danm::{NETWORKS, NetworkSpec};
use attachments::dialect::objects::ForeignRef;
use attachments::names::NetRef;
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use meta_cni_kube::said;
use serde_json::Value;

use crate::cluster::Pair;
use crate::cluster::definition::VXLAN_PORT;

/// The owners of these claims that are networks of a dialect, as far as they exist, each with the pair that it names: one by one, for few
/// claims have such an owner.
pub async fn owners(client: &Client, claims: &[VniClaim]) -> Result<Vec<(ClaimOwner, Pair)>, String> {
    let mut owners = Vec::new();
    for ClaimOwner { namespace, name, .. } in claims.iter().map(|claim| &claim.spec.owner) {
        let Some(network) = network(namespace, name) else { continue };
        for path in network.kind.collections(network.namespace.as_ref()) {
            let Some(object) = object(client, &path, &network).await? else { continue };
            let Some(vni) = vni(&object) else { continue };
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let owner = ClaimOwner { namespace: namespace.clone(), name: name.clone(), uid };
            owners.push((owner, (VXLAN_PORT, vni)));
        }
    }
    Ok(owners)
}

/// The network that is known by the name of a definition.
fn network(namespace: &str, name: &str) -> Option<ForeignRef> {
    let definition = NetRef { namespace: namespace.parse().ok()?, name: name.parse().ok()? };
    ForeignRef::of_definition(&definition).filter(|network| NETWORKS.contains(&network.kind))
}

/// The VNI that a network names.
fn vni(object: &Value) -> Option<u32> {
    let spec = Object::parse(object["spec"].to_string().as_bytes()).ok()?;
    NetworkSpec::read(&spec).ok()?.options.vxlan?.try_into().ok()
}

/// Nothing where the API server does not have the kind, or the dialect is off and nobody may read it.
async fn object(client: &Client, path: &str, network: &ForeignRef) -> Result<Option<Value>, String> {
    let request = Request::new(path).get(network.name.as_str(), &GetParams::default()).map_err(|e| e.to_string())?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(format!("{network}: {}", said(&error))),
    }
}

#[cfg(test)]
mod tests {
    use meta_cni_kube::testing::{Server, answer};
    use serde_json::json;

    use super::*;

    fn claim(name: &str) -> VniClaim {
        let owner = json!({"namespace": "shop", "name": name, "uid": "a"});
        let spec = json!({"vni": 600, "port": 4789, "owner": owner});
        let object = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "VniClaim", "metadata": {"name": "4789-600"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn refusal(code: u16) -> String {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"});
        answer(&format!("{code} No"), &status.to_string())
    }

    #[tokio::test]
    async fn a_network_of_danm_is_found_in_either_group_and_others_are_not_asked_for() {
        let server = Server::start(|path| match path {
            "/apis/danm.io/v1/namespaces/shop/danmnets/internal" => {
                let options = json!({"host_device": "eth0", "vxlan": 600});
                let network = json!({"metadata": {"uid": "b"}, "spec": {"NetworkID": "internal", "Options": options}});
                answer("200 OK", &network.to_string())
            }
            "/apis/danm.k8s.io/v1/namespaces/shop/danmnets/internal" => refusal(404),
            _ => refusal(403),
        })
        .await;
        let found =
            owners(&server.client, &[claim("internal.danmnet"), claim("lan.tenantnetwork"), claim("blue")]).await;
        let owner = ClaimOwner { namespace: "shop".into(), name: "internal.danmnet".into(), uid: "b".into() };
        assert_eq!(found, Ok(vec![(owner, (4789, 600))]));
        assert_eq!(server.asked(), 4, "two networks in two groups");
    }

    #[tokio::test]
    async fn without_an_answer_nothing_is_known() {
        let server = Server::start(|_| refusal(500)).await;
        let why = owners(&server.client, &[claim("internal.danmnet")]).await.unwrap_err();
        assert!(why.starts_with("DanmNet shop/internal: "), "{why}");
    }
}
