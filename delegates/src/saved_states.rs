//! What records of other sandboxes still have to give back: whoever takes an object of the node asks first.

use attachments::cni::object::Object;
use attachments::names::ContainerId;

/// The old states of one attachment of another sandbox, which are not given back yet, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedStates {
    /// The sandbox.
    pub container: ContainerId,
    /// How its record is found again; the engine's own word.
    pub record: String,
    /// What its delegates saved ([`crate::host::Host::save`]).
    pub states: Vec<Object>,
}

/// The records of other sandboxes.
pub trait Records {
    /// All that is held. Reads every record of the node; a record that cannot be read holds nothing.
    fn held(&self) -> Vec<SavedStates>;

    /// Finishes an undo that was begun and left (a crash, a failure). False when the sandbox lives, when a call is at work on
    /// it, or when the undo fails again.
    fn finish(&self, held: &SavedStates) -> bool;
}
