//! detach against a pod with NET_ADMIN, and against a path that belongs to another pod.

use super::*;
use crate::call::testing::ours;
use crate::lock::Lock;
use crate::spec::LinkId;

const CONF: &str = r#"{"bridge":"br-t"}"#;

/// A pod with two of our links, and their record.
fn attached(bed: &Bed) -> (Pod, Vec<LinkId>) {
    let pod = bed.pod();
    let links = ["net1", "net2"].map(|ifname| bed.add(Builtin::Bridge, &pod, ifname, CONF).unwrap().links);
    (pod, links.concat())
}

fn detached(bed: &Bed, pod: &Pod, links: &[LinkId]) {
    detach(&mut Sandbox::open(&pod.path, &bed.node()).unwrap(), GROUP, links, None).unwrap();
}

fn left(pod: &Pod) -> Vec<String> {
    pod.netlink().links(None).unwrap().into_iter().map(|link| link.name).collect()
}

fn regroup(pod: &Pod, text: &str, group: u32) {
    let link = pod.link(text).unwrap();
    pod.netlink().set_link(link.index, &LinkChange { group: Some(group), ..LinkChange::default() }).unwrap();
}

#[test]
fn kernel_a_sender_that_ends_without_having_sent_is_stood_in_for() {
    on_node(|bed| {
        let (pod, links) = attached(bed);
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(&dir.path().join("lock")).unwrap().unwrap();
        // The sender is this program, which takes the message for the name of a test, finds none, and ends.
        for left_now in [["lo"]; 2] {
            detach(&mut Sandbox::open(&pod.path, &bed.node()).unwrap(), GROUP, &links, Some(&lock)).unwrap();
            assert_eq!(left(&pod), left_now);
        }
        drop(lock);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nobody has the lock any more");
        assert_eq!(bed.links(), ["br-t"]);
    });
}

#[test]
fn kernel_detach_removes_all_and_a_second_one_nothing() {
    on_node(|bed| {
        let (pod, links) = attached(bed);
        detached(bed, &pod, &links);
        assert_eq!(left(&pod), ["lo"]);
        detached(bed, &pod, &links);
        assert_eq!(bed.links(), ["br-t"]);
    });
}

#[test]
fn kernel_detach_with_lo_in_the_group() {
    on_node(|bed| {
        // With and without a record: after a crash there is none.
        for recorded in [true, false] {
            let (pod, links) = attached(bed);
            regroup(&pod, "lo", GROUP);
            detached(bed, &pod, if recorded { &links } else { &[] });
            assert_eq!(left(&pod), ["lo"], "recorded: {recorded}");
            assert_eq!(pod.link("lo").unwrap().group, 0);
        }
    });
}

#[test]
fn kernel_detach_of_a_link_that_left_the_group() {
    on_node(|bed| {
        let (pod, links) = attached(bed);
        regroup(&pod, "net1", 0);
        detached(bed, &pod, &links);
        assert_eq!(left(&pod), ["lo"]);
    });
}

#[test]
fn kernel_detach_of_a_link_that_was_renamed_and_left_the_group() {
    on_node(|bed| {
        let (pod, links) = attached(bed);
        regroup(&pod, "net2", 7);
        let link = pod.link("net2").unwrap();
        let change = LinkChange { up: Some(false), ..LinkChange::default() };
        pod.netlink().set_link(link.index, &change).unwrap();
        let (hidden, own) = (name("eth7"), name("net2"));
        pod.netlink().set_link(link.index, &LinkChange { name: Some(&hidden), ..LinkChange::default() }).unwrap();
        // A link of the pod's own takes the name.
        let peer = Peer { name: &name("own-x"), netns: None, mtu: None, mac: None, group: 0 };
        pod.netlink().add_link(&NewLink::new(&own, NewKind::Veth(peer))).unwrap();
        detached(bed, &pod, &links);
        let mut names = left(&pod);
        names.sort();
        assert_eq!(names, ["lo", "net2", "own-x"]);
    });
}

#[test]
fn kernel_detach_leaves_another_pod_alone() {
    on_node(|bed| {
        let (_gone, links) = attached(bed);
        // The path leads to a pod of another record: same names, same indexes, same kinds.
        let other = bed.pod();
        let (ifname, network) = (name("net1"), "net".parse().unwrap());
        let conf = object(CONF);
        let point =
            Point { container: &other.container, netns: &other.path, ifname: &ifname, args: "", group: GROUP + 1 };
        let call = Call {
            network: &network,
            version: Version::NEWEST,
            conf: &conf,
            origin: ours(),
            point: Some(point),
            prev_result: None,
            saved: None,
        };
        let mut sandbox = Sandbox::open(&other.path, &bed.node()).unwrap();
        let made = Builtin::Bridge.add(&mut Host::new(bed.node()), &mut sandbox, &call).unwrap();
        assert_eq!(made.links[0].index, links[0].index);
        detached(bed, &other, &links);
        assert_eq!(left(&other), ["lo", "net1"]);
    });
}
