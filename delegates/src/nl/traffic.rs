//! Traffic control: a token bucket on what a link sends, and a redirection of what it receives.

use nix::errno::Errno;
use nix::libc;

use super::socket::Netlink;
use super::wire::{self, Attributes, Decoded, Message, Request};
use crate::error::Result;

/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;

// linux/pkt_sched.h, linux/pkt_cls.h, linux/rtnetlink.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const ROOT_HANDLE: u32 = 1 << 16;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Bytes of `struct tc_tbf_qopt`.
const TBF_PARMS: usize = 36;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: i32 = 1;
const TC_ACT_STOLEN: i32 = 4;

/// A token bucket, in the kernel's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that wait at most.
    pub limit: u32,
    /// How much may be sent at once.
    pub burst: Burst,
}

/// The depth of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// The time that it takes at the bucket's rate, in ticks of 64 ns: at most 274 s.
    Ticks(u32),
    /// Bytes. The kernel tells ticks all the same, cut to 32 bits.
    Bytes(u32),
}

impl Netlink {
    /// Everything that a link sends goes through a bucket. EEXIST when it has a queueing discipline already.
    pub fn add_token_bucket(&mut self, index: u32, bucket: &TokenBucket) -> Result<()> {
        let mut request = discipline(libc::RTM_NEWQDISC, create(), index, ROOT_HANDLE, TC_H_ROOT);
        request.text(TCA_KIND, "tbf");
        request.nest(TCA_OPTIONS, |options| {
            options.bytes(TCA_TBF_PARMS, &parameters(bucket));
            if bucket.rate > u32::MAX.into() {
                options.bytes(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
            }
            if let Burst::Bytes(bytes) = bucket.burst {
                options.u32(TCA_TBF_BURST, bytes);
            }
        });
        self.acknowledged(request, || format!("add a token bucket to link {index}"))
    }

    /// Everything that a link receives is sent by another one first. EEXIST when that is arranged already.
    pub fn redirect_to(&mut self, index: u32, other: u32) -> Result<()> {
        let mut ingress = discipline(libc::RTM_NEWQDISC, create(), index, INGRESS_HANDLE, TC_H_INGRESS);
        ingress.text(TCA_KIND, "ingress");
        self.acknowledged(ingress, || format!("add an ingress discipline to link {index}"))?;
        let mut filter = filter(libc::RTM_NEWTFILTER, create(), index);
        filter.text(TCA_KIND, "u32");
        filter.nest(TCA_OPTIONS, |options| {
            // 1:1, as the reference plugin says.
            options.u32(TCA_U32_CLASSID, ROOT_HANDLE | 1);
            options.bytes(TCA_U32_SEL, &everything());
            options.nest(TCA_U32_ACT, |actions| {
                actions.nest(1, |action| {
                    action.text(TCA_ACT_KIND, "mirred");
                    action.nest(TCA_ACT_OPTIONS, |options| _ = options.bytes(TCA_MIRRED_PARMS, &redirect(other)));
                });
            });
        });
        self.acknowledged(filter, || format!("add a redirection from link {index} to link {other}"))
    }

    /// The bucket of a link; ticks, whatever was asked for. `None` when it has none.
    pub fn token_bucket(&mut self, index: u32) -> Result<Option<TokenBucket>> {
        let request = discipline(libc::RTM_GETQDISC, libc::NLM_F_DUMP, index, 0, 0);
        let decode = |message: &Message<'_>| decode_bucket(message, index);
        Ok(self.dump(&request, || format!("list the disciplines of link {index}"), decode)?.pop())
    }

    /// The link that sends first what a link receives, if that is arranged.
    pub fn redirected_to(&mut self, index: u32) -> Result<Option<u32>> {
        let request = filter(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index);
        let decode = |message: &Message<'_>| decode_redirection(message, index);
        match self.dump(&request, || format!("list the filters of link {index}"), decode) {
            // There is no discipline that could have filters.
            Err(error) if matches!(super::errno(&error), Some(Errno::EINVAL | Errno::ENOENT)) => Ok(None),
            found => Ok(found?.pop()),
        }
    }
}

fn create() -> i32 {
    libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK
}

fn discipline(kind: u16, flags: i32, index: u32, handle: u32, parent: u32) -> Request {
    Request::new(kind, flags, &header(index, handle, parent, 0))
}

/// A filter of the ingress discipline for every protocol, with priority 1.
fn filter(kind: u16, flags: i32, index: u32) -> Request {
    let protocol = u32::from((libc::ETH_P_ALL as u16).to_be());
    Request::new(kind, flags, &header(index, 0, INGRESS_HANDLE, 1 << 16 | protocol))
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, number) in [(4, index), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// `struct tc_tbf_qopt`: two `struct tc_ratespec` of twelve bytes with the rate at their end, limit, buffer, mtu.
fn parameters(bucket: &TokenBucket) -> [u8; TBF_PARMS] {
    let mut bytes = [0; TBF_PARMS];
    let ticks = match bucket.burst {
        Burst::Ticks(ticks) => ticks,
        Burst::Bytes(_) => u32::MAX,
    };
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    for (at, number) in [(8, rate), (24, bucket.limit), (28, ticks)] {
        bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// `struct tc_u32_sel` with one key that compares no bit.
fn everything() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = TC_U32_TERMINAL;
    bytes[2] = 1;
    bytes
}

/// `struct tc_mirred`: index, capabilities, action, two counters, what to do, where to.
fn redirect(index: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    bytes[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
    bytes[24..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// The options of a message about a link, if they are of that kind. The kernel lists the disciplines of all links.
fn options<'a>(message: &Message<'a>, index: u32, wanted: &str) -> Decoded<Option<&'a [u8]>> {
    let head: [u8; HEADER] = wire::fixed(message.body)?;
    let (mut kind, mut options) = (None, None);
    for attribute in Attributes::after(message.body, HEADER)? {
        match attribute? {
            (TCA_KIND, value) => kind = Some(wire::text(value)),
            (TCA_OPTIONS, value) => options = Some(value),
            _ => {}
        }
    }
    Ok(options.filter(|_| wire::u32(&head[4..8]) == Ok(index) && kind.as_deref() == Some(wanted)))
}

fn decode_bucket(message: &Message<'_>, index: u32) -> Decoded<Option<TokenBucket>> {
    let Some(options) = options(message, index, "tbf")? else { return Ok(None) };
    let Some(parameters) = wire::find(options, TCA_TBF_PARMS)? else { return Ok(None) };
    let parameters: [u8; TBF_PARMS] = wire::fixed(parameters)?;
    let rate = match wire::find(options, TCA_TBF_RATE64)? {
        Some(rate) => u64::from_ne_bytes(wire::fixed(rate)?),
        None => wire::u32(&parameters[8..])?.into(),
    };
    let burst = Burst::Ticks(wire::u32(&parameters[28..])?);
    Ok(Some(TokenBucket { rate, limit: wire::u32(&parameters[24..])?, burst }))
}

fn decode_redirection(message: &Message<'_>, index: u32) -> Decoded<Option<u32>> {
    let Some(mut value) = options(message, index, "u32")? else { return Ok(None) };
    for kind in [TCA_U32_ACT, 1, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS] {
        match wire::find(value, kind)? {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(wire::u32(value.get(24..).ok_or(wire::Malformed)?)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: 0, flags: 0, sequence: 0, body: &body };
            let _ = (decode_bucket(&message, 0), decode_redirection(&message, 0));
        }
    }
}
