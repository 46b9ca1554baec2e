//! Checked names. A value of one of these types has passed the rule of its specification, so no later code checks again.
//!
//! A name that somebody asks for follows a stricter rule than one that is found on the node or in a record: what exists
//! must be told and undone, whatever it is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;

/// Declares a newtype over `String` whose only ways in are its rules: `FromStr` for names that are asked for, `found` and
/// serde for names that exist.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $rule:expr, $allowed:expr) => {
        checked_name!($(#[$doc])* $name, $rule, $allowed, $rule);
    };
    ($(#[$doc:meta])* $name:ident, $rule:expr, $allowed:expr, $found:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What the rule accepts, in words that follow "want".
            pub const ALLOWED: &'static str = $allowed;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A name that is on the node or in a record already.
            pub fn found(text: &str) -> Result<Self, Finding> {
                Self::by($found, text)
            }

            fn by(rule: fn(&str) -> bool, text: &str) -> Result<Self, Finding> {
                if rule(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Finding::new("", format_args!("{text:?}"), Self::ALLOWED))
                }
            }
        }

        impl FromStr for $name {
            type Err = Finding;

            fn from_str(text: &str) -> Result<Self, Finding> {
                Self::by($rule, text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Finding;

            fn try_from(text: String) -> Result<Self, Finding> {
                Self::found(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// A container (sandbox) identifier, CNI_CONTAINERID (CNI SPEC, section 2).
    ContainerId,
    is_cni_identifier,
    "a letter or digit, then letters, digits, '_', '.' or '-'"
);

checked_name!(
    /// The `name` of a CNI network configuration (CNI SPEC, section 1).
    NetworkName,
    is_cni_identifier,
    "a letter or digit, then letters, digits, '_', '.' or '-'"
);

checked_name!(
    /// A kernel interface name. What exists follows `dev_valid_name` of the kernel. What is asked for also has no '%', which
    /// the kernel takes for a template and fills in, and nothing that a terminal or an option parser acts on.
    IfName,
    |text| is_interface_name(text) && is_visible(text) && !text.contains('%'),
    "an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first",
    is_interface_name
);

checked_name!(
    /// The `type` of a plugin: a file name that is looked for in the plugin directories, never a path.
    PluginType,
    |text| is_file_name(text) && is_visible(text) && text.len() <= LONGEST,
    "the file name of a plugin: visible ASCII characters without a path separator, no '-' first",
    is_file_name
);

checked_name!(
    /// The name by which a dialect knows a configuration file of the node: what is behind the number in its name.
    ConfName,
    |text| is_file_name(text) && is_visible(text) && text.len() <= LONGEST && !text.contains([',', '@']),
    "the name of a configuration file without its number and extension: visible ASCII characters without '/', ',' and '@'"
);

checked_name!(
    /// A Kubernetes object name or namespace made of DNS-1123 labels (NPWG 3.1).
    ObjectName,
    is_object_name,
    "DNS-1123 labels: lower-case letters, digits and '-', at most 63 characters each, joined by '.'"
);

checked_name!(
    /// A device identifier as the kubelet's device plugins give it out, for example a PCI address.
    DeviceId,
    |text| is_visible(text) && text.len() <= LONGEST,
    "a device identifier of visible ASCII characters, no '-' first",
    |text| !text.is_empty() && !text.contains(char::is_whitespace)
);

/// Longest name of a file, in bytes.
const LONGEST: usize = 255;

/// ASCII that can be seen, and no option to a program.
fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with('-')
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\\', '\0'])
}

fn is_cni_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Is it one DNS-1123 label?
pub fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// An Ethernet address of six bytes; prints as lower-case hex pairs joined by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// What the parser accepts, in words that follow "want".
    pub const ALLOWED: &'static str = "a MAC address of six bytes, as 02:00:5e:10:00:01";

    /// Is it the address of one station, neither a group's nor all zeros?
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = Finding;

    /// Accepts what Go's parser does for six bytes: pairs joined by ':' or '-', or quads joined by '.'.
    fn from_str(text: &str) -> Result<Self, Finding> {
        parse_bytes(text).map(Self).ok_or_else(|| Finding::new("", format_args!("{text:?}"), Self::ALLOWED))
    }
}

impl TryFrom<String> for Mac {
    type Error = Finding;

    fn try_from(text: String) -> Result<Self, Finding> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An InfiniBand port GUID of eight bytes; prints as hex pairs joined by colons (NPWG 4.1.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid(pub [u8; 8]);

impl Guid {
    /// What the parser accepts, in words that follow "want".
    pub const ALLOWED: &'static str = "a GUID of eight bytes, as c2:11:22:33:44:55:66:77";
}

impl FromStr for Guid {
    type Err = Finding;

    fn from_str(text: &str) -> Result<Self, Finding> {
        parse_bytes(text).map(Self).ok_or_else(|| Finding::new("", format_args!("{text:?}"), Self::ALLOWED))
    }
}

impl TryFrom<String> for Guid {
    type Error = Finding;

    fn try_from(text: String) -> Result<Self, Finding> {
        text.parse()
    }
}

impl From<Guid> for String {
    fn from(guid: Guid) -> Self {
        guid.to_string()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Hex bytes joined by one kind of separator: pairs by ':' or '-', or quads by '.'.
fn parse_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let separator = text.chars().find(|c| !c.is_ascii_hexdigit())?;
    let width = match separator {
        ':' | '-' => 2,
        '.' => 4,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(N);
    for group in text.split(separator) {
        if group.len() != width || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for pair in 0..width / 2 {
            bytes.push(u8::from_str_radix(&group[2 * pair..2 * pair + 2], 16).ok()?);
        }
    }
    bytes.try_into().ok()
}

/// A reference to a NetworkAttachmentDefinition with its namespace resolved; prints as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetRef {
    /// Namespace of the definition.
    pub namespace: ObjectName,
    /// Name of the definition.
    pub name: ObjectName,
}

impl fmt::Display for NetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pod that a sandbox belongs to; prints as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: ObjectName,
    /// Name of the pod.
    pub name: ObjectName,
    /// `K8S_POD_UID`, where the runtime gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "net1", "a", "fifteen-bytes-x", "_", "eth0.5"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx", "nul\0"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_visible_and_no_template_and_what_exists_is_read_all_the_same() {
        for odd in ["br%d", "%", "-a", "a\u{1b}[2J", "a\u{7f}", "br\u{f6}", "\u{202e}a"] {
            assert!(odd.parse::<IfName>().is_err(), "{odd:?}");
            assert_eq!(IfName::found(odd).unwrap().as_str(), odd);
            assert!(serde_json::from_value::<IfName>(odd.into()).is_ok(), "a record");
        }
        assert!(IfName::found("a/b").is_err() && IfName::found("sixteen-bytes-xx").is_err());
        for odd in ["-rf", "a b", "a\n", "s\u{fc}", "a\u{9b}"] {
            assert!(odd.parse::<PluginType>().is_err() && PluginType::found(odd).is_ok(), "{odd:?}");
        }
        let long = "a".repeat(256);
        assert!(long.parse::<PluginType>().is_err() && long.parse::<DeviceId>().is_err());
        for odd in ["", "-x", "a b", "a\u{1b}", "\u{e4}"] {
            assert!(odd.parse::<DeviceId>().is_err(), "{odd:?}");
        }
        for good in ["0000:3b:02.1", "mlx5_core.sf.4", "vfio-0"] {
            assert!(good.parse::<DeviceId>().is_ok(), "{good}");
        }
    }

    #[test]
    fn identifiers_follow_the_cni_expression() {
        for good in ["a", "0", "a_b.c-d"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "ä"] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn object_names_are_labels_joined_by_dots() {
        for good in ["a", "net-1", "a.b", "0"] {
            assert!(good.parse::<ObjectName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", long.as_str()] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn macs_have_six_bytes() {
        let mac: Mac = "C2:b0:57:49:47:f1".parse().unwrap();
        assert_eq!(mac.to_string(), "c2:b0:57:49:47:f1");
        assert_eq!("c2b0.5749.47f1".parse::<Mac>().unwrap(), mac);
        for bad in ["", "c2:b0:57:49:47", "c2:b0:57:49:47:f1:00:00", "c2:b0-57:49:47:f1", "+2:b0:57:49:47:f1"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert!("c2:11:22:33:44:55:66:77".parse::<Guid>().is_ok());
        assert!("c2:11:22:33:44:55".parse::<Guid>().is_err());
    }
}
