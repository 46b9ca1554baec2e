//! GC: undoes the sets of this node network that the runtime does not list, then asks the networks for leftovers (C25, A14).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use attachments::bind::{Attachment, DEVICE_INFO_DIR};
use attachments::cni::conf::PluginConf;
use attachments::finding::Finding;
use attachments::names::{ContainerId, IfName, NetworkName};
use delegates::builtin;
use delegates::host::Host;
use delegates::ownership::Ownership;
use serde::{Deserialize, Serialize};

use super::chain::{Delegate, Question, call_network};
use super::lock::SandboxLock;
use super::log::warn;
use super::record::{Intent, Key, Record};
use super::run::Run;
use super::salvage::undo_damaged;
use super::sandbox_lookup::Whereabouts;
use super::undo::undo;
use super::{devinfo, resolve, resume};
use crate::fault::{Fault, Result};
use crate::request::Target;

const VALID: &str = "cni.dev/valid-attachments";

/// An attachment that the runtime lists as valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    #[serde(rename = "containerID")]
    container: ContainerId,
    ifname: IfName,
}

/// Runs GC. Errors do not stop it; they are reported together at the end.
pub fn gc(run: &Run<'_>) -> Result<()> {
    if run.conf.disable_gc {
        return Ok(());
    }
    let valid = valid_pairs(run)?;
    let mut faults = Vec::new();
    let mut asked = Asked::default();
    for key in run.store.keys()? {
        let is_valid = valid.iter().any(|pair| pair.container == key.container && pair.ifname == key.ifname);
        let known = intent(run, &key);
        if key.network != run.conf.network {
            // Networks of one name share their addresses, also those of another node network.
            asked.claim(known);
        } else if is_valid {
            asked.survive(known);
        } else {
            match collect(run, &key) {
                Ok(Collected::Undone) => asked.leave(known),
                Ok(Collected::AtWork) => asked.survive(known),
                Err(fault) => {
                    asked.leave(known);
                    faults.push(fault);
                }
            }
        }
    }
    let (unknown, unasked) = ask(run, Some(&valid), asked);
    faults.extend(unasked);
    warn_unknown(&unknown);
    resume::others(run);
    SandboxLock::sweep(&run.store.locks());
    run.store.sweep();
    Fault::several(faults)
}

/// An absent set is an error, not an empty set: an empty set would undo every pod of the node.
fn valid_pairs(run: &Run<'_>) -> Result<Vec<Pair>> {
    const ALLOWED: &str = "a list of {containerID, ifname}";
    let pairs = run.request.conf.decode(VALID, ALLOWED)?;
    Ok(pairs.ok_or_else(|| Finding::missing(VALID, ALLOWED))?)
}

/// What became of a record that the runtime does not list.
enum Collected {
    /// The record is gone.
    Undone,
    /// A call holds the sandbox lock: not garbage, whatever the runtime lists.
    AtWork,
}

fn collect(run: &Run<'_>, key: &Key) -> Result<Collected> {
    let Some(lock) = SandboxLock::try_acquire(&run.store.locks(), &key.container)? else {
        return Ok(Collected::AtWork);
    };
    let Some(found) = run.store.find(key)? else { return Ok(Collected::Undone) };
    let context = run.undo_context(run.deadline, &lock);
    let undone = match found.record.damaged {
        true => undo_damaged(run, found, &nowhere(key), Whereabouts::Recorded, &context),
        false => undo(found, Whereabouts::Recorded, &context),
    };
    undone.map(|()| Collected::Undone)
}

/// The sandbox of a record, without a CNI_NETNS from the runtime.
fn nowhere(key: &Key) -> Target {
    let Key { container, ifname, .. } = key.clone();
    Target { container, netns: String::new(), ifname, args: Vec::new() }
}

/// The intent of a record, if it can be read, without what a hot-plug has taken away.
pub fn intent(run: &Run<'_>, key: &Key) -> Option<Intent> {
    let found = run.store.find(key).ok().flatten()?;
    let is_settled = found.is_settled();
    let Record { intent, undone, .. } = found.record;
    let intent = intent?;
    let stays = |(i, _): &(usize, Attachment)| !(is_settled && undone.contains(i));
    let attachments = intent.attachments.into_iter().enumerate().filter(stays).map(|(_, one)| one).collect();
    Some(Intent { attachments, ..intent })
}

/// The networks that are asked for leftovers, and the containers that stay.
#[derive(Debug, Default)]
pub struct Asked {
    networks: Vec<Network>,
    /// The valid attachments, by network.
    pairs: BTreeMap<NetworkName, Vec<Pair>>,
    /// The containers of all records that stay.
    living: BTreeSet<ContainerId>,
    /// The containers of this node network's records that stay.
    ours: BTreeSet<ContainerId>,
}

#[derive(Debug)]
struct Network {
    /// One of the network's attachments: its configuration is used.
    attachment: Attachment,
    /// The network is the default one or has an attachment. External plugins are asked for such networks only.
    is_alive: bool,
}

impl Asked {
    /// Adds a record of this node network that stays.
    fn survive(&mut self, intent: Option<Intent>) {
        let Some(intent) = intent else { return };
        self.ours.insert(intent.key.container.clone());
        intent.attachments.iter().for_each(|attachment| self.network(attachment.clone(), true));
        self.claim(Some(intent));
    }

    /// Adds a record of another node network: its attachments are valid, and its networks are not asked.
    fn claim(&mut self, intent: Option<Intent>) {
        let Some(Intent { key, attachments, .. }) = intent else { return };
        for attachment in attachments {
            let pair = Pair { container: key.container.clone(), ifname: attachment.ifname };
            self.pairs.entry(attachment.network).or_default().push(pair);
        }
        self.living.insert(key.container);
    }

    /// Adds a record that stays, of any node network.
    pub fn stay(&mut self, run: &Run<'_>, intent: Option<Intent>) {
        match intent.as_ref().is_some_and(|intent| intent.key.network == run.conf.network) {
            true => self.survive(intent),
            false => self.claim(intent),
        }
    }

    /// Adds a record that is being undone: its networks may have leftovers that no other network names.
    pub fn leave(&mut self, intent: Option<Intent>) {
        let attachments = intent.map(|intent| intent.attachments).unwrap_or_default();
        attachments.into_iter().for_each(|attachment| self.network(attachment, false));
    }

    /// Adds a network; each configuration is asked once.
    fn network(&mut self, mut attachment: Attachment, is_alive: bool) {
        for plugin in &mut attachment.plugins {
            // Binding added these keys for one pod.
            plugin.object.retain(|key| !matches!(key, "args" | "deviceID" | "pciBusID"));
        }
        let is_same = |other: &&mut Network| {
            let (one, two) = (&other.attachment, &attachment);
            one.network == two.network && one.address_dir == two.address_dir && one.plugins == two.plugins
        };
        match self.networks.iter_mut().find(is_same) {
            Some(other) => other.is_alive |= is_alive,
            None => self.networks.push(Network { attachment, is_alive }),
        }
    }
}

/// The part of GC that needs no list of the runtime: built-in delegates remove the leftovers of deleted records' containers.
/// Returns the leftovers of unknown containers, and the faults.
pub fn reclaim(run: &Run<'_>, asked: Asked) -> (BTreeSet<String>, Vec<Fault>) {
    ask(run, None, asked)
}

/// Removes what the networks of this node hold of one container whose record is damaged: built-in delegates search for it
/// as for a deleted record's. `known` is what can be read of the record, `dirs` are further address directories. Returns
/// the faults.
pub fn reclaim_of(run: &Run<'_>, key: &Key, known: Intent, mut dirs: Vec<PathBuf>) -> Vec<Fault> {
    let departed = HashSet::from([key.container.clone()]);
    // Leftovers of other containers stay, and are not listed either.
    let is_recorded = |container: &ContainerId| *container != key.container;
    let ownership = Ownership { living: &BTreeSet::new(), departed: &departed, is_recorded: &is_recorded };
    let mut asked = Asked::default();
    asked.leave(Some(known));
    run.store.keys().unwrap_or_default().iter().for_each(|key| asked.leave(intent(run, key)));

    // An unreadable network often has its addresses beside those of the known ones.
    let ipam = |plugin: &PluginConf| plugin.object.object("ipam").ok()??.text("dataDir").ok()?;
    let plugins = asked.networks.iter().flat_map(|network| &network.attachment.plugins);
    dirs.extend(plugins.filter_map(ipam).map(PathBuf::from).filter(|dir| dir.is_absolute()));

    let mut host = Host::new(run.node(None));
    let mut faults = Vec::new();
    for Network { attachment, .. } in &asked.networks {
        for plugin in &attachment.plugins {
            if let (Delegate::Builtin(_), Ok(nobody)) =
                (Delegate::of(plugin, &host.node), serde_json::value::to_raw_value(&[(); 0]))
            {
                faults.extend(call_network(&mut host, attachment, plugin, Question::Gc(&nobody, &ownership)).err());
            }
        }
    }
    let unasked = builtin::reclaim(&mut host, &dirs, &ownership).into_iter();
    faults.extend(unasked.map(|source| Fault::Delegate { subject: format!("sandbox {}", key.container), source }));
    devinfo::sweep(Path::new(DEVICE_INFO_DIR), &ownership);
    faults
}

/// Asks the default network and the networks of the records. An external plugin gets as valid set our attachments of that
/// network; for the default network also the runtime's pairs that we have no record of. Without the runtime's list no external
/// plugin is asked: it would take the missing attachments for garbage.
fn ask(run: &Run<'_>, valid: Option<&[Pair]>, mut asked: Asked) -> (BTreeSet<String>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut living = std::mem::take(&mut asked.living);
    match resolve::default_network(run) {
        Ok(default) => {
            let unknown =
                valid.unwrap_or_default().iter().filter(|pair| !asked.ours.contains(&pair.container)).cloned();
            let unknown: Vec<Pair> = unknown.collect();
            asked.pairs.entry(default.network.clone()).or_default().splice(0..0, unknown);
            asked.network(default, true);
        }
        // The networks of the records are asked all the same.
        Err(fault @ (Fault::TryLater(_) | Fault::NoNetwork(_))) if valid.is_some() => {
            warn(&format!("GC: the default network is not asked: {fault}"));
        }
        Err(fault) => faults.push(fault),
    }
    living.extend(valid.unwrap_or_default().iter().map(|pair| pair.container.clone()));
    let departed = run.store.tombstones().containers();
    let is_recorded = |container: &ContainerId| run.store.is_recorded(container);
    let ownership = Ownership { living: &living, departed: &departed, is_recorded: &is_recorded };

    let mut host = Host::new(run.node(None));
    let mut unknown_leftovers = BTreeSet::new();
    for Network { attachment, is_alive } in asked.networks.iter().filter(|network| !network.attachment.disable_gc) {
        let pairs = asked.pairs.get(&attachment.network).map(Vec::as_slice).unwrap_or_default();
        let pairs = match serde_json::value::to_raw_value(pairs) {
            Ok(pairs) => pairs,
            Err(e) => return (unknown_leftovers, vec![Fault::Bug(e.to_string())]),
        };
        for plugin in &attachment.plugins {
            if let Delegate::External(kind) = Delegate::of(plugin, &host.node) {
                if valid.is_none() || !is_alive || !attachment.version.has_gc_and_status() {
                    continue;
                }
                // The program of the network is gone.
                if let Err(source) = delegates::exec::find(kind, &run.conf.plugin_dirs) {
                    faults.push(Fault::Delegate { subject: format!("network {}", attachment.source), source });
                    continue;
                }
            }
            match call_network(&mut host, attachment, plugin, Question::Gc(&pairs, &ownership)) {
                Ok(found) => unknown_leftovers.extend(found),
                Err(fault) => faults.push(fault),
            }
        }
    }
    devinfo::sweep(Path::new(DEVICE_INFO_DIR), &ownership);
    let swept = builtin::sweep(&mut host, &ownership);
    faults.extend(swept.err().map(|source| Fault::Delegate { subject: "shared links".to_owned(), source }));
    (unknown_leftovers, faults)
}

/// Lists the leftovers of unknown containers, which stay: a person should look.
fn warn_unknown(leftovers: &BTreeSet<String>) {
    const SHOWN: usize = 20;
    for leftover in leftovers.iter().take(SHOWN) {
        warn(&format!("GC: left alone, for no record and no attachment of the runtime explains it: {leftover}"));
    }
    if leftovers.len() > SHOWN {
        warn(&format!("GC: and {} more like these", leftovers.len() - SHOWN));
    }
}
