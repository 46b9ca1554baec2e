//! Whose is it? What a GC knows of the containers whose names stand on things that lie about on the node.
//!
//! Directories of addresses and tables of rules are shared: with runtimes that we are not called by, and with plugins that
//! ran here before us. So not being known is no reason to remove anything. What is removed belonged to a container that
//! stood in a record of ours, and stands in none any more.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use attachments::names::ContainerId;

/// What a GC knows of containers.
pub struct Claims<'a> {
    /// Those that the runtime lists, and those that a record is about.
    pub living: &'a BTreeSet<ContainerId>,
    /// Those that a record was about.
    pub departed: &'a HashSet<ContainerId>,
    /// Is there a record of it by now? Asked when something was found: an ADD writes its record before it takes anything,
    /// and what it takes after this GC began is in no list.
    pub is_recorded: &'a dyn Fn(&ContainerId) -> bool,
}

/// What is to be done with a thing of a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It stays.
    Living,
    /// It goes.
    Departed,
    /// It stays, and somebody should know.
    Stranger,
}

impl Claims<'_> {
    /// Of a container.
    pub fn owner(&self, container: &ContainerId) -> Owner {
        if self.living.contains(container) || (self.is_recorded)(container) {
            Owner::Living
        } else if self.departed.contains(container) {
            Owner::Departed
        } else {
            Owner::Stranger
        }
    }

    /// Of a name as it stands in a file or comment; one that is no container's is a stranger's.
    pub fn owner_of(&self, name: &str) -> Owner {
        name.parse().map_or(Owner::Stranger, |container| self.owner(&container))
    }

    /// Every container that it has heard of.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerId> {
        self.living.iter().chain(self.departed)
    }
}

impl fmt::Debug for Claims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("living", self.living).field("departed", self.departed).finish_non_exhaustive()
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
        let claims = Claims { living: &living, departed: &departed, is_recorded: &is_recorded };
        let owners = ["a", "again", "b", "new", "c", "not/an/id", ""].map(|name| claims.owner_of(name));
        use Owner::{Departed, Living, Stranger};
        assert_eq!(owners, [Living, Living, Departed, Living, Stranger, Stranger, Stranger]);
    }
}
