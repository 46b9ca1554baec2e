//! Names of networks that span nodes.

use std::borrow::Borrow;
use std::fmt;
use std::path::{Path, PathBuf};

use attachments::bind::Source;
use attachments::names::NetRef;
use attachments::text::hash;
use serde::{Deserialize, Serialize};

/// Name of a network that spans nodes: fit for a label's value, for the beginning of an object's name, and for a file.
///
/// An overlay is its UDP port and VNI, `4789-4200`: definitions that share the pair share the network. Any other network is its
/// definition, `NAMESPACE.NAME`. A namespace has no dot, so the two kinds have no name in common, and no two networks have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(String);

/// Longest value of a label.
const LONGEST: usize = 63;

impl NetworkId {
    /// An overlay.
    pub fn overlay(port: u16, vni: u32) -> Self {
        Self(format!("{port}-{vni}"))
    }

    /// The network of a definition.
    pub fn definition(reference: &NetRef) -> Self {
        Self::shortened(format!("{}.{}", reference.namespace, reference.name))
    }

    /// The network of a configuration: of a definition, or of a file of the node.
    pub fn of(source: &Source) -> Self {
        match source {
            Source::Definition(reference) => Self::definition(reference),
            Source::Object(reference) => Self::definition(&reference.as_definition()),
            // Objects have no upper-case names and no '_': a name that has is told apart by its hash.
            Source::Node(name) => {
                let lower = name.as_str().to_ascii_lowercase().replace('_', "-");
                let tail =
                    if lower == name.as_str() { String::new() } else { format!("-{:016x}", hash(name.as_str())) };
                Self::shortened(format!("node..{lower}{tail}"))
            }
        }
    }

    /// A pool that definitions share by what they give out, whatever their names are: those of whereabouts. Without a dot it is no
    /// definition's name, and it does not begin with a number as an overlay's does.
    pub fn pool(text: &str) -> Self {
        let fit = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_lowercase()) } else { '-' };
        let name = format!("whereabouts-{}", text.bytes().map(fit).collect::<String>());
        // One range of IPv4 is told apart from any other by its digits.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".-/".contains(&byte));
        if is_plain && name.len() <= LONGEST { Self(name) } else { Self::hashed(&name, text) }
    }

    /// The network of a directory of that name below [`super::DIR`].
    pub(crate) fn of_dir(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A name that is too long keeps its beginning and gets a hash of the whole.
    fn shortened(name: String) -> Self {
        if name.len() <= LONGEST {
            return Self(name);
        }
        Self::hashed(&name, &name)
    }

    /// The beginning of a name with a hash of a text.
    fn hashed(name: &str, of: &str) -> Self {
        let kept = name[..name.len().min(LONGEST - 17)].trim_end_matches(['.', '-']);
        Self(format!("{kept}-{:016x}", hash(of)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of the network below `stateDir`.
    pub fn dir(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(super::DIR).join(&self.0)
    }
}

impl Borrow<str> for NetworkId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_a_label_and_no_two_networks_share_one() {
        let reference =
            |namespace: &str, name: &str| NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() };
        assert_eq!(NetworkId::overlay(4789, 4200).as_str(), "4789-4200");
        assert_eq!(NetworkId::definition(&reference("shop", "lan.a")).as_str(), "shop.lan.a");
        let long = "a".repeat(63);
        let names = [
            NetworkId::definition(&reference(&long, "b")),
            NetworkId::definition(&reference(&long, "c")),
            NetworkId::of(&Source::Node("lan".parse().unwrap())),
            NetworkId::of(&Source::Node("LAN".parse().unwrap())),
            NetworkId::of(&Source::Node("l_an".parse().unwrap())),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(name.as_str().len() <= LONGEST && !names[..i].contains(name), "{name}");
            assert!(
                name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
            );
        }
    }
}
