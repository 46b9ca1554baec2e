//! The pods of a connectivity test, and what their output says. Pure.

use std::net::IpAddr;

use attachments::selection::NETWORKS;
use serde_json::{Value, json};

/// The label of every pod of a test; its value is the test's.
pub const LABEL: &str = "meta-cni.io/connectivity-test";

/// A pod that answers, once it has its address.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its node.
    pub node: String,
    /// Its address in the network.
    pub address: IpAddr,
    /// The MTU of its interface, where its status says it.
    pub mtu: Option<u32>,
}

/// What one pod found of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The node of who asked.
    pub from: String,
    /// The node of who was to answer.
    pub to: String,
    /// The address.
    pub address: String,
    /// Mean round trip in milliseconds of small packets; none when not every one was answered.
    pub ping: Option<f64>,
    /// The same of packets that fill the MTU; none inside where the MTU is not known.
    pub large: Option<Option<f64>>,
    /// Bits per second, where the image has iperf3.
    pub throughput: Option<f64>,
}

impl Pair {
    /// Was everything answered?
    pub fn is_good(&self) -> bool {
        self.ping.is_some() && self.large != Some(None)
    }
}

/// What all pods of a test have in common.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its value of the label.
    pub id: String,
    /// Where its pods are.
    pub namespace: String,
    /// `namespace/name` of the definition.
    pub network: String,
    /// The image of its pods.
    pub image: String,
    /// Packets of each ping.
    pub count: u32,
}

impl Test {
    /// The pod that answers on a node.
    pub fn target(&self, number: usize, node: &str) -> Value {
        let script = "command -v iperf3 >/dev/null 2>&1 && iperf3 -s >/dev/null 2>&1 & exec sleep 3600";
        self.pod(&format!("target-{number}"), node, script, "Always")
    }

    /// The pod that asks all targets from a node.
    pub fn probe(&self, number: usize, node: &str, targets: &[Target]) -> Value {
        let mut script = String::from("D=; ping -M do -c 1 127.0.0.1 >/dev/null 2>&1 && D='-M do'\n");
        let count = self.count;
        for (i, Target { address, mtu, .. }) in targets.iter().enumerate() {
            let at = address.to_string();
            // The first packet also resolves the neighbour.
            script.push_str(&format!(
                "ping -c 1 -W 5 {at} >/dev/null 2>&1\necho \"@ {i} ping\"; ping -c {count} -W 2 {at} 2>&1\n"
            ));
            if let Some(size) = mtu.and_then(|mtu| mtu.checked_sub(if address.is_ipv4() { 28 } else { 48 })) {
                script.push_str(&format!("echo \"@ {i} large\"; ping $D -c {count} -W 2 -s {size} {at} 2>&1\n"));
            }
            script.push_str(&format!(
                "if command -v iperf3 >/dev/null 2>&1; then echo \"@ {i} iperf3\"; iperf3 -c {at} -t 3 -J 2>&1; fi\n"
            ));
        }
        script.push_str("echo '@ end'\n");
        self.pod(&format!("probe-{number}"), node, &script, "Never")
    }

    fn pod(&self, name: &str, node: &str, script: &str, restart: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": self.namespace, "name": format!("meta-cni-test-{}-{name}", self.id),
                "labels": {LABEL: self.id}, "annotations": {NETWORKS: self.network},
            },
            "spec": {
                "nodeName": node, "restartPolicy": restart, "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "test", "image": self.image, "command": ["sh", "-c", script]}],
            },
        })
    }
}

/// The target that a pod's `network-status` tells of; none while it has no address.
pub fn target(node: &str, network: &str, status: &str) -> Option<Target> {
    let read: Vec<Value> = serde_json::from_str(status).ok()?;
    let entry = read.iter().find(|entry| entry["name"] == network)?;
    let address = entry["ips"].as_array()?.iter().find_map(|ip| ip.as_str()?.split('/').next()?.parse().ok())?;
    let mtu = entry["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok());
    Some(Target { node: node.to_owned(), address, mtu })
}

/// What a probe's output says of every target. What it does not say was not answered.
pub fn pairs(from: &str, targets: &[Target], output: &str) -> Vec<Pair> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for line in output.lines() {
        match line.strip_prefix("@ ") {
            Some(title) => parts.push((title, String::new())),
            None => {
                if let Some((_, text)) = parts.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    let part = |i: usize, what: &str| {
        let title = format!("{i} {what}");
        parts.iter().find(|(known, _)| *known == title).map(|(_, text)| text.as_str())
    };
    let each = |(i, target): (usize, &Target)| Pair {
        from: from.to_owned(),
        to: target.node.clone(),
        address: target.address.to_string(),
        ping: part(i, "ping").and_then(round_trip),
        large: target.mtu.map(|_| part(i, "large").and_then(round_trip)),
        throughput: part(i, "iperf3").and_then(bits),
    };
    targets.iter().enumerate().map(each).collect()
}

/// The mean round trip, where nothing was lost: iputils' and busybox's words.
fn round_trip(text: &str) -> Option<f64> {
    let is_whole = text.lines().any(|line| line.contains("packets transmitted") && line.contains(" 0% packet loss"));
    let times = text.lines().find(|line| line.contains("min/avg/max"))?.split(" = ").nth(1)?;
    let mean = times.split('/').nth(1)?.parse().ok()?;
    is_whole.then_some(mean)
}

fn bits(text: &str) -> Option<f64> {
    let read: Value = serde_json::from_str(text).ok()?;
    read["end"]["sum_received"]["bits_per_second"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> Test {
        Test {
            id: "x1".into(),
            namespace: "shop".into(),
            network: "shop/blue".into(),
            image: "busybox".into(),
            count: 3,
        }
    }

    #[test]
    fn the_probe_asks_every_target_with_what_its_mtu_holds() {
        let targets = [
            target("n1", "shop/blue", r#"[{"name":"cbr0"},{"name":"shop/blue","ips":["10.42.0.1"],"mtu":1450}]"#)
                .unwrap(),
            target("n2", "shop/blue", r#"[{"name":"shop/blue","ips":["fd00::7"]}]"#).unwrap(),
        ];
        assert_eq!(targets[0], Target { node: "n1".into(), address: "10.42.0.1".parse().unwrap(), mtu: Some(1450) });
        for none in ["[]", "{", r#"[{"name":"shop/blue"}]"#, r#"[{"name":"shop/red","ips":["10.0.0.1"]}]"#] {
            assert_eq!(target("n1", "shop/blue", none), None, "{none}");
        }
        let probe = test().probe(0, "n1", &targets);
        let script = probe["spec"]["containers"][0]["command"][2].as_str().unwrap();
        assert!(
            script.contains("-s 1422 10.42.0.1")
                && script.contains("ping -c 3 -W 2 fd00::7")
                && !script.contains("1 large"),
            "{script}"
        );
        assert_eq!((&probe["spec"]["nodeName"], &probe["metadata"]["labels"][LABEL]), (&json!("n1"), &json!("x1")));
        assert_eq!(probe["metadata"]["annotations"][NETWORKS], "shop/blue");
    }

    #[test]
    fn output_of_either_ping_is_read_and_loss_is_a_failure() {
        let targets: Vec<Target> = (1..4)
            .map(|i| Target {
                node: format!("n{i}"),
                address: format!("10.42.0.{i}").parse().unwrap(),
                mtu: Some(1450),
            })
            .collect();
        let output = "\
@ 0 ping
PING 10.42.0.1 (10.42.0.1): 56 data bytes
3 packets transmitted, 3 packets received, 0% packet loss
round-trip min/avg/max = 0.101/0.202/0.303 ms
@ 0 large
3 packets transmitted, 3 received, 0% packet loss, time 2003ms
rtt min/avg/max/mdev = 0.1/0.5/0.9/0.1 ms
@ 0 iperf3
{\"end\": {\"sum_received\": {\"bits_per_second\": 9.5e9}}}
@ 1 ping
3 packets transmitted, 3 packets received, 0% packet loss
round-trip min/avg/max = 1.0/2.0/3.0 ms
@ 1 large
3 packets transmitted, 0 packets received, 100% packet loss
@ end
";
        let read = pairs("n1", &targets, output);
        assert_eq!((read[0].ping, read[0].large, read[0].throughput), (Some(0.202), Some(Some(0.5)), Some(9.5e9)));
        assert_eq!((read[1].ping, read[1].large), (Some(2.0), Some(None)));
        assert_eq!((read[2].ping, read[2].large, read[2].throughput), (None, Some(None), None));
        assert_eq!(read.iter().map(Pair::is_good).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            round_trip("3 packets transmitted, 2 received, 33% packet loss\nrtt min/avg/max/mdev = 1/2/3/4 ms"),
            None
        );
        assert_eq!(round_trip("3 packets transmitted, 0 received, 100% packet loss"), None);
    }
}
