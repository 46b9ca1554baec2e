//! What a definition asks of the cluster.

use attachments::bind::Source;
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::names::NetRef;

use super::NetworkId;
use crate::builtin::overlay_of;
use crate::ipam::blocks::{self, Pool, whereabouts};
use crate::overlay::Underlay;
use crate::spelling;

/// A network that spans nodes, as one plugin of a definition asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// The network.
    pub id: NetworkId,
    /// The overlay; absent for a network that is there without us.
    pub overlay: Option<OverlayNeed>,
    /// The addresses; absent where the plugin takes none, or from elsewhere.
    pub pool: Option<Pool>,
}

/// An overlay whose members the cluster knows.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayNeed {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Where the tunnel's local address comes from; absent: the node's InternalIP.
    pub underlay: Option<Underlay>,
    /// MTU inside the overlay, where the definition says one.
    pub mtu: Option<u32>,
    /// `sharedWith`: the definitions that may have the same VNI and port.
    pub shared_with: Vec<NetRef>,
}

/// What the plugins of a definition need. A plugin whose configuration is wrong needs nothing: the ADD tells what is wrong.
pub fn needs(config: &str, reference: &NetRef) -> Vec<Need> {
    needs_of(config, reference, None)
}

/// The same on a node that reads whereabouts' configuration as one of blocks, with its files.
pub fn needs_of(config: &str, reference: &NetRef, files: Option<&whereabouts::Files<'_>>) -> Vec<Need> {
    let Ok(mut conf) = NetworkConf::parse(config.as_bytes()) else { return Vec::new() };
    let source = Source::Definition(reference.clone());
    let each = conf.plugins.iter_mut().filter_map(|plugin| {
        if let Some(files) = files {
            // Keys may be in any case, as the plugin reads them.
            spelling::settle(plugin, true).ok()?;
            spelling::whereabouts(plugin, files).ok()?;
        }
        need(&plugin.object, &source)
    });
    each.collect()
}

/// The network that a plugin's configuration asks for, if it spans nodes.
fn need(conf: &Object, source: &Source) -> Option<Need> {
    let overlay = overlay_of(conf);
    let pool = blocks::pool_of(conf).ok().flatten();
    match (&overlay, &pool) {
        (None, None) => None,
        _ => Some(Need { id: id(conf, overlay.as_ref(), source), overlay, pool }),
    }
}

/// The network of a plugin's configuration.
pub(crate) fn network_of(conf: &Object, source: &Source) -> NetworkId {
    id(conf, overlay_of(conf).as_ref(), source)
}

fn id(conf: &Object, overlay: Option<&OverlayNeed>, source: &Source) -> NetworkId {
    if let Some(overlay) = overlay {
        return NetworkId::overlay(overlay.port, overlay.vni);
    }
    let pool = conf.object("ipam").ok().flatten().and_then(|ipam| ipam.text(whereabouts::POOL).ok().flatten());
    pool.map_or_else(|| NetworkId::of(source), |pool| NetworkId::pool(&pool))
}
