//! What a definition asks of the cluster.

use std::net::IpAddr;

use attachments::bind::Source;
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::names::NetRef;
use ipnet::IpNet;

use super::NetworkId;
use super::state::Routing;
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
    /// For addresses of a configuration of whereabouts: its `network_name`, empty where it has none. There an address is one pod's in all
    /// ranges of one name.
    pub space: Option<String>,
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
    /// What the node routes of it.
    pub routing: Routing,
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
    let mut overlay = overlay_of(conf);
    let pool = blocks::pool_of(conf).ok().flatten();
    if let (Some(Routing { gateway: true, gateways, .. }), Some(pool)) =
        (overlay.as_mut().map(|overlay| &mut overlay.routing), &pool)
    {
        let net = |(subnet, gateway): (IpNet, Option<IpAddr>)| IpNet::new(gateway?, subnet.prefix_len()).ok();
        gateways.extend(pool.ranges().filter_map(net));
        gateways.dedup();
    }
    match (&overlay, &pool) {
        (None, None) => None,
        _ => {
            let space =
                of_whereabouts(conf).filter(|_| pool.is_some()).map(|text| whereabouts::space(&text).to_owned());
            Some(Need { id: id(conf, overlay.as_ref(), source), overlay, pool, space })
        }
    }
}

/// Does a plugin's configuration ask for a network that spans nodes?
pub fn spans_nodes(conf: &Object) -> bool {
    overlay_of(conf).is_some() || matches!(blocks::pool_of(conf), Ok(Some(_)))
}

/// The network of a plugin's configuration.
pub(crate) fn network_of(conf: &Object, source: &Source) -> NetworkId {
    id(conf, overlay_of(conf).as_ref(), source)
}

fn id(conf: &Object, overlay: Option<&OverlayNeed>, source: &Source) -> NetworkId {
    if let Some(overlay) = overlay {
        return NetworkId::overlay(overlay.port, overlay.vni);
    }
    of_whereabouts(conf).map_or_else(|| NetworkId::of(source), |pool| NetworkId::pool(&pool))
}

/// What a pool is known by that was read from a configuration of whereabouts.
fn of_whereabouts(conf: &Object) -> Option<String> {
    conf.object("ipam").ok().flatten().and_then(|ipam| ipam.text(whereabouts::POOL).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_routes_is_read_with_the_gateways_that_the_pool_names() {
        let routing = |more: &str| {
            let config = format!(r#"{{"cniVersion":"1.1.0","name":"red","type":"vxlan","vni":7{more}}}"#);
            let reference = NetRef { namespace: "shop".parse().unwrap(), name: "red".parse().unwrap() };
            needs(&config, &reference).into_iter().next().and_then(|need| need.overlay).map(|overlay| overlay.routing)
        };
        assert_eq!(routing(""), Some(Routing::default()));
        let pool = r#","ipam":{"type":"blocks","ranges":[[{"subnet":"10.42.0.0/16"}],[{"subnet":"fd42::/64","gateway":"fd42::9"}]]}"#;
        let l3 = routing(&format!(r#"{pool},"mode":"l3","directRouting":true"#)).unwrap();
        assert_eq!((l3.l3, l3.direct, l3.gateways.len()), (true, true, 0));
        let gateway = routing(&format!(r#"{pool},"isGateway":true,"openGateway":true"#)).unwrap();
        let gateways = ["10.42.0.1/16", "fd42::9/64"].map(|net| net.parse().unwrap());
        assert_eq!((gateway.gateway, gateway.open, gateway.gateways), (true, true, gateways.to_vec()));
        assert_eq!(routing(r#","mode":"l3""#), None, "what is wrong needs nothing");
    }
}
