//! What the calls of the node came to: `stateDir/calls`, a line of JSON for each, from the plugin to the node agent.
//!
//! A call appends its line as its last act: one write, not synced, which delays nobody and may fail. The agent takes the file away
//! every few seconds, for its metrics and its log. A file that no agent takes away stops growing at 1 MiB. In directory mode,
//! where no agent reads, there is none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use attachments::finding::shortened;
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
pub const FILE: &str = "calls";
/// The name under which the agent takes it away. A call that had opened it before may still append its line.
const TAKEN: &str = "calls.taken";
/// Bytes after which calls append nothing.
const FULL: u64 = 1 << 20;
/// Bytes of a text in a line.
const TEXT: usize = 1024;
/// The most warnings of a line.
const WARNINGS: usize = 16;

/// One call of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallReport {
    /// CNI_COMMAND.
    pub verb: String,
    /// Code of the CNI protocol, 0 for success.
    pub code: u32,
    /// How long the plugin took, in microseconds, from the node's configuration to the answer.
    pub micros: u64,
    /// CNI_CONTAINERID, empty for GC and STATUS.
    pub container: String,
    /// `namespace/name` of the pod, where the call names one.
    pub pod: String,
    /// An ADD: the attachments that were begun, in order. A DEL: those of the record.
    pub attachments: Vec<AttachmentReport>,
    /// What the log of the runtime was told.
    pub warnings: Vec<String>,
    /// Why the call failed.
    pub error: String,
}

/// One attachment of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachmentReport {
    /// Its name in `network-status`: `namespace/name` of a definition, the name of a network of the node.
    pub network: String,
    /// Type of the first plugin of its chain.
    pub delegate: String,
    /// Code of the CNI protocol, 0 for success.
    pub code: u32,
    /// How long its chain took, in microseconds; 0 where nobody looked.
    pub micros: u64,
}

impl CallReport {
    /// Appends the line.
    pub fn append(mut self, state_dir: &Path) -> io::Result<()> {
        self.error = shortened(&self.error, TEXT);
        self.warnings.truncate(WARNINGS);
        self.warnings.iter_mut().for_each(|text| *text = shortened(text, TEXT));
        // One write with O_APPEND: lines of several processes do not mix.
        let mut file = File::options().append(true).create(true).open(state_dir.join(FILE))?;
        if file.metadata()?.len() >= FULL {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&self)?;
        line.push(b'\n');
        file.write_all(&line)
    }
}

/// Takes the lines away that an earlier take has set aside, and sets aside those that are there now: a line is returned by the next
/// but one take at the latest, and exactly once. A line that makes no sense (the end of a full disk) is passed over.
pub fn take(state_dir: &Path) -> io::Result<Vec<CallReport>> {
    let (file, taken) = (state_dir.join(FILE), state_dir.join(TAKEN));
    let lines = match fs::read(&taken) {
        Ok(bytes) => {
            fs::remove_file(&taken)?;
            bytes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    match fs::rename(&file, &taken) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verb: &str) -> CallReport {
        let attachments = vec![AttachmentReport {
            network: "shop/lan".to_owned(),
            delegate: "vxlan".to_owned(),
            code: 0,
            micros: 1200,
        }];
        CallReport { verb: verb.to_owned(), micros: 7312, attachments, ..CallReport::default() }
    }

    #[test]
    fn every_line_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take(dir.path()).unwrap(), []);
        report("ADD").append(dir.path()).unwrap();
        assert_eq!(take(dir.path()).unwrap(), [], "set aside, for a call may still have the file open");
        let late = File::options().append(true).open(dir.path().join(TAKEN)).unwrap();
        (&late).write_all(b"{\"verb\":\"DEL\"}\n{\"ver").unwrap();
        report("CHECK").append(dir.path()).unwrap();
        let verbs = |reports: Vec<CallReport>| reports.into_iter().map(|one| one.verb).collect::<Vec<_>>();
        assert_eq!(verbs(take(dir.path()).unwrap()), ["ADD", "DEL"]);
        assert_eq!(take(dir.path()).unwrap(), [report("CHECK")]);
        assert_eq!(take(dir.path()).unwrap(), []);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_nobody_takes_stops_growing_and_texts_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let long = CallReport { error: "x".repeat(1 << 16), warnings: vec!["y".repeat(1 << 16); 64], ..report("ADD") };
        for _ in 0..200 {
            long.clone().append(dir.path()).unwrap();
        }
        let length = fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!((FULL..FULL + (32 << 10)).contains(&length), "{length}");
        take(dir.path()).unwrap();
        let all = take(dir.path()).unwrap();
        assert!(all.len() > 30 && all.iter().all(|one| one.error.len() <= TEXT + 8 && one.warnings.len() == WARNINGS));
    }
}
