//! Decides during GC whether a leftover's container is live, gone, or unknown to us.
//!
//! Address directories and rule tables are shared with runtimes that do not call us, and with plugins that ran here before
//! us. So a leftover of an unknown container stays. GC removes only leftovers of a container that had a record of ours and
//! has none any more.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use attachments::names::ContainerId;

/// What GC knows of containers.
pub struct Ownership<'a> {
    /// The containers that the runtime lists, and those that have a record.
    pub living: &'a BTreeSet<ContainerId>,
    /// The containers that had a record.
    pub departed: &'a HashSet<ContainerId>,
    /// Does the container have a record now? Asked for each leftover: an ADD that began after this GC is in no list, and
    /// has written its record before it takes anything.
    pub is_recorded: &'a dyn Fn(&ContainerId) -> bool,
}

/// What GC does with a leftover of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The container is live: the leftover stays.
    Living,
    /// The container is gone: the leftover is removed.
    Departed,
    /// The container is unknown: the leftover stays and is listed.
    Unknown,
}

impl Ownership<'_> {
    /// The owner by container id.
    pub fn owner(&self, container: &ContainerId) -> Owner {
        if self.living.contains(container) || (self.is_recorded)(container) {
            Owner::Living
        } else if self.departed.contains(container) {
            Owner::Departed
        } else {
            Owner::Unknown
        }
    }

    /// The owner by a name in a file or comment; a name that is no container id is unknown.
    pub fn owner_of(&self, name: &str) -> Owner {
        name.parse().map_or(Owner::Unknown, |container| self.owner(&container))
    }

    /// All containers that are known.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerId> {
        self.living.iter().chain(self.departed)
    }
}

impl fmt::Debug for Ownership<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership")
            .field("living", self.living)
            .field("departed", self.departed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_once_was_ours_may_go() {
        let living = BTreeSet::from([id("a"), id("again")]);
        let departed = HashSet::from([id("b"), id("again"), id("new")]);
        let is_recorded = |container: &ContainerId| container.as_str() == "new";
        let ownership = Ownership { living: &living, departed: &departed, is_recorded: &is_recorded };
        let owners = ["a", "again", "b", "new", "c", "not/an/id", ""].map(|name| ownership.owner_of(name));
        use Owner::{Departed, Living, Unknown};
        assert_eq!(owners, [Living, Living, Departed, Living, Unknown, Unknown, Unknown]);
    }
}
