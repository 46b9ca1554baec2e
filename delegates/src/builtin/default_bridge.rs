//! The bridge of the default network: the node's, on which every pod has its first interface. A definition that joins it is
//! on one wire with all pods, and one that changes it changes their network.

use attachments::aliases::stands_for;
use attachments::cni::object::Object;
use attachments::finding::Finding;

use super::bridge;
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;

/// The bridge that a plugin's configuration means, where it means one.
pub fn bridge_of(kind: &str, conf: &Object) -> Option<String> {
    let text = |conf: &Object, key: &str| conf.text(key).ok().flatten().filter(|text| !text.is_empty());
    let named = |conf: &Object| text(conf, "bridge").unwrap_or_else(|| bridge::DEFAULT.to_owned());
    match stands_for(kind) {
        "bridge" => Some(named(conf)),
        "flannel" => {
            let delegate = conf.object("delegate").ok().flatten().unwrap_or_default();
            let is_bridge = text(&delegate, "type").is_none_or(|kind| stands_for(&kind) == "bridge");
            is_bridge.then(|| named(&delegate))
        }
        _ => None,
    }
}

/// Refuses a definition that asks for the default network's bridge under `key`, unless the node shares it.
pub(super) fn refuse(host: &Host<'_>, call: &Call<'_>, key: &str, name: &str) -> Result<()> {
    if !call.origin.is_tenants || host.node.reserved.share_default_bridge || !host.is_of_default(name) {
        return Ok(());
    }
    const ONLY: &str = "which definitions may use only if the node's key shareDefaultBridge is true";
    let is_named = call.conf.text(key).is_ok_and(|text| text.is_some_and(|text| !text.is_empty()));
    let finding = if is_named {
        Finding::new(key, format_args!("{name:?}"), format!("another than the default network's bridge, {ONLY}"))
    } else {
        Finding::missing(key, format!("a bridge's name: absent it is {name}, the default network's bridge, {ONLY}"))
    };
    Err(finding.into())
}

/// The same for what stands on a master.
pub(super) fn refuse_as_master(host: &Host<'_>, call: &Call<'_>) -> Result<()> {
    // One that cannot be read is found by validation, and one of the pod's is no bridge of the node.
    let in_pod = call.conf.flag("linkInContainer").unwrap_or_default();
    match call.conf.text("master") {
        Ok(Some(master)) if !in_pod => refuse(host, call, "master", &master),
        _ => Ok(()),
    }
}
