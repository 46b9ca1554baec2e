//! host-device in a pod with NET_ADMIN: whatever the pod does, the device comes home as it was.

use std::os::fd::AsFd;

use super::*;
use crate::error::Error;
use crate::host::Astray;
use crate::nl::link::{Bridge, MacvlanMode};
use crate::saved_states::{Records, SavedStates};

const CONF: &str = r#"{"device":"eth1"}"#;

/// Runs `ip`, in the namespace of the thread.
#[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; people look with ip")]
fn ip(arguments: &str) -> String {
    let done = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// eth1 of the node with everything that must come back.
fn device(bed: &Bed) -> Link {
    bed.master("eth1", 1450, None);
    bed.master("eth9", 1450, Some("10.9.0.1/24"));
    furnish(bed)
}

/// Gives eth1 everything that must come back.
fn furnish(bed: &Bed) -> Link {
    for line in [
        "address add 192.0.2.9/24 dev eth1",
        "link property add dev eth1 altname a-long-name-of-the-uplink",
        "link set eth1 alias uplink group 5 txqueuelen 700",
        "link set eth1 allmulticast on",
        "address add 192.0.2.10/24 dev eth1",
        "address add 2001:db8::9/64 dev eth1 nodad",
        "address add fe80::1/64 dev eth1 nodad",
        "route add 198.51.100.0/24 via 192.0.2.1 dev eth1 metric 5",
        "route add 198.51.101.0/24 via 198.51.100.1 dev eth1 onlink table 4000",
        "route add 198.51.102.0/24 nexthop via 192.0.2.1 dev eth1 nexthop via 10.9.0.2 dev eth9",
        "-6 route add 2001:db8:1::/48 via 2001:db8::1 dev eth1",
        "neighbor add 192.0.2.50 lladdr 02:00:00:00:00:50 dev eth1 nud permanent",
        "rule add iif eth1 table 4000",
    ] {
        ip(line);
    }
    bed.link("eth1").unwrap()
}

/// What people see of the device on the node.
fn looks(bed: &Bed) -> Vec<String> {
    let link = bed.link("eth1").expect("eth1 is on the node");
    let kept = (&link.name, &link.alias, &link.altnames, link.mac, link.mtu, link.group, link.up);
    let mut looks = vec![format!("{kept:?} {} {} {}", link.promisc, link.allmulti, link.tx_queue)];
    for look in [
        "-br address show dev eth1",
        "route show table all",
        "-6 route show table all",
        "neighbor show dev eth1 nud permanent",
        "rule show",
    ] {
        // What the kernel makes by itself comes a moment later.
        let lines = ip(look);
        let lines = lines.lines().filter(|line| !line.contains("proto kernel") && !line.contains("fe80::"));
        let mut lines: Vec<_> = lines.map(|line| line.replace(" linkdown", "").trim().to_owned()).collect();
        lines.sort();
        looks.push(format!("{look}: {lines:#?}"));
    }
    looks.push(format!("{}", ip("address show dev eth1").contains("fe80::1/64")));
    looks
}

/// Lends eth1, lets the pod play its trick, and hands it back.
fn trick(play: impl FnOnce(&Bed, &Pod, &Link) + Send) {
    on_node(|bed| {
        let was = device(bed);
        let before = looks(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let lent = pod.link("net1").unwrap();
        play(bed, &pod, &lent);
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_eq!(looks(bed), before);
        let is = bed.link("eth1").unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        bed.restore(Builtin::HostDevice, &pod, false, CONF, &noted).unwrap();
        assert_eq!((looks(bed), is.mac), (before, was.mac));
    });
}

#[test]
fn kernel_lent_device_with_what_it_had_comes_back_from_a_quiet_pod() {
    trick(|_, pod, lent| {
        assert_eq!(lent.altnames, ["a-long-name-of-the-uplink"]);
        assert_eq!(pod.link("a-long-name-o"), None);
    });
}

#[test]
fn kernel_lent_device_with_altnames_of_the_pod() {
    trick(|bed, pod, lent| {
        let mut inside = pod.netlink();
        // Its own name on the node, another link's, and any.
        for altname in ["eth1", "eth9", "mine"] {
            inside.add_altname(lent.index, altname).unwrap();
        }
        inside.delete_altname(lent.index, "a-long-name-of-the-uplink").unwrap();
        assert!(bed.link("eth1").is_none());
    });
}

#[test]
fn kernel_lent_device_whose_name_another_link_of_the_pod_has() {
    trick(|_, pod, lent| {
        let mut inside = pod.netlink();
        let (near, far) = (name("eth1"), name("eth9"));
        let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
        inside.add_link(&NewLink::new(&near, NewKind::Veth(peer))).unwrap();
        inside.set_link(lent.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        // A name that the node has too.
        let renamed = LinkChange { name: Some(&name("eth9-x")), alias: Some("eth9"), ..LinkChange::default() };
        inside.set_link(lent.index, &renamed).unwrap();
    });
}

#[test]
fn kernel_lent_device_changed_in_every_way() {
    trick(|_, pod, lent| {
        let mut inside = pod.netlink();
        inside.set_link(lent.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        let mischief = LinkChange {
            alias: Some(""),
            mac: Some("02:00:00:00:00:66".parse().unwrap()),
            mtu: Some(900),
            group: Some(GROUP),
            promisc: Some(true),
            allmulti: Some(false),
            tx_queue: Some(1),
            ..LinkChange::default()
        };
        inside.set_link(lent.index, &mischief).unwrap();
        inside.add_address(lent.index, net("203.0.113.1/24"), false).unwrap();
    });
}

#[test]
fn kernel_lent_device_in_a_bridge_of_the_pod() {
    trick(|_, pod, lent| {
        let mut inside = pod.netlink();
        let own = name("own");
        inside.add_link(&NewLink::new(&own, NewKind::Bridge(Bridge::default()))).unwrap();
        let bridge = pod.link("own").unwrap();
        inside.set_link(lent.index, &LinkChange { master: Some(bridge.index), ..LinkChange::default() }).unwrap();
    });
}

#[test]
fn kernel_lent_device_does_not_leave_a_macvlan_behind() {
    on_node(|bed| {
        device(bed);
        let before = looks(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let parent = pod.link("net1").unwrap().index;
        let child = name("child");
        let kind = NewKind::Macvlan { parent, mode: MacvlanMode::Passthru, broadcast_queue: None };
        pod.netlink().add_link(&NewLink { up: true, ..NewLink::new(&child, kind) }).unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_eq!(looks(bed), before);
        assert_eq!(pod.link("child"), None, "it would go on receiving what the device receives");
    });
}

#[test]
fn kernel_lent_device_comes_back_beside_a_link_that_took_its_index() {
    trick(|bed, _, lent| {
        let (near, far) = (name("squat0"), name("squat1"));
        let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
        let squatter = NewLink { index: Some(lent.index), ..NewLink::new(&near, NewKind::Veth(peer)) };
        bed.netlink().add_link(&squatter).unwrap();
    });
}

#[test]
fn kernel_lent_device_waits_for_a_name_that_is_another_links_altname_and_not_for_an_altname_of_its_own() {
    on_node(|bed| {
        device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let other = bed.link("eth9").unwrap().index;
        let mut netlink = bed.netlink();
        netlink.add_altname(other, "eth1").unwrap();
        netlink.add_altname(other, "a-long-name-of-the-uplink").unwrap();
        let error = bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap_err();
        assert!(error.to_string().contains("eth9 with index"), "{error}");
        assert!(error.to_string().contains("has its name as an altname"), "{error}");
        assert!(pod.link("net1").is_some());
        netlink.delete_altname(other, "eth1").unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        let is = bed.link("eth1").unwrap();
        assert_eq!((is.name.as_str(), is.altnames, is.alias.as_str()), ("eth1", vec![], "uplink"));
        assert_eq!(bed.link("eth9").unwrap().altnames, ["a-long-name-of-the-uplink"]);
    });
}

#[test]
fn kernel_lent_device_lends_under_a_name_that_is_its_altname() {
    on_node(|bed| {
        device(bed);
        ip("link property add dev eth1 altname net1");
        let before = looks(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        assert_eq!(pod.link("net1").unwrap().altnames, ["a-long-name-of-the-uplink"]);
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_eq!(looks(bed), before);
    });
}

#[test]
fn kernel_on_uml_lent_device_that_is_a_vlan_or_leads_nowhere() {
    for make in ["link add eth1 up type dummy", "link add link eth9 name eth1 up type vlan id 5"] {
        on_node(|bed| {
            bed.master("eth9", 1450, Some("10.9.0.1/24"));
            ip(make);
            furnish(bed);
            let before = looks(bed);
            let pod = bed.pod();
            let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
            added.unwrap();
            let lent = pod.link("net1").unwrap();
            let mut inside = pod.netlink();
            inside.add_altname(lent.index, "eth1").unwrap();
            inside.set_link(lent.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
            let mischief = LinkChange {
                name: Some(&name("eth9")),
                alias: Some("mine"),
                mac: Some("02:00:00:00:00:66".parse().unwrap()),
                group: Some(GROUP),
                ..LinkChange::default()
            };
            inside.set_link(lent.index, &mischief).unwrap();
            // A VLAN link on the device must not stay behind.
            let child = name("child");
            inside.add_link(&NewLink::new(&child, NewKind::Vlan { parent: lent.index, id: 6 })).unwrap();
            bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
            assert_eq!((looks(bed), pod.link("child")), (before, None), "{make}");
        });
    }
}

/// Hands back with a host that tells what became of the device.
fn restore_telling(bed: &Bed, pod: &Pod, noted: &[Object]) -> (Result<()>, Option<Astray>) {
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    let saved: Vec<&Object> = noted.iter().collect();
    bed.call(pod, "net1", CONF, None, |host, call| {
        let answer = Builtin::HostDevice.restore(host, Some(&mut sandbox), call, &saved);
        (answer, host.astray())
    })
}

#[test]
fn kernel_lent_device_hidden_in_a_namespace_of_the_pods_is_out_of_reach_and_a_decoy_is_not_taken() {
    on_node(|bed| {
        device(bed);
        let before = looks(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let lent = pod.link("net1").unwrap();
        let (child, mut inside) = (super::pod(), pod.netlink());
        let away = LinkChange { netns: Some(child.as_fd()), ..LinkChange::default() };
        inside.set_link(lent.index, &away).unwrap();
        // A veth that looks like the device, and whose other end has the index that the device's has on the node.
        let (near, far) = (name("net1"), name("far"));
        let peer = Peer { name: &far, netns: None, mtu: Some(1450), mac: None, group: 0 };
        let decoy = NewLink { index: Some(lent.index), mac: lent.mac, ..NewLink::new(&near, NewKind::Veth(peer)) };
        inside.add_link(&decoy).unwrap();
        inside.set_link(lent.index, &LinkChange { alias: Some("eth1"), ..LinkChange::default() }).unwrap();
        let far = pod.link("far").unwrap();
        let elsewhere = super::pod();
        let there = LinkChange { netns: Some(elsewhere.as_fd()), index_there: lent.parent, ..LinkChange::default() };
        inside.set_link(far.index, &there).unwrap();
        assert_eq!(pod.link("net1").unwrap().parent, lent.parent);
        let (answer, astray) = restore_telling(bed, &pod, &noted);
        let error = answer.unwrap_err();
        assert!(
            matches!(&error, Error::Busy(text) if text.contains("device eth1") && text.contains("out of reach")),
            "{error}"
        );
        assert_eq!(astray, Some(Astray::Kept));
        assert!(pod.link("net1").is_some() && bed.link("eth1").is_none());
        // Back in the pod it is known by its other end, whatever else it looks like.
        let mut hidden = child.socket(Instant::now() + Duration::from_secs(20)).unwrap();
        let disguise = LinkChange {
            name: Some(&name("other")),
            alias: Some("other"),
            netns: Some(pod.netns.as_fd()),
            group: Some(GROUP),
            mac: Some("02:00:00:00:00:66".parse().unwrap()),
            ..LinkChange::default()
        };
        hidden.set_link(lent.index, &disguise).unwrap();
        let (answer, astray) = restore_telling(bed, &pod, &noted);
        answer.unwrap();
        assert_eq!((astray, looks(bed)), (None, before));
        assert!(pod.link("net1").is_some(), "the decoy is the pod's");
    });
}

#[test]
fn kernel_lent_device_that_the_pod_deleted_is_missed() {
    on_node(|bed| {
        device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        pod.netlink().delete_link(pod.link("net1").unwrap().index).unwrap();
        let (answer, astray) = restore_telling(bed, &pod, &noted);
        answer.unwrap();
        assert_eq!(astray, Some(Astray::Missing));
        // A new link of that name is not the one that was lent.
        let new = bed.master("eth1", 1300, None);
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_eq!(bed.link("eth1").unwrap().mtu, new.mtu);
    });
}

#[test]
fn kernel_lent_device_with_a_route_whose_source_must_pass_duplicate_address_detection() {
    on_node(|bed| {
        device(bed);
        ip("address add 2001:db8::b/64 dev eth1");
        let is_ready = || !ip("address show dev eth1 tentative").contains("2001:db8::b");
        while !is_ready() {
            std::thread::sleep(Duration::from_millis(20));
        }
        ip("-6 route add 2001:db8:2::/48 dev eth1 src 2001:db8::b");
        let before = looks(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
        assert_eq!(looks(bed), before);
    });
}

#[test]
fn kernel_lent_device_that_kept_its_group_never_gets_the_records() {
    on_node(|bed| {
        device(bed);
        let pod = bed.pod();
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
        added.unwrap();
        let lent = pod.link("net1").unwrap();
        let grouped = LinkChange { group: Some(GROUP), ..LinkChange::default() };
        pod.netlink().set_link(lent.index, &grouped).unwrap();
        let squatter = name("eth1");
        bed.netlink().add_link(&NewLink::new(&squatter, NewKind::Bridge(Bridge::default()))).unwrap();
        let (answer, astray) = restore_telling(bed, &pod, &noted);
        assert!(answer.is_err());
        assert_eq!((astray, pod.link("net1").unwrap().group), (Some(Astray::Kept), 5));
    });
}

/// One other record, and how its undo goes on.
struct Other<'a> {
    states: std::cell::RefCell<Vec<Object>>,
    finish: &'a dyn Fn() -> bool,
}

impl Records for Other<'_> {
    fn held(&self) -> Vec<SavedStates> {
        let states = self.states.borrow().clone();
        vec![SavedStates { container: "one".parse().unwrap(), record: "r".to_owned(), states }]
    }

    fn finish(&self, held: &SavedStates) -> bool {
        assert_eq!(held.record, "r");
        let is_finished = (self.finish)();
        if is_finished {
            self.states.borrow_mut().clear();
        }
        is_finished
    }
}

fn add_beside(bed: &Bed, pod: &Pod, conf: &str, others: &dyn Records) -> (Result<Attached>, Vec<Object>) {
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    let mut noted = Vec::new();
    let mut journal = |state: &Object| {
        noted.push(state.clone());
        Ok(())
    };
    let added = bed.call(pod, "net1", conf, None, |_, call| {
        let mut host = Host::with_journal(bed.node(), &mut journal).beside(others);
        Builtin::HostDevice.add(&mut host, &mut sandbox, call)
    });
    (added, noted)
}

#[test]
fn kernel_lent_device_that_is_half_back_is_lent_to_nobody_until_it_is_as_it_was() {
    on_node(|bed| {
        let was = device(bed);
        let before = looks(bed);
        let (one, two) = (bed.pod(), bed.pod());
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &one, "net1", CONF);
        added.unwrap();
        // Moved home, and killed: a new MAC, no address, the mark. Then the same without a mark, and under another name.
        let home = NetNs::current().unwrap();
        let moved = LinkChange {
            name: Some(&name("eth1")),
            netns: Some(home.as_fd()),
            mac: Some("02:00:00:00:00:66".parse().unwrap()),
            ..LinkChange::default()
        };
        let lent = one.link("net1").unwrap();
        one.netlink().set_link(lent.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
        one.netlink().set_link(lent.index, &moved).unwrap();
        let never = || false;
        let busy = Other { states: noted.clone().into(), finish: &never };
        let by_mac = r#"{"hwaddr":"02:00:00:00:00:66"}"#;
        for (name_now, alias, conf) in [("eth1", "eth1", CONF), ("eth1", "", CONF), ("stray", "", by_mac)] {
            let change = LinkChange { name: Some(&name(name_now)), alias: Some(alias), ..LinkChange::default() };
            bed.netlink().set_link(was.index, &change).unwrap();
            let (added, new) = add_beside(bed, &two, conf, &busy);
            let error = added.unwrap_err();
            let want = format!("device {name_now}: sandbox one has to give it back first, and its DEL is not finished");
            assert!(matches!(&error, Error::Busy(_)), "{error}");
            assert_eq!((error.to_string(), new), (want, vec![]));
        }
        let back = LinkChange { name: Some(&name("eth1")), alias: Some("eth1"), ..LinkChange::default() };
        bed.netlink().set_link(was.index, &back).unwrap();
        let finish = || bed.restore(Builtin::HostDevice, &one, true, CONF, &noted).is_ok();
        let left = Other { states: noted.clone().into(), finish: &finish };
        let (added, new) = add_beside(bed, &two, CONF, &left);
        added.unwrap();
        assert_eq!(two.link("net1").unwrap().mac, was.mac);
        bed.restore(Builtin::HostDevice, &two, true, CONF, &new).unwrap();
        assert_eq!(looks(bed), before);
    });
}

#[test]
fn kernel_lent_device_whose_undo_waits_in_the_pod_is_fetched_for_the_next() {
    on_node(|bed| {
        device(bed);
        let before = looks(bed);
        let (one, two) = (bed.pod(), bed.pod());
        let (added, noted) = bed.add_noting(Builtin::HostDevice, &one, "net1", CONF);
        added.unwrap();
        let never = || false;
        let (added, _) = add_beside(bed, &two, CONF, &Other { states: noted.clone().into(), finish: &never });
        assert!(added.unwrap_err().to_string().contains("one that a pod holds has none here"));
        let finish = || bed.restore(Builtin::HostDevice, &one, true, CONF, &noted).is_ok();
        let (added, new) = add_beside(bed, &two, CONF, &Other { states: noted.clone().into(), finish: &finish });
        added.unwrap();
        bed.restore(Builtin::HostDevice, &two, true, CONF, &new).unwrap();
        assert_eq!(looks(bed), before);
    });
}

#[test]
fn kernel_lent_device_whose_alias_is_its_name_is_an_ordinary_device() {
    on_node(|bed| {
        device(bed);
        ip("link set eth1 alias eth1");
        let before = looks(bed);
        let pod = bed.pod();
        for _ in 0..2 {
            let (added, noted) = bed.add_noting(Builtin::HostDevice, &pod, "net1", CONF);
            added.unwrap();
            bed.restore(Builtin::HostDevice, &pod, true, CONF, &noted).unwrap();
            assert_eq!(looks(bed), before);
        }
    });
}
