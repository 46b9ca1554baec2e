//! tuning on a real kernel.

use std::fs;

use super::*;
use crate::error::Error;

const TUNING: Builtin = Builtin::Tuning;

const ALL: &str = r#"{"sysctl":{"net.ipv4.ip_unprivileged_port_start":"7","net.ipv4.conf.IFNAME.arp_filter":"1","net.ipv4.tcp_rmem":"4096 5000 6000"},
    "mac":"02:00:00:00:00:09","mtu":1300,"promisc":true,"allmulti":true,"txQLen":55}"#;

/// A link of the pod that outlives the record, as one of the node's that was moved there.
fn borrowed(pod: &Pod) -> Link {
    let (near, far) = (name("net1"), name("far"));
    let peer = Peer { name: &far, netns: None, mtu: None, mac: None, group: 0 };
    pod.netlink().add_link(&NewLink { up: true, ..NewLink::new(&near, NewKind::Veth(peer)) }).unwrap();
    pod.link("net1").unwrap()
}

fn result(pod: &Pod) -> CniResult {
    let text = format!(
        r#"{{"interfaces":[{{"name":"net1","mac":"02:00:00:00:00:aa"}},{{"name":"net1","mac":"02:00:00:00:00:bb","mtu":1500,"sandbox":"{}"}}]}}"#,
        pod.path
    );
    CniResult::parse(text.as_bytes(), Version::NEWEST).unwrap()
}

fn restore(bed: &Bed, pod: &Pod, conf: &str, saved: &[Object]) -> Result<()> {
    let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
    let states: Vec<&Object> = saved.iter().collect();
    bed.call(pod, "net1", conf, None, |host, call| TUNING.restore(host, Some(&mut sandbox), call, &states))
}

/// What a test compares: settings of the link, then of the namespace.
fn seen(pod: &Pod) -> (Link, [String; 3]) {
    let link = Link { operstate: 0, lower_up: false, ..pod.link("net1").unwrap() };
    let keys = ["ipv4/ip_unprivileged_port_start", "ipv4/conf/net1/arp_filter", "ipv4/tcp_rmem"];
    (link, keys.map(|key| pod.sysctl(key)))
}

#[test]
fn kernel_tuning_sets_everything_and_brings_it_back() {
    on_node(|bed| {
        let pod = bed.pod();
        borrowed(&pod);
        let before = seen(&pod);
        let (attached, saved) = bed.add_behind(TUNING, &pod, "net1", ALL, &result(&pod));
        let attached = attached.unwrap();
        let (link, sysctls) = seen(&pod);
        assert_eq!((link.mtu, link.promisc, link.allmulti, link.tx_queue), (1300, true, true, 55));
        assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:09");
        assert_eq!(sysctls, ["7", "1", "4096\t5000\t6000"]);
        let told: Vec<_> = attached.result.interfaces.iter().map(|i| (i.mac.as_str(), i.mtu)).collect();
        assert_eq!(
            told,
            [("02:00:00:00:00:aa", None), ("02:00:00:00:00:09", Some(1300))],
            "the host's link is another"
        );
        assert!(attached.links.is_empty(), "a link that we did not make is not ours to delete");
        bed.check(TUNING, &pod, "net1", ALL, &attached.result).unwrap();
        for _ in 0..2 {
            restore(bed, &pod, ALL, &saved).unwrap();
            assert_eq!(seen(&pod), before);
        }
        pod.netlink().delete_link(before.0.index).unwrap();
        restore(bed, &pod, ALL, &saved).unwrap();
        bed.call(&pod, "net1", ALL, None, |host, call| TUNING.restore(host, None, call, &[])).unwrap();
    });
}

#[test]
fn kernel_tuning_of_a_link_that_goes_with_the_pod_notes_only_what_stays() {
    on_node(|bed| {
        let pod = bed.pod();
        let made = bed.add(Builtin::Bridge, &pod, "net1", r#"{"bridge":"br-t"}"#).unwrap();
        let (attached, saved) = bed.add_behind(TUNING, &pod, "net1", ALL, &made.result);
        let attached = attached.unwrap();
        let [state] = saved.as_slice() else { panic!("{saved:?}") };
        let text = state.to_json();
        assert!(text.starts_with(r#"{"tuning":{"sysctl":{"ipv4/ip_unprivileged_port_start":"#), "{text}");
        assert!(text.contains("tcp_rmem") && !text.contains("net1"), "{text}");
        assert_eq!(attached.links.len(), 1, "the record knows the link by its new address too");
        bed.check(TUNING, &pod, "net1", ALL, &attached.result).unwrap();
        // The pod takes it out of the group: it is deleted all the same.
        let index = pod.link("net1").unwrap().index;
        pod.netlink().set_link(index, &LinkChange { group: Some(0), ..LinkChange::default() }).unwrap();
        bed.del(TUNING, &pod, "net1", ALL, Some(&attached)).unwrap();
        assert!(pod.link("net1").is_none());
        restore(bed, &pod, ALL, &saved).unwrap();
        assert_ne!(pod.sysctl("ipv4/ip_unprivileged_port_start"), "7");
    });
}

#[test]
fn kernel_tuning_that_fails_leaves_everything_as_it_was() {
    on_node(|bed| {
        let pod = bed.pod();
        borrowed(&pod);
        let before = seen(&pod);
        let add = |conf: &str| bed.add_behind(TUNING, &pod, "net1", conf, &result(&pod)).0.unwrap_err().to_string();
        let error = add(&ALL.replace("4096 5000 6000", "many"));
        assert!(error.starts_with(r#"write "many" to /proc/sys/net/ipv4/tcp_rmem: "#), "{error}");
        assert_eq!(seen(&pod), before);
        let error = add(&ALL.replace("net.ipv4.tcp_rmem", "net.ipv4.none"));
        assert!(error.starts_with(r#"write "4096 5000 6000" to /proc/sys/net/ipv4/none: "#), "{error}");
        assert_eq!(seen(&pod), before);
        let error = bed.add_behind(TUNING, &pod, "net2", ALL, &result(&pod)).0.unwrap_err();
        assert!(
            error.to_string().starts_with(r#"CNI_IFNAME: got "net2", want the name of a link in the pod"#),
            "{error}"
        );
        let error = bed.add(TUNING, &pod, "net1", ALL).unwrap_err();
        assert!(error.to_string().starts_with("prevResult: missing"), "{error}");
        assert_eq!(seen(&pod), before);
    });
}

#[test]
fn kernel_tuning_check_names_what_differs() {
    on_node(|bed| {
        let pod = bed.pod();
        let link = borrowed(&pod);
        let (attached, _) = bed.add_behind(TUNING, &pod, "net1", ALL, &result(&pod));
        let attached = attached.unwrap();
        let differs = |want: &str| {
            let error = bed.check(TUNING, &pod, "net1", ALL, &attached.result).unwrap_err();
            assert!(matches!(&error, Error::Differs(text) if text.contains(want)), "{error}, want {want}");
        };
        let set = |change: LinkChange<'_>| pod.netlink().set_link(link.index, &change).unwrap();
        set(LinkChange { tx_queue: Some(56), ..LinkChange::default() });
        differs("link net1: length of the transmit queue is 56, want 55");
        set(LinkChange { allmulti: Some(false), ..LinkChange::default() });
        differs("all-multicast mode is false");
        set(LinkChange { mtu: Some(1301), ..LinkChange::default() });
        differs("MTU is 1301, want 1300");
        set(LinkChange { promisc: Some(false), ..LinkChange::default() });
        differs("promiscuous mode is false");
        set(LinkChange { mac: Some("02:00:00:00:00:08".parse().unwrap()), ..LinkChange::default() });
        differs(r#"hardware address is "02:00:00:00:00:08""#);
        pod.netns.enter(|| crate::netns::write_sysctl(&["ipv4", "conf", "net1", "arp_filter"], "0")).unwrap();
        differs(r#"sysctl net.ipv4.conf.IFNAME.arp_filter is "0", want "1""#);
        // A promiscuous link that nobody asked for is nobody's fault.
        set(LinkChange { promisc: Some(true), ..LinkChange::default() });
        bed.check(TUNING, &pod, "net1", "{}", &attached.result).unwrap();
    });
}

#[test]
fn kernel_tuning_brings_back_what_the_reference_plugin_noted() {
    on_node(|bed| {
        let pod = bed.pod();
        borrowed(&pod);
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("pod0_net1.json");
        let note = "{\n \"mac\": \"02:00:00:00:00:07\",\n \"promisc\": false,\n \"mtu\": 1444,\n \"allmulti\": true,\n \"txQLen\": 66\n}";
        fs::write(&file, note).unwrap();
        let conf = format!(r#"{{"dataDir":"{}","mtu":1300}}"#, data.path().display());
        restore(bed, &pod, &conf, &[]).unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!((link.mtu, link.promisc, link.allmulti, link.tx_queue), (1444, false, true, 66));
        assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:07");
        for _ in 0..2 {
            bed.call(&pod, "net1", &conf, None, |host, call| TUNING.del(host, call)).unwrap();
            assert!(!file.exists());
        }
    });
}

#[test]
fn kernel_tuning_stops_at_the_deadline_and_brings_back_what_it_changed() {
    on_node(|bed| {
        let pod = bed.pod();
        borrowed(&pod);
        let before = seen(&pod);
        let mut sandbox = Sandbox::open(&pod.path, &bed.node()).unwrap();
        let previous = result(&pod);
        let late = bed.call(&pod, "net1", ALL, Some(&previous), |host, call| {
            host.node.deadline = Instant::now();
            TUNING.add(host, &mut sandbox, call)
        });
        assert!(matches!(&late, Err(Error::Late(what)) if what.contains("sysctl")), "{late:?}");
        assert_eq!(seen(&pod), before);
    });
}
