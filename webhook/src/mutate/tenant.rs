//! What a TenantNetwork of DANM gets when it is made: the NetworkID of its type, a device where it names none, and an identifier on it.
//!
//! Which identifiers are taken the stored networks tell, so that one is free when its network is gone. What another replica gives away
//! at the same moment a claim tells apart ([`super::claim`]), or a lock ([`super::lock`]).

use attachments::cni::object::Object;
use attachments::dialect::danm::tenant::{HostDevice, VniKind, Vnis};
use attachments::dialect::danm::{NETWORKS, NetworkSpec, Options};
use attachments::dialect::objects::{ForeignRef, Kind as Foreign};
use attachments::finding::Finding;
use attachments::names::NetRef;
use attachments::text::hash;
use delegates::lint::{self, Kind, Problem};
use json_patch::PatchOperation;
use serde_json::{Value, json};

use super::vni::Draw;
use super::{Identifier, patch};
use crate::cluster::definition::VXLAN_PORT;
use crate::cluster::{Common, Pair, View};
use crate::rules::{Operation, Request, tenant_config};

/// What a network gets.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// What is written into it.
    pub operations: Vec<PatchOperation>,
    /// What was drawn, with the network that is to own it.
    pub drawn: Vec<(Identifier, NetRef)>,
}

/// What a request for a TenantNetwork gets; what is wrong with it is everything that only this can tell.
pub(super) fn complete(request: &Request<'_>, draw: &Draw<'_>, view: &View) -> Result<Given, Vec<Problem>> {
    let refused = |finding: Finding| vec![lint::found(finding.under("spec"))];
    let read = |object: &Value| {
        let spec = Object::parse(object["spec"].to_string().as_bytes()).unwrap_or_default();
        NetworkSpec::read(&spec)
    };
    let spec = read(request.object).map_err(refused)?;
    if request.operation == Operation::Update {
        let before = request.old.map(read).and_then(Result::ok).unwrap_or_default();
        return Ok(Given { operations: kept(request.object, &spec, &before), ..Given::default() });
    }
    by_hand(&spec.options)?;
    let Some(config) = tenant_config(view) else {
        let text = "a TenantConfig that can be read: it says what tenants may have";
        return Err(vec![Problem::unruled(Kind::Required, "spec", "", text)]);
    };
    let reference = reference(request).ok_or_else(|| {
        let text = "must have a name: what is given to it is the network's of this name";
        vec![Problem::unruled(Kind::Required, "metadata.name", "", text)]
    })?;
    let given = config.given(&spec, |device| users(device, view)).map_err(refused)?;
    let mut writes = Writes::new(request.object);
    if let Some(id) = given.network_id.filter(|id| spec.network_id.as_deref() != Some(id)) {
        writes.spec("NetworkID", json!(id));
    }
    let mut drawn = Vec::new();
    if let Some(device) = given.device {
        if spec.options.host_device.is_none() && spec.options.device_pool.is_none() {
            writes.option("host_device", json!(device.name));
        }
        if let Some(vnis) = &device.vnis {
            let vni = draw_of(device, vnis, &reference, draw, view).ok_or_else(|| vec![full(device, vnis)])?;
            writes.option(vnis.kind.as_str(), json!(vni));
            // As the agents name it when they claim.
            drawn.push((identifier(device, vnis.kind, vni), reference.as_definition()));
        }
    }
    Ok(Given { operations: writes.operations, drawn })
}

/// The identifiers are the administrator's to give.
fn by_hand(options: &Options) -> Result<(), Vec<Problem>> {
    let written = [("vlan", options.vlan), ("vxlan", options.vxlan)];
    let problem = |(key, vni): (&str, Option<i64>)| {
        let text = "a tenant's network is given one of the TenantConfig's vniRange; leave it out";
        Some(Problem::unruled(Kind::Forbidden, format!("spec.Options.{key}"), vni?, text))
    };
    let problems: Vec<Problem> = written.into_iter().filter_map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// An update that lacks what was given means the same network.
fn kept(object: &Value, spec: &NetworkSpec, before: &NetworkSpec) -> Vec<PatchOperation> {
    let mut writes = Writes::new(object);
    let (is, was) = (&spec.options, &before.options);
    if is.host_device.is_none() && is.device_pool.is_none() {
        for (key, value) in [("host_device", &was.host_device), ("device_pool", &was.device_pool)] {
            value.iter().for_each(|value| writes.option(key, json!(value)));
        }
    }
    if is.vlan.is_none() && is.vxlan.is_none() {
        for (key, value) in [("vlan", was.vlan), ("vxlan", was.vxlan)] {
            value.iter().for_each(|value| writes.option(key, json!(value)));
        }
    }
    writes.operations
}

/// How many networks of tenants are on a device.
fn users(device: &str, view: &View) -> usize {
    let is_on = |options: &Options| [&options.host_device, &options.device_pool].contains(&&Some(device.to_owned()));
    networks(view, Foreign::TenantNetwork).filter(|(_, spec)| is_on(&spec.options)).count()
}

fn networks(view: &View, kind: Foreign) -> impl Iterator<Item = (&ForeignRef, NetworkSpec)> {
    view.foreign().of(kind).filter_map(|(reference, says)| Some((reference, NetworkSpec::read(&says).ok()?)))
}

/// Is the pair that of a network of DANM?
pub(super) fn is_given((port, vni): Pair, view: &View) -> bool {
    port == VXLAN_PORT
        && NETWORKS
            .into_iter()
            .flat_map(|kind| networks(view, kind))
            .any(|(_, spec)| spec.options.vxlan == Some(vni.into()))
}

/// The lowest free identifier of a device. A VLAN is one of its device; a VXLAN network is one of the cluster.
fn draw_of(device: &HostDevice, vnis: &Vnis, own: &ForeignRef, draw: &Draw<'_>, view: &View) -> Option<u32> {
    let others = NETWORKS.into_iter().flat_map(|kind| networks(view, kind)).filter(|(reference, _)| *reference != own);
    let taken: Vec<u32> = others
        .filter_map(|(_, NetworkSpec { options, .. })| match vnis.kind {
            VniKind::Vlan => {
                let is_on = [&options.host_device, &options.device_pool].contains(&&Some(device.name.clone()));
                options.vlan.filter(|_| is_on)
            }
            VniKind::Vxlan => options.vxlan,
        })
        .filter_map(|vni| u32::try_from(vni).ok())
        .collect();
    let (owner, definition) = (own.to_string(), own.as_definition());
    let is_free = |vni: u32| {
        let pair = (VXLAN_PORT, vni);
        let is_others = vnis.kind == VniKind::Vxlan
            && (view.claims().get(pair).is_some_and(|claim| *claim.owner != *definition.to_string())
                || view.others(&Common::Pair(pair.0, pair.1), &definition).next().is_some());
        let identifier = identifier(device, vnis.kind, vni);
        !taken.contains(&vni)
            && !is_others
            && !draw.taken.contains(&identifier)
            && draw.drawn.keep(identifier, &owner, draw.now, draw.is_dry_run)
    };
    vnis.first_free(is_free)
}

/// What nobody else may have.
fn identifier(device: &HostDevice, kind: VniKind, id: u32) -> Identifier {
    match kind {
        VniKind::Vlan => Identifier::Vlan(hash(&device.name), id),
        VniKind::Vxlan => Identifier::Pair((VXLAN_PORT, id)),
    }
}

fn full(device: &HostDevice, vnis: &Vnis) -> Problem {
    let (kind, range) = (vnis.kind.as_str(), vnis.text());
    let text = format!("no {kind} of {range} is free on {}; delete a network, or have vniRange widened", device.name);
    Problem::unruled(Kind::Required, format!("spec.Options.{kind}"), "", text)
}

/// The network itself.
fn reference(request: &Request<'_>) -> Option<ForeignRef> {
    let name = [request.name, request.object["metadata"]["name"].as_str().unwrap_or_default()];
    let name = name.into_iter().find(|name| !name.is_empty())?;
    Some(ForeignRef::within(&request.namespace.parse().ok()?, Foreign::TenantNetwork, name.parse().ok()?))
}

/// What is written into an object, in order.
struct Writes {
    has_options: bool,
    operations: Vec<PatchOperation>,
}

impl Writes {
    fn new(object: &Value) -> Self {
        Self { has_options: object["spec"]["Options"].is_object(), operations: Vec::new() }
    }

    fn spec(&mut self, key: &str, value: Value) {
        self.operations.push(patch::add(patch::pointer(["spec", key]), value));
    }

    fn option(&mut self, key: &str, value: Value) {
        if !self.has_options {
            self.spec("Options", json!({}));
            self.has_options = true;
        }
        self.operations.push(patch::add(patch::pointer(["spec", "Options", key]), value));
    }
}
