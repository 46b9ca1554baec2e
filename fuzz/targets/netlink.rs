//! What a kernel answers, or what a memory error makes of it: read to its end, and never beyond.
#![no_main]

use meta_cni_fuzz as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use delegates::nl::nft::{Family, Nftables, Table};
use delegates::nl::route::RouteFilter;
use delegates::nl::{Netlink, Socket};
use libfuzzer_sys::fuzz_target;

// The first byte says what is asked, the rest is the answer.
fuzz_target!(|input: &[u8]| {
    let Some((question, answer)) = input.split_first() else { return };
    let (ours, kernel) = UnixDatagram::pair().expect("a pair of sockets");
    kernel.send(&answers_the_first(answer)).expect("room for one datagram");
    // No message is that short: nobody waits for more.
    kernel.send(&[0]).expect("room for one more");
    let deadline = Instant::now() + Duration::from_secs(10);
    if let which @ 12.. = question % 14 {
        let mut nftables = Nftables::over(Socket::over(ours.into(), deadline), Instant::now());
        return match which {
            12 => drop(nftables.rules(Table { family: Family::Inet, name: "t" })),
            _ => drop(nftables.generation()),
        };
    }
    let mut netlink = Netlink::over(ours.into(), deadline);
    match question % 14 {
        0 => drop(netlink.links(None)),
        1 => drop(netlink.link_by_index(1)),
        2 => drop(netlink.port_vlans(1)),
        3 => drop(netlink.addresses(None)),
        4 => drop(netlink.routes(RouteFilter::default())),
        5 => drop(netlink.link_towards([192, 0, 2, 1].into())),
        6 => drop(netlink.rules()),
        7 => drop(netlink.forwardings(1)),
        8 => drop(netlink.neighbours(1)),
        9 => drop(netlink.token_bucket(1)),
        10 => drop(netlink.redirected_to(1)),
        _ => drop(netlink.delete_link(1)),
    }
});

/// The number of the first request in every message that says its own length rightly.
fn answers_the_first(datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram[..datagram.len().min(16 << 10)].to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get_mut(at..at + 16) {
        head[8..12].copy_from_slice(&1u32.to_ne_bytes());
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        at = at.saturating_add(length.max(16)).saturating_add(3) & !3;
    }
    bytes
}
