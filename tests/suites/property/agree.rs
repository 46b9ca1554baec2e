//! What must be so whenever no call is under way and nothing was left half-way.

use std::collections::BTreeSet;
use std::fs;

use meta_cni_tests::node::Pod;
use serde_json::json;

use crate::scene::{Member, Scene, State, VRF};

impl Scene {
    /// Kernel, records and address files agree with one another and with what the calls said.
    pub fn agree(&self, members: &[Member]) {
        let attached: Vec<&Member> = members.iter().filter(|member| member.state == State::Attached).collect();
        self.records(&attached);
        self.owners(&attached);
        for member in members.iter().filter(|member| member.is_alive) {
            let mut names = Vec::new();
            if member.state == State::Attached {
                names.push("eth0".to_owned());
                names.extend((1..=member.networks.len()).map(|number| format!("net{number}")));
                names.extend(member.networks.contains(&"apart").then(|| VRF.to_owned()));
                self.node.check(&member.pod, &json!({})).quiet();
            }
            assert_eq!(member.pod.netns.links(), names, "links of {}", member.pod.name);
        }
        self.addresses(&attached);
        self.links(&attached);
        self.rules(&attached);
    }

    /// A settled record for every attached pod, and nothing else.
    fn records(&self, attached: &[&Member]) {
        let kept = |path: &String| !path.ends_with("/departed") && !path.ends_with("/departed.old");
        // A killed call leaves the lock of an overlay that it held; the next GC sweeps it.
        let kept = |path: &String| kept(path) && !path.starts_with("state/locks/vxlan-");
        // What is known of a bridge that stays, stays with it; owners are compared by themselves.
        let dirs = ["state/gateways/", "state/shared/", "state/networks/"];
        let kept = |path: &String| kept(path) && !dirs.iter().any(|dir| path.starts_with(dir));
        let found: Vec<String> = self.node.files("state").into_iter().filter(kept).collect();
        let mut wanted: Vec<String> =
            attached.iter().map(|member| format!("state/attached/node-net,{},eth0", member.pod.container)).collect();
        wanted.sort();
        assert_eq!(found, wanted, "records");
    }

    /// The attached pods of `blue`, and they alone, own its peers.
    fn owners(&self, attached: &[&Member]) {
        let owner = |member: &&Member| {
            let number = member.networks.iter().position(|name| *name == "blue")? + 1;
            Some(format!("{},net{number}", member.pod.container))
        };
        let mut wanted: Vec<String> = attached.iter().filter_map(owner).collect();
        wanted.sort();
        let file = fs::read(self.node.path("state/shared/vx4200")).unwrap_or_default();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap_or_default();
        let found: Vec<&str> =
            file["changes"][0]["owners"].as_array().into_iter().flatten().filter_map(|owner| owner.as_str()).collect();
        assert_eq!(found, wanted, "owners of the peers: {file}");
    }

    /// Every address of host-local or blocks that a pod has, a file says so; and every file is right.
    fn addresses(&self, attached: &[&Member]) {
        let mut held = BTreeSet::new();
        for path in self.node.files("addresses") {
            let name = path.rsplit('/').next().unwrap_or_default();
            if name.parse::<std::net::IpAddr>().is_ok() {
                held.insert((name.to_owned(), fs::read_to_string(self.node.path(&path)).unwrap()));
            }
        }
        for path in self.node.files("state/networks").iter().filter(|path| path.ends_with("/leases")) {
            for lease in self.node.leases(path) {
                let mut words = lease.split(' ');
                let addresses = words.next().unwrap_or_default();
                let owner = words.collect::<Vec<_>>().join("\r\n");
                held.extend(addresses.split(',').map(|address| (address.to_owned(), owner.clone())));
            }
        }
        let of_pod = |pod: &Pod| -> Vec<(String, String)> {
            let on = |ifname: String| {
                let addresses =
                    pod.netns.addresses(&ifname).into_iter().filter(|address| !address.starts_with("10.99."));
                let owner = format!("{}\r\n{ifname}", pod.container);
                addresses
                    .map(move |net| (net.split('/').next().unwrap_or_default().to_owned(), owner.clone()))
                    .collect::<Vec<_>>()
            };
            pod.netns.links().into_iter().flat_map(on).collect()
        };
        let used: BTreeSet<_> = attached.iter().flat_map(|member| of_pod(&member.pod)).collect();
        assert_eq!(held, used, "address files (left) and addresses in pods (right)");
    }

    /// On the node there are as many ends, overlays and turns as the attached pods need; what they borrowed is away, and
    /// the rest of it is as it was.
    fn links(&self, attached: &[&Member]) {
        let all = self.node.netns.ip("link show");
        let kinds = || all.as_array().unwrap().iter().filter_map(|link| link["linkinfo"]["info_kind"].as_str());
        let of_kind = |kind: &str| kinds().filter(|other| *other == kind).count();
        let mut links: Vec<&str> = all.as_array().unwrap().iter().filter_map(|link| link["ifname"].as_str()).collect();
        links.sort_unstable();
        let uses = |network: &str| attached.iter().filter(|member| member.networks.contains(&network)).count();
        // Six ends are the node's, but for what is lent.
        let borrowed = uses("lent0") + uses("lent1");
        let plugged: usize = ["lan", "blue", "red", "wire", "fixed", "trunked", "apart"].map(uses).iter().sum();
        assert_eq!(of_kind("veth"), 6 - borrowed + attached.len() + plugged, "veths: {links:?}");
        let overlays: Vec<&str> =
            links.iter().copied().filter(|name| name.starts_with("vx") || name.starts_with("bx")).collect();
        let wanted: Vec<String> = ["bx", "vx"]
            .iter()
            .flat_map(|kind| [("blue", 4200), ("red", 4201)].map(|(network, vni)| (network, format!("{kind}{vni}"))))
            .filter(|(network, _)| uses(network) > 0)
            .map(|(_, name)| name)
            .collect();
        assert_eq!(overlays, wanted.iter().collect::<Vec<_>>(), "overlays");
        let turns = if self.default.iter().any(|kind| kind == "bandwidth") { attached.len() } else { 0 };
        assert_eq!(of_kind("ifb"), turns, "turns: {links:?}");
        for (network, device, mtu) in [("lent0", "dev0", 1400), ("lent1", "dev1", 1300)] {
            let link = self.node.netns.link(device);
            let is_lent = uses(network) > 0;
            assert_eq!(link.is_null(), is_lent, "{device}: {link}");
            if !is_lent {
                assert_eq!((&link["mtu"], &link["ifalias"]), (&json!(mtu), &json!("of-the-node")), "{link}");
                assert_ne!(link["address"], "02:00:00:00:00:77", "{link}");
            }
        }
    }

    /// Whose rules there are.
    fn rules(&self, attached: &[&Member]) {
        let ruleset = self.node.netns.run("nft list ruleset");
        // Container ids of the fixtures: four digits, and then this.
        let of_pods = ruleset.match_indices("c0ffeec0ffee").filter_map(|(at, _)| ruleset.get(at.checked_sub(4)?..at));
        let named: BTreeSet<&str> = of_pods.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).collect();
        let needs = self.node.conf["delegates"][0]["plugins"][0]["ipMasq"] == true
            || self.node.conf["delegates"][0]["plugins"][0]["macspoofchk"] == true
            || self.default.iter().any(|kind| kind == "portmap");
        let wanted = attached.iter().filter(|_| needs).map(|member| &member.pod.container[..4]).collect();
        assert_eq!(named, wanted, "containers with rules: {ruleset}");
    }
}
