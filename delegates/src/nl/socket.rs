//! One netlink socket: a request and its answer, until a deadline.
//!
//! Netlink is many protocols over one kind of socket. [`Socket`] carries its protocol in its type, so a question about routes
//! cannot go to a socket of nf_tables. What they share is an [`Exchange`], compiled once.

mod apart;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket as KernelSocket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt};

use super::wire::{self, Attributes, Decoded, Malformed, Message, Messages, Request};
use crate::error::{Error, Result};

/// Large enough for every datagram of the kernel: it cuts dumps to what the reader offers, at most 32 KiB.
const BUFFER: usize = 32 * 1024;
/// How often a question is asked whose answer was lost, or changed while it was told.
const TRIES: usize = 5;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Requests of a batch from which on the kernel's usual queues (`net.core.wmem_default`, `rmem_default`) may be too small.
const MANY: usize = 64;
/// What the kernel's answers to one request, with their bookkeeping, take of a queue.
const ANSWERS: usize = 4096;

/// A netlink protocol (NETLINK_*): who answers to a socket.
pub trait Protocol {
    #[doc(hidden)]
    const NUMBER: isize;
    #[doc(hidden)]
    const OPENING: &str;
    /// Dumps can be filtered by the kernel.
    #[doc(hidden)]
    const FILTERS: bool = false;
}

/// rtnetlink: links, addresses, routes, rules, neighbours, traffic control.
#[derive(Debug)]
pub enum Route {}

impl Protocol for Route {
    const NUMBER: isize = NETLINK_ROUTE;
    const OPENING: &str = "open an rtnetlink socket";
    const FILTERS: bool = true;
}

/// nfnetlink: nf_tables and connection tracking.
#[derive(Debug)]
pub enum Netfilter {}

impl Protocol for Netfilter {
    const NUMBER: isize = NETLINK_NETFILTER;
    const OPENING: &str = "open a netfilter socket";
}

/// sock_diag: the sockets of others.
#[derive(Debug)]
pub enum SockDiag {}

impl Protocol for SockDiag {
    const NUMBER: isize = NETLINK_SOCK_DIAG;
    const OPENING: &str = "open a sock_diag socket";
}

/// A blocking netlink socket of one protocol. It acts in the namespace that it was opened in, wherever the thread goes later.
pub struct Socket<P> {
    exchange: Exchange,
    protocol: PhantomData<P>,
}

/// The socket of rtnetlink.
pub type Netlink = Socket<Route>;

impl<P: Protocol> Socket<P> {
    /// A socket in the thread's current network namespace. No answer is awaited beyond `deadline`. EPROTONOSUPPORT when the
    /// kernel lacks the protocol.
    pub fn open(deadline: Instant) -> Result<Self> {
        let socket = connected(P::NUMBER, P::OPENING)?;
        if P::FILTERS {
            // Lets dumps be filtered by the kernel. Linux before 4.20 does not know it and sends all; the callers filter too.
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        Ok(Self::with(Peer::Kernel(socket), deadline))
    }

    /// Over a connected datagram socket whose other end answers in the kernel's stead: what no kernel can be made to say on
    /// demand is said by a script.
    pub fn over(socket: OwnedFd, deadline: Instant) -> Self {
        Self::with(Peer::Other(socket), deadline)
    }

    /// Moves the deadline.
    pub fn keep_to(&mut self, deadline: Instant) {
        self.exchange.deadline = deadline;
    }

    fn with(peer: Peer, deadline: Instant) -> Self {
        let exchange = Exchange { peer, buffer: vec![0; BUFFER], sequence: 0, deadline };
        Self { exchange, protocol: PhantomData }
    }

    /// See [`Exchange::batch`], with one request.
    pub(super) fn acknowledged(&mut self, request: Request, op: impl Fn() -> String) -> Result<()> {
        self.exchange.batch(vec![request], &[], &op, &mut unheard)
    }

    /// See [`Exchange::batch`].
    pub(super) fn batch(&mut self, requests: Vec<Request>, op: &dyn Fn() -> String) -> Result<()> {
        self.exchange.batch(requests, &[], op, &mut unheard)
    }

    /// The same; `hear` gets what the kernel tells of requests with NLM_F_ECHO.
    pub(super) fn batch_echoed(
        &mut self,
        requests: Vec<Request>,
        op: &dyn Fn() -> String,
        hear: &mut dyn FnMut(&Message<'_>) -> Decoded<()>,
    ) -> Result<()> {
        self.exchange.batch(requests, &[], op, hear)
    }

    /// The same; a refusal with one of these errors counts as done.
    pub(super) fn batch_tolerant(
        &mut self,
        requests: Vec<Request>,
        harmless: &[i32],
        op: &dyn Fn() -> String,
    ) -> Result<()> {
        self.exchange.batch(requests, harmless, op, &mut unheard)
    }

    /// See [`Exchange::one`].
    pub(super) fn one<T>(
        &mut self,
        request: Request,
        op: impl Fn() -> String,
        decode: impl Fn(&Message<'_>) -> Decoded<T>,
    ) -> Result<Option<T>> {
        self.exchange.one(request, &op, &decode)
    }

    /// See [`Exchange::dump`].
    pub(super) fn dump<T>(
        &mut self,
        request: &Request,
        op: impl Fn() -> String,
        decode: impl Fn(&Message<'_>) -> Decoded<Option<T>>,
    ) -> Result<Vec<T>> {
        self.exchange.dump(request, &op, &decode)
    }
}

/// Nobody listens to echoes.
fn unheard(_: &Message<'_>) -> Decoded<()> {
    Ok(())
}

/// Questions and answers, of whichever protocol. `op` says what is tried on which object.
struct Exchange {
    peer: Peer,
    buffer: Vec<u8>,
    sequence: u32,
    deadline: Instant,
}

/// Who answers.
enum Peer {
    Kernel(KernelSocket),
    /// See [`Socket::over`].
    Other(OwnedFd),
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel(socket) => socket.as_fd(),
            Self::Other(socket) => socket.as_fd(),
        }
    }
}

impl Exchange {
    /// Sends requests as one datagram and waits until every one is acknowledged; the first refusal that is not `harmless` is the
    /// error. `hear` gets what else the kernel tells of them.
    fn batch(
        &mut self,
        requests: Vec<Request>,
        harmless: &[i32],
        op: &dyn Fn() -> String,
        hear: &mut dyn FnMut(&Message<'_>) -> Decoded<()>,
    ) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        // Of a request that wants no acknowledgement the kernel tells a refusal alone.
        let wants: Vec<bool> = requests.iter().map(Request::wants_ack).collect();
        let mut open = wants.iter().filter(|wants| **wants).count();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend_from_slice(&request.finish(self.sequence));
        }
        let sent = self.sequence.wrapping_sub(first);
        if wants.len() >= MANY {
            self.make_room(datagram.len(), wants.len());
        }
        self.send(&datagram, op)?;
        while open > 0 {
            let length = self.receive(op)?;
            for message in Messages(&self.buffer[..length]) {
                let message = message.map_err(|Malformed| malformed(op))?;
                if message.sequence.wrapping_sub(first) > sent {
                    continue;
                }
                let Some(answer) = verdict(&message).map_err(|Malformed| malformed(op))? else {
                    hear(&message).map_err(|Malformed| malformed(op))?;
                    continue;
                };
                match answer {
                    Err(refusal) if !harmless.contains(&refusal.errno) => return Err(refusal.because(op)),
                    _ => {}
                }
                let offset = message.sequence.wrapping_sub(first) as usize;
                if !wants.get(offset).copied().unwrap_or_default() {
                    continue;
                }
                // Whatever follows the last answer is about nothing that was asked.
                match open {
                    2.. => open -= 1,
                    _ => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Lets the kernel take a long datagram, and keep all answers to it. Without the right to it the usual queues have to do.
    fn make_room(&self, length: usize, requests: usize) {
        if let Peer::Kernel(socket) = &self.peer {
            let _ = setsockopt(&socket.as_fd(), SndBufForce, &(2 * length));
            let _ = setsockopt(&socket.as_fd(), RcvBufForce, &(ANSWERS * requests));
        }
    }

    /// Asks for one object. `Ok(None)` when the kernel says that there is none (ENODEV). A question whose answer is lost
    /// is asked again; a request for a change never is, because what is lost may be the word that it was done.
    fn one<T>(
        &mut self,
        request: Request,
        op: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> Decoded<T>,
    ) -> Result<Option<T>> {
        for _ in 1..TRIES {
            match self.one_once(request.clone(), op, decode) {
                Err(error) if super::errno(&error) == Some(Errno::ENOBUFS) => {}
                answer => return answer,
            }
        }
        self.one_once(request, op, decode)
    }

    fn one_once<T>(
        &mut self,
        request: Request,
        op: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> Decoded<T>,
    ) -> Result<Option<T>> {
        let sequence = self.send_one(request, op)?;
        loop {
            let length = self.receive(op)?;
            for message in Messages(&self.buffer[..length]) {
                let message = message.map_err(|Malformed| malformed(op))?;
                if message.sequence != sequence {
                    continue;
                }
                match verdict(&message).map_err(|Malformed| malformed(op))? {
                    Some(Err(refusal)) if refusal.errno == libc::ENODEV => return Ok(None),
                    Some(Err(refusal)) => return Err(refusal.because(op)),
                    Some(Ok(())) => return Err(malformed(op)),
                    None => return decode(&message).map(Some).map_err(|Malformed| malformed(op)),
                }
            }
        }
    }

    /// Asks for all objects; `decode` gives `None` for one that is not wanted. A dump during which the kernel's tables
    /// changed is begun again.
    fn dump<T>(
        &mut self,
        request: &Request,
        op: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> Decoded<Option<T>>,
    ) -> Result<Vec<T>> {
        for _ in 0..TRIES {
            if let Some(found) = self.dump_once(request.clone(), op, decode)? {
                return Ok(found);
            }
        }
        Err(Refusal { errno: libc::EINTR, detail: "every dump was interrupted".to_owned() }.because(op))
    }

    fn dump_once<T>(
        &mut self,
        request: Request,
        op: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> Decoded<Option<T>>,
    ) -> Result<Option<Vec<T>>> {
        let sequence = self.send_one(request, op)?;
        let told = self.listen(sequence, op, decode);
        match told {
            // The queue overflowed and messages are lost.
            Err(error) if super::errno(&error) == Some(Errno::ENOBUFS) => {
                self.drain();
                Ok(None)
            }
            Err(error) => {
                self.drain();
                Err(error)
            }
            Ok(answer) => answer.map_err(|refusal| refusal.because(op)),
        }
    }

    /// Reads a dump to its end: what it listed, nothing when it must be begun again, or the kernel's no. An error is one
    /// of reading, and the dump goes on behind it.
    fn listen<T>(
        &mut self,
        sequence: u32,
        op: &dyn Fn() -> String,
        decode: &dyn Fn(&Message<'_>) -> Decoded<Option<T>>,
    ) -> Result<std::result::Result<Option<Vec<T>>, Refusal>> {
        let mut found = Vec::new();
        let mut changed = false;
        loop {
            let length = self.receive(op)?;
            for message in Messages(&self.buffer[..length]) {
                let message = message.map_err(|Malformed| malformed(op))?;
                if message.sequence != sequence {
                    continue;
                }
                changed |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match verdict(&message).map_err(|Malformed| malformed(op))? {
                    Some(Err(refusal)) if [libc::EINTR, libc::ENOBUFS].contains(&refusal.errno) => return Ok(Ok(None)),
                    Some(Err(refusal)) => return Ok(Err(refusal)),
                    Some(Ok(())) => return Ok(Ok((!changed).then_some(found))),
                    None => found.extend(decode(&message).map_err(|Malformed| malformed(op))?),
                }
            }
        }
    }

    /// Reads what is left of a dump: while one goes on, the kernel refuses the next (EBUSY). It fills the queue as it is
    /// read, so the dump is over when nothing is there.
    fn drain(&mut self) {
        while Instant::now() < self.deadline {
            match recv(self.peer.as_fd().as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return,
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    fn send_one(&mut self, request: Request, op: &dyn Fn() -> String) -> Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = request.finish(self.sequence);
        self.send(&message, op)?;
        Ok(self.sequence)
    }

    fn send(&self, datagram: &[u8], op: &dyn Fn() -> String) -> Result<()> {
        loop {
            match send(self.peer.as_fd().as_raw_fd(), datagram, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Refusal::from(errno).because(op)),
            }
        }
    }

    /// Reads one datagram into the buffer and returns its length.
    fn receive(&mut self, op: &dyn Fn() -> String) -> Result<usize> {
        loop {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(self.peer.as_fd().as_raw_fd(), &mut self.buffer, flags) {
                // With MSG_TRUNC the length is the datagram's own, not what fitted.
                Ok(length) if length > self.buffer.len() => return Err(malformed(op)),
                Ok(0) => return Err(malformed(op)),
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(op)?,
                Err(errno) => return Err(Refusal::from(errno).because(op)),
            }
        }
    }

    fn wait(&self, op: &dyn Fn() -> String) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Late(op()));
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.peer.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Refusal::from(errno).because(op)),
        }
    }
}

/// A socket that talks to the kernel.
fn connected(protocol: isize, op: &str) -> Result<KernelSocket> {
    let connected = || {
        let socket = KernelSocket::new(protocol)?;
        // Connected to the kernel, the socket refuses what a pod with NET_ADMIN might send to it.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        // Refusals need not repeat the request.
        socket.set_cap_ack(true)?;
        Ok(socket)
    };
    connected().map_err(|error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Refusal::from(errno).because(&|| op.to_owned())
    })
}

/// The kernel's no, before it is known what was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    errno: i32,
    detail: String,
}

impl Refusal {
    fn because(self, op: &dyn Fn() -> String) -> Error {
        Error::Kernel { op: op(), errno: self.errno, detail: self.detail }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno: errno as i32, detail: String::new() }
    }
}

fn malformed(op: &dyn Fn() -> String) -> Error {
    Refusal { errno: libc::EBADMSG, detail: "the kernel's reply is truncated or malformed".to_owned() }.because(op)
}

/// Reads the end of an exchange: `Some(Ok)` for success, `Some(Err)` for a refusal, `None` for data.
fn verdict(message: &Message<'_>) -> Decoded<Option<std::result::Result<(), Refusal>>> {
    let is_done = match i32::from(message.kind) {
        libc::NLMSG_ERROR => false,
        libc::NLMSG_DONE => true,
        libc::NLMSG_OVERRUN => return Ok(Some(Err(Errno::ENOBUFS.into()))),
        _ => return Ok(None),
    };
    // Kernels may end a dump with an empty DONE.
    let code = match message.body {
        [] if is_done => 0,
        body => wire::u32(body)? as i32,
    };
    if code == 0 {
        return Ok(Some(Ok(())));
    }
    let detail = explanation(message, is_done).unwrap_or_default();
    Ok(Some(Err(Refusal { errno: code.wrapping_abs(), detail })))
}

/// The text of the extended acknowledgement, behind the error code and the repeated request.
fn explanation(message: &Message<'_>, is_done: bool) -> Option<String> {
    let flags = i32::from(message.flags);
    if flags & libc::NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let skipped = if is_done {
        4
    } else if flags & libc::NLM_F_CAPPED != 0 {
        4 + wire::HEADER
    } else {
        4 + wire::u32(message.body.get(4..8)?).ok()? as usize
    };
    let attributes = Attributes::after(message.body, skipped).ok()?;
    attributes.flatten().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, value)| wire::text(value))
}
