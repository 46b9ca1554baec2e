//! Where the addresses of an attachment come from, as a pod asks for it. The key is ours (R13).

use std::fmt;

use serde::Deserialize;

use super::values::address;
use crate::cni::object::Object;
use crate::cni::spelling::Known;
use crate::finding::{Allowed, Finding, JsonType};

/// The key of an element that says where its addresses come from.
pub const ADDRESSES: &str = "meta-cni.io/addresses";

/// The keys of the form with a word for each family.
pub(super) static FAMILIES: Known<'static> = Known::of(&[&["ipv4", "ipv6"]]);

/// Where the addresses of one family come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressMode {
    /// From nowhere: the attachment has none.
    None,
    /// The network's address management chooses.
    Dynamic,
    /// From `ips`, also where they are outside of the addresses that the network gives out.
    Static,
}

impl AddressMode {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }
}

/// What a pod says of the addresses of an attachment. A family of which it says nothing has what the definition gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressRequest {
    /// Of IPv4.
    pub ipv4: Option<AddressMode>,
    /// Of IPv6.
    pub ipv6: Option<AddressMode>,
}

const WORDS: &str = "\"none\", \"dynamic\", \"static\", or an object with ipv4 and ipv6";

impl AddressRequest {
    /// What is said of a family.
    pub fn of(&self, ipv4: bool) -> Option<AddressMode> {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }

    /// The attachment has no addresses at all.
    pub fn is_none(&self) -> bool {
        (self.ipv4, self.ipv6) == (Some(AddressMode::None), Some(AddressMode::None))
    }

    /// Of a single word `static` stands for the families that `ips` has, and the others have none; the other words are for both.
    pub(super) fn decode(object: &Object, ips: &[String], has_claim: bool) -> Result<Option<Self>, Finding> {
        let Some(raw) = object.get(ADDRESSES) else { return Ok(None) };
        let has = |ipv4: bool| ips.iter().filter_map(|ip| address(ip)).any(|ip| ip.is_ipv4() == ipv4);
        let request = match JsonType::of(raw.get()) {
            JsonType::Null => return Ok(None),
            JsonType::Object => {
                let each = object.object(ADDRESSES)?.unwrap_or_default();
                let read = |key: &str| each.decode::<AddressMode>(key, MODE).map_err(|e| e.under(ADDRESSES));
                if let Some((key, value)) = each.iter().find(|(key, _)| FAMILIES.meant(key).is_none()) {
                    let allowed = "no other key than ipv4 and ipv6";
                    return Err(Finding::new(format!("{ADDRESSES}.{key}"), value.get(), allowed));
                }
                Self { ipv4: read("ipv4")?, ipv6: read("ipv6")? }
            }
            _ => match object.decode::<AddressMode>(ADDRESSES, WORDS)?.unwrap_or(AddressMode::Dynamic) {
                AddressMode::Static if ips.is_empty() => {
                    return Err(Finding::new(ADDRESSES, "\"static\"", Allowed::requires("ips", "set")));
                }
                AddressMode::Static => {
                    let mode = |ipv4| Some(if has(ipv4) { AddressMode::Static } else { AddressMode::None });
                    Self { ipv4: mode(true), ipv6: mode(false) }
                }
                mode => Self { ipv4: Some(mode), ipv6: Some(mode) },
            },
        };
        for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
            let wrong = match request.of(ipv4) {
                Some(AddressMode::Static) if !has(ipv4) => format!("an {family} address in ips"),
                Some(mode @ (AddressMode::None | AddressMode::Dynamic)) if has(ipv4) => {
                    format!("no {family} address in ips, for {family} is {}", mode.as_str())
                }
                _ => continue,
            };
            return Err(Finding::new(ADDRESSES, raw.get(), wrong));
        }
        if has_claim
            && [request.ipv4, request.ipv6].iter().any(|mode| *mode != Some(AddressMode::Dynamic) && mode.is_some())
        {
            return Err(Finding::new(ADDRESSES, raw.get(), Allowed::without("ipam-claim-reference")));
        }
        Ok(Some(request))
    }

    /// The value of the key: one word where that says it.
    pub(super) fn to_value(self) -> serde_json::Value {
        match (self.ipv4, self.ipv6) {
            (Some(ipv4), Some(ipv6)) if ipv4 == ipv6 => ipv4.as_str().into(),
            _ => {
                let each = [("ipv4", self.ipv4), ("ipv6", self.ipv6)].into_iter();
                let said = each.filter_map(|(key, mode)| Some((key.to_owned(), mode?.as_str().into())));
                serde_json::Value::Object(said.collect())
            }
        }
    }
}

const MODE: &str = "none, dynamic or static";

impl fmt::Display for AddressRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_value())
    }
}
