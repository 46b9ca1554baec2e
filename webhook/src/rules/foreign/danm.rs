//! DANM's networks, TenantConfigs and ReservedIPs: what its own admission refused, all of it at once, judged by what is stored.
//!
//! Who uses a network is known from the annotations of pods that are not over. A pod without an annotation, which has the network
//! `default`, is not counted.

use attachments::cni::object::Object;
use attachments::dialect::danm::judge::{self, Before};
use attachments::dialect::danm::reserved::{ReservedIp, of_network};
use attachments::dialect::danm::tenant::{self, TenantConfig};
use attachments::dialect::danm::{NetworkSpec, Options, twin};
use attachments::dialect::objects::{ForeignRef, Kind as Foreign, Objects, disagreement, group_of, meaning};
use attachments::finding::{Finding, Findings};
use attachments::names::ObjectName;
use delegates::lint::{self, Kind, Problem};

use super::not_found;
use crate::cluster::View;
use crate::rules::{Operation, Request, pods_use, quoted};

/// Judges one. A network that a tenant names is judged beside the TenantConfig.
pub(super) fn judge(reference: &ForeignRef, request: &Request<'_>, says: &Object, view: &View) -> Vec<Problem> {
    let in_spec = |findings: Vec<Finding>| findings.into_iter().map(|finding| lint::found(finding.under("spec")));
    match reference.kind {
        Foreign::TenantConfig => {
            tenant::judge(says, request.operation == Operation::Create).into_iter().map(lint::found).collect()
        }
        Foreign::ReservedIP => match ReservedIp::read(says) {
            Ok(reserved) => self::reserved(reference, &reserved, view),
            Err(findings) => in_spec(findings).collect(),
        },
        Foreign::DanmNet | Foreign::TenantNetwork | Foreign::ClusterNetwork => {
            let old = request.old.filter(|_| request.operation == Operation::Update);
            let old = old.and_then(|old| Object::parse(old["spec"].to_string().as_bytes()).ok());
            let is_in_use = users(reference, view).is_some();
            let before = old.as_ref().map(|spec| Before { spec, is_in_use });
            let mut problems: Vec<Problem> =
                network(reference.kind, says, before).into_iter().map(lint::found).collect();
            if reference.kind == Foreign::TenantNetwork
                && let Ok(spec) = NetworkSpec::read(says)
            {
                problems.extend(tenants(&spec, view));
            }
            problems.extend(twins(reference, request, says, view));
            problems
        }
        _ => Vec::new(),
    }
}

/// What is wrong with a network by itself. Whoever makes a tenant's network may not give it an identifier, but has it by now: that was judged
/// when it was given ([`crate::mutate`]).
fn network(kind: Foreign, says: &Object, before: Option<Before<'_>>) -> Vec<Finding> {
    if kind != Foreign::TenantNetwork || before.is_some() {
        return judge::judge(kind, says, before);
    }
    let mut made = says.clone();
    if let Ok(Some(mut options)) = says.object("Options") {
        options.retain(|key| !["vlan", "vxlan"].contains(&key));
        made.set("Options", &options);
    }
    let mut findings = Findings::default();
    findings.extend(judge::judge(kind, &made, None));
    let values = NetworkSpec::read(says).map(|spec| judge::values(&spec)).unwrap_or_default();
    findings.extend(values.into_iter().map(|finding| finding.under("spec")));
    findings.into()
}

/// The TenantConfig that counts: the first by name.
pub(crate) fn tenant_config(view: &View) -> Option<TenantConfig> {
    let (_, says) = view.foreign().of(Foreign::TenantConfig).next()?;
    TenantConfig::read(&says).ok()
}

/// What tenants have in common: which device the network is on, and which identifier it has there. Both were given when it was made.
fn tenants(spec: &NetworkSpec, view: &View) -> Vec<Problem> {
    let Some(config) = tenant_config(view) else {
        let text = "a TenantConfig that can be read: it says what tenants may have";
        return vec![Problem::unruled(Kind::Required, "spec", "", text)];
    };
    let given = match config.given(spec, |_| 0) {
        Ok(given) => given,
        Err(finding) => return vec![lint::found(finding.under("spec"))],
    };
    let Options { vlan, vxlan, .. } = spec.options;
    let vnis = given.device.and_then(|device| device.vnis.as_ref());
    let mut problems = Vec::new();
    for (key, written) in [("vlan", vlan), ("vxlan", vxlan)] {
        let own = vnis.filter(|vnis| vnis.kind.as_str() == key);
        let path = format!("spec.Options.{key}");
        let problem = match (own, written) {
            (Some(vnis), Some(vni)) if u32::try_from(vni).is_ok_and(|vni| vnis.contains(vni)) => continue,
            (Some(vnis), Some(vni)) => Problem::unruled(
                Kind::Invalid,
                path,
                vni,
                format!("must be one of the device's vniRange {}", vnis.text()),
            ),
            (Some(_), None) if has_device(spec) => {
                Problem::unruled(Kind::Required, path, "", "given when the network is made, by mutate-danm")
            }
            (None, Some(vni)) => {
                Problem::unruled(Kind::Forbidden, path, vni, "the TenantConfig gives none of the device to tenants")
            }
            (Some(_), None) | (None, None) => continue,
        };
        problems.push(problem);
    }
    problems
}

fn has_device(spec: &NetworkSpec) -> bool {
    spec.options.host_device.is_some() || spec.options.device_pool.is_some()
}

/// Objects of the same name that mean another network: in the other group, and of the other mode.
fn twins(reference: &ForeignRef, request: &Request<'_>, says: &Object, view: &View) -> Vec<Problem> {
    let of = |object: &Object| {
        let says = serde_json::from_str(&object.to_json()).unwrap_or_default();
        meaning(reference.kind, says)
    };
    let own = of(says);
    let mut problems = Vec::new();
    let is_elsewhere = |version: &str| group_of(version) != request.group;
    let differs = |says: Option<Object>| says.is_none_or(|says| of(&says) != own);
    if view.foreign().groups(reference).any(|(version, says)| is_elsewhere(version) && differs(says)) {
        problems.push(Problem::unruled(Kind::Forbidden, "metadata.name", "", disagreement(reference)));
    }
    let Some(other) = twin(reference) else { return problems };
    if view.foreign().has(&other) {
        let text = format!("{other} has the name: a namespace has networks of the one mode or the other");
        problems.push(Problem::unruled(Kind::Forbidden, "metadata.name", "", text));
    }
    problems
}

/// A network that pods use stays, unless its namespace goes with them.
pub(super) fn delete(reference: &ForeignRef, view: &View) -> Vec<Problem> {
    let is_terminating = view.namespace(reference.namespace()).is_some_and(|namespace| namespace.is_terminating);
    let users = users(reference, view).filter(|_| !is_terminating);
    users
        .map(|users| Problem::unruled(Kind::Forbidden, "", "", format!("{users}; delete those first")))
        .into_iter()
        .collect()
}

/// `4 running pods use it, first shop/web-0`.
fn users(reference: &ForeignRef, view: &View) -> Option<String> {
    let users = view.foreign().users(reference);
    let count = users.len();
    let first = view.foreign().users(reference).next()?;
    Some(format!("{} it, first {first}", pods_use(count)))
}

/// The network whose addresses a ReservedIP keeps.
pub(super) fn network_of(reference: &ForeignRef, spec: &Object) -> Option<ForeignRef> {
    ReservedIp::read(spec).ok()?.network_of(reference.namespace.as_ref()?)
}

fn reserved(reference: &ForeignRef, reserved: &ReservedIp, view: &View) -> Vec<Problem> {
    let name = || quoted(&reserved.network);
    let Some(network) = reference.namespace.as_ref().and_then(|namespace| reserved.network_of(namespace)) else {
        let text = format!("must be {}", ObjectName::ALLOWED);
        return vec![Problem::unruled(Kind::Invalid, "spec.network.name", name(), text)];
    };
    let mut problems = Vec::new();
    if reserved.is_of_cluster && !tenant_config(view).is_some_and(|config| config.lets_reserve(&reserved.network)) {
        let text = "the TenantConfig must give the privilege \"reservedIp\" on it (allowedClusterNetworks)";
        problems.push(Problem::unruled(Kind::Forbidden, "spec.network.name", name(), text));
    }
    if !view.foreign().has(&network) {
        problems.push(not_found("spec.network.name", &network));
    } else if let Some(spec) = view.foreign().spec(&network).and_then(|spec| NetworkSpec::read(&spec).ok()) {
        problems.extend(reserved.outside(&spec).into_iter().map(|finding| lint::found(finding.under("spec"))));
    }
    let others: Objects =
        view.foreign().of(Foreign::ReservedIP).map(|(one, says)| (one.clone(), says.to_json())).collect();
    for (other, its) in of_network(&network, others.iter()).into_iter().filter(|(other, _)| *other != reference) {
        for (i, (address, _)) in reserved.addresses.iter().enumerate() {
            if its.addresses.iter().any(|(one, _)| one == address) {
                let text = format!("must be an address that no other ReservedIP keeps: {other} does");
                let at = format!("spec.ips[{i}].address");
                problems.push(Problem::unruled(Kind::Invalid, at, quoted(address.to_string()), text));
            }
        }
    }
    problems
}
