//! The floor under the bench: the link messages of an ADD and a DEL with some bridges, and nothing else. No configuration is
//! read, nothing is recorded, no address is looked for: what remains is the kernel's share.
//!
//! `floor add NETNS PORTS`, `floor del NETNS PORTS`.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use delegates::apply::configure;
use delegates::call::Node;
use delegates::error::{Error, Result};
use delegates::host::Host;
use delegates::nl::link::{Bridge, NewKind, NewLink, Peer};
use delegates::reserved::Reserved;
use delegates::sandbox::Sandbox;
use delegates::spec::Addressing;

/// The group that DEL removes.
const GROUP: u32 = 0x4000_0001;

fn main() {
    let mut words = std::env::args().skip(1);
    let (verb, netns) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let ports = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let done = match verb.as_str() {
        "add" if ports > 0 => add(&netns, ports),
        "del" => open(&netns).and_then(|mut pod| pod.netlink.delete_group(GROUP)).map(|_| ()),
        _ => Err(Error::NotReady("usage: floor add|del NETNS PORTS".to_owned())),
    };
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn node() -> Node<'static> {
    let deadline = Instant::now() + Duration::from_secs(10);
    Node {
        plugin_dirs: &[],
        builtin: None,
        state_dir: Path::new("/"),
        deadline,
        reserved: Reserved::UNASKED,
        is_alone: true,
        lock: None,
    }
}

fn open(netns: &str) -> Result<Sandbox> {
    Sandbox::open(netns, &node())
}

fn add(netns: &str, ports: u8) -> Result<()> {
    let (mut host, mut pod) = (Host::new(node()), open(netns)?);
    for port in 0..ports {
        let bridge_name = format!("floor{port}").parse()?;
        let netlink = host.netlink()?;
        let mut bridge = netlink.link_by_name(&bridge_name)?;
        if bridge.is_none() {
            netlink
                .add_link(&NewLink { up: true, ..NewLink::new(&bridge_name, NewKind::Bridge(Bridge::default())) })?;
            bridge = netlink.link_by_name(&bridge_name)?;
        }
        // The pods differ by the name of their namespace; so do the names of the host's ends.
        let pod_name = netns.rsplit('/').next().unwrap_or_default();
        let host_name = format!("f{port}{pod_name}").parse()?;
        let ifname = format!("net{port}").parse()?;
        let peer = Peer { name: &ifname, netns: Some(pod.netns().as_fd()), mtu: None, mac: None, group: GROUP };
        let veth = NewLink {
            master: bridge.map(|bridge| bridge.index),
            up: true,
            ..NewLink::new(&host_name, NewKind::Veth(peer))
        };
        netlink.add_link(&veth)?;
        let made = pod.made(&ifname)?;
        let address = std::net::Ipv4Addr::new(10, 90 + port, 0, 2);
        let addresses = vec![ipnet::IpNet::new_assert(address.into(), 24)];
        configure(&mut pod, made.index, &Addressing { addresses, ..Addressing::default() })?;
    }
    Ok(())
}
