//! The default network `podcidr`: a bridge with the addresses of the Node's podCIDRs, as kubenet made it, by built-in types alone.
//! It is for clusters whose network routes those ranges to the nodes (GCE, kube-controller-manager's route controller).

use ipnet::IpNet;
use serde_json::{Value, json};

/// What `--primary` says for it.
pub const NAME: &str = "podcidr";

/// The network's configuration; what is waited for, while the Node has no range.
pub fn network(pod_cidrs: &[IpNet]) -> Result<Value, String> {
    if pod_cidrs.is_empty() {
        return Err("the Node's podCIDRs (--primary podcidr): nobody has given this Node a range yet, as kube-controller-manager \
                    does with --allocate-node-cidrs"
            .to_owned());
    }
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.trunc().to_string()}])).collect();
    Ok(json!({
        "cniVersion": "1.0.0", "name": NAME, "plugins": [
            {"type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "ranges": ranges}},
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_each_family_is_a_set_of_its_own() {
        let both = network(&["10.8.1.0/24".parse().unwrap(), "fd00:8:1::/64".parse().unwrap()]).unwrap();
        let ranges = &both["plugins"][0]["ipam"]["ranges"];
        assert_eq!(ranges, &json!([[{"subnet": "10.8.1.0/24"}], [{"subnet": "fd00:8:1::/64"}]]));
        assert!(network(&[]).unwrap_err().contains("--allocate-node-cidrs"));
    }
}
