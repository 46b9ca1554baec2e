//! Labels of the Node that say which networks it can serve ([`attachments::node_label`]): its links, its kernel's drivers, its programs. By a
//! switch; without it there are none, and what an earlier agent has written goes.
//!
//! The kubelet compares node selectors with labels again when it starts, also those of running pods. A label therefore stays for a while
//! when what it tells is gone: a link that comes late at boot takes no pod along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attachments::names::PluginType;
use attachments::node_label::{Ability, VALUE};
use delegates::builtin::{Builtin, drivers};
use delegates::nl::Netlink;
use delegates::nl::link::{Kind, Link};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use meta_cni_kube::said;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Options;

/// How often to look.
const EVERY: Duration = Duration::from_secs(60);
/// How long a label stays when what it tells is gone.
const LINGER: Duration = Duration::from_secs(600);
/// The most labels of links, and of programs: a Node is read by everybody.
const MOST: usize = 64;
/// Timeout of one PATCH, and of one look at the kernel.
const TRY: Duration = Duration::from_secs(15);

/// The labels of ours that the Node has; absent until it is known.
pub type Present = Option<BTreeSet<String>>;

/// Keeps the labels as the node is; never ends.
pub async fn run(options: &Options, root: &Path, client: &Client, mut present: watch::Receiver<Present>) {
    let mut wanted = Wanted::default();
    let mut told = String::new();
    loop {
        let fault = match round(options, root, client, &present, &mut wanted).await {
            Ok(()) => String::new(),
            Err(fault) => fault,
        };
        if fault != told && !fault.is_empty() {
            tracing::warn!("labels of the node: {fault}");
        }
        told = fault;
        tokio::select! {
            () = sleep(EVERY) => {}
            changed = present.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}

async fn round(
    options: &Options,
    root: &Path,
    client: &Client,
    present: &watch::Receiver<Present>,
    wanted: &mut Wanted,
) -> Result<(), String> {
    let Some(has) = present.borrow().clone() else { return Ok(()) };
    let want = if options.node_labels {
        // The agent has the node's programs by the tree of a process there alone.
        let bin_dir = root.join(options.cni_bin_dir.strip_prefix("/").unwrap_or(&options.cni_bin_dir));
        let root = root.to_owned();
        let known = wanted.drivers.clone().filter(|known| known.asked.elapsed() < LINGER);
        let look = tokio::task::spawn_blocking(move || look(&root, &bin_dir, known)).await;
        let (found, drivers) = look.map_err(|e| e.to_string())??;
        wanted.drivers = Some(drivers);
        wanted.at(found, &has, Instant::now())
    } else {
        BTreeSet::new()
    };
    if want == has {
        return Ok(());
    }
    let added = want.difference(&has).map(|key| (key.clone(), Value::from(VALUE)));
    let labels: Map<String, Value> = added.chain(has.difference(&want).map(|key| (key.clone(), Value::Null))).collect();
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    match timeout(TRY, api.patch(&options.node_name, &PatchParams::default(), &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(said(&error)),
        Err(_) => Err(format!("no answer in {TRY:?}")),
    }
}

/// Drivers as the kernel was asked for them. It starts a program for each that it lacks, which may load a module: it is asked seldom.
#[derive(Clone)]
struct Drivers {
    kinds: Vec<&'static str>,
    asked: Instant,
}

/// What the labels are to be.
#[derive(Default)]
struct Wanted {
    /// The kernel's drivers.
    drivers: Option<Drivers>,
    /// Labels whose ability is gone, and since when.
    gone: BTreeMap<String, Instant>,
}

impl Wanted {
    /// The labels by what was found, and by what the Node has.
    fn at(&mut self, found: BTreeSet<String>, has: &BTreeSet<String>, now: Instant) -> BTreeSet<String> {
        self.gone.retain(|key, _| has.contains(key) && !found.contains(key));
        for key in has.difference(&found) {
            self.gone.entry(key.clone()).or_insert(now);
        }
        let lingering = self.gone.iter().filter(|(_, since)| now.duration_since(**since) < LINGER);
        let lingering: Vec<String> = lingering.map(|(key, _)| key.clone()).collect();
        found.into_iter().chain(lingering).collect()
    }
}

/// The labels of what the node has, and the drivers among it, where they are not known.
fn look(root: &Path, bin_dir: &Path, known: Option<Drivers>) -> Result<(BTreeSet<String>, Drivers), String> {
    let mut netlink = Netlink::open(std::time::Instant::now() + TRY).map_err(|e| e.to_string())?;
    let drivers = match known {
        Some(known) => known,
        None => {
            let kinds = drivers(&mut netlink, root).map_err(|e| e.to_string())?;
            Drivers { kinds, asked: Instant::now() }
        }
    };
    let mut labels: BTreeSet<String> = drivers.kinds.iter().filter_map(|kind| Ability::Driver(kind).label()).collect();
    let addresses = netlink.addresses(None).map_err(|e| e.to_string())?;
    let is_on_network = |link: &Link| addresses.iter().any(|one| one.index == link.index && is_wide(one.net));
    let links = netlink.links(None).map_err(|e| e.to_string())?;
    let usable = links.iter().filter(|link| can_carry(link, is_on_network(link)));
    labels.extend(usable.filter_map(|link| Ability::Link(&link.name).label()).take(MOST));
    let programs = programs(bin_dir);
    labels.extend(programs.iter().filter_map(|kind| Ability::Program(kind).label()).take(MOST));
    Ok((labels, drivers))
}

/// An address of a network of several stations.
fn is_wide(net: ipnet::IpNet) -> bool {
    net.prefix_len() < net.max_prefix_len()
}

/// Can networks stand on the link? A veth is the end of some pod's, unless it leads the node itself to a network, as in kind. Bridges and
/// tunnels are made on demand.
fn can_carry(link: &Link, is_on_network: bool) -> bool {
    link.mac.is_some_and(|mac| mac.is_station())
        && match link.kind {
            Kind::Veth => is_on_network && link.is_parent_elsewhere,
            Kind::Bridge(_) | Kind::Vxlan(_) | Kind::Macvlan(_) | Kind::Ipvlan(_) => false,
            _ => true,
        }
}

/// The programs that serve as plugins of types that are not built in, in order.
fn programs(bin_dir: &Path) -> Vec<String> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let files = fs::read_dir(bin_dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let kinds = files.filter(is_program).filter_map(|path| path.file_name()?.to_str()?.parse::<PluginType>().ok());
    let mut kinds: Vec<String> =
        kinds.filter(|kind| Builtin::from_type(kind).is_none()).map(|kind| kind.to_string()).collect();
    kinds.sort();
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn a_label_outlives_what_it_tells_for_a_while() {
        let (mut wanted, start) = (Wanted::default(), Instant::now());
        let both = keys(&["a", "b"]);
        assert_eq!(wanted.at(both.clone(), &keys(&[]), start), both);
        assert_eq!(wanted.at(keys(&["a"]), &both, start), both);
        let later = start + LINGER - Duration::from_secs(1);
        assert_eq!(wanted.at(keys(&["a"]), &both, later), both);
        // It was back in between: the time begins anew.
        assert_eq!(wanted.at(both.clone(), &both, later), both);
        assert_eq!(wanted.at(keys(&["a"]), &both, start + LINGER), both);
        assert_eq!(wanted.at(keys(&["a"]), &both, start + 3 * LINGER), keys(&["a"]));
    }

    #[test]
    fn programs_are_those_of_other_types_that_can_be_started() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("sriov", 0o755), ("bridge", 0o755), ("ovs", 0o755), ("README", 0o644), (".hidden", 0o755)]
        {
            let path = directory.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(directory.path().join("sub")).unwrap();
        let found = programs(directory.path());
        assert!(found.contains(&"sriov".to_owned()) && found.contains(&"ovs".to_owned()), "{found:?}");
        assert!(!found.iter().any(|name| ["bridge", "README", "sub"].contains(&name.as_str())), "{found:?}");
        assert!(programs(Path::new("/nowhere")).is_empty());
    }
}
