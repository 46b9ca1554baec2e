//! Deleting links without the wait for what the kernel frees behind them.
//!
//! RTM_DELLINK takes links out of their namespaces, and with them their names, addresses and places in bridges. Then, with the
//! lock of all network configuration given back, it makes the process that sent it wait until no CPU can know the links any
//! more (rcu_barrier): most of what a deletion takes, and nobody can meet the links in that time. So a process of its own
//! sends the message and does the waiting. Whoever listens to links hears at once when one is out.
//!
//! Both processes have the socket, so the kernel's answer is read here whoever has sent the message, and whichever comes first
//! counts: the answer, or the last link's end. A sender that ends without an answer has not sent it, and it is sent here. The
//! sender has the sandbox lock too: should we be killed, nobody attaches the sandbox anew before the message is through.

use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::{Exchange, Malformed, Messages, Netlink, Peer, malformed, verdict, wire};
use crate::error::{Error, Result};
use crate::exec;
use crate::lock::Lock;
use crate::nl::link::group_deletion;

/// How often a silent sender is looked at.
const TICK: Duration = Duration::from_millis(20);

impl Netlink {
    /// As [`Netlink::delete_group`], and returns as soon as the links with these indexes are out of the namespace.
    pub fn delete_group_apart(&mut self, group: u32, links: Vec<u32>, lock: &Lock) -> Result<bool> {
        let op = || format!("delete the links of group {group}");
        let deadline = self.exchange.deadline;
        let deleted = self.delete_apart(group, links, lock, &op);
        self.exchange.deadline = deadline;
        if let Peer::Kernel(socket) = &self.exchange.peer {
            let _ = socket.drop_membership(libc::RTNLGRP_LINK);
        }
        match deleted {
            Err(error) if crate::nl::errno(&error) == Some(Errno::ENODEV) => Ok(false),
            deleted => deleted.map(|()| true),
        }
    }

    fn delete_apart(&mut self, group: u32, links: Vec<u32>, lock: &Lock, op: &dyn Fn() -> String) -> Result<()> {
        let exchange = &mut self.exchange;
        exchange.sequence = exchange.sequence.wrapping_add(1);
        let message = group_deletion(group).finish(exchange.sequence);
        let mut sender = match &exchange.peer {
            Peer::Kernel(socket) if socket.add_membership(libc::RTNLGRP_LINK).is_ok() => {
                exec::send_apart(socket.as_fd(), &message, lock).ok()
            }
            _ => None,
        };
        if sender.is_none() {
            exchange.send(&message, op)?;
        }
        let heard = exchange.until_gone(links, &message, &mut sender, op);
        // An answer of the kernel, a refusal too, says that the message is through: the sender has nothing left to do.
        let is_open = heard.as_ref().is_err_and(|error| crate::nl::errno(error).is_none());
        if is_open && sender.is_some_and(|mut sender| matches!(sender.try_wait(), Ok(None))) {
            lock.leave_to_orphans();
        }
        heard
    }
}

impl Exchange {
    /// Reads until the message is answered, or all of the links are said to be gone.
    fn until_gone(
        &mut self,
        mut links: Vec<u32>,
        message: &[u8],
        sender: &mut Option<Child>,
        op: &dyn Fn() -> String,
    ) -> Result<()> {
        let deadline = self.deadline;
        loop {
            self.deadline = deadline.min(Instant::now() + TICK);
            let length = match self.receive(op) {
                Ok(length) => length,
                Err(Error::Late(_)) if self.deadline < deadline => {
                    if sender.as_mut().is_some_and(|sender| !matches!(sender.try_wait(), Ok(None))) {
                        *sender = None;
                        self.send(message, op)?;
                    }
                    continue;
                }
                // More was told than the queue holds: the answer comes all the same.
                Err(error) if crate::nl::errno(&error) == Some(Errno::ENOBUFS) => continue,
                Err(error) => return Err(error),
            };
            for message in Messages(&self.buffer[..length]) {
                let message = message.map_err(|Malformed| malformed(op))?;
                if message.kind == libc::RTM_DELLINK {
                    // struct ifinfomsg: the index is its second word.
                    let index = message.body.get(4..8).ok_or(Malformed).and_then(wire::u32);
                    let index = index.map_err(|Malformed| malformed(op))?;
                    links.retain(|link| *link != index);
                    if links.is_empty() {
                        return Ok(());
                    }
                } else if message.sequence == self.sequence
                    && let Some(answer) = verdict(&message).map_err(|Malformed| malformed(op))?
                {
                    return answer.map_err(|refusal| refusal.because(op));
                }
            }
        }
    }
}
