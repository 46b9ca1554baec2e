//! What the janitor reads and writes.

use std::collections::{HashMap, HashSet};

use attachments::api::{AddressBlock, AddressClaim, AddressSet, ClaimHolder, HolderKind, OverlayMember, VniClaim};
use attachments::finding::shortened;
use attachments::names::NetRef;
use attachments::policy::Labels;
use attachments::policy::spec::{AttachmentPolicySpec, AttachmentPolicyStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use meta_cni_kube::{PageError, PageSize, Pages, Selector, Shape, said};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::batch::Told;
use super::conflicts::Conflict;
use super::networks::{Objects, Plan};
use crate::cluster;
use crate::facts::Cache;

/// Owns the status of policies.
const FIELD_MANAGER: &str = "meta-cni-janitor";
/// A page is read and parsed while reviews wait.
const PAGE: PageSize = PageSize { objects: 100, bytes: 512 << 10 };
/// Longest note of an event in bytes, as the API server takes it; longest part of its name that is the object's; longest name of
/// who reports it.
const NOTE: usize = 1024;
const NAME: usize = 200;
const INSTANCE: usize = 128;

/// A policy as it is stored.
pub struct Policy {
    /// Its name.
    pub name: String,
    uid: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Its text, or why that is none.
    pub spec: Result<AttachmentPolicySpec, String>,
    /// Its status.
    pub status: Option<AttachmentPolicyStatus>,
}

/// A definition as it is stored.
#[derive(Debug, Deserialize)]
pub struct Stored {
    metadata: StoredMeta,
    #[serde(default)]
    spec: StoredSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StoredSpec {
    config: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StoredMeta {
    namespace: String,
    name: String,
    uid: String,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Labels,
    annotations: Labels,
}

#[derive(Deserialize)]
struct OnlyMeta<T> {
    metadata: T,
}

impl Stored {
    /// Namespace and name.
    pub fn reference(&self) -> Option<NetRef> {
        Some(NetRef { namespace: self.metadata.namespace.parse().ok()?, name: self.metadata.name.parse().ok()? })
    }

    /// As policies see it.
    pub fn nad(&self) -> attachments::policy::Nad<'_> {
        attachments::policy::Nad {
            namespace: &self.metadata.namespace,
            name: &self.metadata.name,
            labels: Some(&self.metadata.labels),
            annotations: Some(&self.metadata.annotations),
            config: Some(self.spec.config.as_deref().unwrap_or_default()),
        }
    }

    /// What it says to others; nothing of one that is on its way out.
    pub fn into_definition(self) -> Option<cluster::Definition> {
        let reference = self.reference().filter(|_| self.metadata.deletion_timestamp.is_none())?;
        let metadata = ObjectMeta {
            uid: Some(self.metadata.uid),
            creation_timestamp: self.metadata.creation_timestamp,
            annotations: Some(self.metadata.annotations),
            ..ObjectMeta::default()
        };
        Some(cluster::Definition::read(reference, &metadata, self.spec.config.as_deref()))
    }
}

/// Every policy; none where the API server does not have the kind.
pub async fn policies(client: &Client) -> Result<Vec<Policy>, String> {
    let mut pages: Pages<Value> =
        Pages::new(client.clone(), &Cache::Policies.path(), Selector::default(), Shape::Whole, PAGE);
    let mut policies = Vec::new();
    while let Some(page) = page(&mut pages).await? {
        policies.extend(page.into_iter().map(policy));
    }
    Ok(policies)
}

fn policy(object: Value) -> Policy {
    let metadata = StoredMeta::deserialize(&object["metadata"]).unwrap_or_default();
    Policy {
        name: metadata.name,
        uid: metadata.uid,
        generation: metadata.generation,
        spec: AttachmentPolicySpec::deserialize(&object["spec"]).map_err(|e| e.to_string()),
        status: Deserialize::deserialize(&object["status"]).unwrap_or_default(),
    }
}

/// The labels of every namespace.
pub async fn namespaces(client: &Client) -> Result<HashMap<String, Labels>, String> {
    let path = Cache::Namespaces.path();
    let mut pages: Pages<OnlyMeta<StoredMeta>> =
        Pages::new(client.clone(), &path, Selector::default(), Shape::Metadata, PAGE);
    let mut namespaces = HashMap::new();
    while let Some(page) = page(&mut pages).await? {
        namespaces.extend(page.into_iter().map(|OnlyMeta { metadata }| (metadata.name, metadata.labels)));
    }
    Ok(namespaces)
}

/// Definitions, page by page.
pub struct Definitions(Pages<Stored>);

impl Definitions {
    /// From the first one.
    pub fn new(client: &Client) -> Self {
        Self(Pages::new(client.clone(), &Cache::Definitions.path(), Selector::default(), Shape::Whole, PAGE))
    }

    /// The next page.
    pub async fn next(&mut self) -> Result<Option<Vec<Stored>>, String> {
        page(&mut self.0).await
    }
}

/// Pods that are not over, page by page, by their metadata.
pub struct Pods(Pages<OnlyMeta<Told>>);

impl Pods {
    /// From the first one.
    pub fn new(client: &Client) -> Self {
        Self(Pages::new(
            client.clone(),
            &Cache::Pods.path(),
            Selector { fields: Cache::Pods.fields(), labels: None },
            Shape::Metadata,
            PAGE,
        ))
    }

    /// The next page.
    pub async fn next(&mut self) -> Result<Option<Vec<Told>>, String> {
        let page = page(&mut self.0).await?;
        Ok(page.map(|page| page.into_iter().map(|OnlyMeta { metadata }| metadata).collect()))
    }
}

/// Everything of networks that span nodes. Nodes come last: whose block was listed, that node was there before.
pub async fn networks(client: &Client) -> Result<Objects, String> {
    let claims: Vec<VniClaim> = all(client, &VniClaim::url_path(&(), None)).await?;
    let blocks: Vec<AddressBlock> = all(client, &AddressBlock::url_path(&(), None)).await?;
    let addresses: Vec<AddressClaim> = all(client, &AddressClaim::url_path(&(), None)).await?;
    if claims.is_empty() && blocks.is_empty() && addresses.is_empty() {
        return Ok(Objects::default());
    }
    let networks = super::dialects::owners(client, &claims).await?;
    let holders = holders(client, &addresses).await?;
    let is_of_set = |claim: &AddressClaim| claim.spec.holder.kind == HolderKind::AddressSet;
    let sets = match addresses.iter().any(is_of_set) {
        true => all(client, &AddressSet::url_path(&(), None)).await?,
        false => Vec::new(),
    };
    let members = all(client, &OverlayMember::url_path(&(), None)).await?;
    let mut pages: Pages<OnlyMeta<StoredMeta>> =
        Pages::new(client.clone(), &Cache::Nodes.path(), Selector::default(), Shape::Metadata, PAGE);
    let mut nodes = HashSet::new();
    while let Some(page) = page(&mut pages).await? {
        nodes.extend(page.into_iter().map(|OnlyMeta { metadata }| metadata.name));
    }
    Ok(Objects { claims, networks, members, blocks, addresses, holders, sets, nodes })
}

/// Those for whom addresses are kept, as far as they exist: each pod by its name, for few ask for an address; of IPAMClaims and AddressSets all.
async fn holders(client: &Client, claims: &[AddressClaim]) -> Result<Vec<ClaimHolder>, String> {
    let mut holders = Vec::new();
    let of_kind = |kind| claims.iter().map(|claim| &claim.spec.holder).filter(move |holder| holder.kind == kind);
    let pods: HashSet<(&str, &str)> =
        of_kind(HolderKind::Pod).map(|holder| (holder.namespace.as_str(), holder.name.as_str())).collect();
    for (namespace, name) in pods {
        let fields = format!("metadata.name={name}");
        let selector = Selector { fields: Some(&fields), labels: None };
        let path = Pod::url_path(&(), Some(namespace));
        holders.extend(existing(client, &path, selector, HolderKind::Pod).await?);
    }
    if of_kind(HolderKind::AddressSet).next().is_some() {
        let path = AddressSet::url_path(&(), None);
        holders.extend(existing(client, &path, Selector::default(), HolderKind::AddressSet).await?);
    }
    if of_kind(HolderKind::IpamClaim).next().is_some() {
        let path = "/apis/k8s.cni.cncf.io/v1alpha1/ipamclaims";
        holders.extend(existing(client, path, Selector::default(), HolderKind::IpamClaim).await?);
    }
    Ok(holders)
}

/// Objects of a kind that addresses are kept for.
async fn existing(
    client: &Client,
    path: &str,
    selector: Selector<'_>,
    kind: HolderKind,
) -> Result<Vec<ClaimHolder>, String> {
    let mut pages: Pages<OnlyMeta<StoredMeta>> = Pages::new(client.clone(), path, selector, Shape::Metadata, PAGE);
    let mut holders = Vec::new();
    while let Some(page) = page(&mut pages).await? {
        let each = page.into_iter().map(|OnlyMeta { metadata: StoredMeta { namespace, name, uid, .. } }| ClaimHolder {
            kind,
            namespace,
            name,
            uid,
        });
        holders.extend(each);
    }
    Ok(holders)
}

/// A collection of few. An object that cannot be read, edited by hand to nonsense, is left out.
async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, String> {
    let mut pages: Pages<Value> = Pages::new(client.clone(), path, Selector::default(), Shape::Whole, PAGE);
    let mut objects = Vec::new();
    while let Some(page) = page(&mut pages).await? {
        objects.extend(page.into_iter().filter_map(|object| serde_json::from_value(object).ok()));
    }
    Ok(objects)
}

/// Brings the objects of networks to a plan. Whoever changed one meanwhile wins; the next pass looks again.
pub async fn mend(client: &Client, plan: &Plan<'_>) -> Vec<String> {
    let mut failed = Vec::new();
    for claim in &plan.ended {
        failed.extend(end(client, &VniClaim::url_path(&(), None), &claim.metadata).await.err());
    }
    for block in &plan.empty {
        failed.extend(end(client, &AddressBlock::url_path(&(), None), &block.metadata).await.err());
    }
    for (block, spec) in &plan.cut {
        let cut = AddressBlock { spec: spec.clone(), ..(*block).clone() };
        let request = serde_json::to_vec(&cut).map_err(|e| e.to_string()).and_then(|body| {
            let request = Request::new(AddressBlock::url_path(&(), None));
            request.replace(&block.name_any(), &PostParams::default(), body).map_err(|e| e.to_string())
        });
        failed.extend(done(client, request, &block.metadata).await.err());
    }
    for claim in &plan.freed {
        failed.extend(end(client, &AddressClaim::url_path(&(), None), &claim.metadata).await.err());
    }
    for (claim, spec) in &plan.narrowed {
        let narrowed = AddressClaim { spec: spec.clone(), ..(*claim).clone() };
        let request = serde_json::to_vec(&narrowed).map_err(|e| e.to_string()).and_then(|body| {
            let request = Request::new(AddressClaim::url_path(&(), None));
            request.replace(&claim.name_any(), &PostParams::default(), body).map_err(|e| e.to_string())
        });
        failed.extend(done(client, request, &claim.metadata).await.err());
    }
    for (claim, status) in &plan.told {
        let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": status});
        let request = Request::new(VniClaim::url_path(&(), None))
            .patch_subresource("status", &claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .map_err(|e| e.to_string());
        failed.extend(done(client, request, &claim.metadata).await.err());
    }
    failed
}

/// Deletes the very object that was seen.
async fn end(client: &Client, path: &str, metadata: &ObjectMeta) -> Result<(), String> {
    let preconditions =
        Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let name = metadata.name.as_deref().unwrap_or_default();
    let request = Request::new(path).delete(name, &params).map_err(|e| e.to_string());
    done(client, request, metadata).await?;
    tracing::info!(object = name, "{path}: nobody has it any more: deleted");
    Ok(())
}

async fn done(
    client: &Client,
    request: Result<hyper::Request<Vec<u8>>, String>,
    metadata: &ObjectMeta,
) -> Result<(), String> {
    match client.request::<Value>(request?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("{}: {}", metadata.name.as_deref().unwrap_or_default(), said(&error))),
    }
}

/// The next page of a collection; a kind that the API server does not have is an empty one.
async fn page<T: DeserializeOwned>(pages: &mut Pages<T>) -> Result<Option<Vec<T>>, String> {
    match pages.next().await {
        Ok(page) => Ok(page),
        Err(PageError::Api(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Err(PageError::Api(error)) => Err(said(&error)),
        Err(PageError::Other(why)) => Err(why),
    }
}

/// Writes a policy's status. A policy that is gone, or another one of its name, is left alone.
pub async fn write(client: &Client, policy: &Policy, status: &AttachmentPolicyStatus) -> Result<(), String> {
    let applied = json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy",
        "metadata": {"name": policy.name, "uid": policy.uid}, "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let request = Request::new(Cache::Policies.path()).patch_subresource(
        "status",
        &policy.name,
        &params,
        &Patch::Apply(&applied),
    );
    let request = request.map_err(|e| e.to_string())?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("status of policy {}: {}", policy.name, said(&error))),
    }
}

/// Tells of a conflict by an event on the younger definition. The event's name is the key's: another janitor's is the same event.
pub async fn tell(client: &Client, conflict: &Conflict, key: u64, replica: &str, now: Timestamp) -> Result<(), String> {
    let NetRef { namespace, name } = &conflict.reference;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"namespace": namespace.as_str(), "name": format!("{}.{key:016x}", cut(name.as_str(), NAME).trim_end_matches(['.', '-']))},
        "eventTime": MicroTime(now), "type": "Warning", "reason": "NetworkConflict", "action": "Audit",
        "reportingController": FIELD_MANAGER, "reportingInstance": cut(replica, INSTANCE),
        "regarding": {
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "namespace": namespace.as_str(), "name": name.as_str(), "uid": conflict.uid,
        },
        "note": cut(&shortened(&conflict.text, NOTE), NOTE),
    });
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let body = serde_json::to_vec(&event).map_err(|e| e.to_string())?;
    let request = Request::new(path).create(&PostParams::default(), body).map_err(|e| e.to_string())?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        // It was told, or there is nobody any more to be told.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("an event on {}: {}", conflict.reference, said(&error))),
    }
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    &text[..end]
}
