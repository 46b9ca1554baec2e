//! `tap` on the kernel.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::*;
use crate::nl::link::{Bridge, NewKind, NewLink};
use crate::tap::testing::end_of;

const PLAIN: &str = r#"{"mtu":1400,"ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24"}]}}"#;

#[test]
fn kernel_on_host_tap_is_a_link_whose_other_end_a_program_opens() {
    on_node(|bed| {
        let pod = bed.pod();
        bed.status(Builtin::Tap, PLAIN).unwrap();
        let attached = bed.add(Builtin::Tap, &pod, "net1", PLAIN).unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!((link.kind.as_str(), link.group, link.up, link.mtu), ("tun", GROUP, true, 1400));
        let [interface] = attached.result.interfaces.as_slice() else { panic!("{:?}", attached.result) };
        assert_eq!(interface.mac, link.mac.unwrap().to_string());
        assert_eq!((interface.name.as_str(), interface.sandbox.as_str()), ("net1", pod.path.as_str()));
        assert_eq!(attached.result.ips[0].interface, Some(0));
        assert_eq!(pod.addresses("net1"), ["10.77.0.2/24"]);
        assert_eq!(bed.links(), Vec::<String>::new());
        bed.check(Builtin::Tap, &pod, "net1", PLAIN, &attached.result).unwrap();

        // A frame in each direction.
        let (mut end, socket) = pod
            .netns
            .enter(|| {
                let end = end_of(&name("net1"), false).unwrap();
                let socket = UdpSocket::bind("0.0.0.0:9").unwrap();
                socket.set_broadcast(true).unwrap();
                Ok((end, socket))
            })
            .unwrap();
        let mut frame = [0; 1514];
        let sent = loop {
            // The first ones may be lost: the kernel notes a moment later that the other end is there.
            socket.send_to(b"out", "10.77.0.255:9").unwrap();
            let mut ready = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, 100u16).unwrap() == 0 {
                continue;
            }
            let length = end.read(&mut frame).unwrap();
            if frame[12..14] == [8, 0] {
                break &frame[..length];
            }
        };
        assert_eq!((&sent[..6], &sent[6..12], &sent[42..45]), (&[0xff; 6][..], &link.mac.unwrap().0[..], &b"out"[..]));
        let mut received = sent.to_vec();
        // From the neighbour 10.77.0.3: source and checksum of the header differ by one, each the other way; no checksum of UDP.
        received[29] += 1;
        received[40..42].fill(0);
        let sum = u16::from_be_bytes([received[24], received[25]]);
        received[24..26].copy_from_slice(&(if sum == 0 { 0xfffe } else { sum - 1 }).to_be_bytes());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut datagram = [0; 8];
        let from = loop {
            end.write_all(&received).unwrap();
            let (length, from) = socket.recv_from(&mut datagram).unwrap();
            assert_eq!(&datagram[..length], b"out");
            if from.ip().to_string() != "10.77.0.2" {
                break from;
            }
        };
        assert_eq!(from.to_string(), "10.77.0.3:9");

        let again = bed.add(Builtin::Tap, &pod, "net1", PLAIN).unwrap_err();
        assert_eq!(
            again.to_string(),
            "put a link net1 into the pod: File exists (CNI_IFNAME: the pod has a tun named net1 already)"
        );
        bed.del(Builtin::Tap, &pod, "net1", PLAIN, Some(&attached)).unwrap();
        assert!(pod.link("net1").is_none(), "also while a program has it open");
        bed.del(Builtin::Tap, &pod, "net1", PLAIN, Some(&attached)).unwrap();
    });
}

#[test]
fn kernel_on_host_tap_without_addresses_with_queues_on_a_bridge_of_the_pod() {
    on_node(|bed| {
        let pod = bed.pod();
        let conf = r#"{"bridge":"br0","multiQueue":true,"owner":107,"group":36,"mac":"02:00:00:00:00:07"}"#;
        let error = bed.add(Builtin::Tap, &pod, "net1", conf).unwrap_err();
        assert_eq!(error.to_string(), r#"bridge: got "br0", want a bridge of the pod"#);
        pod.netlink().add_link(&NewLink::new(&name("br0"), NewKind::Bridge(Bridge::default()))).unwrap();
        let attached = bed.add(Builtin::Tap, &pod, "net1", conf).unwrap();
        let link = pod.link("net1").unwrap();
        assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:07");
        assert_eq!(link.master, pod.link("br0").map(|bridge| bridge.index));
        assert_eq!(attached.result.ips, []);
        bed.check(Builtin::Tap, &pod, "net1", conf, &attached.result).unwrap();
        let attach = |multi_queue| pod.netns.enter(|| Ok(end_of(&name("net1"), multi_queue))).unwrap();
        assert_eq!(attach(false).unwrap_err(), Errno::EINVAL);
        let ends = [attach(true).unwrap(), attach(true).unwrap()];
        drop(ends);

        let differs = |part: &str| {
            let error = bed.check(Builtin::Tap, &pod, "net1", conf, &attached.result).unwrap_err();
            assert!(matches!(&error, Error::Differs(text) if text.contains(part)), "{error}");
        };
        pod.netlink().set_link(link.index, &LinkChange { master: Some(0), ..LinkChange::default() }).unwrap();
        differs("index of the bridge");
        pod.netlink().delete_link(pod.link("br0").unwrap().index).unwrap();
        differs("bridge: got \"br0\"");
        pod.netlink().delete_link(link.index).unwrap();
        differs("link net1 is missing");
    });
}

#[test]
fn kernel_on_host_tap_that_cannot_be_finished_is_not_left_behind() {
    on_node(|bed| {
        let pod = bed.pod();
        // IPv6 needs 1280 bytes: the address is refused, and the device is there already.
        let conf = r#"{"mtu":68,"ipam":{"type":"static","addresses":[{"address":"fd00::2/64"}]}}"#;
        bed.add(Builtin::Tap, &pod, "net1", conf).unwrap_err();
        assert!(pod.link("net1").is_none());
        // What is not kept goes with the process that made it.
        let device = pod.netns.enter(|| crate::tap::Tap::make(&name("net1"), false)).unwrap();
        assert!(pod.link("net1").is_some());
        drop(device);
        assert!(pod.link("net1").is_none());
        let taken = pod.netns.enter(|| crate::tap::Tap::make(&name("lo"), false));
        assert!(taken.is_err());
    });
}

#[test]
fn kernel_on_uml_a_kernel_without_tap_devices_says_so() {
    on_node(|bed| {
        let error = bed.status(Builtin::Tap, PLAIN).unwrap_err();
        assert!(matches!(&error, Error::NotReady(text) if text.contains("has no driver")), "{error}");
        let error = bed.add(Builtin::Tap, &bed.pod(), "net1", PLAIN).unwrap_err();
        assert_eq!(error.to_string(), "open /dev/net/tun: No such file or directory (os error 2)");
    });
}
