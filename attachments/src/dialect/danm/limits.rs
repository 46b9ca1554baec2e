//! What a TenantConfig says of a network of tenants when a pod is attached. Admission judges a network when it is made; one that was made while
//! the webhook was away is judged here.

use super::NetworkSpec;
use super::tenant::{DYNAMIC, HostDevice, TenantConfig, VniKind, Vnis};
use crate::cni::object::Object;
use crate::dialect::objects::{ForeignRef, Kind, Objects, is_limited};
use crate::finding::Finding;

/// The TenantConfig that counts: the first by name.
pub fn tenant_config<'a>(objects: impl Iterator<Item = &'a ForeignRef>) -> Option<&'a ForeignRef> {
    objects.filter(|one| one.kind == Kind::TenantConfig).min()
}

/// Refuses a network of tenants that its TenantConfig does not allow. A finding's path begins with the object that is wrong.
pub(super) fn judge(reference: &ForeignRef, objects: &Objects) -> Result<(), Finding> {
    if !is_limited(reference) {
        return Ok(());
    }
    let Some(limits) = tenant_config(objects.keys()) else { return Ok(()) };
    let config = TenantConfig::read(&read(limits, objects)?);
    let config = config.map_err(|found| unreadable(limits, found))?;
    let at = |finding: Finding| finding.under(&format!("{reference}: spec"));
    let spec = NetworkSpec::read(&read(reference, objects)?).map_err(at)?;
    refusal(&spec, &config, limits).map_or(Ok(()), |finding| Err(at(finding)))
}

/// Says which networks of tenants nothing limits: there is no TenantConfig.
pub(super) fn unlimited<'a>(named: impl Iterator<Item = &'a ForeignRef>, objects: &Objects) -> Option<String> {
    let networks: Vec<String> = named.filter(|one| is_limited(one)).map(ToString::to_string).collect();
    (!networks.is_empty() && tenant_config(objects.keys()).is_none())
        .then(|| format!("{}: there is no TenantConfig, so nothing limits its link", networks.join(", ")))
}

fn read(reference: &ForeignRef, objects: &Objects) -> Result<Object, Finding> {
    let text = objects.get(reference).map(String::as_str).unwrap_or_default();
    let unread = |e| Finding::new("", format_args!("invalid JSON ({e})"), "an object").under(&reference.to_string());
    Object::parse(text.as_bytes()).map_err(unread)
}

/// The first thing that is wrong with a TenantConfig.
fn unreadable(limits: &ForeignRef, found: Vec<Finding>) -> Finding {
    let first = found.into_iter().next().unwrap_or_else(|| Finding::missing("", "what tenants may have"));
    Finding { path: format!("{limits}: {}", first.path), ..first }
}

/// The link must be listed, and the identifier one of the link's range: without it, pods would be on what carries everybody's.
fn refusal(spec: &NetworkSpec, config: &TenantConfig, limits: &ForeignRef) -> Option<Finding> {
    let kind = spec.network_type.as_deref().unwrap_or("ipvlan");
    if !DYNAMIC.iter().any(|one| kind.eq_ignore_ascii_case(one)) {
        return None;
    }
    let options = &spec.options;
    let named = [("host_device", &options.host_device), ("device_pool", &options.device_pool)];
    for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
        let Some(device) = config.device(name) else {
            let listed: Vec<&str> = config.devices.iter().map(|device| device.name.as_str()).collect();
            let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
            let allowed = format!("a device that {limits} lists: {listed}");
            return Some(Finding::new(format!("Options.{key}"), name, allowed));
        };
        let identifiers = [(VniKind::Vlan, options.vlan), (VniKind::Vxlan, options.vxlan)];
        if let Some(finding) = identifiers.into_iter().find_map(|(kind, id)| outside(kind, id, device, limits)) {
            return Some(finding);
        }
    }
    None
}

/// What is wrong with the identifier of this kind, or with there being none.
fn outside(kind: VniKind, id: Option<i64>, device: &HostDevice, limits: &ForeignRef) -> Option<Finding> {
    let (path, name) = (format!("Options.{}", kind.as_str()), &device.name);
    let own = device.vnis.as_ref().filter(|vnis| vnis.kind == kind);
    let given = |vnis: &Vnis| format!("one of {}, which {limits} gives of {name}", vnis.text());
    match (own, id) {
        (Some(vnis), Some(id)) if u32::try_from(id).is_ok_and(|id| vnis.contains(id)) => None,
        (Some(vnis), Some(id)) => Some(Finding::new(path, id, given(vnis))),
        (Some(vnis), None) => Some(Finding::missing(path, given(vnis))),
        (None, Some(id)) => {
            Some(Finding::new(path, id, format!("nothing: {limits} gives no {} of {name}", kind.as_str())))
        }
        (None, None) => None,
    }
}
