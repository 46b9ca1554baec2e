//! The addresses that a configuration gives out, as far as its text names them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// More subnets of one section than are looked at: a text of 64 KiB could name thousands.
const MOST: usize = 64;

/// A subnet, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its path in the plugin's configuration: `ipam.subnet`.
    pub at: Box<str>,
    /// The subnet, without host bits.
    pub net: IpNet,
    /// The first address that is given out.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
    /// `gateway`.
    pub gateway: Option<IpAddr>,
}

impl Subnet {
    fn of(at: impl Into<String>, net: IpNet, gateway: Option<IpAddr>) -> Self {
        let at: String = at.into();
        let (first, last) = pool(net);
        Self { at: at.into(), net: net.trunc(), first, last, gateway }
    }

    /// Is the address given out?
    pub fn gives(&self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last
    }

    /// Have the two an address in common that both give out?
    pub fn shares(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// The gateway's address: the first one, where none is named.
    pub fn gateway_or_first(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| pool(self.net).0)
    }

    /// The path of its gateway.
    pub fn gateway_path(&self) -> String {
        match self.at.rsplit_once('.') {
            Some((section, _)) => format!("{section}.gateway"),
            None => format!("{}.gateway", self.at),
        }
    }
}

/// The addresses of a subnet that hosts may have.
fn pool(net: IpNet) -> (IpAddr, IpAddr) {
    let (first, last) = (net.network(), net.broadcast());
    let host_bits = net.max_prefix_len() - net.prefix_len();
    if host_bits < 2 {
        return (first, last);
    }
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (IpAddr::V4((u32::from(first) + 1).into()), IpAddr::V4((u32::from(last) - 1).into()))
        }
        (IpAddr::V6(first), _) => (IpAddr::V6((u128::from(first) + 1).into()), last),
        _ => (first, last),
    }
}

/// The subnets of an `ipam` section.
pub(super) fn subnets(ipam: &Value) -> Vec<Subnet> {
    let mut subnets = match ipam["type"].as_str().unwrap_or_default() {
        "static" => statics(ipam),
        "whereabouts" => whereabouts(ipam),
        // Any other plugin that has a subnet writes it as host-local does.
        _ => ranges(ipam),
    };
    subnets.truncate(MOST);
    subnets
}

fn ranges(ipam: &Value) -> Vec<Subnet> {
    let mut subnets: Vec<Subnet> = range(ipam, "ipam").into_iter().collect();
    let sets = ipam["ranges"].as_array().into_iter().flatten().enumerate();
    let each = |(i, set): (usize, &Value)| {
        let ranges = set.as_array().cloned().unwrap_or_default();
        let each = move |(j, one): (usize, Value)| range(&one, &format!("ipam.ranges[{i}][{j}]"));
        ranges.into_iter().take(MOST).enumerate().filter_map(each)
    };
    subnets.extend(sets.take(MOST).flat_map(each));
    subnets
}

fn range(section: &Value, at: &str) -> Option<Subnet> {
    let net: IpNet = section["subnet"].as_str()?.parse().ok()?;
    let mut subnet = Subnet::of(format!("{at}.subnet"), net, address(&section["gateway"]));
    subnet.first = address(&section["rangeStart"]).unwrap_or(subnet.first);
    subnet.last = address(&section["rangeEnd"]).unwrap_or(subnet.last);
    Some(subnet)
}

fn statics(ipam: &Value) -> Vec<Subnet> {
    let each = |(i, section): (usize, &Value)| {
        let net: IpNet = section["address"].as_str()?.parse().ok()?;
        let gateway = address(&section["gateway"]);
        let subnet = Subnet::of(format!("ipam.addresses[{i}].address"), net, gateway);
        Some(Subnet { first: net.addr(), last: net.addr(), ..subnet })
    };
    ipam["addresses"].as_array().into_iter().flatten().take(MOST).enumerate().filter_map(each).collect()
}

/// `range` is a CIDR, or the first address, `-` and the last one with the prefix length.
fn whereabouts(ipam: &Value) -> Vec<Subnet> {
    let one = |section: &Value, at: String| {
        let text = section["range"].as_str()?;
        let gateway = address(&section["gateway"]);
        let (start, end) = match text.split_once('-') {
            Some((start, end)) => (Some(start.trim().parse().ok()?), end.trim()),
            None => (None, text),
        };
        let net: IpNet = end.parse().ok()?;
        let mut subnet = Subnet::of(at, net, gateway);
        subnet.first = address(&section["range_start"]).or(start).unwrap_or(subnet.first);
        let end = start.map(|_: IpAddr| net.addr());
        subnet.last = address(&section["range_end"]).or(end).unwrap_or(subnet.last);
        Some(subnet)
    };
    let further = ipam["ipRanges"].as_array().into_iter().flatten().take(MOST).enumerate();
    let further = further.filter_map(|(i, section)| one(section, format!("ipam.ipRanges[{i}].range")));
    one(ipam, "ipam.range".to_owned()).into_iter().chain(further).collect()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(ipam: Value) -> Vec<String> {
        let line = |subnet: &Subnet| format!("{} {} {}-{}", subnet.at, subnet.net, subnet.first, subnet.last);
        subnets(&ipam).iter().map(line).collect()
    }

    #[test]
    fn every_form_gives_its_addresses() {
        let local = json!({"type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10",
            "ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.8.0.0/31"}, {"subnet": "x"}]]});
        assert_eq!(
            read(local),
            [
                "ipam.subnet 10.9.0.0/24 10.9.0.10-10.9.0.254",
                "ipam.ranges[0][0].subnet fd00::/64 fd00::1-fd00::ffff:ffff:ffff:ffff",
                "ipam.ranges[1][0].subnet 10.8.0.0/31 10.8.0.0-10.8.0.1",
            ]
        );
        let fixed = json!({"type": "static", "addresses": [{"address": "10.9.0.7/24"}, {"address": "10.9.0.8"}]});
        assert_eq!(read(fixed), ["ipam.addresses[0].address 10.9.0.0/24 10.9.0.7-10.9.0.7"]);
        let where_about =
            json!({"type": "whereabouts", "range": "10.9.0.5-10.9.0.9/24", "ipRanges": [{"range": "fd00::/120"}]});
        assert_eq!(
            read(where_about),
            ["ipam.range 10.9.0.0/24 10.9.0.5-10.9.0.9", "ipam.ipRanges[0].range fd00::/120 fd00::1-fd00::ff"]
        );
        let many = json!({"type": "host-local", "ranges": vec![vec![json!({"subnet": "10.9.0.0/24"}); 9]; 90]});
        assert_eq!(subnets(&many).len(), MOST);
    }
}
