//! The saved state in the records of other sandboxes, for a delegate that takes an object of the node.

use std::collections::BTreeMap;
use std::time::Instant;

use attachments::cni::object::Object;
use delegates::saved_states::{Records, SavedStates};

use super::log::warn;
use super::record::Key;
use super::resume::{Resumed, resume};
use super::run::Run;
use super::store::parse_name;

/// All records but that of the call.
pub struct Others<'r> {
    /// The call.
    pub run: &'r Run<'r>,
    /// The record of the call.
    pub own: &'r Key,
}

impl Records for Others<'_> {
    fn held(&self) -> Vec<SavedStates> {
        let keys = self.run.store.keys().unwrap_or_else(|fault| {
            warn(&fault.to_string());
            Vec::new()
        });
        let mut held = Vec::new();
        for key in keys.into_iter().filter(|key| key != self.own) {
            let Ok(Some(found)) = self.run.store.find(&key) else { continue };
            let mut states: BTreeMap<usize, Vec<Object>> = BTreeMap::new();
            for saved in found.record.saved {
                if !found.record.undone.contains(&saved.attachment) {
                    states.entry(saved.attachment).or_default().push(saved.state);
                }
            }
            let of_record = |states| SavedStates { container: key.container.clone(), record: key.to_string(), states };
            held.extend(states.into_values().map(of_record));
        }
        held
    }

    fn finish(&self, held: &SavedStates) -> bool {
        let Some(key) = parse_name(&held.record) else { return false };
        let until = self.run.deadline.min(Instant::now() + self.run.conf.timeout / 4);
        match resume(self.run, &key, until, |_| true) {
            Ok(Resumed::Undone) => true,
            Ok(Resumed::No(_)) => false,
            Err(fault) => {
                warn(&format!("sandbox {}: undo is still not complete: {fault}", held.container));
                false
            }
        }
    }
}
