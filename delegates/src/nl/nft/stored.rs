//! Rules as the kernel tells them, as far as they are used.

use nix::libc;

use super::batch::{NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA};
use super::expression::*;
use super::{Family, HEADER, Rule, UDATA_COMMENT};
use crate::nl::wire::{self, Attributes, Decoded, Message, Request};

/// A rule as the kernel holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRule {
    /// The chain that it is in.
    pub chain: String,
    /// Names the rule within its table.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// Its comparisons, in order.
    pub tests: Vec<Test>,
    /// The sets that it looks into, in order.
    pub sets: Vec<StoredLookup>,
    /// The rates beyond which it holds, in order.
    pub rates: Vec<u64>,
    /// What it decides, by the kernel's number (NF_*, NFT_*); absent for NAT.
    pub verdict: Option<i32>,
    /// The chain that it goes to.
    pub target: Option<String>,
    /// The constants that its action uses: the address and the port of a destination NAT.
    pub operands: Vec<Vec<u8>>,
    /// The kernel's name of its last expression: "masq", "nat", "immediate".
    pub ending: String,
}

impl StoredRule {
    /// What the kernel will tell of a rule that is added so.
    pub fn of(family: Family, rule: &Rule<'_>) -> Self {
        let mut request = Request::new(0, 0, &[]);
        encode(&mut request, family, &rule.conditions, rule.action);
        let bytes = request.finish(0);
        let mut rule = Self::default();
        // What we wrote we can read.
        let _ = decode_expressions(&bytes[wire::HEADER..], &mut rule);
        rule
    }

    /// Does it do the same, wherever it is and whosever it is?
    pub fn does_as(&self, other: &Self) -> bool {
        (&self.tests, &self.sets, &self.rates, self.verdict, &self.target, &self.operands, &self.ending)
            == (&other.tests, &other.sets, &other.rates, other.verdict, &other.target, &other.operands, &other.ending)
    }
}

/// Where the kernel has put a rule that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedRule {
    /// The table's family, by the kernel's number.
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Names the rule within its table.
    pub handle: u64,
}

/// Reads an echo; `None` when it is of no rule.
pub(super) fn decode_added(message: &Message<'_>) -> Decoded<Option<AddedRule>> {
    const NEW_RULE: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWRULE) as u16;
    if message.kind != NEW_RULE {
        return Ok(None);
    }
    let StoredRule { chain, handle, .. } = decode(message)?;
    let attributes = message.body.get(HEADER..).ok_or(wire::Malformed)?;
    let table = wire::find(attributes, NFTA_RULE_TABLE)?.map(wire::text).unwrap_or_default();
    Ok(message.body.first().map(|family| AddedRule { family: *family, table, chain, handle }))
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is compared.
    pub field: Field,
    /// Must it be equal?
    pub equal: bool,
    /// Which bits count; empty for all.
    pub mask: Vec<u8>,
    /// With what: an address or its leading bytes, a protocol, a port; in network order.
    pub value: Vec<u8>,
}

/// One look into a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLookup {
    /// What is looked for.
    pub field: Field,
    /// The set's name.
    pub set: String,
    /// It must not be there.
    pub negated: bool,
}

/// What a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The address at that offset of the network header: in IPv4 12 is the source and 16 the destination, in IPv6 8 and 24.
    Address(u32),
    /// The transport protocol.
    Protocol,
    /// The destination port.
    DestinationPort,
    /// Anything else.
    Other,
}

/// Reads one NFT_MSG_NEWRULE.
pub(super) fn decode(message: &Message<'_>) -> Decoded<StoredRule> {
    let mut rule = StoredRule::default();
    for attribute in Attributes::after(message.body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            NFTA_RULE_CHAIN => rule.chain = wire::text(value),
            NFTA_RULE_HANDLE => rule.handle = wire::be64(value)?,
            NFTA_RULE_USERDATA => rule.comment = comment(value),
            NFTA_RULE_EXPRESSIONS => decode_expressions(value, &mut rule)?,
            _ => {}
        }
    }
    Ok(rule)
}

/// The comment among user data; what others put there is skipped.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(wire::text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

fn decode_expressions(expressions: &[u8], rule: &mut StoredRule) -> Decoded<()> {
    // What the comparison that follows looks at.
    let (mut field, mut mask) = (Field::Other, Vec::new());
    for element in Attributes::inside(expressions) {
        let (_, element) = element?;
        let name = wire::find(element, NFTA_EXPR_NAME)?.map(wire::text);
        rule.ending = name.unwrap_or_default();
        let Some(data) = wire::find(element, NFTA_EXPR_DATA)? else { continue };
        match rule.ending.as_str() {
            "cmp" => {
                let Some(value) = inner(data, &[NFTA_CMP_DATA, NFTA_DATA_VALUE])? else { continue };
                let equal = number(data, NFTA_CMP_OP)? == Some(NFT_CMP_EQ);
                rule.tests.push(Test { field, equal, mask: std::mem::take(&mut mask), value: value.to_vec() });
            }
            "lookup" => {
                let Some(set) = wire::find(data, NFTA_LOOKUP_SET)?.map(wire::text) else { continue };
                // The kernel tells flags of 0 too.
                let negated = number(data, NFTA_LOOKUP_FLAGS)?.unwrap_or(0) != 0;
                rule.sets.push(StoredLookup { field, set, negated });
            }
            "limit" => rule.rates.extend(wire::find(data, NFTA_LIMIT_RATE)?.map(wire::be64).transpose()?),
            "immediate" => {
                if let Some(value) = inner(data, &[NFTA_IMMEDIATE_DATA, NFTA_DATA_VALUE])? {
                    rule.operands.push(value.to_vec());
                }
                if let Some(verdict) = inner(data, &[NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT])? {
                    rule.verdict = number(verdict, NFTA_VERDICT_CODE)?.map(|code| code as i32);
                    let chain = wire::find(verdict, NFTA_VERDICT_CHAIN)?.map(wire::text);
                    rule.target = rule.target.take().or(chain);
                }
            }
            "bitwise" => mask = inner(data, &[NFTA_BITWISE_MASK, NFTA_DATA_VALUE])?.unwrap_or_default().to_vec(),
            "meta" => field = meta_field(data)?,
            "payload" => field = payload_field(data)?,
            _ => field = Field::Other,
        }
    }
    Ok(())
}

fn meta_field(data: &[u8]) -> Decoded<Field> {
    let is_protocol = number(data, NFTA_META_KEY)? == Some(NFT_META_L4PROTO);
    Ok(if is_protocol { Field::Protocol } else { Field::Other })
}

fn payload_field(data: &[u8]) -> Decoded<Field> {
    Ok(match (number(data, NFTA_PAYLOAD_BASE)?, number(data, NFTA_PAYLOAD_OFFSET)?) {
        (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(offset)) => Field::Address(offset),
        (Some(NFT_PAYLOAD_TRANSPORT_HEADER), Some(DESTINATION_PORT)) => Field::DestinationPort,
        _ => Field::Other,
    })
}

fn number(data: &[u8], kind: u16) -> Decoded<Option<u32>> {
    wire::find(data, kind)?.map(wire::be32).transpose()
}

/// The attribute at the end of a path of nested ones.
fn inner<'a>(data: &'a [u8], path: &[u16]) -> Decoded<Option<&'a [u8]>> {
    let mut value = Some(data);
    for kind in path {
        value = match value {
            Some(outer) => wire::find(outer, *kind)?,
            None => None,
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Message { kind: 0, flags: 0, sequence: 0, body: &body });
            let _ = decode_expressions(&body, &mut StoredRule::default());
        }
    }
}
