//! Undoes a damaged record: undoes what can be read, and keeps the record so that every DEL fails with what is lost, for
//! `abandonAfterSeconds`.
//!
//! Certain are the file's name, which is the record's key and so gives the link group, and the intact entries. Attachments that
//! can be parsed out of a damaged intent are used: their undo touches only what is marked as this container's. An unreadable
//! default network is taken from the node's configuration. Finally every network of this node is asked for leftovers of the
//! container.

use std::path::PathBuf;

use attachments::bind::{Attachment, Source, UnverifiedRequests};
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::cni::version::Version;
use serde_json::Deserializer;

use super::log::warn;
use super::record::{Done, Intent, Record, RecordedAttachment, Saved};
use super::run::Run;
use super::sandbox_lookup::Whereabouts;
use super::store::RecordFile;
use super::undo::{UndoContext, undo};
use super::{del, gc};
use crate::fault::{Fault, Result};
use crate::request::Target;

/// How the JSON of an attachment begins.
const BEGINNING: &[u8] = b"{\"source\":";

/// Undoes what can be read of a damaged record. Success when nothing that the undo needs is lost, or when
/// `abandonAfterSeconds` have passed.
pub fn undo_damaged(
    run: &Run<'_>,
    mut found: RecordFile,
    target: &Target,
    whereabouts: Whereabouts<'_>,
    context: &UndoContext<'_>,
) -> Result<()> {
    let key = found.key.clone();
    warn(&format!("the record of sandbox {} is damaged; undoing what can be known", key.container));
    if !found.record.is_undo_incomplete() {
        return undo(found, whereabouts, context);
    }
    let failing_for = run.store.failing_for(&key);
    // Only a marked record may move to pending/: without the mark it would be taken for a torn first write there.
    if let Err(fault) = failing_for.as_ref().map_or(Ok(()), |_| found.unsettle()) {
        warn(&fault.to_string());
    }
    let record = std::mem::take(&mut found.record);
    let dirs = data_dirs(&record.debris);
    let (intent, known) = known(record, del::node_networks(run, target)?);
    let known = Record { intent: Some(intent.clone()), ..known };
    let mut faults = Vec::new();
    faults.extend(undo(run.store.in_memory(&key, known), whereabouts, context).err());
    faults.extend(gc::reclaim_of(run, &key, intent, dirs));

    let patience = run.conf.abandon_after;
    if failing_for.as_ref().is_ok_and(|failing_for| *failing_for >= patience) {
        let failed: Vec<String> = faults.iter().map(Fault::to_string).collect();
        warn(&format!(
            "the damaged record of sandbox {} is given up, see abandoned/{key}; what it held may be left: {}",
            key.container,
            failed.join("; ")
        ));
        return found.abandon(None);
    }
    warn(&format!("the damaged record is kept: {}", run.store.pending_path(&key).display()));
    let text = format!(
        "damaged record of sandbox {}: what can be read is undone, the rest is not known; it is given up {} s after the first DEL",
        key.container,
        patience.as_secs()
    );
    faults.insert(0, Fault::Io(text));
    faults.extend(failing_for.err());
    Fault::several(faults)
}

/// The intent and the rest of the record, as far as they are known. `node` is the intent that the node's configuration gives to
/// every pod.
fn known(mut record: Record, mut node: Intent) -> (Intent, Record) {
    if let Some(mut intent) = record.intent.take() {
        // What a hot-plug was to attach, as far as it can be read.
        for lost in attachments(&record.debris).into_iter().flatten() {
            if !intent.attachments.iter().any(|known| known.ifname == lost.ifname) {
                intent.attachments.push(lost);
            }
        }
        return (intent, record);
    }
    let mut slots = attachments(&record.debris);
    let read = slots.len();
    if slots.is_empty() {
        slots.push(None);
    }
    let mut given = std::mem::take(&mut node.attachments).into_iter();
    if slots[0].is_none() {
        slots[0] = given.next();
    }
    let is_present =
        |slots: &[Option<Attachment>], one: &Attachment| slots.iter().flatten().any(|a| a.ifname == one.ifname);
    let given: Vec<_> = given.filter(|one| !is_present(&slots, one)).collect();
    // Behind an unreadable attachment the positions are uncertain, unless there are as many results as attachments.
    let results = record.done.take().map(|done| done.attached).unwrap_or_default();
    let gap = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    let certain = if results.len() == read { slots.len() } else { gap };
    let place = |old: usize| (old < certain && slots[old].is_some()).then(|| slots[..old].iter().flatten().count());

    let total = slots.iter().flatten().count() + given.len();
    let mut attached = vec![RecordedAttachment::default(); total];
    let mut links = Vec::new();
    for (old, entry) in results.into_iter().enumerate() {
        match place(old) {
            Some(new) => attached[new] = entry,
            None => links.extend(entry.links),
        }
    }
    let (placed, lost): (Vec<Saved>, Vec<Saved>) = record.saved.drain(..).partition(|s| place(s.attachment).is_some());
    let placed = placed.into_iter().filter_map(|s| Some(Saved { attachment: place(s.attachment)?, ..s }));
    record.saved = placed.collect();
    record.undone = record.undone.iter().filter_map(|old| place(*old)).collect();
    node.attachments = slots.into_iter().flatten().chain(given).collect();
    // The saved state of a lent device suffices to return it, whichever attachment borrowed it.
    if let Some(borrower) = borrower(&node).filter(|_| !lost.is_empty()) {
        record.saved.extend(lost.into_iter().map(|s| Saved { attachment: node.attachments.len(), ..s }));
        node.attachments.push(borrower);
        attached.push(RecordedAttachment::default());
    }
    attached.iter_mut().take(1).for_each(|entry| entry.links.append(&mut links));
    record.done = Some(Done { attached });
    (node, record)
}

/// The attachments in the remains of an intent, in order; None for one that cannot be parsed.
fn attachments(debris: &[u8]) -> Vec<Option<Attachment>> {
    let mut found: Vec<Option<Attachment>> = Vec::new();
    let mut rest = debris;
    while let Some(at) = rest.windows(BEGINNING.len()).position(|part| part == BEGINNING) {
        // Two parsed attachments have only a comma between them; more means that one is missing.
        if !found.is_empty() && at > 1 && found.last().is_some_and(Option::is_some) {
            found.push(None);
        }
        rest = &rest[at..];
        let mut stream = Deserializer::from_slice(rest).into_iter::<Attachment>();
        let read = stream.next().and_then(std::result::Result::ok);
        rest = &rest[if read.is_some() { stream.byte_offset() } else { 1 }..];
        if found.is_empty() && read.as_ref().is_some_and(|first| !first.is_default) {
            found.push(None);
        }
        found.push(read);
    }
    found
}

/// The address directories that the remains of an intent name.
fn data_dirs(debris: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(debris);
    let values = text.split("\"dataDir\"").skip(1).map(|rest| rest.trim_start_matches([' ', ':']));
    let paths = values.filter_map(|value| Deserializer::from_str(value).into_iter::<PathBuf>().next()?.ok());
    paths.filter(|path| path.is_absolute()).collect()
}

/// A stand-in attachment for saved state whose own attachment cannot be read: it may have borrowed a device.
fn borrower(node: &Intent) -> Option<Attachment> {
    let conf = NetworkConf::parse(br#"{"cniVersion":"1.1.0","type":"host-device"}"#).ok()?;
    let is_ours =
        node.builtin.as_ref().is_none_or(|types| conf.plugins.iter().all(|plugin| types.contains(&plugin.kind)));
    is_ours.then_some(())?;
    Some(Attachment {
        source: Source::Node(node.key.network.clone()),
        network: node.key.network.clone(),
        address_dir: None,
        version: Version::NEWEST,
        disable_check: true,
        disable_gc: true,
        // No delegate removes a link of this name.
        ifname: "lo".parse().ok()?,
        plugins: conf.plugins,
        runtime_config: Object::new(),
        args: String::new(),
        default_route: None,
        routes: Vec::new(),
        rules: Vec::new(),
        without_ipv6: false,
        address_set: None,
        ipam_claim: None,
        is_default: false,
        is_tenants: false,
        translated: None,
        device: None,
        device_info_file: None,
        unverified: UnverifiedRequests::default(),
        selected: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::{Entry, Key, header};
    use super::*;

    fn attachment(ifname: &str) -> Attachment {
        let conf = format!(r#"{{"name":"lan","type":"bridge","ipam":{{"dataDir" : "/var/lib/{ifname}"}}}}"#);
        let intent = node();
        Attachment {
            ifname: ifname.parse().unwrap(),
            plugins: NetworkConf::parse(conf.as_bytes()).unwrap().plugins,
            is_default: ifname == "eth0",
            ..borrower(&intent).unwrap()
        }
    }

    fn node() -> Intent {
        Intent {
            key: Key {
                network: "n".parse().unwrap(),
                container: "c1".parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            },
            pod: None,
            netns: "/run/netns/a".into(),
            netns_id: (4, 1),
            boot: None,
            plugin_dirs: Vec::new(),
            builtin: None,
            strict: false,
            attachments: Vec::new(),
            asked: None,
        }
    }

    /// A record of eth0, net1 and net2, whose intent has a byte changed inside this word. Each attachment has saved something.
    fn damaged(word: &str) -> Record {
        let attachments = ["eth0", "net1", "net2"].map(attachment).to_vec();
        let intent = Entry::Intent(&Intent { attachments, ..node() }).encode();
        let at = String::from_utf8_lossy(&intent).find(word).unwrap();
        let mut bytes = [header(), intent].concat();
        bytes[header().len() + at] = b'\x01';
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            let mut state = Object::new();
            state.set(name, &i);
            bytes.extend(Entry::Saved(&Saved { attachment: i, state }).encode());
        }
        let record = Record::decode(&bytes).unwrap();
        assert!(record.is_undo_incomplete() && record.intent.is_none() && record.saved.len() == 3);
        record
    }

    fn names(attachments: &[Attachment]) -> Vec<&str> {
        attachments.iter().map(|attachment| attachment.ifname.as_str()).collect()
    }

    fn places(record: &Record) -> Vec<usize> {
        record.saved.iter().map(|saved| saved.attachment).collect()
    }

    #[test]
    fn attachments_that_read_keep_what_was_saved_for_them() {
        // The damage is outside of them.
        let (intent, record) = known(damaged("\"netns\""), node());
        assert_eq!(names(&intent.attachments), ["eth0", "net1", "net2"]);
        assert_eq!(places(&record), [0, 1, 2]);
    }

    #[test]
    fn what_was_saved_for_one_that_cannot_be_read_goes_to_whoever_takes_devices_home() {
        let (intent, record) = known(damaged("\"net1\""), node());
        assert_eq!(names(&intent.attachments), ["eth0", "net2", "lo"], "the last one stands for a borrower");
        // Behind the gap it is not certain whose it is.
        assert_eq!(places(&record), [0, 2, 2]);
        let switched_off = Intent { builtin: Some(vec!["bridge".parse().unwrap()]), ..node() };
        assert_eq!(names(&known(damaged("\"net1\""), switched_off).0.attachments), ["eth0", "net2"]);

        let mut counted = damaged("\"net1\"");
        counted.done = Some(Done { attached: vec![RecordedAttachment::default(); 3] });
        let (_, record) = known(counted, node());
        assert_eq!(places(&record), [0, 1, 2], "the results say that one is missing: {:?}", record.saved);
    }

    #[test]
    fn the_default_network_and_what_every_pod_has_come_from_the_node() {
        let node = || Intent { attachments: vec![attachment("eth0"), attachment("net9")], ..node() };
        assert_eq!(names(&known(damaged("\"eth0\",\"plugins\""), node()).0.attachments)[..1], ["eth0"]);
        let nothing = Record { damaged: true, ..Record::default() };
        let (intent, record) = known(nothing, node());
        assert_eq!(names(&intent.attachments), ["eth0", "net9"]);
        assert_eq!(record.done.unwrap().attached.len(), 2);
    }

    #[test]
    fn a_beginning_alone_gives_what_is_whole_in_it() {
        let attachments = ["eth0", "net1"].map(attachment).to_vec();
        let bytes = [header(), Entry::Intent(&Intent { attachments, ..node() }).encode()].concat();
        let record = Record::decode(&bytes[..bytes.len() - 40]).unwrap();
        let found = super::attachments(&record.debris);
        assert!(matches!(found.as_slice(), [Some(eth0), None] if eth0.is_default), "{found:?}");
        assert_eq!(data_dirs(&record.debris), [PathBuf::from("/var/lib/eth0"), "/var/lib/net1".into()]);
        assert!(super::attachments(b"{\"source\":{\"source\":").iter().all(Option::is_none));
    }
}
