//! The crash tier: SIGKILL at the entry of every system call that the plugin makes, one after another, then DEL; and every answer
//! of the kernel lost, one after another. Nothing may be left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod dhcp;
mod on_demand;

use std::collections::HashMap;

use meta_cni_tests::call::{Call, Outcome};
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use serde_json::json;

/// A place in a run of the plugin: the `nth` call of one system call.
#[derive(Clone, Debug)]
struct Place {
    syscall: String,
    nth: u32,
}

/// Every system call that this call of the plugin makes, in order. Runs it.
fn places(node: &Node, call: Call<'_>) -> Vec<Place> {
    let trace = node.text("trace");
    let outcome = call.under(["strace", "-qq", "-e", "signal=none", "-o", &trace]).run();
    assert!(outcome.succeeded(), "{}", outcome.stderr());
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut places = Vec::new();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        // execve has happened before the plugin is there; exit is its last word.
        let Some((syscall, _)) = line.split_once('(').filter(|(name, _)| !name.starts_with("exec")) else { continue };
        let nth = counts.entry(syscall.to_owned()).or_default();
        *nth += 1;
        places.push(Place { syscall: syscall.to_owned(), nth: *nth });
    }
    assert!(places.len() > 30, "only {} system calls: was the plugin traced?", places.len());
    places
}

/// Runs a call that is killed when it enters this system call.
fn killed_at(call: Call<'_>, place: &Place) -> Outcome {
    let inject = format!("inject={}:signal=KILL:when={}", place.syscall, place.nth);
    let trace = format!("trace={}", place.syscall);
    let outcome = call.under(["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]).run();
    assert!(!outcome.stderr().contains("strace:"), "{}", outcome.stderr());
    outcome
}

/// strace ends as its tracee did: by the same signal.
fn was_killed(outcome: &Outcome) -> bool {
    outcome.finished.signal == Some(9)
}

/// eth0 and two more networks, all built in: a bridge of ours, an administrator's bridge that must be as it was afterwards,
/// and an overlay.
fn scene() -> (Node, Pod) {
    let mut node = Node::new();
    node.netns.run("ip link add up0 type veth peer name up1");
    node.netns.run("ip address add 192.168.50.1/24 dev up0");
    node.netns.run("ip link set up0 up");
    node.netns.run("ip link set up1 up");
    let bridge = |bridge: &str, subnet: &str| json!({"cniVersion": "1.0.0", "name": bridge, "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": node.host_local(subnet)});
    node.netns.run("ip link add br-a type bridge");
    node.netns.run("ip link set br-a up");
    let (main, mut net_a) = (bridge("cni0", "10.10.0.0/16"), bridge("br-a", "10.11.0.0/16"));
    net_a["promiscMode"] = json!(true);
    let overlay = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "vxlan", "vni": 4200, "underlay": "up0", "peers": ["192.168.50.2"],
        "ipam": {"type": "blocks", "subnet": "10.12.0.0/16"},
    });
    node.conf["delegates"] = json!([main]);
    node.nad("net-a", net_a);
    node.nad("blue", overlay);
    let pod = node.pod("web", "net-a,blue");
    (node, pod)
}

/// Nothing of the pod is left: not in it, not on the node.
#[track_caller]
fn clean(node: &Node, pod: &Pod, place: &Place) {
    assert_eq!(pod.netns.links(), Vec::<String>::new(), "killed at {place:?}");
    let left = node.leftovers(&["up0", "up1"]);
    assert!(left.is_empty(), "killed at {place:?}: {left:?}");
    let stays = |name: &String| ["cni0", "br-a", "up0", "up1"].contains(&name.as_str());
    let overlays: Vec<String> = node.netns.links().into_iter().filter(|name| !stays(name)).collect();
    assert!(overlays.is_empty(), "killed at {place:?}: {overlays:?}");
    let bridge = node.netns.link("br-a");
    let is = |flag: &str| bridge["flags"].as_array().is_some_and(|flags| flags.contains(&json!(flag)));
    let accept_ra = node.netns.run("sysctl -n net.ipv6.conf.br-a.accept_ra");
    let now = (is("UP"), is("PROMISC"), node.netns.addresses("br-a"), accept_ra.trim());
    assert_eq!(now, (true, false, Vec::new(), "1"), "killed at {place:?}");
}

/// The places of an ADD on a node where the bridges exist, as they do from the second pod on; the pod is detached again.
fn places_of_add(node: &Node, pod: &Pod) -> Vec<Place> {
    node.add(pod).result();
    node.del(pod).quiet();
    let places = places(node, node.call("ADD", pod));
    node.del(pod).quiet();
    places
}

/// Kills a call at each system call: a name after the other, and of each name the first call, the second, until a run
/// ends by itself. So no place is missed when a run makes more or fewer calls than the one before, as it does when it has
/// to wait for the kernel.
#[track_caller]
fn walk(places: &[Place], mut kill: impl FnMut(&Place) -> Outcome) {
    let first_of_each = places.iter().filter(|place| place.nth == 1);
    let mut killed = 0;
    for first in first_of_each {
        let mut place = first.clone();
        while was_killed(&kill(&place)) {
            killed += 1;
            place.nth += 1;
        }
    }
    assert!(killed > 100, "killed only {killed} times; a quiet run makes {} calls", places.len());
}

/// What must hold after a call that was killed, and the DEL after it.
type Clean = fn(&Node, &Pod, &Place);

/// Kills ADDs, each of which the DEL after it must undo.
#[track_caller]
fn kill_adds((node, pod): &(Node, Pod), clean: Clean) {
    walk(&places_of_add(node, pod), |place| {
        let killed = killed_at(node.call("ADD", pod), place);
        node.del(pod).quiet();
        clean(node, pod, place);
        killed
    });
}

/// Kills DELs, each of which the next one must finish.
#[track_caller]
fn kill_dels((node, pod): &(Node, Pod), clean: Clean) {
    node.add(pod).result();
    walk(&places(node, node.call("DEL", pod)), |place| {
        node.add(pod).result();
        let killed = killed_at(node.call("DEL", pod), place);
        node.del(pod).quiet();
        clean(node, pod, place);
        killed
    });
}

#[test]
fn an_add_killed_anywhere_is_undone_by_del() {
    kill_adds(&scene(), clean);
}

#[test]
fn a_del_killed_anywhere_is_finished_by_the_next() {
    kill_dels(&scene(), clean);
}

#[test]
fn an_add_killed_anywhere_can_be_repeated() {
    let (node, pod) = scene();
    for place in places_of_add(&node, &pod).iter().step_by(3) {
        let first = killed_at(node.call("ADD", &pod), place);
        let again = node.add(&pod);
        if !again.succeeded() {
            // Killed after the record said done: the attachment exists, and nobody was told.
            again.refused(101, &[]);
        }
        assert_eq!(pod.netns.links(), ["eth0", "net1", "net2"], "killed at {place:?}: {first:?}");
        node.del(&pod).quiet();
        clean(&node, &pod, place);
    }
}

#[test]
fn a_pod_that_dies_with_its_killed_add_leaves_nothing() {
    let (node, pod) = scene();
    for (i, place) in places_of_add(&node, &pod).iter().enumerate().skip(20).step_by(10) {
        // The namespace goes first, then DEL comes.
        let netns = Netns::new(node.path(&format!("netns/again-{i}")));
        let again = Pod { netns, ..node.sandbox("web", &pod.uid) };
        killed_at(node.call("ADD", &again), place);
        again.netns.remove();
        node.del(&again).quiet();
        clean(&node, &pod, place);
    }
}

#[test]
fn an_add_killed_anywhere_and_never_deleted_goes_with_gc() {
    let (node, pod) = scene();
    for place in places_of_add(&node, &pod).iter().skip(20).step_by(10) {
        let lost = node.sandbox("web", &pod.uid);
        killed_at(node.call("ADD", &lost), place);
        node.add(&pod).result();
        let valid = json!([{"containerID": pod.container, "ifname": "eth0"}]);
        node.bare_call("GC").conf("cni.dev/valid-attachments", valid).run().quiet();
        node.del(&pod).quiet();
        clean(&node, &lost, place);
    }
}

#[test]
fn a_hot_plug_killed_anywhere_is_finished_by_the_next_or_undone_by_del() {
    let (node, pod) = scene();
    let edited = || {
        node.edit(&pod, "net-a");
        node.add(&pod).result();
        node.edit(&pod, "blue");
    };
    edited();
    let all = places(&node, node.hot_plug_call(&pod));
    node.del(&pod).quiet();
    let mut turn = 0;
    walk(&all, |place| {
        edited();
        let killed = killed_at(node.hot_plug_call(&pod), place);
        turn += 1;
        if turn % 3 == 1 {
            node.hot_plug(&pod).result();
            assert_eq!(pod.netns.links(), ["eth0", "net2"], "killed at {place:?}");
        } else if turn % 3 == 2 {
            assert_eq!(node.replay()["living"], 1, "killed at {place:?}");
            let links = pod.netns.links();
            assert!(links == ["eth0", "net1"] || links == ["eth0", "net2"], "killed at {place:?}: {links:?}");
        }
        node.del(&pod).quiet();
        clean(&node, &pod, place);
        killed
    });
}

#[test]
fn a_repair_killed_anywhere_is_done_by_the_next_or_undone_by_del() {
    let (node, pod) = scene();
    let call = || node.repair_call(&pod).conf("repair", serde_json::json!(true));
    let broken = || {
        node.edit(&pod, "net-a");
        node.add(&pod).result();
        let addresses = pod.netns.addresses("net1");
        pod.netns.run("ip link set net1 address 02:00:00:00:00:66");
        addresses
    };
    broken();
    let all = places(&node, call());
    node.del(&pod).quiet();
    let mut turn = 0;
    walk(&all, |place| {
        let addresses = broken();
        let killed = killed_at(call(), place);
        turn += 1;
        if turn % 2 == 1 {
            node.repair(&pod).result();
            assert_eq!(pod.netns.addresses("net1"), addresses, "killed at {place:?}");
            assert!(node.differences().is_empty(), "killed at {place:?}: {:?}", node.differences());
        }
        node.del(&pod).quiet();
        clean(&node, &pod, place);
        killed
    });
}

/// Runs a call whose `nth` netlink answer is lost, as it is when the socket has no room for it.
fn deafened(call: Call<'_>, nth: usize) -> Outcome {
    let inject = format!("inject=recvfrom:error=ENOBUFS:when={nth}");
    call.under(["strace", "-qq", "-o", "/dev/null", "-e", "trace=recvfrom", "-e", &inject]).run()
}

fn answers(places: &[Place]) -> usize {
    let count = places.iter().filter(|place| place.syscall == "recvfrom").count();
    assert!(count > 10, "only {count} answers: does netlink go another way?");
    count
}

#[test]
fn whichever_answer_of_the_kernel_is_lost_an_add_fails_whole_and_a_del_is_repeated() {
    let (node, pod) = scene();
    let (mut failed, mut went_on) = (0, 0);
    for nth in 1..=answers(&places_of_add(&node, &pod)) {
        let outcome = deafened(node.call("ADD", &pod), nth);
        if outcome.succeeded() {
            // A question is asked again.
            went_on += 1;
        } else {
            outcome.refused(105, &["No buffer space available"]);
            failed += 1;
            pod.assert_empty();
        }
        node.del(&pod).quiet();
        clean(&node, &pod, &Place { syscall: "recvfrom".to_owned(), nth: nth as u32 });
    }
    assert!(failed > 5 && went_on > 5, "{failed} failed, {went_on} went on");
    node.add(&pod).result();
    for nth in 1..=answers(&places(&node, node.call("DEL", &pod))) {
        node.add(&pod).result();
        let outcome = deafened(node.call("DEL", &pod), nth);
        if !outcome.succeeded() {
            outcome.refused(105, &["No buffer space available"]);
        }
        node.del(&pod).quiet();
        clean(&node, &pod, &Place { syscall: "recvfrom".to_owned(), nth: nth as u32 });
    }
}

#[test]
fn a_tap_device_goes_with_its_pods_del_wherever_the_add_was_killed() {
    let (node, _) = scene();
    node.nad(
        "tap",
        json!({"cniVersion": "1.0.0", "type": "tap", "owner": 107, "ipam": node.host_local("10.13.0.0/24")}),
    );
    let pod = node.pod("machine", "tap");
    walk(&places_of_add(&node, &pod), |place| {
        let killed = killed_at(node.call("ADD", &pod), place);
        node.del(&pod).quiet();
        clean(&node, &pod, place);
        killed
    });
}

/// The device as it is on the node, whether it is up, and its addresses. Its carrier is told by the kernel up to a second
/// later, and says nothing about us.
fn device(node: &Node) -> [serde_json::Value; 4] {
    let link = node.netns.link("dev0");
    let kept = ["ifindex", "address", "mtu", "ifalias", "altnames", "group", "txqlen"].map(|key| link[key].clone());
    let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")));
    let around = ["ip route show table all proto boot", "ip neighbor show dev dev0 nud permanent", "ip rule show"];
    let around = around.map(|look| node.netns.run(look).replace(" linkdown", ""));
    [json!(kept), json!(up), json!(node.netns.addresses("dev0")), json!(around)]
}

/// eth0 is a bridge, net1 a device of the node.
fn lending_scene() -> (Node, Pod) {
    let (mut node, _) = scene();
    node.conf["sharedLinks"] = json!(["dev0"]);
    node.netns.run("ip link add dev0 mtu 1400 type veth peer name dev1");
    node.netns.run("ip link set dev0 alias uplink");
    node.netns.run("ip address add 10.20.0.7/24 dev dev0");
    node.netns.run("ip link set dev0 up");
    node.netns.run("ip link set dev1 up");
    node.netns.run("ip link property add dev dev0 altname the-device-of-the-node");
    node.netns.run("ip route add 10.21.0.0/16 via 10.20.0.1 dev dev0");
    node.netns.run("ip neighbor add 10.20.0.50 lladdr 02:00:00:00:00:50 dev dev0 nud permanent");
    node.netns.run("ip rule add iif dev0 table 4000");
    node.nad("lent", json!({"cniVersion": "1.0.0", "type": "host-device", "device": "dev0", "ipam": node.host_local("10.20.0.0/24")}));
    let pod = node.pod("web", "lent");
    (node, pod)
}

#[test]
fn a_device_of_the_node_is_back_as_it_was_whenever_add_or_del_was_killed() {
    let (node, pod) = lending_scene();
    let was = device(&node);
    let is_back = |what: &str, place: &Place| {
        node.del(&pod).quiet();
        assert_eq!(device(&node), was, "{what} killed at {place:?}");
        assert_eq!(pod.netns.links(), Vec::<String>::new(), "{what} killed at {place:?}");
    };
    walk(&places_of_add(&node, &pod), |place| {
        let killed = killed_at(node.call("ADD", &pod), place);
        is_back("ADD", place);
        killed
    });
    node.add(&pod).result();
    walk(&places(&node, node.call("DEL", &pod)), |place| {
        node.add(&pod).result();
        let killed = killed_at(node.call("DEL", &pod), place);
        is_back("DEL", place);
        killed
    });
    assert!(node.leftovers(&["up0", "up1", "dev0", "dev1"]).is_empty());
}

/// How the device was is in the record of the first pod alone, until it is back whole: the second pod gets it like that or not
/// at all.
#[test]
fn a_device_whose_del_was_killed_anywhere_goes_to_the_next_pod_as_it_was() {
    let (node, first) = lending_scene();
    let was = device(&node);
    let second = node.pod("next", "lent");
    node.add(&first).result();
    let places = places(&node, node.call("DEL", &first));
    let mut went_on = 0;
    walk(&places, |place| {
        node.add(&first).result();
        for change in ["down", "address 02:00:00:00:00:66 mtu 900 alias mine", "group 7"] {
            first.netns.run(&format!("ip link set net1 {change}"));
        }
        let killed = killed_at(node.call("DEL", &first), place);
        let added = node.add(&second);
        if added.succeeded() {
            let lent = second.netns.link("net1");
            assert_eq!([&lent["address"], &lent["mtu"]], [&was[0][1], &was[0][2]], "killed at {place:?}");
            went_on += 1;
            node.del(&first).quiet();
            node.del(&second).quiet();
        } else {
            // Killed before the record was moved: to whoever looks, the first pod is alive.
            added.refused(102, &["one that a pod holds"]);
            node.del(&second).quiet();
            node.del(&first).quiet();
        }
        assert_eq!(device(&node), was, "killed at {place:?}");
        for pod in [&first, &second] {
            assert_eq!(pod.netns.links(), Vec::<String>::new(), "killed at {place:?}");
        }
        killed
    });
    assert!(went_on > 50, "only {went_on} of the second pod's ADDs went on");
    assert!(node.leftovers(&["up0", "up1", "dev0", "dev1"]).is_empty());
}

#[test]
fn an_add_killed_anywhere_is_cleaned_up_by_replay_alone() {
    let (node, pod) = scene();
    for place in places_of_add(&node, &pod).iter().skip(20).step_by(10) {
        killed_at(node.call("ADD", &pod), place);
        let settled = node.path("state/attached").read_dir().is_ok_and(|mut records| records.next().is_some());
        // Killed after the record said done: the attachment is whole, and its sandbox lives.
        let report = node.replay();
        assert_eq!(report["living"], u64::from(settled), "killed at {place:?}: {report}");
        assert_eq!(report["left"], json!([]), "killed at {place:?}: {report}");
        if settled {
            assert_eq!(pod.netns.links(), ["eth0", "net1", "net2"], "killed at {place:?}");
            node.del(&pod).quiet();
        }
        clean(&node, &pod, place);
    }
}

#[test]
fn a_replay_killed_anywhere_is_finished_by_the_next() {
    let (node, pod) = scene();
    let lost = |i: usize| {
        let netns = Netns::new(node.path(&format!("netns/lost-{i}")));
        let lost = Pod { netns, ..node.sandbox("web", &pod.uid) };
        node.add(&lost).result();
        lost.netns.remove();
        lost
    };
    drop(lost(0));
    let places = places(&node, node.replay_call(0));
    for (i, place) in places.iter().enumerate().skip(20).step_by(10) {
        let lost = lost(i);
        killed_at(node.replay_call(0), place);
        node.replay();
        let left = node.leftovers(&["up0", "up1"]);
        assert!(left.is_empty(), "{}: killed at {place:?}: {left:?}", lost.container);
    }
    clean(&node, &pod, places.last().unwrap());
}
