//! Labels by which a Node says which networks it can serve. The node agent writes them, and the webhook has pods ask for them.

use std::fmt;

/// The value of every label.
pub const VALUE: &str = "true";

/// The types whose links need a driver that a kernel may lack.
pub const DRIVERS: [&str; 8] = ["bond", "dummy", "ipvlan", "macvlan", "tap", "vlan", "vrf", "vxlan"];

/// Something that a node has and a network needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability<'a> {
    /// A link of the node of this name: a `master`, an `underlay`.
    Link(&'a str),
    /// The kernel's driver for links of this type, one of [`DRIVERS`].
    Driver(&'a str),
    /// A program of this type that serves as a plugin.
    Program(&'a str),
}

const KINDS: [&str; 3] = ["meta-cni.io/link-", "meta-cni.io/driver-", "meta-cni.io/program-"];

/// Longest name in the key of a label (Kubernetes, "Labels and Selectors").
const LONGEST: usize = 63;

impl<'a> Ability<'a> {
    fn parts(self) -> (&'static str, &'a str) {
        match self {
            Self::Link(name) => (KINDS[0], name),
            Self::Driver(kind) => (KINDS[1], kind),
            Self::Program(kind) => (KINDS[2], kind),
        }
    }

    /// The label's key. None for a name that no label can have: such a network is on any node, as without labels.
    pub fn label(self) -> Option<String> {
        let (kind, name) = self.parts();
        let key = format!("{kind}{name}");
        let part = key.split_once('/').map_or("", |(_, part)| part);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let ends_well = name.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric());
        (ends_well && part.len() <= LONGEST && part.bytes().all(is_plain)).then_some(key)
    }
}

impl fmt::Display for Ability<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "a link {name}"),
            Self::Driver(kind) => write!(f, "a kernel with a driver of {kind}"),
            Self::Program(kind) => write!(f, "the program {kind}"),
        }
    }
}

/// Is it the key of such a label?
pub fn is_ability(key: &str) -> bool {
    KINDS.iter().any(|kind| key.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_the_name_in_its_key() {
        assert_eq!(Ability::Link("eth1.100").label().as_deref(), Some("meta-cni.io/link-eth1.100"));
        assert_eq!(Ability::Driver("vlan").label().as_deref(), Some("meta-cni.io/driver-vlan"));
        assert_eq!(Ability::Program("ovs").label().as_deref(), Some("meta-cni.io/program-ovs"));
        for name in ["", "eth0@x", "eth0.", "_", "a b", "é"] {
            assert_eq!(Ability::Link(name).label(), None, "{name}");
        }
        assert_eq!(Ability::Program(&"p".repeat(56)).label(), None);
        assert!(Ability::Program(&"p".repeat(55)).label().is_some());
    }

    #[test]
    fn other_labels_of_ours_are_not_touched() {
        for key in ["meta-cni.io/level", "meta-cni.io/linked", "link-eth0", "kubernetes.io/hostname"] {
            assert!(!is_ability(key), "{key}");
        }
        for ability in [Ability::Link("a"), Ability::Driver("b"), Ability::Program("c")] {
            assert!(is_ability(&ability.label().unwrap()));
        }
    }
}
