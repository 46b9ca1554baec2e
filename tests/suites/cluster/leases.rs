//! Pods with addresses of a DHCP server: the agent has their leases renewed on its node.

use std::fs;

use meta_cni_tests::cluster::wait;
use serde_json::json;

use crate::bed::{Bed, PATIENCE};

/// What dnsmasq has on the node, below /run.
const DIR: &str = "/run/office";

#[test]
fn a_lease_is_renewed_for_as_long_as_its_pod_lives_whatever_becomes_of_the_agent() {
    let bed = Bed::new("leases");
    let node = bed.node("n2");
    let space = node.space();
    // The network's router, server and switch are on the node, and nothing of it is the node's own.
    for line in ["link add office0 type bridge", "address add 10.9.0.1/24 dev office0", "link set office0 up"] {
        space.run(&format!("ip {line}"));
    }
    fs::create_dir_all(node.file(DIR)).unwrap();
    space.run(&format!(
        "dnsmasq --conf-file=/dev/null --port=0 --interface=office0 --bind-interfaces --user=root --no-ping --log-dhcp \
         --dhcp-range=10.9.0.10,10.9.0.199,255.255.255.0,120 --dhcp-option=option:T1,6 --dhcp-option=option:T2,60 \
         --dhcp-leasefile={DIR}/leases --log-facility={DIR}/log --pid-file={DIR}/pid"
    ));
    let log = || fs::read_to_string(node.file(format!("{DIR}/log"))).unwrap_or_default();
    let provided = json!([{"option": "host-name", "fromArg": "K8S_POD_NAME"}]);
    let ipam = json!({"type": "dhcp", "provide": provided});
    bed.nad("office", &json!({"cniVersion": "1.1.0", "type": "bridge", "bridge": "office0", "ipam": ipam}));
    bed.api.apply(&bed.pod_with("web", Some("n2"), "office")).unwrap();
    let status = bed.status("web");
    let address = status[1]["ips"][0].as_str().unwrap();
    let held = || bed.exec("web", "ip -o -4 address show dev net1");
    assert!(held().contains(&format!("{address}/24")), "{}", held());
    let leases = || fs::read_to_string(node.file(format!("{DIR}/leases"))).unwrap_or_default();
    assert!(leases().contains(&format!(" {address} web ")), "{}", leases());

    let granted = || log().matches(&format!("DHCPACK(office0) {address}")).count();
    let until = |times: usize| {
        wait::until(&format!("{times} grants of {address}"), PATIENCE, || match granted() {
            enough if enough >= times => Ok(()),
            few => Err(format!("{few}: {}", log())),
        });
    };
    until(3);
    bed.kill_agent("n2");
    until(granted() + 2);
    assert!(held().contains(&format!("{address}/24")), "{}", held());

    bed.delete("web");
    wait::until("release", PATIENCE, || match log().contains(&format!("DHCPRELEASE(office0) {address}")) {
        true => Ok(()),
        false => Err(log()),
    });
    assert!(!leases().contains(address), "{}", leases());
    let pid = fs::read_to_string(node.file(format!("{DIR}/pid"))).unwrap();
    space.run(&format!("kill {}", pid.trim()));
    space.run("ip link delete office0");
    bed.clear();
}
