//! What the records of a node hold, for the agent's metrics: each record is read once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use super::notes::about;
use super::record::Key;
use super::store::Store;
use crate::fault::Result;

/// What earlier looks have read, and the time of each file: a hot-plug changes the attachments of a sandbox.
#[derive(Debug, Default)]
pub struct Inventory(BTreeMap<String, Known>);

/// When a record was written, and its attachments.
type Known = (Option<SystemTime>, Vec<(String, String)>);

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attachments, by their name in `network-status` and the type of the first plugin.
    pub attachments: BTreeMap<(String, String), u64>,
    /// Records in `pending/`.
    pub pending: u64,
    /// Records in `abandoned/`.
    pub abandoned: u64,
}

impl Inventory {
    /// Looks at a state directory.
    pub fn look(&mut self, state_dir: &Path) -> Result<Counts> {
        let store = Store::new(state_dir);
        let mut now = BTreeMap::new();
        for (key, written) in store.settled_at()? {
            let name = key.to_string();
            let known = self.0.remove(&name).filter(|(then, _)| *then == written).map(|(_, known)| known);
            now.insert(name, (written, known.map_or_else(|| attachments(&store, &key), Ok)?));
        }
        self.0 = now;
        let mut counts = Counts {
            pending: store.pending()?.len() as u64,
            abandoned: store.abandoned()?.len() as u64,
            ..Counts::default()
        };
        for of in self.0.values().flat_map(|(_, known)| known) {
            *counts.attachments.entry(of.clone()).or_default() += 1;
        }
        Ok(counts)
    }
}

fn attachments(store: &Store, key: &Key) -> Result<Vec<(String, String)>> {
    // A DEL may have been faster.
    let Some(found) = store.find(key)? else { return Ok(Vec::new()) };
    let attached = found.record.attached().into_iter().map(|(attachment, _)| about(attachment));
    Ok(attached.map(|one| (one.network, one.delegate)).collect())
}
