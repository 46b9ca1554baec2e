//! The kernel's side: the sandbox of a record, and what differs there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::error::Error;
use delegates::netns::NetNs;
use meta_cni::engine::inspect::{Inspected, State};

use super::compare::{self, Sandbox};

/// How long the kernel is asked at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sandbox of a record has otherwise, and what is wrong with the record itself.
pub fn differences(record: &Inspected) -> Vec<String> {
    let mut differences: Vec<String> =
        record.damage.iter().map(|damage| format!("the record cannot be trusted: {damage}")).collect();
    match record.state {
        State::Done if record.is_of_earlier_boot => {
            differences.push(
                "the node was started anew since: its sandbox is gone, the agent releases what it held".to_owned(),
            );
        }
        State::Done => match look(&record.netns) {
            Ok(Some(sandbox)) => differences.extend(compared(record, &sandbox)),
            Ok(None) => differences.push(format!("its network namespace is gone: {}", record.netns)),
            Err(why) => differences.push(format!("its network namespace cannot be looked at: {why}")),
        },
        State::Undoing => {
            differences.push("an undo has not succeeded yet: DEL, GC or the agent tries again".to_owned())
        }
        State::Abandoned => {
            differences.push("given up: docs/failures.md says what is left, and how it goes".to_owned())
        }
        State::Intent => {}
    }
    differences
}

fn compared(record: &Inspected, sandbox: &Sandbox) -> Vec<String> {
    let mut differences = Vec::new();
    for one in record.attachments.iter().filter(|one| !one.is_undone) {
        let network = one.attachment.source.to_string();
        match one.result.clone().map(|result| CniResult::from_object(result, Version::NEWEST)) {
            Some(Ok(result)) => differences.extend(compare::attachment(&network, &result, &one.links, sandbox)),
            Some(Err(finding)) => differences.push(format!("{network}: its result cannot be read: {finding}")),
            None => differences.push(format!("{network}: the record has no result of it")),
        }
    }
    let known: Vec<_> = record.attachments.iter().flat_map(|one| &one.links).collect();
    let strangers =
        sandbox.links.iter().filter(|link| link.group == record.group && !known.iter().any(|id| id.is(link)));
    differences.extend(strangers.map(|link| format!("{} is of this record and not in its result", link.name)));
    differences
}

/// The links and addresses of a sandbox; none where it is gone. In the agent's container the path is the host's.
fn look(path: &str) -> Result<Option<Sandbox>, String> {
    let said = |error: Error| error.to_string();
    let here = Path::new(path);
    // In the agent's container the directory of the runtime's namespaces is only seen through the node's first process.
    let is_elsewhere = here.parent().is_some_and(|dir| !dir.exists());
    let found = match is_elsewhere {
        true => NetNs::find(&PathBuf::from(format!("/proc/1/root{path}"))).map_err(said)?,
        false => NetNs::find(here).map_err(said)?,
    };
    let Some(netns) = found else { return Ok(None) };
    let mut netlink = netns.socket(Instant::now() + PATIENCE).map_err(said)?;
    let links = netlink.links(None).map_err(said)?;
    let addresses = netlink.addresses(None).map_err(said)?;
    Ok(Some(Sandbox { links, addresses }))
}
