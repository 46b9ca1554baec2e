//! Tenants' gateways and pods beside what the node reaches, on a real kernel.

use super::*;
use crate::call::Origin;
use crate::error::Error;
use crate::nl::route::Route;

impl Bed {
    /// As [`Bed::call`], about a tenant's definition.
    fn tenants<T>(&self, pod: &Pod, conf: &str, run: impl FnOnce(&mut Host<'_>, &Call<'_>) -> T) -> T {
        self.call(pod, "net1", conf, None, |host, call| {
            let origin = Origin { is_tenants: true, ..call.origin };
            run(host, &Call { origin, ..call.clone() })
        })
    }

    fn admit_tenants(&self, kind: Builtin, conf: &str) -> Result<()> {
        self.tenants(&self.pod(), conf, |host, call| kind.admit(host, call))
    }

    fn add_tenants(&self, kind: Builtin, pod: &Pod, conf: &str) -> Result<Attached> {
        let mut sandbox = Sandbox::open(&pod.path, &self.node()).unwrap();
        self.tenants(pod, conf, |host, call| kind.add(host, &mut sandbox, call))
    }

    /// ADD is refused with these words, before anything is made.
    #[track_caller]
    fn refused(&self, kind: Builtin, conf: &str, want: &str) {
        let links = self.links();
        let error = self.add_tenants(kind, &self.pod(), conf).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert_eq!(error.to_string(), want);
        assert_eq!(self.links(), links);
    }

    /// Refused before anything is attached, and at ADD.
    #[track_caller]
    fn refused_early(&self, kind: Builtin, conf: &str, want: &str) {
        assert_eq!(self.admit_tenants(kind, conf).unwrap_err().to_string(), want);
        self.refused(kind, conf, want);
    }

    /// A node with a LAN on `eth0`, the next hop of its default route in it, and a route to another node's pods.
    fn on_a_lan(&self) {
        let eth0 = self.master("eth0", 1500, Some("192.168.1.5/24"));
        let mut netlink = self.netlink();
        netlink.add_address(eth0.index, net("2001:db8:1::5/64"), true).unwrap();
        for (destination, gateway) in [("0.0.0.0/0", "192.168.1.1"), ("10.244.2.0/24", "192.168.1.6")] {
            let gateway = Some(gateway.parse().unwrap());
            netlink.add_route(&Route { gateway, ..Route::new(net(destination), eth0.index) }).unwrap();
        }
    }
}

fn fixed(keys: &str, address: &str, gateway: &str) -> String {
    format!(r#"{{{keys}"ipam":{{"type":"static","addresses":[{{"address":"{address}","gateway":"{gateway}"}}]}}}}"#)
}

const GATEWAY: &str = r#""bridge":"br-t","isGateway":true,"#;

#[test]
fn kernel_a_tenants_gateway_takes_no_subnet_of_the_node() {
    on_node(|bed| {
        bed.on_a_lan();
        for (address, gateway, want) in [
            ("10.0.0.2/2", "10.0.0.1", "gateway 10.0.0.1/2, want a subnet with a prefix length of 8 or more"),
            (
                "192.0.0.2/8",
                "192.0.0.1",
                "gateway 192.0.0.1/8, want nothing that overlaps with 192.168.1.5/24 of link eth0 of the node",
            ),
            (
                "192.168.1.77/28",
                "192.168.1.65",
                "gateway 192.168.1.65/28, want nothing that overlaps with 192.168.1.5/24 of link eth0 of the node",
            ),
            (
                "10.244.2.9/25",
                "10.244.2.1",
                "gateway 10.244.2.1/25, want nothing that overlaps with the node's route to 10.244.2.0/24 through eth0",
            ),
            (
                "2001:db8:1::9/48",
                "2001:db8:1::1",
                "gateway 2001:db8:1::1/48, want nothing that overlaps with 2001:db8:1::5/64 of link eth0 of the node",
            ),
        ] {
            let conf = fixed(GATEWAY, address, gateway);
            bed.refused_early(Builtin::Bridge, &conf, &format!("ipam: got {want}"));
        }
        let lan = fixed(r#""bridge":"br-t","#, "192.168.1.77/24", "192.168.1.1");
        bed.add_tenants(Builtin::Bridge, &bed.pod(), &lan).unwrap();
        let ours = fixed(GATEWAY, "10.0.0.2/2", "10.0.0.1");
        bed.add(Builtin::Bridge, &bed.pod(), "net1", &ours).unwrap();
    });
}

#[test]
fn kernel_two_bridges_share_no_subnet_and_pods_of_one_share_its_gateway() {
    on_node(|bed| {
        let first = fixed(r#""bridge":"br-a","isGateway":true,"#, "10.50.0.2/24", "10.50.0.1");
        let pods = [bed.pod(), bed.pod()];
        for pod in &pods {
            bed.admit_tenants(Builtin::Bridge, &first).unwrap();
            bed.add_tenants(Builtin::Bridge, pod, &first).unwrap();
        }
        let second = fixed(GATEWAY, "10.50.0.130/25", "10.50.0.129");
        let want =
            "ipam: got gateway 10.50.0.129/25, want nothing that overlaps with 10.50.0.1/24 of link br-a of the node";
        bed.refused_early(Builtin::Bridge, &second, want);
        let pool = |subnet: &str| {
            let data = bed.state.path().display();
            format!(r#"{{{GATEWAY}"ipam":{{"type":"host-local","dataDir":"{data}","subnet":"{subnet}"}}}}"#)
        };
        let want =
            "ipam: got gateway 10.50.0.1/16, want nothing that overlaps with 10.50.0.1/24 of link br-a of the node";
        bed.refused_early(Builtin::Bridge, &pool("10.50.0.0/16"), want);
        bed.add_tenants(Builtin::Bridge, &bed.pod(), &pool("10.51.0.0/16")).unwrap();
    });
}

#[test]
fn kernel_a_tenants_ptp_takes_no_address_of_the_node() {
    on_node(|bed| {
        bed.on_a_lan();
        let lan = "want nothing that overlaps with 192.168.1.5/24 of link eth0 of the node";
        for (address, gateway, what) in [
            ("192.168.1.1/32", "169.254.1.1", "address 192.168.1.1"),
            ("192.168.1.53/24", "169.254.1.1", "address 192.168.1.53"),
            ("10.43.0.2/24", "192.168.1.1", "gateway 192.168.1.1"),
            ("10.43.0.2/24", "192.168.1.5", "gateway 192.168.1.5"),
        ] {
            bed.refused_early(Builtin::Ptp, &fixed("", address, gateway), &format!("ipam: got {what}, {lan}"));
        }
        let metadata = fixed("", "169.254.169.254/32", "169.254.1.1");
        let want = "ipam: got address 169.254.169.254, want nothing that holds 169.254.169.254, at which clouds answer their machines";
        bed.refused_early(Builtin::Ptp, &metadata, want);
        // The links of a pod go with it.
        let pods = [(); 4].map(|()| bed.pod());
        for (pod, address) in pods.iter().zip(["10.43.0.2/24", "10.43.0.3/24", "fd43::2/64", "fd43::3/64"]) {
            let gateway = if address.starts_with('f') { "fd43::1" } else { "10.43.0.1" };
            bed.add_tenants(Builtin::Ptp, pod, &fixed("", address, gateway)).unwrap();
        }
        let other = bed.add_tenants(Builtin::Ptp, &bed.pod(), &fixed("", "10.43.0.2/24", "10.43.0.1")).unwrap_err();
        assert!(matches!(&other, Error::Addresses(text) if text.contains("is routed through veth")), "{other}");
        let over =
            bed.admit_tenants(Builtin::Bridge, &fixed(GATEWAY, "10.43.0.9/24", "10.43.0.1")).unwrap_err().to_string();
        assert!(over.contains("overlaps with 10.43.0.1/32 of link veth"), "{over}");
        bed.add(Builtin::Ptp, &bed.pod(), "net1", &fixed("", "192.168.1.53/24", "169.254.1.1")).unwrap();
    });
}

/// What is known with the lease only is refused with the lease given back.
#[test]
fn kernel_a_lease_that_takes_from_the_node_is_given_back() {
    on_node(|bed| {
        bed.on_a_lan();
        let data = bed.state.path().display();
        let conf = format!(
            r#"{{"ipam":{{"type":"host-local","dataDir":"{data}","subnet":"192.168.1.0/24","gateway":"169.254.1.1"}}}}"#
        );
        bed.admit_tenants(Builtin::Ptp, &conf).unwrap();
        let want =
            "ipam: got address 192.168.1.1, want nothing that overlaps with 192.168.1.5/24 of link eth0 of the node";
        bed.refused(Builtin::Ptp, &conf, want);
        let files = std::fs::read_dir(bed.state.path().join("net")).unwrap();
        let mut left: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["last_reserved_ip.0", "lock"]);
    });
}

/// A bridge of an administrator with the node's own address goes on as layer 2, and with the gateway that it has.
#[test]
fn kernel_a_bridge_that_carries_the_nodes_address_is_its_own() {
    on_node(|bed| {
        let br0 = name("br-t");
        let mut netlink = bed.netlink();
        let kind = NewKind::Bridge(crate::nl::link::Bridge::default());
        netlink.add_link(&NewLink { up: true, ..NewLink::new(&br0, kind) }).unwrap();
        let index = netlink.link_by_name(&br0).unwrap().unwrap().index;
        netlink.add_address(index, net("192.168.1.5/24"), true).unwrap();
        let same = fixed(GATEWAY, "192.168.1.77/24", "192.168.1.5");
        // Kept: the links of a pod go with it, at a time of the kernel's choosing.
        let pod = bed.pod();
        bed.add_tenants(Builtin::Bridge, &pod, &same).unwrap();
        let elsewhere = fixed(r#""bridge":"br-x","isGateway":true,"#, "192.168.1.78/24", "192.168.1.5");
        let want =
            "ipam: got gateway 192.168.1.5/24, want nothing that overlaps with 192.168.1.5/24 of link br-t of the node";
        bed.refused_early(Builtin::Bridge, &elsewhere, want);
    });
}
