//! What is left of pods that are gone: records without a sandbox, addresses and links without a record.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use delegates::ipam::blocks::Held;
use delegates::ipam::dhcp;
use delegates::netns::NetNs;
use delegates::networks::known;
use delegates::nl::Netlink;
use meta_cni::engine::inspect::{Inspected, State, inspect};

use super::finding::{Finding, Severity};
use super::{Place, on_host};
use crate::status::kernel;

/// A call may run for this long: what it has done so far is no leftover.
const YOUNG: Duration = Duration::from_secs(120);
/// Groups of our links (`Key::group`).
const GROUPS: std::ops::Range<u32> = 0x4000_0000..0x8000_0000;
const PATIENCE: Duration = Duration::from_secs(10);
/// As many of a kind are named.
const SHOWN: usize = 8;

/// Looks for it.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    let state_dir = on_host(&place.state_dir);
    let records = match inspect(&state_dir) {
        Ok(records) => records,
        Err(fault) => {
            findings.push(Finding::new(
                "D60",
                Severity::Error,
                fault.to_string(),
                "see who changed the directory, and its file system",
            ));
            return;
        }
    };
    of_records(&records, findings);
    let containers: BTreeSet<&str> = records.iter().map(|one| one.container.as_str()).collect();
    let mut leases = Vec::new();
    for id in known(&state_dir) {
        let held = Held::read(&state_dir, &id).unwrap_or_default();
        let lost = held.leases().iter().filter(|lease| !containers.contains(lease.holder.container.as_str()));
        leases.extend(lost.map(|lease| {
            format!(
                "{id} {} of {}",
                lease.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
                lease.holder
            )
        }));
    }
    tell(&leases, "addresses of blocks", "no record", Severity::Error, findings);
    let unknown = dhcp::names(&state_dir).into_iter().filter(|name| !containers.contains(name.container.as_str()));
    let unknown: Vec<String> = unknown.map(|name| name.to_string()).collect();
    tell(&unknown, "DHCP leases", "no record", Severity::Error, findings);
    let networks: BTreeSet<String> = records
        .iter()
        .flat_map(|one| &one.attachments)
        .map(|one| one.attachment.address_dir.clone().unwrap_or_else(|| one.attachment.network.to_string()))
        .collect();
    let of_files = host_local(&on_host(&place.addresses_dir), &networks, &containers);
    // Pods that are older than the installation, and networks of other products, have addresses there too.
    tell(
        &of_files,
        "addresses of host-local",
        "no record; pods from before the installation have none either",
        Severity::Info,
        findings,
    );
    let groups: BTreeSet<u32> = records.iter().map(|one| one.group).collect();
    tell(&links(&groups), "links", "no record", Severity::Error, findings);
}

fn of_records(records: &[Inspected], findings: &mut Vec<Finding>) {
    let mut gone = Vec::new();
    for record in records {
        let pod = record.pod.as_ref().map_or_else(|| record.container.clone(), ToString::to_string);
        match record.state {
            State::Done => {
                let is_gone =
                    |text: &String| text.contains("network namespace is gone") || text.contains("started anew");
                if record.idle > YOUNG && kernel::differences(record).iter().any(is_gone) {
                    gone.push(pod.clone());
                }
            }
            _ if record.idle < YOUNG => {}
            State::Abandoned => findings.push(Finding::new(
                "D60",
                Severity::Warning,
                format!("{pod}: its end came without everything undone"),
                "meta-cnictl status shows what is left; docs/failures.md, A record that cannot be undone, says how it goes",
            )),
            State::Intent | State::Undoing => findings.push(Finding::new(
                "D60",
                Severity::Warning,
                format!("{pod}: not undone since {} s", record.idle.as_secs()),
                "the agent tries again each minute: its log says why it fails",
            )),
        }
        if let Some(damage) = &record.damage {
            findings.push(Finding::new(
                "D60",
                Severity::Error,
                format!("{pod}: {damage}"),
                "docs/failures.md, A damaged record, says what a DEL does with it",
            ));
        }
    }
    tell(&gone, "records", "no sandbox", Severity::Warning, findings);
}

fn tell(found: &[String], what: &str, without: &str, severity: Severity, findings: &mut Vec<Finding>) {
    if found.is_empty() {
        return;
    }
    let more = if found.len() > SHOWN { format!(", and {} more", found.len() - SHOWN) } else { String::new() };
    let shown = found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    let text = format!("{} {what} have {without}: {shown}{more}", found.len());
    findings.push(Finding::new(
        "D60",
        severity,
        text,
        "GC, or the agent within a minute, releases it; what stays is a bug worth a report (meta-cnictl collect)",
    ));
}

/// Addresses of the networks that containers without a record hold.
fn host_local(dir: &Path, networks: &BTreeSet<String>, containers: &BTreeSet<&str>) -> Vec<String> {
    let mut lost = Vec::new();
    for network in networks {
        for entry in fs::read_dir(dir.join(network)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_address = name.replace('_', ":").parse::<IpAddr>().is_ok();
            let Some(text) = fs::read_to_string(entry.path()).ok().filter(|_| is_address) else { continue };
            let holder = text.split(['\r', '\n']).next().unwrap_or_default().trim().to_owned();
            if !containers.contains(holder.as_str()) {
                lost.push(format!("{network} {name} of {holder}"));
            }
        }
    }
    lost.sort();
    lost
}

/// Links of ours that no record explains, here and in the namespaces that the runtime has.
fn links(groups: &BTreeSet<u32>) -> Vec<String> {
    let mut lost = Vec::new();
    let mut look = |place: &str, netlink: delegates::error::Result<Netlink>| {
        let links = netlink.and_then(|mut netlink| netlink.links(None)).unwrap_or_default();
        let ours = links.iter().filter(|link| GROUPS.contains(&link.group) && !groups.contains(&link.group));
        lost.extend(ours.map(|link| format!("{} in {place}", link.name)));
    };
    look("the node", Netlink::open(Instant::now() + PATIENCE));
    let dir = on_host(Path::new("/run/netns"));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(Some(netns)) = NetNs::find(&entry.path()) {
            look(&entry.file_name().to_string_lossy(), netns.socket(Instant::now() + PATIENCE));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_record_are_told_and_other_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lan")).unwrap();
        for (name, text) in [
            ("10.0.0.2", "known\r\neth0"),
            ("10.0.0.3", "lost\r\nnet1"),
            ("fd00__7", "lost\nnet1"),
            ("last_reserved_ip.0", "10.0.0.3"),
            ("lock", ""),
        ] {
            fs::write(dir.path().join("lan").join(name), text).unwrap();
        }
        let found = host_local(dir.path(), &["lan".to_owned(), "none".to_owned()].into(), &["known"].into());
        assert_eq!(found, ["lan 10.0.0.3 of lost", "lan fd00__7 of lost"]);
        let mut findings = Vec::new();
        tell(&vec!["x".to_owned(); 10], "links", "no record", Severity::Error, &mut findings);
        assert!(
            findings[0].found.starts_with("10 links have no record: x; x;")
                && findings[0].found.ends_with("and 2 more")
        );
    }
}
