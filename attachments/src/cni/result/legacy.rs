//! Results of 0.1.0 and 0.2.0: one address per family, no interfaces (C55, C56).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{CniResult, Dns, Ip, Route, canonical, canonical_net};
use crate::cni::object::Object;
use crate::cni::version::Version;
use crate::finding::Finding;

const KEYS: [&str; 2] = ["ip4", "ip6"];

/// Up: ip4 then ip6 become addresses without an index, their routes follow in the same order.
pub(super) fn decode(mut object: Object) -> Result<CniResult, Finding> {
    let mut result = CniResult::default();
    for key in KEYS {
        if let Some(half) = object.object(key)? {
            decode_half(half, &mut result).map_err(|e| e.under(key))?;
            object.remove(key);
        }
    }
    result.dns = Dns::decode(&mut object)?;
    // Not in these versions: as unknown keys they would get a meaning in a later one that nobody has checked.
    object.retain(|key| !matches!(key, "interfaces" | "ips" | "routes"));
    result.other = object;
    Ok(result)
}

fn decode_half(half: Object, result: &mut CniResult) -> Result<(), Finding> {
    const WANT: &str = "an IP address with a prefix length";
    let address: IpNet = half.parsed("ip", WANT)?.ok_or_else(|| Finding::missing("ip", WANT))?;
    let gateway: Option<IpAddr> = half.parsed("gateway", "an IP address")?;
    result.ips.push(Ip::new(canonical_net(address), gateway.map(canonical), None));
    for (i, route) in half.objects("routes")?.into_iter().enumerate() {
        result.routes.push(Route::decode(route).map_err(|e| e.under(&format!("routes[{i}]")))?);
    }
    Ok(())
}

/// Down: the first address of each family; routes go with their family or are lost; unknown keys have no place.
pub(super) fn encode(result: &CniResult, version: Version) -> Result<Object, Finding> {
    let mut object = Object::new();
    object.set("cniVersion", &version.as_str());
    for key in KEYS {
        let of_family = |address: IpNet| address.addr().is_ipv4() == (key == "ip4");
        if let Some(ip) = result.ips.iter().find(|ip| of_family(ip.address)) {
            let routes: Vec<Object> =
                result.routes.iter().filter(|route| of_family(route.dst)).map(encode_route).collect();
            let mut half = Object::new();
            half.set("ip", &ip.address);
            half.set_some("gateway", ip.gateway.as_ref());
            if !routes.is_empty() {
                half.set("routes", &routes);
            }
            object.set(key, &half);
        }
    }
    if KEYS.iter().all(|key| object.get(key).is_none()) {
        return Err(Finding::new(
            "cniVersion",
            version,
            "0.3.0 or later: the result has no IP address, which older versions cannot express",
        ));
    }
    object.set("dns", &result.dns.encode());
    Ok(object)
}

fn encode_route(route: &Route) -> Object {
    let mut object = Object::new();
    object.set("dst", &route.dst);
    object.set_some("gw", route.gw.as_ref());
    object
}
