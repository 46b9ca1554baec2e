//! A rule in the kernel's expressions.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use nix::libc;

use super::{Action, Condition, Family, Key, Part};
use crate::nl::wire::Request;

// linux/netfilter/nf_tables.h
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_IIFTYPE: u32 = 8;
const NFT_META_NFPROTO: u32 = 15;
pub(super) const NFT_META_L4PROTO: u32 = 16;
const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
pub(super) const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFT_PAYLOAD_LINK_HEADER: u32 = 0;
pub(super) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(super) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
pub(super) const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFT_FIB_RESULT_OIF: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_SADDR: u32 = 1;
const NFTA_FIB_F_IIF: u32 = 1 << 3;
const NFTA_FIB_F_PRESENT: u32 = 1 << 5;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFT_CT_STATE: u32 = 0;
const NFT_CT_STATUS: u32 = 2;
/// NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
const KNOWN_STATES: u32 = 1 << 1 | 1 << 2;
pub(super) const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
const NFTA_LIMIT_TYPE: u16 = 4;
const NFTA_LIMIT_FLAGS: u16 = 5;
const NFT_LIMIT_F_INV: u32 = 1;
const NFT_CT_PROTO_DST: u32 = 12;
const IPS_DST_NAT: u32 = 1 << 5;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFT_RETURN: i32 = -5;
const NFT_GOTO: i32 = -4;
const NFT_JUMP: i32 = -3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_NAT_DNAT: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
/// Offset of the destination port in TCP, UDP and SCTP.
pub(super) const DESTINATION_PORT: u32 = 2;
/// The first register of four bytes is the first four of [`REGISTER`]; then they are counted one by one.
const SMALL_REGISTER: u32 = 8;
/// Offset of the source in an Ethernet header.
const ETHER_SOURCE: u32 = 6;
/// Bytes of an interface's name in the kernel.
const IFNAMSIZ: usize = 16;

/// The expressions of a rule.
pub(super) fn encode(list: &mut Request, family: Family, conditions: &[Condition], action: Action<'_>) {
    // A table of one family needs not be told which.
    let is_ipv4 = conditions.iter().find_map(Condition::is_ipv4).filter(|_| family == Family::Inet);
    if let Some(is_ipv4) = is_ipv4 {
        let family = if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 };
        meta(list, NFT_META_NFPROTO);
        compare(list, NFT_CMP_EQ, &[family as u8]);
    }
    for condition in conditions {
        encode_condition(list, condition);
    }
    match action {
        Action::Accept => verdict(list, libc::NF_ACCEPT, None),
        Action::Return => verdict(list, NFT_RETURN, None),
        Action::Goto(chain) => verdict(list, NFT_GOTO, Some(chain)),
        Action::Drop => verdict(list, libc::NF_DROP, None),
        Action::Jump(chain) => verdict(list, NFT_JUMP, Some(chain)),
        Action::Masquerade => expression(list, "masq", |_| {}),
        Action::DestinationNat(target) => translate(list, target),
    }
}

fn encode_condition(list: &mut Request, condition: &Condition) {
    match condition {
        Condition::SourceIn(net) => compare_address(list, *net, true, NFT_CMP_EQ),
        Condition::SourceNotIn(net) => compare_address(list, *net, true, NFT_CMP_NEQ),
        Condition::DestinationIn(net) => compare_address(list, *net, false, NFT_CMP_EQ),
        Condition::DestinationNotIn(net) => compare_address(list, *net, false, NFT_CMP_NEQ),
        Condition::SourceInSet { set, key, negated } => look_up(list, set, *key, true, *negated),
        Condition::DestinationInSet { set, key, negated } => look_up(list, set, *key, false, *negated),
        Condition::DestinationIsLocal => {
            expression(list, "fib", |data| {
                data.be32(NFTA_FIB_DREG, REGISTER);
                data.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                data.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            });
            compare(list, NFT_CMP_EQ, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
        }
        Condition::DestinationPort(protocol, port) => {
            meta(list, NFT_META_L4PROTO);
            compare(list, NFT_CMP_EQ, &[*protocol]);
            payload(list, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2);
            compare(list, NFT_CMP_EQ, &port.to_be_bytes());
        }
        Condition::Incoming { name, prefix, negated } => {
            let mut bytes = name.as_bytes().to_vec();
            if !prefix {
                bytes.resize(IFNAMSIZ, 0);
            }
            meta(list, NFT_META_IIFNAME);
            compare(list, if *negated { NFT_CMP_NEQ } else { NFT_CMP_EQ }, &bytes);
        }
        Condition::InSet { set, parts } => look_up_parts(list, set, parts),
        Condition::Protocol(protocol) => {
            meta(list, NFT_META_L4PROTO);
            compare(list, NFT_CMP_EQ, &[*protocol]);
        }
        Condition::SourceRoutedHere => {
            expression(list, "fib", |data| {
                data.be32(NFTA_FIB_DREG, REGISTER);
                data.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_OIF);
                data.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT);
            });
            compare(list, NFT_CMP_EQ, &1_u32.to_ne_bytes());
        }
        Condition::ConnectionKnown => {
            connection(list, NFT_CT_STATE, None);
            mask(list, &KNOWN_STATES.to_ne_bytes());
            compare(list, NFT_CMP_NEQ, &[0; 4]);
        }
        Condition::ByEthernet => {
            meta(list, NFT_META_IIFTYPE);
            compare(list, NFT_CMP_EQ, &libc::ARPHRD_ETHER.to_ne_bytes());
        }
        Condition::EtherSourceNot(mac) => {
            payload(list, NFT_PAYLOAD_LINK_HEADER, ETHER_SOURCE, mac.0.len());
            compare(list, NFT_CMP_NEQ, &mac.0);
        }
        Condition::EtherToMany => {
            const GROUP: [u8; 6] = [1, 0, 0, 0, 0, 0];
            payload(list, NFT_PAYLOAD_LINK_HEADER, 0, GROUP.len());
            mask(list, &GROUP);
            compare(list, NFT_CMP_EQ, &GROUP);
        }
        Condition::Faster(rate) => expression(list, "limit", |data| {
            data.be64(NFTA_LIMIT_RATE, u64::from(*rate));
            // A second.
            data.be64(NFTA_LIMIT_UNIT, 1);
            data.be32(NFTA_LIMIT_BURST, (rate / 10).max(5));
            // Packets.
            data.be32(NFTA_LIMIT_TYPE, 0);
            data.be32(NFTA_LIMIT_FLAGS, NFT_LIMIT_F_INV);
        }),
        Condition::EtherSource(mac) => {
            payload(list, NFT_PAYLOAD_LINK_HEADER, ETHER_SOURCE, mac.0.len());
            compare(list, NFT_CMP_EQ, &mac.0);
        }
        Condition::Translated => {
            connection(list, NFT_CT_STATUS, None);
            mask(list, &IPS_DST_NAT.to_ne_bytes());
            compare(list, NFT_CMP_NEQ, &[0; 4]);
        }
        Condition::OriginalPort(port) => {
            connection(list, NFT_CT_PROTO_DST, Some(0));
            compare(list, NFT_CMP_EQ, &port.to_be_bytes());
        }
    }
}

/// Loads as much of the address as the prefix covers, masks it where the prefix ends within a byte, compares.
fn compare_address(list: &mut Request, net: IpNet, is_source: bool, operator: u32) {
    let address = match net.network() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let prefix = usize::from(net.prefix_len());
    let ends_within_byte = !prefix.is_multiple_of(8);
    // `nft` loads whole bytes, or the whole address when it needs a mask; a prefix of length 0 matches by its mask too.
    let masked = ends_within_byte || prefix == 0;
    let length = if masked { address.len() } else { prefix / 8 };
    payload(list, NFT_PAYLOAD_NETWORK_HEADER, address_offset(Key::of(net.addr()), is_source), length);
    if masked {
        let bits: Vec<u8> = (0..length).map(|byte| mask_byte(prefix.saturating_sub(8 * byte))).collect();
        mask(list, &bits);
    }
    compare(list, operator, &address[..length]);
}

/// Where an address stands in the header of its family.
fn address_offset(key: Key, is_source: bool) -> u32 {
    match (key == Key::Ipv4, is_source) {
        (true, true) => 12,
        (true, false) => 16,
        (false, true) => 8,
        (false, false) => 24,
    }
}

/// Loads the address and looks for it in a set.
fn look_up(list: &mut Request, set: &str, key: Key, is_source: bool, negated: bool) {
    payload(list, NFT_PAYLOAD_NETWORK_HEADER, address_offset(key, is_source), key.length());
    expression(list, "lookup", |data| {
        data.text(NFTA_LOOKUP_SET, set);
        data.be32(NFTA_LOOKUP_SREG, REGISTER);
        if negated {
            data.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        }
    });
}

/// Loads the parts, each from a register of four bytes on, and looks for them in a set.
fn look_up_parts(list: &mut Request, set: &str, parts: &[Part]) {
    let mut used = 0;
    for part in parts {
        // `nft` calls what begins where a register of 16 bytes does by that one's name.
        let register = if used % 4 == 0 { REGISTER + used / 4 } else { SMALL_REGISTER + used };
        used += match part {
            Part::Incoming | Part::Outgoing => {
                let key = if *part == Part::Incoming { NFT_META_IIFNAME } else { NFT_META_OIFNAME };
                meta_into(list, key, register);
                4
            }
            Part::DestinationPort => {
                payload_into(list, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, register);
                1
            }
            Part::Source(key) | Part::Destination(key) => {
                let offset = address_offset(*key, matches!(part, Part::Source(_)));
                payload_into(list, NFT_PAYLOAD_NETWORK_HEADER, offset, key.length(), register);
                if *key == Key::Ipv4 { 1 } else { 4 }
            }
        };
    }
    expression(list, "lookup", |data| {
        data.text(NFTA_LOOKUP_SET, set);
        data.be32(NFTA_LOOKUP_SREG, REGISTER);
    });
}

/// The mask of a byte of which the first `bits` bits count.
fn mask_byte(bits: usize) -> u8 {
    if bits >= 8 { 0xff } else { !(0xff >> bits) }
}

fn meta(list: &mut Request, key: u32) {
    meta_into(list, key, REGISTER);
}

fn meta_into(list: &mut Request, key: u32, register: u32) {
    expression(list, "meta", |data| {
        data.be32(NFTA_META_KEY, key);
        data.be32(NFTA_META_DREG, register);
    });
}

fn payload(list: &mut Request, base: u32, offset: u32, length: usize) {
    payload_into(list, base, offset, length, REGISTER);
}

fn payload_into(list: &mut Request, base: u32, offset: u32, length: usize, register: u32) {
    expression(list, "payload", |data| {
        data.be32(NFTA_PAYLOAD_DREG, register);
        data.be32(NFTA_PAYLOAD_BASE, base);
        data.be32(NFTA_PAYLOAD_OFFSET, offset);
        data.be32(NFTA_PAYLOAD_LEN, length as u32);
    });
}

fn connection(list: &mut Request, key: u32, direction: Option<u8>) {
    expression(list, "ct", |data| {
        data.be32(NFTA_CT_DREG, REGISTER);
        data.be32(NFTA_CT_KEY, key);
        if let Some(direction) = direction {
            data.u8(NFTA_CT_DIRECTION, direction);
        }
    });
}

fn mask(list: &mut Request, bits: &[u8]) {
    expression(list, "bitwise", |data| {
        data.be32(NFTA_BITWISE_SREG, REGISTER);
        data.be32(NFTA_BITWISE_DREG, REGISTER);
        data.be32(NFTA_BITWISE_LEN, bits.len() as u32);
        data.nest(NFTA_BITWISE_MASK, |value| _ = value.bytes(NFTA_DATA_VALUE, bits));
        data.nest(NFTA_BITWISE_XOR, |value| _ = value.bytes(NFTA_DATA_VALUE, &vec![0; bits.len()]));
    });
}

fn compare(list: &mut Request, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.be32(NFTA_CMP_SREG, REGISTER);
        data.be32(NFTA_CMP_OP, operator);
        data.nest(NFTA_CMP_DATA, |constant| _ = constant.bytes(NFTA_DATA_VALUE, value));
    });
}

/// Loads a constant into a register.
fn load(list: &mut Request, register: u32, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.be32(NFTA_IMMEDIATE_DREG, register);
        data.nest(NFTA_IMMEDIATE_DATA, |constant| _ = constant.bytes(NFTA_DATA_VALUE, value));
    });
}

fn translate(list: &mut Request, target: SocketAddr) {
    let family = match target.ip() {
        IpAddr::V4(ip) => {
            load(list, REGISTER, &ip.octets());
            libc::AF_INET
        }
        IpAddr::V6(ip) => {
            load(list, REGISTER, &ip.octets());
            libc::AF_INET6
        }
    };
    load(list, SECOND_REGISTER, &target.port().to_be_bytes());
    expression(list, "nat", |data| {
        data.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
        data.be32(NFTA_NAT_FAMILY, family as u32);
        data.be32(NFTA_NAT_REG_ADDR_MIN, REGISTER);
        data.be32(NFTA_NAT_REG_PROTO_MIN, SECOND_REGISTER);
    });
}

fn verdict(list: &mut Request, code: i32, chain: Option<&str>) {
    expression(list, "immediate", |data| {
        data.be32(NFTA_IMMEDIATE_DREG, REGISTER_VERDICT);
        data.nest(NFTA_IMMEDIATE_DATA, |value| {
            value.nest(NFTA_DATA_VERDICT, |verdict| {
                verdict.be32(NFTA_VERDICT_CODE, code as u32);
                if let Some(chain) = chain {
                    verdict.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    });
}

fn expression(list: &mut Request, name: &str, fill: impl FnOnce(&mut Request)) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.text(NFTA_EXPR_NAME, name);
        element.nest(NFTA_EXPR_DATA, fill);
    });
}
