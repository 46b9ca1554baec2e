//! What the records of a node hold, for the agent's metrics: each record is read once.

use std::collections::BTreeMap;
use std::path::Path;

use super::notes::about;
use super::record::Key;
use super::store::Store;
use crate::fault::Result;

/// What earlier looks have read. A key belongs to one sandbox, whose attachments stay the same.
#[derive(Debug, Default)]
pub struct Inventory(BTreeMap<String, Vec<(String, String)>>);

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
        for (key, _) in store.settled()? {
            let name = key.to_string();
            let known = self.0.remove(&name).map_or_else(|| attachments(&store, &key), Ok)?;
            now.insert(name, known);
        }
        self.0 = now;
        let mut counts = Counts {
            pending: store.pending()?.len() as u64,
            abandoned: store.abandoned()?.len() as u64,
            ..Counts::default()
        };
        for of in self.0.values().flatten() {
            *counts.attachments.entry(of.clone()).or_default() += 1;
        }
        Ok(counts)
    }
}

fn attachments(store: &Store, key: &Key) -> Result<Vec<(String, String)>> {
    // A DEL may have been faster.
    let intent = store.find(key)?.and_then(|found| found.record.intent);
    let attachments = intent.iter().flat_map(|intent| &intent.attachments);
    Ok(attachments.map(about).map(|one| (one.network, one.delegate)).collect())
}
