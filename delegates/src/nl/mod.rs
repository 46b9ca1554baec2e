//! Netlink, blocking: the only place that talks to rtnetlink, nf_tables and sock_diag.
//!
//! A [`Socket`] keeps the namespace that it was opened in ([`crate::netns::NetNs::socket`] opens one inside a pod). Its type
//! says which protocol it speaks, and so what can be asked of it, grouped by object:
//!
//! | socket | protocol | objects |
//! | --- | --- | --- |
//! | [`Netlink`] | [`Route`] | [`link`], [`address`], [`route`], [`rule`], [`neighbour`], [`traffic`], [`kept`] |
//! | [`nft::Nftables`] | [`Netfilter`] | [`nft`], [`conntrack`] |
//! | [`sockets::Sockets`] | [`SockDiag`] | [`sockets`] |
//!
//! [`events`] is what rtnetlink tells unasked.
//!
//! Requests are written and replies read by a small codec of our own: it takes from a reply the attributes that we use and
//! skips the rest, so an attribute that a newer kernel adds or changes cannot fail a DEL.

pub mod address;
pub mod conntrack;
pub mod events;
pub mod kept;
pub mod link;
pub mod neighbour;
pub mod nft;
pub mod route;
pub mod rule;
mod socket;
pub mod sockets;
pub mod traffic;
mod wire;

pub use socket::{Netfilter, Netlink, Protocol, Route, SockDiag, Socket};

use crate::error::Error;

/// The errno of a refusal by the kernel; `None` for every other error.
pub fn errno(error: &Error) -> Option<nix::errno::Errno> {
    match error {
        Error::Kernel { errno, .. } => Some(nix::errno::Errno::from_raw(*errno)),
        _ => None,
    }
}
