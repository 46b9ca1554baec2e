//! The calls of the API server that a plan names.

use std::time::Duration;

use attachments::api::{
    ADDRESS_SPACE, AddressBlock, AddressClaim, GROUP, HolderKind, NETWORK, NODE, OverlayMember, VniClaim,
};
use attachments::dialect::objects::ForeignRef;
use attachments::names::NetRef;
use delegates::networks::NetworkId;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use meta_cni_kube::{PageError, PageSize, Pages, Selector, Shape, said};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::call::Call;
use super::objects::{Block, Kind, Meta, Raw};
use super::{address_claims, member, slots, space};

/// Timeout of one call.
const TRY: Duration = Duration::from_secs(15);
/// Objects of one page: what is not read yet is ten times as large as what is kept of it.
const PAGE: PageSize = PageSize { objects: 100, bytes: 2 << 20 };

/// What came of a call.
#[derive(Debug)]
pub enum Answer {
    /// The object as it is now; nothing after a removal.
    Done(Option<Box<Raw>>),
    /// An object of the name is there, or another version.
    Conflict,
    /// There is no such object.
    Absent,
    /// The API server says no, or does not have the kind.
    Refused(String),
    /// The API server does not have the kind that was to be listed.
    Lacking(String),
    /// Nobody knows whether it was done.
    Unanswered(String),
}

/// Says which kind the API server lacks.
fn lacks(plural: &str) -> String {
    match plural {
        space::PLURAL => format!("the API server has no {plural}.whereabouts.cni.cncf.io"),
        "ipamclaims" => format!("the API server has no {plural}.k8s.cni.cncf.io: apply deploy/ipam-claims.yaml"),
        _ => format!("the API server has no {plural}.{GROUP}: apply deploy/crds"),
    }
}

/// The error of a call.
fn answer(error: &kube::Error, plural: &str) -> Answer {
    match error {
        kube::Error::Api(status) => match status.code {
            404 if status.reason == "NotFound" && status.message.contains(" not found") => Answer::Absent,
            404 => Answer::Refused(lacks(plural)),
            409 => Answer::Conflict,
            408 | 429 | 500.. => Answer::Unanswered(said(error)),
            _ => Answer::Refused(said(error)),
        },
        other => Answer::Unanswered(said(other)),
    }
}

async fn send<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    plural: &str,
) -> Result<T, Answer> {
    let request = request.map_err(|error| Answer::Refused(error.to_string()))?;
    match timeout(TRY, client.request::<T>(request)).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(answer(&error, plural)),
        Err(_) => Err(Answer::Unanswered(format!("no answer within {TRY:?}"))),
    }
}

/// One object.
pub async fn get<K: Kind>(client: &Client, name: &str) -> Answer {
    let request = Request::new(K::path()).get(name, &GetParams::default());
    match send(client, request, K::PLURAL).await {
        Ok(raw) => Answer::Done(Some(Box::new(raw))),
        Err(answer) => answer,
    }
}

/// All objects of a network.
pub fn labels_of(id: &NetworkId) -> String {
    format!("{NETWORK}={id}")
}

/// The claim of a network, whatever its labels are.
pub fn claim_of(id: &NetworkId) -> String {
    format!("metadata.name={id}")
}

/// The blocks of all networks of an address space.
pub async fn blocks_of(client: &Client, space: &str, take: impl FnMut(Raw)) -> Result<String, Answer> {
    let labels = format!("{ADDRESS_SPACE}={}", space::label(space));
    let selector = Selector { labels: Some(&labels), fields: None };
    listed(client, AddressBlock::path(), AddressBlock::PLURAL, selector, take).await
}

/// The objects of a collection that are selected, one after the other. Returns the version of the list.
pub async fn listed(
    client: &Client,
    path: String,
    plural: &str,
    selector: Selector<'_>,
    mut take: impl FnMut(Raw),
) -> Result<String, Answer> {
    let mut pages: Pages<Raw> = Pages::new(client.clone(), &path, selector, Shape::Whole, PAGE);
    loop {
        match timeout(TRY, pages.next()).await {
            Ok(Ok(Some(page))) => page.into_iter().for_each(&mut take),
            Ok(Ok(None)) => return Ok(pages.version().to_owned()),
            // No collection is absent but that of a kind that is.
            Ok(Err(PageError::Api(kube::Error::Api(status)))) if status.code == 404 => {
                return Err(Answer::Lacking(lacks(plural)));
            }
            Ok(Err(PageError::Api(error))) => return Err(answer(&error, plural)),
            Ok(Err(PageError::Other(why))) => return Err(Answer::Unanswered(why)),
            Err(_) => return Err(Answer::Unanswered(format!("no answer within {TRY:?}"))),
        }
    }
}

#[derive(Deserialize)]
struct OnlyMeta {
    metadata: Meta,
}

/// The uid of an object whose kind is not ours; `None` when there is none.
pub async fn uid(client: &Client, path: &str, name: &str) -> Result<Option<String>, Answer> {
    let request = Request::new(path).get_metadata(name, &GetParams::default());
    match send::<OnlyMeta>(client, request, "").await {
        Ok(object) => Ok(Some(object.metadata.uid)),
        Err(Answer::Absent) => Ok(None),
        Err(answer) => Err(answer),
    }
}

/// The uid of the object of a dialect that nodes know by the name of a definition; `None` when there is none.
pub async fn dialects_uid(client: &Client, definition: &NetRef) -> Result<Option<String>, Answer> {
    let Some(object) = ForeignRef::of_definition(definition) else { return Ok(None) };
    for path in object.kind.collections(object.namespace.as_ref()) {
        if let Some(uid) = uid(client, &path, object.name.as_str()).await? {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// An object whose kind is not ours.
pub async fn object<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    name: &str,
    plural: &str,
) -> Result<T, Answer> {
    send(client, Request::new(path).get(name, &GetParams::default()), plural).await
}

/// Changes the status of such an object.
pub async fn patch_status(client: &Client, path: &str, name: &str, patch: Value, plural: &str) -> Result<(), Answer> {
    let request = Request::new(path).patch_subresource("status", name, &PatchParams::default(), &Patch::Merge(patch));
    send::<Value>(client, request, plural).await.map(drop)
}

/// Path of Node objects.
pub fn nodes() -> String {
    Node::url_path(&(), None)
}

/// This node, as the calls name it.
#[derive(Clone, Debug)]
pub struct Us<'a> {
    /// Its name.
    pub node: &'a str,
    /// Uid of its Node object.
    pub uid: &'a str,
    /// The address space of the network.
    pub space: Option<&'a str>,
}

impl Answer {
    /// The word for it in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Conflict => "conflict",
            Self::Absent => "absent",
            Self::Refused(_) | Self::Lacking(_) => "refused",
            Self::Unanswered(_) => "unanswered",
        }
    }
}

impl Us<'_> {
    fn reference(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.uid})
    }

    /// What a member's metadata says.
    fn of_member(&self, id: &NetworkId) -> Value {
        json!({"labels": {NETWORK: id, NODE: member::label(self.node)}, "ownerReferences": [self.reference()]})
    }

    /// The references of a block: others' stay.
    fn references(&self, block: Option<&Block>, is_ours: bool) -> Value {
        let others = block.map(|block| block.meta.owner_references.iter()).into_iter().flatten();
        let others = others.filter(|one| one.kind == "Node" && one.name != self.node);
        let mut all: Vec<Value> =
            others.map(|one| json!({"apiVersion": "v1", "kind": "Node", "name": one.name, "uid": one.uid})).collect();
        if is_ours {
            all.push(self.reference());
        }
        all.into()
    }
}

/// Does what a plan says. `block` is the block that it changes.
pub async fn call(client: &Client, id: &NetworkId, us: &Us<'_>, call: &Call, block: Option<&Block>) -> Answer {
    let labels = json!({NETWORK: id});
    match call {
        Call::CreateClaim(spec) => {
            let metadata = json!({"name": id, "labels": labels});
            create::<VniClaim>(client, &metadata, json!(spec)).await
        }
        Call::PinMtu { version, mtu } => {
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"mtu": mtu}});
            change::<VniClaim>(client, id.as_str(), None, patch).await
        }
        Call::CreateMember(spec) => {
            let mut metadata = us.of_member(id);
            metadata["name"] = member::name(id, us.node).into();
            create::<OverlayMember>(client, &metadata, json!(spec)).await
        }
        Call::ChangeMember(spec) => {
            let mut spec = json!(spec);
            // What is not there in a merge patch stays as it was.
            if spec.get("endpoints").is_none() {
                spec["endpoints"] = Value::Null;
            }
            let patch = json!({"metadata": us.of_member(id), "spec": spec});
            change::<OverlayMember>(client, &member::name(id, us.node), None, patch).await
        }
        Call::DeleteMember { uid } => remove::<OverlayMember>(client, &member::name(id, us.node), uid, None).await,
        Call::CreateBlock(spec) => {
            let name = slots::block_name(id, spec.first);
            let mut labels = labels;
            if let Some(space) = us.space {
                labels[ADDRESS_SPACE] = space::label(space).into();
            }
            let metadata = json!({"name": name, "labels": labels, "ownerReferences": us.references(None, true)});
            create::<AddressBlock>(client, &metadata, json!(spec)).await
        }
        Call::ChangeBlock { name, version, runs, requests, is_ours } => {
            let metadata = json!({"resourceVersion": version, "ownerReferences": us.references(block, *is_ours)});
            let patch = json!({"metadata": metadata, "spec": {"runs": runs, "requests": requests}});
            change::<AddressBlock>(client, name, None, patch).await
        }
        Call::DeleteBlock { name, uid, version } => remove::<AddressBlock>(client, name, uid, Some(version)).await,
        Call::TellFree { name, version, status } => {
            let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
            change::<AddressBlock>(client, name, Some("status"), patch).await
        }
        Call::CreateAddressClaim(spec) => {
            // What is kept for a pod goes with its node. IPAMClaims and AddressSets outlive nodes.
            let references = match spec.holder.kind {
                HolderKind::Pod => vec![us.reference()],
                HolderKind::IpamClaim | HolderKind::AddressSet => Vec::new(),
            };
            let name = address_claims::name(id, spec.slot);
            let metadata = json!({"name": name, "labels": labels, "ownerReferences": references});
            create::<AddressClaim>(client, &metadata, json!(spec)).await
        }
        Call::ChangeAddressClaim { name, version, nodes } => {
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"nodes": nodes}});
            change::<AddressClaim>(client, name, None, patch).await
        }
        Call::BindAddressClaim { name, version, node, pod } => {
            // Without a uid that of the pod before would stay.
            let pod = json!({"kind": pod.kind, "namespace": pod.namespace, "name": pod.name, "uid": pod.uid});
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"nodes": [node], "pod": pod}});
            change::<AddressClaim>(client, name, None, patch).await
        }
        Call::TellHeld { name, version, status } => {
            let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
            change::<AddressClaim>(client, name, Some("status"), patch).await
        }
        Call::DeleteAddressClaim { name, uid } => remove::<AddressClaim>(client, name, uid, None).await,
    }
}

async fn create<K: Kind + Resource<DynamicType = ()>>(client: &Client, metadata: &Value, spec: Value) -> Answer {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "spec": spec,
    });
    let request = Request::new(K::path()).create(&PostParams::default(), object.to_string().into_bytes());
    done(send(client, request, K::PLURAL).await)
}

async fn change<K: Kind>(client: &Client, name: &str, subresource: Option<&str>, patch: Value) -> Answer {
    let (path, params, patch) = (Request::new(K::path()), PatchParams::default(), Patch::Merge(patch));
    let request = match subresource {
        Some(subresource) => path.patch_subresource(subresource, name, &params, &patch),
        None => path.patch(name, &params, &patch),
    };
    done(send(client, request, K::PLURAL).await)
}

async fn remove<K: Kind>(client: &Client, name: &str, uid: &str, version: Option<&String>) -> Answer {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version.cloned() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match send::<Value>(client, Request::new(K::path()).delete(name, &params), K::PLURAL).await {
        Ok(_) => Answer::Done(None),
        Err(answer) => answer,
    }
}

fn done(sent: Result<Raw, Answer>) -> Answer {
    sent.map_or_else(|answer| answer, |raw| Answer::Done(Some(Box::new(raw))))
}
