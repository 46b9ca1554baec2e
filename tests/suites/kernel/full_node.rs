//! A node with hundreds of pods: what a call reads does not grow with them. And the end of a pod: DEL answers when everything
//! is undone that another pod could meet, while a process of its own waits for what the kernel frees later.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::node::{Node, Pod};
use serde_json::{Value, json};

/// Pods that are there already.
const OTHERS: u32 = 300;

/// What a call has read and written, from its start to its end.
#[derive(Debug)]
struct Io {
    verb: &'static str,
    /// read(2) and the like.
    reads: u64,
    /// Bytes that were read.
    bytes: u64,
    /// write(2) and the like.
    writes: u64,
}

impl Io {
    /// As much was read and written: addresses, and what is told of them, may have a few digits more.
    fn is_like(&self, other: &Self) -> bool {
        (self.verb, self.reads, self.writes) == (other.verb, other.reads, other.writes)
            && self.bytes.abs_diff(other.bytes) < 1024
    }
}

/// Runs a call, and counts for it and the shell that starts it.
fn io(node: &Node, verb: &'static str, call: Call<'_>) -> (Outcome, Io) {
    let file = node.text("io");
    let outcome = call.under(["sh", "-c", "\"$@\"; s=$?; cat /proc/$$/io >\"$0\"; exit $s", &file]).run();
    let text = fs::read_to_string(&file).unwrap();
    let of = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {text}"));
        line.trim().parse().unwrap()
    };
    (outcome, Io { verb, reads: of("syscr:"), bytes: of("rchar:"), writes: of("syscw:") })
}

/// eth0 and one more network, each a bridge with host-local; one pod was there, so that everything else is made.
fn node() -> Node {
    let bridge = |node: &Node, name: &str, subnet: &str| {
        json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": format!("br-{name}"), "isGateway": true,
            "ipam": node.host_local(subnet)})
    };
    let mut node = Node::new();
    node.conf["delegates"] = json!([bridge(&node, "main", "10.10.0.0/16")]);
    node.nad("more", bridge(&node, "more", "10.11.0.0/16"));
    let first = node.pod("first", "more");
    node.add(&first).result();
    node.del(&first).quiet();
    node
}

/// What the pods of a full node leave on it: records, files of addresses, and some of them ports of both bridges.
fn fill(node: &Node) {
    let container = |number: u32| format!("{number:064x}");
    for number in 0..OTHERS {
        let record = node.path(&format!("state/attached/node-net,{},eth0", container(number)));
        fs::write(record, "meta-cni record 1\n").unwrap();
    }
    let mut links = String::new();
    for (network, ifname, second) in [("main", "eth0", 10), ("more", "net1", 11)] {
        let dir = node.path(&format!("addresses/{network}"));
        let mut last = String::new();
        for number in 0..OTHERS {
            last = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, second, 1, 0)) + number).to_string();
            fs::write(dir.join(&last), format!("{}\r\n{ifname}", container(number))).unwrap();
        }
        fs::write(dir.join("last_reserved_ip.0"), last).unwrap();
        for number in 0..50 {
            let (port, peer) = (format!("{ifname}-{number}"), format!("{ifname}+{number}"));
            writeln!(links, "link add {port} master br-{network} type veth peer name {peer}").unwrap();
        }
    }
    fs::write(node.path("links"), links).unwrap();
    node.netns.run(&format!("ip -batch {}", node.text("links")));
}

/// ADD, CHECK, STATUS and DEL of one pod, and the DEL that runtimes send once more.
fn calls(node: &Node, name: &str) -> Vec<Io> {
    let pod = node.pod(name, "more");
    let (added, add) = io(node, "ADD", node.call("ADD", &pod));
    let result = added.result();
    let (checked, check) = io(node, "CHECK", node.call("CHECK", &pod).conf("prevResult", result));
    checked.quiet();
    let (ready, status) = io(node, "STATUS", node.bare_call("STATUS"));
    ready.quiet();
    let (deleted, del) = io(node, "DEL", node.call("DEL", &pod));
    deleted.quiet();
    pod.assert_empty();
    let (repeated, again) = io(node, "DEL again", node.call("DEL", &pod).env("CNI_NETNS", ""));
    repeated.quiet();
    node.remove_manifest(&format!("pod-{name}.json"));
    vec![add, check, status, del, again]
}

#[test]
fn a_call_on_a_full_node_reads_what_it_reads_on_an_empty_one_on_host() {
    let node = node();
    node.remove_manifest("pod-first.json");
    let empty = calls(&node, "pod-a");
    fill(&node);
    let full = calls(&node, "pod-b");
    for (empty, full) in empty.iter().zip(&full) {
        assert!(empty.is_like(full), "on an empty node {empty:?}, beside {OTHERS} pods {full:?}");
    }
    // Had anything been looked through, it would have been counted: a DEL without a record looks through one directory.
    let unknown = node.pod("unknown", "");
    let (deleted, del) = io(&node, "DEL", node.call("DEL", &unknown));
    deleted.quiet();
    assert!(del.reads > u64::from(OTHERS), "{del:?}");
}

/// Runs a call and counts what the kernel has told it over sockets: messages and bytes.
fn heard(node: &Node, call: Call<'_>) -> (Outcome, (usize, usize)) {
    let file = node.text("trace");
    let outcome =
        call.under(["strace", "-f", "-qq", "-e", "trace=recvfrom,recvmsg", "-e", "signal=none", "-o", &file]).run();
    let text = fs::read_to_string(&file).unwrap();
    let lengths = text.lines().filter_map(|line| line.rsplit_once(" = ")?.1.parse::<usize>().ok());
    (outcome, lengths.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length)))
}

/// The rules of many pods: masquerades, guards against other hardware addresses, and ports of the node.
fn rules_of_others(node: &Node) {
    let mut rules = String::new();
    for number in 0..OTHERS {
        let (address, id) = (Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 10, 1, 0)) + number), format!("{number:064x}"));
        write!(
            rules,
            "add rule inet cni_plugins_masquerade masq_checks ip saddr {address} ip daddr != 10.10.0.0/16 masquerade comment \"x, id: {id}\"
             add chain bridge nat port-{number}
             add rule bridge nat PREROUTING iifname \"port{number}\" jump port-{number}
             add rule ip cni_hostport hostports tcp dport {} dnat to {address}:80 comment \"{id}\"\n",
            20_000 + number
        )
        .unwrap();
    }
    fs::write(node.path("rules"), rules).unwrap();
    node.netns.run(&format!("nft -f {}", node.text("rules")));
}

#[test]
fn a_call_hears_of_no_rules_of_other_pods_on_host() {
    let mut node = Node::new();
    let bridge = json!({"type": "bridge", "bridge": "br-main", "isGateway": true, "ipMasq": true, "macspoofchk": true,
        "ipam": node.host_local("10.10.0.0/16")});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "main", "plugins": [bridge, portmap]}]);
    let calls = |node: &mut Node, name: &str| {
        let pod = node.pod(name, "");
        let mut told = Vec::new();
        let mapping = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
        for mappings in [json!([]), json!([mapping])] {
            node.conf["runtimeConfig"] = json!({"portMappings": mappings});
            let (added, add) = heard(node, node.call("ADD", &pod));
            let result = added.result();
            // Whose a port of the node is, all mappings tell.
            if mappings == json!([]) {
                told.push(("ADD", add));
            }
            let (checked, check) = heard(node, node.call("CHECK", &pod).conf("prevResult", result));
            checked.quiet();
            let (ready, status) = heard(node, node.bare_call("STATUS"));
            ready.quiet();
            let (deleted, del) = heard(node, node.call("DEL", &pod));
            deleted.quiet();
            told.extend([("CHECK", check), ("STATUS", status), ("DEL", del)]);
        }
        told
    };
    calls(&mut node, "first");
    let empty = calls(&mut node, "pod-a");
    rules_of_others(&node);
    let full = calls(&mut node, "pod-b");
    for ((verb, empty), (_, full)) in empty.iter().zip(&full) {
        let is_like = empty.0 == full.0 && empty.1.abs_diff(full.1) < 256;
        assert!(
            is_like,
            "{verb}: messages and bytes on an empty node {empty:?}, beside the rules of {OTHERS} pods {full:?}"
        );
    }
    let rules = node.netns.run("nft list ruleset");
    assert_eq!(rules.matches("masquerade comment").count(), OTHERS as usize, "of the pods nothing is left");
}

/// One network with room for one pod.
fn narrow() -> Node {
    let mut node = Node::new();
    let ipam = node.host_local("10.10.0.0/30");
    node.conf["delegates"] = json!([{"cniVersion": "1.0.0", "name": "main", "type": "bridge", "bridge": "br-main", "isGateway": true, "ipam": ipam}]);
    node
}

fn address(result: &Value) -> &str {
    result["ips"][0]["address"].as_str().unwrap()
}

#[test]
fn what_a_del_gave_back_is_there_for_the_next_pod_at_once() {
    let node = narrow();
    let (one, two) = (node.pod("one", ""), node.pod("two", ""));
    for _ in 0..10 {
        for pod in [&one, &two] {
            assert_eq!(address(&node.add(pod).result()), "10.10.0.2/30");
            assert!(pod.netns.pings("10.10.0.1"));
            node.del(pod).quiet();
            // The process that waits for the kernel may still do so.
            pod.assert_empty();
            node.assert_clean();
            node.del(pod).quiet();
        }
    }
}

#[test]
fn the_same_sandbox_is_attached_again_at_once_and_stays_so() {
    let node = narrow();
    let pod = node.pod("one", "");
    for _ in 0..10 {
        node.add(&pod).result();
        node.del(&pod).quiet();
        node.add(&pod).result();
        // Longer than any message of the DEL could be under way.
        sleep(Duration::from_millis(60));
        assert_eq!(pod.netns.links(), ["eth0"]);
        node.del(&pod).quiet();
    }
    node.assert_clean();
}

#[test]
fn a_del_that_is_killed_takes_nothing_from_the_add_behind_it_on_host() {
    let node = narrow();
    let pod = node.pod("one", "");
    let attach = |pod: &Pod| match node.add(pod) {
        // Killed before it had begun.
        added if !added.succeeded() => {
            added.refused(101, &["attached already"]);
            node.del(pod).quiet();
            node.add(pod).result()
        }
        added => added.result(),
    };
    attach(&pod);
    for half_millis in 0..40 {
        let mut del = node.call("DEL", &pod).start();
        sleep(Duration::from_micros(500 * half_millis));
        del.kill();
        del.finish(Duration::from_secs(60));
        attach(&pod);
        sleep(Duration::from_millis(60));
        assert_eq!(pod.netns.links(), ["eth0"], "killed after {half_millis} half milliseconds");
    }
    node.del(&pod).quiet();
    pod.assert_empty();
    node.assert_clean();
}
