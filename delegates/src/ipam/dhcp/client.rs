//! The client's side of the protocol (RFC 2131 section 4.4), above whatever carries the messages.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use attachments::names::{ContainerId, IfName, Mac, NetworkName};

use super::config::Wishes;
use super::frame::Route;
use super::message::{Kind, Message, option};
use super::terms::{Terms, Times};
use crate::error::{Error, Result};
use crate::random;

/// What carries messages, and the clock that goes with it.
pub trait Wire {
    /// The time.
    fn now(&self) -> Instant;

    /// Sends a message.
    fn send(&mut self, route: Route, message: &Message) -> Result<()>;

    /// The next message of any server, and the hardware address that it came from; nothing when the time is over.
    fn receive(&mut self, until: Instant) -> Result<Option<(Mac, Message)>>;
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The link's hardware address.
    pub mac: Mac,
    /// Option 61.
    pub id: Vec<u8>,
    /// What every message says.
    pub wishes: Wishes,
    /// Servers answer to everybody.
    pub broadcast: bool,
}

impl Who {
    /// The identifier of an attachment: that of the reference plugin, so that whoever of the two comes after the other gets the
    /// same address. Type 0, "none of hardware" (RFC 2132 section 9.14), and what fits behind it.
    pub fn id(container: &ContainerId, network: &NetworkName, ifname: &IfName, wishes: &Wishes) -> Vec<u8> {
        if let Some((_, said)) = wishes.provided.iter().find(|(code, _)| *code == option::CLIENT) {
            return said.clone().into_bytes();
        }
        let name = format!("{container}/{network}/{ifname}");
        std::iter::once(0).chain(name.bytes().take(254)).collect()
    }
}

/// What a server offers, or has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What.
    pub terms: Terms,
    /// Where frames for the server go: itself, or a router.
    pub server_mac: Mac,
}

/// What became of a request for more time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended {
    /// A server granted it: how long the lease is from now on, and whose it is.
    Granted(Times, (Mac, Ipv4Addr)),
    /// A server says that the address is not the client's.
    Refused,
    /// No server has answered.
    Silent,
}

/// The first wait for an answer, and the longest: each is twice the one before. RFC 2131 begins with 4 s, and a pod waits.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);
/// Waits for the answer to a request, after which the client begins anew.
const REQUESTS: [Duration; 3] = [Duration::from_millis(1000), Duration::from_millis(2000), Duration::from_millis(4000)];
/// Waits for the answer to a request for more time. The sandbox is locked meanwhile, and there is another try later.
const EXTENSIONS: [Duration; 2] = [Duration::from_millis(700), Duration::from_millis(1300)];
/// The most bytes that a server may send in one message: what links for pods carry in one packet.
const LARGEST: u16 = 1200;

/// A client on a wire.
pub struct Client<'a, W> {
    wire: &'a mut W,
    who: &'a Who,
    began: Instant,
    xid: u32,
}

impl<'a, W: Wire> Client<'a, W> {
    pub fn new(wire: &'a mut W, who: &'a Who) -> Result<Self> {
        let began = wire.now();
        Ok(Self { wire, who, began, xid: random::number()? })
    }

    /// Gets an address: `wanted`, if a server still has it. `keep` is told of each offer before it is requested: what a
    /// server may have granted must be known, whatever happens next.
    pub fn acquire(
        &mut self,
        wanted: Option<Ipv4Addr>,
        deadline: Instant,
        keep: &mut dyn FnMut(&Granted) -> Result<()>,
    ) -> Result<Granted> {
        let mut pause = FIRST;
        let mut last = None;
        loop {
            let mut discover = self.message(Kind::Discover);
            discover.options.extend(wanted.map(requested));
            self.wire.send(self.to_everybody(Ipv4Addr::UNSPECIFIED), &discover)?;
            let until = (self.wire.now() + with_jitter(pause)?).min(deadline);
            while let Some((server_mac, message)) = self.answer(until)? {
                if message.kind != Kind::Offer {
                    continue;
                }
                match Terms::of(&message) {
                    Err(why) => last = Some(format!("an offer is of no use: {why}")),
                    Ok(terms) => {
                        let offer = Granted { terms, server_mac };
                        keep(&offer)?;
                        match self.request(&offer, deadline)? {
                            Ok(granted) => return Ok(granted),
                            Err(why) => last = Some(why),
                        }
                        // The exchange is over, and its number too.
                        self.xid = random::number()?;
                        // A server that refuses what it offered is not asked again at once.
                        self.wait(until)?;
                        break;
                    }
                }
            }
            if self.wire.now() >= deadline {
                let waited = self.wire.now().duration_since(self.began).as_secs();
                return Err(match last {
                    None => Error::Busy(format!("no DHCP server has answered in {waited} s")),
                    Some(why) => {
                        Error::Addresses(format!("no DHCP server has granted an address in {waited} s: {why}"))
                    }
                });
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Requests what was offered; the inner error says why it was not granted.
    fn request(&mut self, offer: &Granted, deadline: Instant) -> Result<std::result::Result<Granted, String>> {
        let (address, server) = (offer.terms.address.addr(), offer.terms.server);
        for pause in REQUESTS {
            let mut request = self.message(Kind::Request);
            request.options.extend([requested(address), (option::SERVER, server.octets().to_vec())]);
            self.wire.send(self.to_everybody(Ipv4Addr::UNSPECIFIED), &request)?;
            let until = (self.wire.now() + with_jitter(pause)?).min(deadline);
            while let Some((server_mac, message)) = self.answer(until)? {
                let is_theirs = message.address(option::SERVER) == Some(server);
                match message.kind {
                    Kind::Nak if is_theirs => {
                        return Ok(Err(format!("{server} took its offer of {address} back{}", told(&message))));
                    }
                    Kind::Ack if is_theirs => {
                        let granted = Terms::of(&message).map(|terms| Granted { terms, server_mac });
                        return Ok(granted.map_err(|why| format!("what {server} granted is of no use: {why}")));
                    }
                    _ => {}
                }
            }
            if self.wire.now() >= deadline {
                break;
            }
        }
        Ok(Err(format!("{server} offered {address} and did not answer the request for it")))
    }

    /// Asks for more time: the server of the lease, or all servers.
    pub fn extend(&mut self, address: Ipv4Addr, server: Option<(Mac, Ipv4Addr)>) -> Result<Extended> {
        let route = match server {
            Some(to) => Route { from: (self.who.mac, address), to },
            None => self.to_everybody(address),
        };
        for pause in EXTENSIONS {
            let request = Message { client: address, ..self.message(Kind::Request) };
            self.wire.send(route, &request)?;
            let until = self.wire.now() + with_jitter(pause)?;
            while let Some((server_mac, message)) = self.answer(until)? {
                match message.kind {
                    Kind::Nak => return Ok(Extended::Refused),
                    // What else the lease gives was told before: a server need not repeat it.
                    Kind::Ack if message.yours == address => {
                        if let Some(server) = message.address(option::SERVER) {
                            return Ok(Extended::Granted(Times::of(&message), (server_mac, server)));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(Extended::Silent)
    }

    /// Gives an address back. Nobody answers.
    pub fn release(&mut self, address: Ipv4Addr, server: (Mac, Ipv4Addr)) -> Result<()> {
        let options = vec![(option::CLIENT, self.who.id.clone()), (option::SERVER, server.1.octets().to_vec())];
        let message = Message { client: address, options, ..Message::new(Kind::Release, self.xid, self.who.mac) };
        self.wire.send(Route { from: (self.who.mac, address), to: server }, &message)
    }

    fn to_everybody(&self, from: Ipv4Addr) -> Route {
        Route::to_everybody(self.who.mac, from)
    }

    fn message(&self, kind: Kind) -> Message {
        let Who { mac, id, wishes, broadcast } = self.who;
        let mut options = vec![
            (option::CLIENT, id.clone()),
            (option::LARGEST, LARGEST.to_be_bytes().to_vec()),
            (option::PARAMETERS, wishes.requested.clone()),
        ];
        let provided = wishes.provided.iter().filter(|(code, _)| *code != option::CLIENT);
        options.extend(provided.map(|(code, value)| (*code, value.clone().into_bytes())));
        let secs = self.wire.now().duration_since(self.began).as_secs().try_into().unwrap_or(u16::MAX);
        Message { secs, broadcast: *broadcast, options, ..Message::new(kind, self.xid, *mac) }
    }

    /// The next message that answers this client.
    fn answer(&mut self, until: Instant) -> Result<Option<(Mac, Message)>> {
        while let Some((from, message)) = self.wire.receive(until)? {
            if message.xid == self.xid && message.mac == self.who.mac {
                return Ok(Some((from, message)));
            }
            if self.wire.now() >= until {
                break;
            }
        }
        Ok(None)
    }

    fn wait(&mut self, until: Instant) -> Result<()> {
        while self.answer(until)?.is_some() {}
        Ok(())
    }
}

fn requested(address: Ipv4Addr) -> (u8, Vec<u8>) {
    (option::REQUESTED_ADDRESS, address.octets().to_vec())
}

/// What a server says beside its no.
fn told(message: &Message) -> String {
    let text = message.option(option::MESSAGE).map(String::from_utf8_lossy);
    text.map(|text| format!(" ({})", attachments::text::printable(&text))).unwrap_or_default()
}

/// A wait that differs from those of the others that began at the same time, by a quarter at most.
fn with_jitter(pause: Duration) -> Result<Duration> {
    let part = f64::from(random::number()?) / f64::from(u32::MAX);
    Ok(pause.mul_f64(0.75 + part / 2.0))
}
