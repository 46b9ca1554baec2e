//! `ptp`, `host-device` and `loopback`.

use serde_json::json;

use crate::bridge::subnets;
use crate::case::Case;

fn ptp() -> Case {
    let conf = json!({"type": "ptp", "ipam": subnets(&["10.1.0.0/24"])});
    Case::new(vec![conf]).differs(&["group", "veth-queue"])
}

/// A device of the host, and the wire that it is on.
const DEVICE: [&str; 4] = [
    "ip link add up0 address 02:00:00:00:00:01 type veth peer name up1",
    "ip link set up0 mtu 1450",
    "ip link set up0 up",
    "ip link set up1 up",
];

fn lent() -> Case {
    Case::new(vec![json!({"type": "host-device", "device": "up0", "ipam": subnets(&["10.1.0.0/24"])})])
        .scene(&DEVICE)
        .differs(&["device-as-it-was"])
}

fn loopback() -> Case {
    Case::new(vec![json!({"type": "loopback"})]).differs(&["loopback-stays-up"])
}

pub mod on_host {
    use super::*;
    use crate::case::{VERSIONS, cases};

    cases! {
        ptp_plain => ptp();
        ptp_in_every_version => ptp().versions(&VERSIONS);
        ptp_with_ipv6 => ptp().differs(&["ptp-no-detection"]).with("ipam", subnets(&["fd00:1::/64"]));
        ptp_with_both_families => ptp().differs(&["ptp-no-detection"]).with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        ptp_with_several_of_a_family => ptp().with("ipam", subnets(&["10.1.0.0/24", "10.2.0.0/24"]));
        ptp_with_a_default_route => ptp().with("ipam", json!({"type": "host-local", "dataDir": "$dir/addresses",
            "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.1"}]}));
        ptp_with_an_address_of_full_length => ptp().with("ipam", json!({"type": "static",
            "addresses": [{"address": "10.1.0.5/32", "gateway": "169.254.1.1"}], "routes": [{"dst": "0.0.0.0/0"}]})).refused_by_them("ptp-full-length");
        ptp_with_an_mtu => ptp().with("mtu", json!(1400));
        ptp_with_a_name_service => ptp().with("dns", json!({"nameservers": ["10.1.0.1"]}));
        ptp_whose_name_service_is_ipams => ptp().with("ipam", json!({"type": "static",
            "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}], "dns": {"nameservers": ["10.1.0.1"]}}));
        ptp_without_addresses => ptp().without("ipam").refused();
        ptp_without_a_gateway => ptp().with("ipam", json!({"type": "static", "addresses": [{"address": "10.1.0.5/24"}]})).refused();
        ptp_masqueraded_as_usual => ptp().with("ipMasq", json!(true)).differs(&["masquerade-iptables", "iptables-rules-stay"]);
        ptp_masqueraded => ptp().with("ipMasq", json!(true)).with("ipMasqBackend", json!("nftables")).differs(&["iptables-tables"]);
        ptp_masqueraded_in_both_families => ptp().differs(&["ptp-no-detection"]).with("ipMasq", json!(true)).with("ipMasqBackend", json!("nftables"))
            .with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"])).differs(&["iptables-tables"]);

        device_by_name => lent();
        device_in_every_version => lent().versions(&VERSIONS);
        device_by_address => lent().without("device").with("hwaddr", json!("02:00:00:00:00:01"));
        device_by_path => lent().without("device").with("kernelpath", json!("/sys/devices/virtual/net/up0")).refused();
        device_without_addresses => lent().without("ipam");
        device_with_both_families => lent().with("ipam", subnets(&["10.1.0.0/24", "fd00:1::/64"]));
        device_that_is_down => lent().scene(&["ip link set up0 down"]).agrees(&["device-as-it-was"]);
        device_with_addresses_on_the_host => lent().scene(&["ip address add 10.9.0.2/24 dev up0"]);
        device_with_ipv6 => lent().with("ipam", subnets(&["fd00:1::/64"]));
        device_with_a_name_service => lent().with("dns", json!({"nameservers": ["10.1.0.1"]}));
        device_by_a_pci_address_that_is_missing => lent().without("device").with("pciBusID", json!("0000:ff:1f.7")).refused();
        device_by_a_pci_address_with_a_slash => lent().without("device").with("pciBusID", json!("0000:ff/../..")).refused();
        device_that_the_runtime_allocated_and_is_missing => lent().without("device").runtime("deviceID", json!("0000:ff:1f.7")).refused();
        device_that_is_missing => lent().with("device", json!("up9")).refused();
        device_that_is_not_named => lent().without("device").refused();

        loopback_in_new_versions => loopback().versions(&VERSIONS[5..]);
        loopback_in_old_versions => loopback().differs(&["loopback-version"]).versions(&VERSIONS[..5]);
    }
}
