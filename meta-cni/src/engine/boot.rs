//! Which boot of the node a record belongs to. No sandbox outlives its boot, and afterwards paths and inode numbers are reused.

pub use delegates::boot::current;

use super::record::Intent;

/// Was the node restarted since this intent was written? False where either boot is unknown.
pub fn is_over(intent: &Intent) -> bool {
    intent.boot.is_some() && current().is_some_and(|now| intent.boot.as_ref() != Some(&now))
}
