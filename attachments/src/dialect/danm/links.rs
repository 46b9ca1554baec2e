//! Definitions that name a VLAN of their master in DANM's way: `vlan` beside `master` and `name`. DANM's netwatcher made the link and
//! rewrote the definition. Here the link is chosen when a pod is attached, and the definition stays.

use super::network::link_name;
use crate::cni::conf::{NetworkConf, PluginConf};
use crate::finding::Finding;
use crate::names::IfName;

/// The types that stand on a master.
const TYPES: [&str; 2] = ["macvlan", "ipvlan"];

/// Chooses the link of a definition of a single plugin.
pub fn choose(conf: &mut NetworkConf) -> Result<(), Finding> {
    let (Some(name), [plugin]) = (&conf.name, conf.plugins.as_mut_slice()) else { return Ok(()) };
    let has_master = plugin.object.text("master")?.is_some_and(|master| !master.is_empty());
    if !has_master || !TYPES.contains(&plugin.kind.as_str()) {
        return Ok(());
    }
    if let Some(id) = plugin.object.decode::<i64>("vxlan", "an integer")? {
        let allowed = "nothing: type vxlan with vni and underlay in the place of master says the same";
        return Err(Finding::new("vxlan", id, allowed));
    }
    let Some(id) = plugin.object.decode::<i64>("vlan", "an integer")? else { return Ok(()) };
    let link: IfName = link_name(name.as_str(), id).parse().map_err(|finding: Finding| finding.under("name"))?;
    let mut object = plugin.object.clone();
    object.remove("vlan");
    object.set("masterVlan", &id);
    object.set("masterVlanName", &link);
    *plugin = PluginConf::from_object(object)?;
    Ok(())
}
