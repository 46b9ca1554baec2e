//! An `ipam` section of type whereabouts, read as one of `blocks` where the node says so (`whereabouts: "blocks"`).
//!
//! What whereabouts does with its keys, and what is made of it:
//!
//! - An attachment gets one address of `range` and of each element of `ipRanges`, in this order: each is a range set here.
//! - `range` is a subnet, or `START-END/PREFIX`. Host bits of a subnet count for nothing. `range_start` and `range_end` beside a subnet are
//!   passed over when they lie outside of it, or the end lies before the start.
//! - Definitions share addresses by what they give out and not by their names: whereabouts keeps a pool for each `network_name` and subnet. So
//!   the network has a name that follows from both, and from the ends of the range: every node numbers a range alike.
//! - `exclude` beside `range` is of that range, and one in an element of `ipRanges` of that one. No two ranges share addresses, so one
//!   list is enough.
//! - `gateway` is told with each address, whatever its family. Here it is the one of the ranges of its family, and no pod gets it.
//! - A flat file has the keys of the section, for those that the section lacks. The first file that exists counts alone.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding};
use attachments::rule::Rule;
use ipnet::IpNet;

use super::super::{Checked, number};

/// `ipam.type` of such a section.
pub const TYPE: &str = "whereabouts";

/// The key of a section of blocks that was read from one of whereabouts: what its pool is known by, in whichever definition.
pub const POOL: &str = "whereabouts";

/// Where whereabouts looks for its flat file.
const FLAT: [&str; 2] =
    ["/etc/kubernetes/cni/net.d/whereabouts.d/whereabouts.conf", "/etc/cni/net.d/whereabouts.d/whereabouts.conf"];

/// The keys that are read, in whatever case they are written.
const KEYS: [&str; 11] = [
    "type",
    "range",
    "range_start",
    "range_end",
    "exclude",
    "ipRanges",
    "gateway",
    "routes",
    "network_name",
    "addresses",
    "configuration_path",
];

/// Slots of a block: ranges of whereabouts are small, and several nodes share them.
const BLOCK_SIZE: u32 = 16;

/// The node's files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The node's root directory, as this process sees it.
    pub root: &'a Path,
    /// `pathRoots`: the directories below which a definition's `configuration_path` must lie.
    pub path_roots: &'a [PathBuf],
}

/// The `network_name` of what a pool is known by; empty where it has none.
pub fn space(pool: &str) -> &str {
    let first = pool.split(',').next().unwrap_or_default();
    if first.contains('/') { "" } else { first }
}

/// Makes a section of blocks out of a plugin's `ipam` of type whereabouts. Any other section stays as it is.
pub fn read_as_blocks(plugin: &mut Object, files: &Files<'_>) -> Checked<()> {
    let Some(ipam) = plugin.object("ipam")? else { return Ok(()) };
    if ipam.text("type").ok().flatten().as_deref() != Some(TYPE) {
        return Ok(());
    }
    let blocks = blocks(ipam, files).map_err(|finding| finding.under("ipam"))?;
    plugin.set("ipam", &blocks);
    Ok(())
}

fn blocks(mut ipam: Object, files: &Files<'_>) -> Checked<Object> {
    KEYS.iter().for_each(|key| ipam.respell(key));
    complete(&mut ipam, files)?;
    if let Some(addresses) = ipam.get("addresses").filter(|value| !matches!(value.get(), "[]" | "null")) {
        let allowed = "no addresses beside those of range and ipRanges, where the node's key whereabouts is \"blocks\"";
        return Err(Finding::new("addresses", addresses.get(), allowed));
    }
    let gateway: Option<IpAddr> =
        ipam.parsed("gateway", "an IP address").map_err(|finding| finding.of(Rule::Gateway))?;
    let mut ranges: Vec<(String, Object)> = Vec::new();
    if ipam.text("range")?.is_some_and(|text| !text.is_empty()) {
        ranges.push((String::new(), ipam.clone()));
    }
    let further = ipam.objects("ipRanges")?.into_iter().enumerate();
    ranges.extend(further.map(|(i, range)| (format!("ipRanges[{i}]"), range)));
    if ranges.is_empty() {
        const ALLOWED: Allowed = Allowed::told("a range, here or in ipam.ipRanges", "set range or ipRanges");
        return Err(Finding::missing("range", ALLOWED).of(Rule::NoRanges));
    }
    let (mut sets, mut pool) = (String::new(), ipam.text("network_name")?.unwrap_or_default());
    let mut excluded: Vec<String> = Vec::new();
    for (at, mut range) in ranges {
        KEYS.iter().for_each(|key| range.respell(key));
        let inside = |finding: Finding| if at.is_empty() { finding } else { finding.under(&at) };
        let (set, name) = set(&range, gateway).map_err(inside)?;
        for (all, one) in [(&mut sets, set), (&mut pool, name)] {
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(&one);
        }
        let exclude = range.decode::<Vec<String>>("exclude", Allowed::list("a list of addresses and subnets"));
        excluded.extend(exclude.map_err(inside)?.unwrap_or_default());
    }
    let text = format!("{{\"type\":\"{}\",\"ranges\":[{sets}]}}", super::TYPE);
    let mut blocks = Object::parse(text.as_bytes()).unwrap_or_default();
    blocks.set("exclude", &excluded);
    blocks.set_some("routes", ipam.get("routes").as_ref());
    blocks.set("blockSize", &BLOCK_SIZE);
    blocks.set_some("blockSize", ipam.get("blockSize").as_ref());
    blocks.set(POOL, &pool);
    Ok(blocks)
}

/// A range set as JSON, and what its pool is known by.
fn set(range: &Object, gateway: Option<IpAddr>) -> Checked<(String, String)> {
    const ALLOWED: Allowed = Allowed::told(
        "a subnet as 10.1.0.0/16, or its first and last address as 10.1.0.5-10.1.0.9/16",
        "must be CIDR or start-end/prefix",
    );
    let text = range.text("range")?.unwrap_or_default();
    let wrong = || Finding::new("range", format_args!("{text:?}"), ALLOWED).of(Rule::WhereaboutsRange);
    let (start, subnet) = match text.split_once('-') {
        Some((start, subnet)) => (Some(start.trim().parse::<IpAddr>().map_err(|_| wrong())?), subnet.trim()),
        None => (None, text.as_str()),
    };
    let subnet: IpNet = subnet.parse().map_err(|_| wrong())?;
    let (first, last) = match start {
        Some(start) if subnet.contains(&start) && start <= subnet.addr() => (Some(start), Some(subnet.addr())),
        Some(_) => return Err(wrong()),
        None => (range.parsed("range_start", "an IP address")?, range.parsed("range_end", "an IP address")?),
    };
    let subnet = subnet.trunc();
    // What no pod gets anyway moves no end: whoever leaves it out, and who does not, mean one range.
    let spare = u128::from(subnet.max_prefix_len() - subnet.prefix_len() > 1);
    let (lowest, highest) = (subnet.network(), subnet.broadcast());
    let above = |address: IpAddr| number(address) - number(lowest);
    let first = first.filter(|first: &IpAddr| subnet.contains(first));
    let last = last.filter(|last: &IpAddr| subnet.contains(last) && first.is_none_or(|first| first <= *last));
    let first = first.filter(|first| above(*first) > spare);
    let spare = if lowest.is_ipv4() { spare } else { 0 };
    let last = last.filter(|last| above(*last) < above(highest) - spare);
    let mut set = format!("[{{\"subnet\":\"{subnet}\"");
    let gateway = gateway.filter(|gateway| gateway.is_ipv4() == lowest.is_ipv4());
    for (key, address) in [("rangeStart", first), ("rangeEnd", last), ("gateway", gateway)] {
        if let Some(address) = address {
            set += &format!(",\"{key}\":\"{address}\"");
        }
    }
    let name = match (first, last) {
        (None, None) => subnet.to_string(),
        _ => format!("{}-{}/{}", first.unwrap_or(lowest), last.unwrap_or(highest), subnet.prefix_len()),
    };
    Ok((set + "}]", name))
}

/// Adds what the flat file says and the section does not.
fn complete(ipam: &mut Object, files: &Files<'_>) -> Checked<()> {
    let read = |path: &str| match fs::read(files.root.join(path.trim_start_matches('/'))) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read.map_err(|error| error.to_string())?)),
    };
    let unread = |path: &str, why: String| {
        Finding::new("configuration_path", format_args!("{path:?}"), format!("a file with a JSON object: {why}"))
    };
    let asked = ipam.text("configuration_path")?.filter(|path| !path.is_empty());
    if let Some(path) = &asked {
        within(path, files)?;
    }
    for path in asked.as_deref().into_iter().chain(FLAT) {
        let Some(bytes) = read(path).map_err(|why: String| unread(path, why))? else { continue };
        // Nothing of the file is quoted: it may be one that the author of the definition does not see.
        let mut flat = Object::parse(&bytes).map_err(|_| unread(path, "it is none".to_owned()))?;
        KEYS.iter().for_each(|key| flat.respell(key));
        let lacking: Vec<&str> = flat.iter().map(|(key, _)| key).filter(|key| ipam.get(key).is_none()).collect();
        for key in lacking {
            ipam.set_some(key, flat.get(key).as_ref());
        }
        break;
    }
    Ok(())
}

/// A definition is a tenant's text: it reads no file of the node but those below `pathRoots`.
fn within(path: &str, files: &Files<'_>) -> Checked<()> {
    let real = |path: &Path| fs::canonicalize(files.root.join(path.strip_prefix("/").unwrap_or(path)));
    let is_written_so = !path.split('/').any(|part| part == "..")
        && files.path_roots.iter().any(|root| Path::new(path).starts_with(root));
    let is_within = match real(Path::new(path)) {
        // A file that is not there is not read.
        Err(error) => error.kind() == ErrorKind::NotFound,
        Ok(path) => files.path_roots.iter().any(|root| real(root).is_ok_and(|root| path.starts_with(root))),
    };
    if is_written_so && is_within {
        return Ok(());
    }
    let roots: Vec<String> = files.path_roots.iter().map(|root| root.display().to_string()).collect();
    let allowed = format!("an absolute path below one of {}", roots.join(", "));
    Err(Finding::new("configuration_path", format_args!("{path:?}"), allowed))
}

#[cfg(test)]
mod tests {
    use attachments::bind::Source;

    use super::super::pool_of;
    use super::*;
    use crate::networks::network_of;

    fn plugin(ipam: &str) -> Object {
        Object::parse(format!(r#"{{"type":"macvlan","ipam":{{"type":"whereabouts",{ipam}}}}}"#).as_bytes()).unwrap()
    }

    fn read_in(root: &Path, ipam: &str) -> Result<Object, String> {
        let roots = [PathBuf::from("/etc/cni/net.d/whereabouts.d")];
        let mut plugin = plugin(ipam);
        let read = read_as_blocks(&mut plugin, &Files { root, path_roots: &roots });
        read.map(|()| plugin).map_err(|finding| finding.to_string())
    }

    fn read(ipam: &str) -> Result<Object, String> {
        read_in(Path::new("/nonexistent"), ipam)
    }

    /// The addresses of the first slots that somebody gets, and the network.
    fn given(ipam: &str, count: usize) -> (String, String) {
        let conf = read(ipam).unwrap();
        let pool = pool_of(&conf).unwrap().unwrap();
        let slots = (0..pool.capacity()).filter_map(|slot| pool.addresses(slot)).take(count);
        let each = slots.map(|slot| slot.iter().map(|one| one.address.to_string()).collect::<Vec<_>>().join("+"));
        let network = network_of(&conf, &Source::Node("lan".parse().unwrap()));
        (each.collect::<Vec<_>>().join(" "), network.to_string())
    }

    #[test]
    fn a_range_is_a_pool_whose_network_follows_from_it() {
        for (ipam, addresses, network) in [
            (r#""range":"10.9.0.0/30""#, "10.9.0.1/30 10.9.0.2/30", "whereabouts-10-9-0-0-30"),
            (r#""range":"10.9.0.2/30""#, "10.9.0.1/30 10.9.0.2/30", "whereabouts-10-9-0-0-30"),
            (r#""Range":"10.9.0.0/30","range_start":"10.9.0.1""#, "10.9.0.1/30 10.9.0.2/30", "whereabouts-10-9-0-0-30"),
            (r#""range":"10.9.0.1-10.9.0.2/30""#, "10.9.0.1/30 10.9.0.2/30", "whereabouts-10-9-0-0-30"),
            (
                r#""range":"10.9.0.5-10.9.0.7/24","exclude":["10.9.0.6/32"]"#,
                "10.9.0.5/24 10.9.0.7/24",
                "whereabouts-10-9-0-5-10-9-0-7-24",
            ),
            (
                r#""range":"10.9.0.0/24","range_start":"10.9.0.5","range_end":"10.9.0.7","gateway":"10.9.0.6""#,
                "10.9.0.5/24 10.9.0.7/24",
                "whereabouts-10-9-0-5-10-9-0-7-24",
            ),
            // Ends that lie elsewhere are passed over, as whereabouts does.
            (
                r#""range":"10.9.0.0/30","range_start":"10.8.0.5","range_end":"10.9.0.9""#,
                "10.9.0.1/30 10.9.0.2/30",
                "whereabouts-10-9-0-0-30",
            ),
            (r#""range":"10.9.0.0/31""#, "10.9.0.0/31 10.9.0.1/31", "whereabouts-10-9-0-0-31"),
            (r#""range":"10.9.0.1-10.9.0.1/31""#, "10.9.0.1/31", "whereabouts-10-9-0-1-10-9-0-1-31"),
        ] {
            assert_eq!(given(ipam, 9), (addresses.to_owned(), network.to_owned()), "{ipam}");
        }
    }

    #[test]
    fn an_attachment_gets_an_address_of_each_range() {
        let dual = r#""range":"10.9.0.0/29","exclude":["10.9.0.1"],"ipRanges":[{"range":"fd00::/125","exclude":["fd00::3/128"]}],"gateway":"fd00::1""#;
        let (addresses, network) = given(dual, 2);
        assert_eq!(addresses, "10.9.0.2/29+fd00::2/125 10.9.0.4/29+fd00::4/125");
        assert!(network.starts_with("whereabouts-10-9-0-0-29-fd00---125-"), "{network}");
        let (alone, _) = given(r#""ipRanges":[{"range":"fd00::5-fd00::6/64"}]"#, 9);
        assert_eq!(alone, "fd00::5/64 fd00::6/64");
        // A gateway of one family is no gateway of the other.
        let pool = pool_of(&read(dual).unwrap()).unwrap().unwrap();
        let gateways: Vec<_> = pool.ranges().map(|(_, gateway)| gateway.map(|gateway| gateway.to_string())).collect();
        assert_eq!(gateways, [None, Some("fd00::1".to_owned())]);
    }

    #[test]
    fn definitions_share_a_network_by_range_and_network_name() {
        let network = |ipam: &str| given(ipam, 0).1;
        let whole = network(r#""range":"10.9.0.0/24""#);
        assert_eq!(
            network(r#""range":"10.9.0.0/24","exclude":["10.9.0.9/32"],"enable_overlapping_ranges":false"#),
            whole
        );
        let named = network(r#""range":"10.9.0.0/24","network_name":"blue""#);
        let others = [
            named.clone(),
            network(r#""range":"10.9.0.0/24","network_name":"red""#),
            network(r#""range":"10.9.0.0/25""#),
            network(r#""range":"10.9.0.9-10.9.0.99/24""#),
            network(r#""ipRanges":[{"range":"10.9.0.0/24"},{"range":"fd00::/64"}]"#),
            network(r#""range":"fd00::/64""#),
            network(r#""range":"fd00:0:0:1::/64""#),
        ];
        for (i, other) in others.iter().enumerate() {
            assert!(*other != whole && !others[..i].contains(other), "{other}");
            assert!(other.len() <= 63 && !other.contains('.') && !other.ends_with('-'), "{other}");
        }
        assert_eq!(network(r#""ipRanges":[{"range":"10.9.0.0/24"}],"network_name":"blue""#), named);
    }

    #[test]
    fn what_else_is_said_stays_and_other_types_are_left_alone() {
        let conf = read(r#""range":"10.9.0.0/24","routes":[{"dst":"10.8.0.0/16"}],"log_file":"/x""#).unwrap();
        assert_eq!(
            conf.to_json(),
            r#"{"type":"macvlan","ipam":{"type":"blocks","ranges":[[{"subnet":"10.9.0.0/24"}]],"exclude":[],"routes":[{"dst":"10.8.0.0/16"}],"blockSize":16,"whereabouts":"10.9.0.0/24"}}"#
        );
        for text in [r#"{"type":"macvlan"}"#, r#"{"ipam":{"type":"host-local","range":"x"}}"#, r#"{"ipam":{}}"#] {
            let mut other = Object::parse(text.as_bytes()).unwrap();
            read_as_blocks(&mut other, &Files { root: Path::new("/"), path_roots: &[] }).unwrap();
            assert_eq!(other.to_json(), text);
        }
        // Read again it stays: `cni-args` lead here twice.
        let mut again = conf.clone();
        read_as_blocks(&mut again, &Files { root: Path::new("/"), path_roots: &[] }).unwrap();
        assert_eq!(again, conf);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (ipam, want) in [
            (r#""exclude":[]"#, "ipam.range: missing, want a range"),
            (r#""range":"abc.1.1.0/24""#, "ipam.range: got \"abc.1.1.0/24\", want a subnet as"),
            (r#""range":"10.9.0.5""#, "ipam.range: got \"10.9.0.5\", want a subnet as"),
            (r#""range":"10.8.0.5-10.9.0.9/24""#, "ipam.range: got \"10.8.0.5-10.9.0.9/24\""),
            (r#""range":"10.9.0.9-10.9.0.5/24""#, "ipam.range: got \"10.9.0.9-10.9.0.5/24\""),
            (r#""range":"fd00::1-10.9.0.9/24""#, "ipam.range: got \"fd00::1-10.9.0.9/24\""),
            (r#""range":"10.9.0.0/24","ipRanges":[{"range":"x"}]"#, "ipam.ipRanges[0].range: got \"x\""),
            (r#""range":"10.9.0.0/24","ipRanges":[7]"#, "ipam.ipRanges[0]: got 7, want a JSON object"),
            (r#""range":"10.9.0.0/24","ipRanges":[{"exclude":[]}]"#, "ipam.ipRanges[0].range: got \"\""),
            (r#""range":"10.9.0.0/24","range_start":"x""#, "ipam.range_start: got \"x\", want an IP address"),
            (r#""range":"10.9.0.0/24","gateway":"x""#, "ipam.gateway: got \"x\", want an IP address"),
            (r#""range":"10.9.0.0/24","exclude":"x""#, "ipam.exclude: got \"x\", want a list"),
            (r#""range":"10.9.0.0/24","addresses":[{"address":"10.9.0.5/24"}]"#, "ipam.addresses: got [{"),
            (
                r#""range":"10.9.0.0/24","configuration_path":"etc/x""#,
                "ipam.configuration_path: got \"etc/x\", want an absolute",
            ),
        ] {
            let refused = read(ipam).unwrap_err();
            assert!(refused.starts_with(want), "{ipam}: {refused}");
        }
    }

    #[test]
    fn a_flat_file_says_what_the_section_does_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/cni/net.d/whereabouts.d");
        fs::create_dir_all(&dir).unwrap();
        let name = |ipam: &str| {
            let conf = read_in(root.path(), ipam)?;
            Ok::<_, String>(conf.object("ipam").unwrap().unwrap().text(POOL).unwrap().unwrap())
        };
        assert!(name(r#""log_level":"debug""#).is_err());
        let flat = r#"{"Range":"10.9.0.0/24","range_start":"10.9.0.9","kubernetes":{"kubeconfig":"/x"}}"#;
        fs::write(dir.join("whereabouts.conf"), flat).unwrap();
        assert_eq!(name(r#""log_level":"debug""#).unwrap(), "10.9.0.9-10.9.0.255/24");
        assert_eq!(name(r#""range_start":"10.9.0.5""#).unwrap(), "10.9.0.5-10.9.0.255/24");
        // The definition's own file comes first, and alone.
        fs::write(dir.join("own.conf"), r#"{"range":"10.8.0.0/24"}"#).unwrap();
        let own = r#""configuration_path":"/etc/cni/net.d/whereabouts.d/own.conf""#;
        assert_eq!(name(own).unwrap(), "10.8.0.0/24");
        assert_eq!(name(&own.replace("own", "gone")).unwrap(), "10.9.0.9-10.9.0.255/24");
        // No file of the node beside those.
        fs::write(root.path().join("etc/secret"), r#"{"range":"10.7.0.0/24"}"#).unwrap();
        std::os::unix::fs::symlink("../../../secret", dir.join("link.conf")).unwrap();
        for path in
            ["/etc/secret", "/etc/cni/net.d/whereabouts.d/link.conf", "/etc/cni/net.d/whereabouts.d/../../../secret"]
        {
            let refused = name(&format!(r#""configuration_path":"{path}""#)).unwrap_err();
            assert!(refused.contains("want an absolute path below one of /etc/cni/net.d/whereabouts.d"), "{refused}");
        }
        fs::write(dir.join("own.conf"), "secret text").unwrap();
        let refused = name(own).unwrap_err();
        assert!(
            refused.contains("want a file with a JSON object: it is none") && !refused.contains("secret text"),
            "{refused}"
        );
    }
}
