//! bandwidth on a real kernel. The kernel of User Mode Linux has the drivers as modules, which nobody loads there.
#![expect(clippy::disallowed_methods, reason = "`tc` is the judge of what we wrote")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::*;
use crate::error::Error;

const BANDWIDTH: Builtin = Builtin::Bandwidth;
const BRIDGE: &str = r#"{"bridge":"br-t","isGateway":true,"mtu":1400,
    "ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}]}}"#;

/// 100 kB/s with 20 kB at once both ways.
const BOTH: &str = r#"{"ingressRate":800000,"ingressBurst":160000,"egressRate":800000,"egressBurst":160000}"#;

fn tc(arguments: &[&str]) -> String {
    let output = Command::new("tc").args(arguments).output().unwrap();
    assert!(output.status.success(), "tc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // How many queues a link has depends on the machine.
    let words = text.split(' ').collect::<Vec<_>>();
    let is_count = |at: usize| at > 0 && words[at - 1] == "refcnt";
    let kept: Vec<_> = (0..words.len()).filter(|at| !is_count(*at)).map(|at| words[at]).collect();
    kept.join(" ").trim().to_owned()
}

fn limited(bed: &Bed, pod: &Pod, conf: &str) -> (Attached, Attached) {
    let made = bed.add(Builtin::Bridge, pod, "net1", BRIDGE).unwrap();
    let attached = bed.add_behind(BANDWIDTH, pod, "net1", conf, &made.result).0.unwrap();
    (made, attached)
}

#[test]
fn kernel_on_host_bandwidth_makes_the_reference_plugins_disciplines_and_they_go() {
    on_node(|bed| {
        let pod = bed.pod();
        let (made, attached) = limited(bed, &pod, BOTH);
        let port = made.result.interfaces[1].name.as_str();
        let [.., ifb] = attached.result.interfaces.as_slice() else { panic!("no interfaces") };
        assert_eq!(attached.result.interfaces[..3], made.result.interfaces[..]);
        let link = bed.link(&ifb.name).unwrap();
        assert_eq!((link.kind.as_str(), link.mtu, link.up, link.tx_queue), ("ifb", 1400, true, 0));
        assert_eq!((ifb.mac.clone(), ifb.sandbox.as_str()), (link.mac.unwrap().to_string(), ""));
        let bucket = "tbf 1: root refcnt rate 800Kbit burst 20000b lat 25ms";
        let shown = tc(&["qdisc", "show", "dev", port]);
        assert_eq!(shown, format!("qdisc {bucket} \nqdisc ingress ffff: parent ffff:fff1 ----------------"));
        assert_eq!(tc(&["qdisc", "show", "dev", &ifb.name]), format!("qdisc {bucket}"));
        let filter = tc(&["filter", "show", "dev", port, "parent", "ffff:"]);
        assert!(filter.contains("flowid 1:1"), "{filter}");
        let redirect = format!("action order 1: mirred (Egress Redirect to device {}) stolen", ifb.name);
        assert!(filter.contains("protocol all pref 1 u32") && filter.contains(&redirect), "{filter}");
        bed.check(BANDWIDTH, &pod, "net1", BOTH, &attached.result).unwrap();
        let again = bed.add_behind(BANDWIDTH, &pod, "net1", BOTH, &made.result).0.unwrap_err();
        assert!(matches!(&again, Error::Kernel { op, .. } if op.contains("add a token bucket")), "{again}");
        for _ in 0..2 {
            bed.call(&pod, "net1", BOTH, Some(&attached.result), |host, call| BANDWIDTH.del(host, call)).unwrap();
            assert!(bed.link(&ifb.name).is_none());
        }
    });
}

#[test]
fn kernel_on_host_bandwidth_holds_packets_back_both_ways() {
    on_node(|bed| {
        let pod = bed.pod();
        let made = bed.add(Builtin::Bridge, &pod, "net1", BRIDGE).unwrap();
        let listener = pod.netns.enter(|| Ok(TcpListener::bind("10.77.0.2:80").unwrap())).unwrap();
        // 60 kB: 20 kB at once, 40 kB in 0.4 s.
        let seconds = |from_pod: bool| {
            let one = TcpStream::connect("10.77.0.2:80").unwrap();
            let (two, _) = listener.accept().unwrap();
            let (mut sender, mut receiver) = if from_pod { (two, one) } else { (one, two) };
            let start = Instant::now();
            let sending = std::thread::spawn(move || sender.write_all(&[0; 60_000]).unwrap());
            receiver.read_exact(&mut [0; 60_000]).unwrap();
            sending.join().unwrap();
            start.elapsed().as_secs_f64()
        };
        assert!(seconds(true) < 0.3 && seconds(false) < 0.3, "nothing is limited yet");
        bed.add_behind(BANDWIDTH, &pod, "net1", BOTH, &made.result).0.unwrap();
        for from_pod in [true, false] {
            let took = seconds(from_pod);
            assert!((0.3..10.0).contains(&took), "from the pod: {from_pod}: {took} s");
        }
    });
}

#[test]
fn kernel_on_host_bandwidth_check_names_what_differs() {
    on_node(|bed| {
        let pod = bed.pod();
        let (made, attached) = limited(bed, &pod, BOTH);
        let port = made.result.interfaces[1].name.clone();
        let ifb = attached.result.interfaces[3].name.clone();
        let differs = |conf: &str, want: &str| {
            let error = bed.check(BANDWIDTH, &pod, "net1", conf, &attached.result).unwrap_err();
            assert!(matches!(&error, Error::Differs(text) if text.contains(want)), "{error}, want {want}");
        };
        differs(&BOTH.replace("800000", "800008"), "rate in bytes per second is 100000, want 100001");
        differs(&BOTH.replace("160000", "160008"), "limit in bytes is 22500, want 22501");
        tc(&["qdisc", "del", "dev", &ifb, "root"]);
        differs(BOTH, &format!("link {ifb} has no token bucket"));
        tc(&["filter", "del", "dev", &port, "parent", "ffff:"]);
        differs(BOTH, &format!("link {port}: what it receives is not sent through {ifb}"));
        tc(&["qdisc", "del", "dev", &port, "ingress"]);
        differs(BOTH, "is not sent through");
        tc(&["qdisc", "del", "dev", &port, "root"]);
        differs(BOTH, &format!("link {port} has no token bucket"));
        bed.check(BANDWIDTH, &pod, "net1", "{}", &attached.result).unwrap();
    });
}

#[test]
fn kernel_on_host_bandwidth_takes_any_burst_that_the_runtime_says() {
    on_node(|bed| {
        for (rate, burst) in
            [(10_000_000, u64::from(u32::MAX)), (u64::MAX, 34_359_738_359), (8, 8), (8_000_000_000_000, 8000)]
        {
            let pod = bed.pod();
            let conf =
                format!(r#"{{"runtimeConfig":{{"bandwidth":{{"ingressRate":{rate},"ingressBurst":{burst}}}}}}}"#);
            let (_, attached) = limited(bed, &pod, &conf.replace("runtimeConfig", "unused"));
            let attached = bed.add_behind(BANDWIDTH, &pod, "net1", &conf, &attached.result).0;
            let attached = attached.unwrap_or_else(|error| panic!("{conf}: {error}"));
            bed.check(BANDWIDTH, &pod, "net1", &conf, &attached.result).unwrap();
        }
    });
}

#[test]
fn kernel_on_host_bandwidth_of_one_container_twice_in_one_network() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = r#"{"egressRate":800000,"egressBurst":160000}"#;
        let add = |ifname: &str| {
            let made = bed.add(Builtin::Bridge, &pod, ifname, r#"{"bridge":"br-t"}"#).unwrap();
            bed.add_behind(BANDWIDTH, &pod, ifname, conf, &made.result).0.unwrap().result
        };
        let results = [add("net1"), add("net2")];
        let ifbs = || bed.links().into_iter().filter(|name| name.starts_with("bwp")).collect::<Vec<_>>();
        assert_eq!(ifbs().len(), 2);
        for (ifname, result) in ["net1", "net2"].iter().zip(&results) {
            bed.check(BANDWIDTH, &pod, ifname, conf, result).unwrap();
        }
        bed.call(&pod, "net1", conf, Some(&results[0]), |host, call| BANDWIDTH.del(host, call)).unwrap();
        assert_eq!(ifbs(), [results[1].interfaces[3].name.clone()]);
        bed.call(&pod, "net2", conf, None, |host, call| BANDWIDTH.del(host, call)).unwrap();
        assert_eq!(ifbs(), Vec::<String>::new(), "without a result too");
    });
}

#[test]
fn kernel_on_host_bandwidth_refuses_what_cannot_be_limited() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.master("eth9", 1500, None);
        let macvlan = bed.add(Builtin::Macvlan, &pod, "net1", r#"{"master":"eth9"}"#).unwrap();
        let add = |ifname: &str, result: &CniResult| {
            bed.add_behind(BANDWIDTH, &pod, ifname, BOTH, result).0.unwrap_err().to_string()
        };
        let refused = add("net1", &macvlan.result);
        assert!(
            refused.starts_with(r#"CNI_IFNAME: got "net1", want a veth"#) && refused.contains("a macvlan"),
            "{refused}"
        );
        let made = bed.add(Builtin::Bridge, &pod, "net2", r#"{"bridge":"br-t"}"#).unwrap();
        let untold = CniResult { interfaces: made.result.interfaces[2..].to_vec(), ..made.result.clone() };
        assert!(add("net2", &untold).contains("in prevResult"));
        assert!(add("net3", &made.result).contains("the name of a link in the pod"));
        assert!(!bed.links().iter().any(|name| name.starts_with("bwp")));
        let attached = bed.add_behind(BANDWIDTH, &pod, "net1", r#"{"ingressRate":0}"#, &macvlan.result).0.unwrap();
        assert_eq!(attached.result, macvlan.result, "no limit");
        bed.status(BANDWIDTH, BOTH).unwrap();
        assert!(bed.link("meta-cni-probe").is_none());
    });
}
