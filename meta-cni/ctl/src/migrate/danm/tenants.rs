//! Limits of tenants as AttachmentPolicies.

use attachments::cni::object::Object;
use attachments::dialect::danm::tenant::{TenantConfig, VniKind};
use attachments::dialect::objects::ForeignRef;
use attachments::names::{NetRef, ObjectName};
use serde_json::{Value, json};

use crate::migrate::manifests::Migration;

fn policy(name: &str, but: &[&str], applies_to: &str, rules: Vec<Value>) -> Value {
    let namespaces = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": but});
    json!({
        "apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": name},
        "spec": {"namespaceSelector": {"matchExpressions": [namespaces]}, "appliesTo": [applies_to], "rules": rules},
    })
}

/// Which pods may use a network that is for some namespaces only.
pub(super) fn allowed(reference: &ForeignRef, name: &NetRef, tenants: &[String]) -> Option<(Vec<String>, Value)> {
    if tenants.is_empty() {
        return None;
    }
    let NetRef { namespace, name } = name;
    let but: Vec<&str> = tenants.iter().map(String::as_str).collect();
    // Of what a rule sees only a definition has `own`.
    let select = format!("$[?@.own == false && @.namespace == '{namespace}' && @.name == '{name}'].name");
    let message = format!("{namespace}/{name} is for the namespaces {}", tenants.join(", "));
    let rule = json!({"name": name, "select": select, "assert": {"absent": true}, "message": message});
    let notes = vec![format!("AllowedTenants of {reference}.")];
    Some((notes, policy(&format!("danm-{name}"), &but, "Pod", vec![rule])))
}

/// What a TenantConfig gives to tenants: definitions of their namespaces keep to it. What it drew for them by itself, it does no more.
pub(super) fn config(reference: &ForeignRef, object: &Value, shared: &ObjectName, migration: &mut Migration) {
    let mut says = object.clone();
    if let Some(fields) = says.as_object_mut() {
        fields.retain(|key, _| !["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()));
    }
    let read = Object::parse(says.to_string().as_bytes()).map_err(|e| e.to_string());
    let read = read.and_then(|says| {
        TenantConfig::read(&says).map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    });
    let config = match read {
        Ok(config) => config,
        Err(why) => return migration.left.push(format!("{reference}: {why}")),
    };
    let links: Vec<&str> = config.devices.iter().filter(|one| !one.is_pool()).map(|one| one.name.as_str()).collect();
    let mut rules = vec![
        json!({"name": "masters", "forEach": "$.config.plugins[?@.type == 'macvlan' || @.type == 'ipvlan' || @.type == 'vlan']",
            "select": "$.master", "assert": {"oneOf": links}}),
        json!({"name": "underlays", "forEach": "$.config.plugins[?@.type == 'vxlan']",
            "select": "$.underlay", "assert": {"oneOf": links}}),
    ];
    for device in &config.devices {
        let Some(vnis) = device.vnis.as_ref().filter(|_| !device.is_pool()) else { continue };
        let ranges: Vec<Value> = vnis.ranges.iter().map(|(min, max)| json!({"min": min, "max": max})).collect();
        let (link, key) = match vnis.kind {
            VniKind::Vlan => ("master", "masterVlan"),
            VniKind::Vxlan => ("underlay", "vni"),
        };
        rules.push(json!({"name": format!("{}-of-{}", vnis.kind.as_str(), device.name),
            "forEach": format!("$.config.plugins[?@.{link} == '{}']", device.name),
            "select": format!("$.{key}"), "assert": {"ranges": ranges}}));
    }
    if links.is_empty() {
        return migration
            .skipped
            .push(format!("{reference}: it names no link; pools of devices are the device plugin's to give"));
    }
    let mut notes = vec![format!(
        "From {reference}. Definitions of tenants name link and identifier themselves, within these; the dialect chooses them for TenantNetworks."
    )];
    if !config.network_ids.is_empty() {
        notes.push("networkIds has no counterpart: each definition has its configuration.".to_owned());
    }
    let name = format!("danm-{}", reference.name);
    let but = ["kube-system", shared.as_str()];
    migration.objects.push((notes, policy(&name, &but, "NetworkAttachmentDefinition", rules)));
}
