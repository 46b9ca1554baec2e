//! What a definition asks of the cluster.

use attachments::bind::Source;
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::names::NetRef;

use super::NetworkId;
use crate::builtin::overlay_of;
use crate::ipam::blocks::{self, Pool};
use crate::overlay::Underlay;

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
    let Ok(conf) = NetworkConf::parse(config.as_bytes()) else { return Vec::new() };
    let source = Source::Definition(reference.clone());
    conf.plugins.iter().filter_map(|plugin| need(&plugin.object, &source)).collect()
}

/// The network that a plugin's configuration asks for, if it spans nodes.
fn need(conf: &Object, source: &Source) -> Option<Need> {
    let overlay = overlay_of(conf);
    let pool = blocks::pool_of(conf).ok().flatten();
    match (&overlay, &pool) {
        (None, None) => None,
        _ => Some(Need { id: id(overlay.as_ref(), source), overlay, pool }),
    }
}

/// Does a plugin's configuration ask for a network that spans nodes?
pub fn spans_nodes(conf: &Object) -> bool {
    overlay_of(conf).is_some() || matches!(blocks::pool_of(conf), Ok(Some(_)))
}

/// The network of a plugin's configuration.
pub(crate) fn network_of(conf: &Object, source: &Source) -> NetworkId {
    id(overlay_of(conf).as_ref(), source)
}

fn id(overlay: Option<&OverlayNeed>, source: &Source) -> NetworkId {
    overlay.map_or_else(|| NetworkId::of(source), |overlay| NetworkId::overlay(overlay.port, overlay.vni))
}
