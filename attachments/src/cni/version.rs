//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::finding::{Allowed, Finding};
use crate::rule::Rule;

/// A published version of the CNI specification, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK and prevResult on DEL
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: GC and STATUS
    V1_1_0,
}

impl Version {
    /// Every version that we speak, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest version that we speak.
    pub const NEWEST: Self = Self::V1_1_0;
    /// What a version field may hold, in words that follow "want".
    pub const ALLOWED: &'static str = "one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0";

    /// The version as written in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK exists, and DEL is given the result of the ADD (CNI SPEC 0.4.0).
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// GC and STATUS exist (CNI SPEC 1.1.0).
    pub fn has_gc_and_status(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl FromStr for Version {
    type Err = Finding;

    /// Parses `a[.b[.c]]` numerically as libcni does; an empty text is 0.1.0, a missing part is 0.
    fn from_str(text: &str) -> Result<Self, Finding> {
        let all = || Allowed::OneOf(Self::ALL.map(Self::as_str).to_vec());
        let refuse = || Finding::new("cniVersion", format_args!("{text:?}"), all()).of(Rule::CniVersion);
        let numbers = parse_numbers(text).ok_or_else(refuse)?;
        Self::ALL.into_iter().find(|version| parse_numbers(version.as_str()) == Some(numbers)).ok_or_else(refuse)
    }
}

impl TryFrom<String> for Version {
    type Error = Finding;

    fn try_from(text: String) -> Result<Self, Finding> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.as_str().to_owned()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The three numbers of a version, or nothing when it is malformed. Empty means 0.1.0.
pub(super) fn parse_numbers(text: &str) -> Option<[u64; 3]> {
    if text.is_empty() {
        return Some([0, 1, 0]);
    }
    let mut numbers = [0; 3];
    for (i, part) in text.split('.').enumerate() {
        if !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(i)? = part.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_numerically() {
        assert_eq!("".parse(), Ok(Version::V0_1_0));
        assert_eq!("1".parse(), Ok(Version::V1_0_0));
        assert_eq!("0.4".parse(), Ok(Version::V0_4_0));
        assert_eq!("01.1.00".parse(), Ok(Version::V1_1_0));
        for bad in ["1.2.0", "a", "1.0.0.0", "1.", "-1", "+1.0.0", " 1.0.0", "0.3.2"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gates_follow_the_version() {
        assert!(!Version::V0_3_1.has_check() && Version::V0_4_0.has_check());
        assert!(!Version::V1_0_0.has_gc_and_status() && Version::V1_1_0.has_gc_and_status());
    }
}
