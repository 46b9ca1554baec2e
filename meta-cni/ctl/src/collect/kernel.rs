//! What the kernel holds: links, addresses, routes, rules and the packet filter of the node, links and routes of each sandbox.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use delegates::error::Result;
use delegates::netns::NetNs;
use delegates::nl::Netlink;
use delegates::nl::route::RouteFilter;
use meta_cni::engine::inspect::inspect;

use super::archive::Archive;
use crate::doctor::on_host;
use crate::program;

const PATIENCE: Duration = Duration::from_secs(10);

/// Adds it.
pub fn collect<W: Write>(state_dir: &Path, archive: &mut Archive<W>) -> io::Result<()> {
    let open = || Netlink::open(Instant::now() + PATIENCE);
    archive.text("kernel/links.txt", &said(open().and_then(links)))?;
    archive.text("kernel/routes.txt", &said(open().and_then(routes)))?;
    archive.text("kernel/nftables.txt", &packet_filter())?;
    for record in inspect(&on_host(state_dir)).unwrap_or_default() {
        let Ok(Some(netns)) = NetNs::find(&on_host(Path::new(&record.netns))) else { continue };
        let open = || netns.socket(Instant::now() + PATIENCE);
        let text = format!("{}\n{}", said(open().and_then(links)), said(open().and_then(routes)));
        archive.text(&format!("kernel/sandboxes/{}.txt", record.container), &text)?;
    }
    Ok(())
}

fn said(text: Result<String>) -> String {
    text.unwrap_or_else(|error| format!("{error}\n"))
}

/// A line for each link, below it its addresses.
fn links(mut netlink: Netlink) -> Result<String> {
    let (links, addresses) = (netlink.links(None)?, netlink.addresses(None)?);
    let mut out = String::new();
    for link in &links {
        let _ = writeln!(out, "{link:?}");
        for address in addresses.iter().filter(|address| address.index == link.index) {
            let _ = writeln!(out, "    {address:?}");
        }
    }
    Ok(out)
}

fn routes(mut netlink: Netlink) -> Result<String> {
    let mut out = String::new();
    for route in netlink.routes(RouteFilter::default())? {
        let _ = writeln!(out, "{route:?}");
    }
    for rule in netlink.rules()? {
        let _ = writeln!(out, "{rule:?}");
    }
    Ok(out)
}

/// All tables as `nft` prints them, where the node has it.
fn packet_filter() -> String {
    let places = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    match places.iter().map(Path::new).find(|path| path.is_file()) {
        Some(nft) => match program::run(nft, &["list", "ruleset"], PATIENCE) {
            Ok(printed) => format!("{}{}", printed.stdout, printed.stderr),
            Err(why) => format!("nft: {why}\n"),
        },
        None => "no nft here: collect as root on the node, with the package nftables, for its tables\n".to_owned(),
    }
}
