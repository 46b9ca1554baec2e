//! Which boot of the node a record belongs to: no sandbox outlives one, and after it paths and inode numbers start anew.

pub use delegates::boot::current;

use super::record::Intent;

/// Was the node restarted since this intent was written? Without the two to compare, nobody can say so.
pub fn is_over(intent: &Intent) -> bool {
    intent.boot.is_some() && current().is_some_and(|now| intent.boot.as_ref() != Some(&now))
}
