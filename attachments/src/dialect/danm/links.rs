//! Definitions that name a VLAN or a VXLAN of their master in DANM's way: `vlan` or `vxlan` beside `master` and `name`. DANM's netwatcher
//! made the link and rewrote the definition. Here the link is chosen when a pod is attached, and the definition stays.

use super::network::link_name;
use crate::cni::conf::{NetworkConf, PluginConf};
use crate::cni::object::Object;
use crate::finding::{Allowed, Finding};
use crate::names::IfName;

/// The types that stand on a master.
const TYPES: [&str; 2] = ["macvlan", "ipvlan"];

/// The text of a definition with its link chosen, where it names that in DANM's way. What cannot be read has nothing of it.
pub fn chosen(text: &str) -> Result<Option<String>, Finding> {
    let Ok(object) = Object::parse(text.as_bytes()) else { return Ok(None) };
    if object.get("plugins").is_some() {
        return Ok(None);
    }
    let Ok(mut conf) = NetworkConf::from_object(object) else { return Ok(None) };
    let is_chosen = choose(&mut conf)?;
    Ok(conf.plugins.first().filter(|_| is_chosen).map(|plugin| plugin.object.to_json()))
}

/// Chooses the link of a definition of a single plugin. True where it names one in DANM's way.
pub fn choose(conf: &mut NetworkConf) -> Result<bool, Finding> {
    let (Some(name), [plugin]) = (&conf.name, conf.plugins.as_mut_slice()) else { return Ok(false) };
    let has_master = plugin.object.text("master")?.is_some_and(|master| !master.is_empty());
    if !has_master || !TYPES.contains(&plugin.kind.as_str()) {
        return Ok(false);
    }
    // DANM's reader gives 0 to what is absent.
    let number = |key| Ok(plugin.object.decode::<i64>(key, "an integer")?.filter(|id| *id != 0));
    let (own, key, id, link) = match (number("vlan")?, number("vxlan")?) {
        (None, None) => return Ok(false),
        (Some(id), None) => ("vlan", "masterVlan", id, link_name(name.as_str(), id)),
        (None, Some(id)) => ("vxlan", "masterVxlan", id, format!("vx_{name}")),
        (Some(_), Some(id)) => return Err(Finding::new("vxlan", id, Allowed::without("vlan"))),
    };
    let link: IfName = link.parse().map_err(|finding: Finding| finding.under("name"))?;
    let mut object = plugin.object.clone();
    object.remove(own);
    object.set(key, &id);
    object.set(&format!("{key}Name"), &link);
    *plugin = PluginConf::from_object(object)?;
    Ok(true)
}
