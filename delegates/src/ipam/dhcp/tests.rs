//! The client against servers that are a list of answers, under a clock that only moves by waiting.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use attachments::names::Mac;

use super::client::{Client, Extended, Granted, Who, Wire};
use super::config::Wishes;
use super::frame::{EVERYBODY, Route};
use super::message::{Kind, Message, option};
use super::terms::Times;
use crate::error::{Error, Result};

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 9]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// What a server does with a message: the answers come in this order.
type Server<'a> = dyn FnMut(&Message) -> Vec<Message> + 'a;

struct Script<'a> {
    now: Instant,
    sent: Vec<(Route, Message)>,
    waiting: Vec<Message>,
    server: Box<Server<'a>>,
}

impl<'a> Script<'a> {
    fn new(server: impl FnMut(&Message) -> Vec<Message> + 'a) -> Self {
        Self { now: Instant::now(), sent: Vec::new(), waiting: Vec::new(), server: Box::new(server) }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.sent.iter().map(|(_, message)| message.kind).collect()
    }
}

impl Wire for Script<'_> {
    fn now(&self) -> Instant {
        self.now
    }

    fn send(&mut self, route: Route, message: &Message) -> Result<()> {
        // What is sent is what its bytes say.
        let message = Message::decode(&message.encode()).unwrap();
        self.waiting.extend((self.server)(&message));
        self.sent.push((route, message));
        Ok(())
    }

    fn receive(&mut self, until: Instant) -> Result<Option<(Mac, Message)>> {
        if self.waiting.is_empty() {
            self.now = self.now.max(until);
            return Ok(None);
        }
        let next = self.waiting.remove(0);
        let read = Message::decode(&next.encode()).unwrap();
        Ok(Some((SERVER, read)))
    }
}

fn who() -> Who {
    let wishes = Wishes { requested: vec![3, 1], provided: vec![(option::HOST_NAME, "web".to_owned())] };
    let id = Who::id(&"c1".parse().unwrap(), &"lan".parse().unwrap(), &"net1".parse().unwrap(), &wishes);
    Who { mac: CLIENT, id, wishes, broadcast: false }
}

/// The answer of server 10.9.0.`server` that gives 10.9.0.`address`.
fn answer(to: &Message, kind: Kind, server: u8, address: u8) -> Message {
    let options = vec![
        (option::SERVER, vec![10, 9, 0, server]),
        (option::SUBNET_MASK, vec![255, 255, 255, 0]),
        (option::LEASE_TIME, 120u32.to_be_bytes().to_vec()),
    ];
    Message { yours: Ipv4Addr::new(10, 9, 0, address), options, ..Message::new(kind, to.xid, to.mac) }
}

/// A server as it should be.
fn serve(to: &Message) -> Vec<Message> {
    match to.kind {
        Kind::Discover => vec![answer(to, Kind::Offer, 1, 7)],
        Kind::Request => vec![answer(to, Kind::Ack, 1, 7)],
        _ => Vec::new(),
    }
}

fn acquire(script: &mut Script<'_>, wanted: Option<Ipv4Addr>) -> (Result<Granted>, Vec<String>) {
    let who = who();
    let deadline = script.now + Duration::from_secs(30);
    let mut kept = Vec::new();
    let granted = Client::new(script, &who).unwrap().acquire(wanted, deadline, &mut |offer| {
        kept.push(format!("{} of {}", offer.terms.address, offer.terms.server));
        Ok(())
    });
    (granted, kept)
}

#[test]
fn an_address_is_asked_for_offered_requested_and_granted() {
    let mut script = Script::new(serve);
    let (granted, kept) = acquire(&mut script, Some(Ipv4Addr::new(10, 9, 0, 7)));
    let granted = granted.unwrap();
    assert_eq!(granted.terms.address.to_string(), "10.9.0.7/24");
    assert_eq!((granted.server_mac, granted.terms.times.expiry), (SERVER, 120));
    assert_eq!(kept, ["10.9.0.7/24 of 10.9.0.1"], "before it was requested");
    let [(route, discover), (_, request)] = script.sent.as_slice() else { panic!("{:?}", script.kinds()) };
    assert_eq!(*route, Route { from: (CLIENT, Ipv4Addr::UNSPECIFIED), to: (EVERYBODY, Ipv4Addr::BROADCAST) });
    assert_eq!((discover.kind, request.kind, discover.xid), (Kind::Discover, Kind::Request, request.xid));
    assert_eq!(
        discover.option(option::CLIENT),
        Some(&b"\0c1/lan/net1"[..]),
        "as the reference plugin's daemon says it"
    );
    assert_eq!(discover.option(option::PARAMETERS), Some(&[3, 1][..]));
    assert_eq!(discover.option(option::HOST_NAME), Some(&b"web"[..]));
    assert_eq!(discover.address(option::REQUESTED_ADDRESS), Some(Ipv4Addr::new(10, 9, 0, 7)));
    assert_eq!(request.address(option::SERVER), Some(Ipv4Addr::new(10, 9, 0, 1)));
}

#[test]
fn an_identifier_is_cut_where_the_reference_plugin_cuts_it() {
    let wishes = Wishes::default();
    let network = "n".repeat(250).parse().unwrap();
    let id = |wishes: &Wishes| Who::id(&"c1".parse().unwrap(), &network, &"net1".parse().unwrap(), wishes);
    assert_eq!(id(&wishes).len(), 255);
    let own = Wishes { provided: vec![(option::CLIENT, "own".to_owned())], ..wishes };
    assert_eq!(id(&own), b"own");
}

#[test]
fn nobody_answers() {
    let mut script = Script::new(|_| Vec::new());
    let began = script.now;
    let error = acquire(&mut script, None).0.unwrap_err();
    assert_eq!(error.to_string(), "no DHCP server has answered in 30 s");
    assert!(matches!(error, Error::Busy(_)));
    assert_eq!(script.now - began, Duration::from_secs(30));
    // 0.5, 1, 2, 4, 8, 8, 8 s, each a quarter more or less.
    assert!((6..=9).contains(&script.sent.len()), "{}", script.sent.len());
    assert!(script.sent.windows(2).all(|two| two[0].1.xid == two[1].1.xid), "a late offer is good too");
    assert!(script.sent.last().unwrap().1.secs >= 15);
}

#[test]
fn answers_to_others_and_useless_ones_are_passed_over() {
    let mut script = Script::new(|to| match to.kind {
        Kind::Discover => vec![
            Message { xid: to.xid ^ 1, ..answer(to, Kind::Offer, 1, 66) },
            Message { mac: SERVER, ..answer(to, Kind::Offer, 1, 67) },
            answer(to, Kind::Ack, 1, 68),
            Message { options: vec![(option::SERVER, vec![10, 9, 0, 2])], ..answer(to, Kind::Offer, 2, 69) },
            answer(to, Kind::Offer, 3, 7),
            answer(to, Kind::Offer, 4, 70),
        ],
        // The other server's offer is still there; then comes what is not for this server's offer.
        _ => vec![answer(to, Kind::Nak, 4, 0), answer(to, Kind::Ack, 4, 70), answer(to, Kind::Ack, 3, 7)],
    });
    let (granted, kept) = acquire(&mut script, None);
    assert_eq!(granted.unwrap().terms.address.to_string(), "10.9.0.7/24");
    assert_eq!(kept, ["10.9.0.7/24 of 10.9.0.3"], "the first that is of use");
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    for lost in 0..4 {
        let mut left = lost;
        let mut script = Script::new(|to| {
            if left > 0 {
                left -= 1;
                return Vec::new();
            }
            serve(to)
        });
        assert!(acquire(&mut script, None).0.is_ok(), "{lost} messages are lost");
        assert_eq!(script.sent.len(), lost + 2);
    }
    // A server that ends after its offer: another one may be there.
    let mut requests = 0;
    let mut script = Script::new(|to| match to.kind {
        Kind::Request if requests < 3 => {
            requests += 1;
            Vec::new()
        }
        _ => serve(to),
    });
    assert!(acquire(&mut script, None).0.is_ok());
    use Kind::{Discover, Request};
    assert_eq!(script.kinds(), [Discover, Request, Request, Request, Discover, Request]);
    assert_ne!(script.sent[0].1.xid, script.sent[4].1.xid);
}

#[test]
fn a_server_that_takes_its_offers_back_is_not_asked_in_a_loop() {
    let mut script = Script::new(|to| match to.kind {
        Kind::Request => {
            let mut no = answer(to, Kind::Nak, 1, 0);
            no.options.push((option::MESSAGE, b"wrong\nnetwork".to_vec()));
            vec![no]
        }
        _ => serve(to),
    });
    let (refused, kept) = acquire(&mut script, None);
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Addresses(_)));
    assert_eq!(
        error.to_string(),
        r"no DHCP server has granted an address in 30 s: 10.9.0.1 took its offer of 10.9.0.7 back (wrong\nnetwork)"
    );
    assert!((6..=9).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn what_cannot_be_noted_is_not_requested() {
    let mut script = Script::new(serve);
    let who = who();
    let deadline = script.now + Duration::from_secs(30);
    let failed = Client::new(&mut script, &who).unwrap().acquire(None, deadline, &mut |_| Err(Error::Late("x".into())));
    assert!(matches!(failed, Err(Error::Late(_))));
    assert_eq!(script.kinds(), [Kind::Discover]);
}

fn extend(script: &mut Script<'_>, server: Option<(Mac, Ipv4Addr)>) -> Extended {
    let who = who();
    Client::new(script, &who).unwrap().extend(Ipv4Addr::new(10, 9, 0, 7), server).unwrap()
}

#[test]
fn more_time_is_asked_of_the_server_and_then_of_all() {
    let server = (SERVER, Ipv4Addr::new(10, 9, 0, 1));
    for (to, route) in [
        (Some(server), Route { from: (CLIENT, Ipv4Addr::new(10, 9, 0, 7)), to: server }),
        (None, Route::to_everybody(CLIENT, Ipv4Addr::new(10, 9, 0, 7))),
    ] {
        let mut script = Script::new(serve);
        let Extended::Granted(times, by) = extend(&mut script, to) else { panic!("{:?}", script.kinds()) };
        assert_eq!((times.renewal, by), (60, server));
        let (sent, request) = &script.sent[0];
        assert_eq!((*sent, request.client), (route, Ipv4Addr::new(10, 9, 0, 7)));
        // RFC 2131 section 4.3.6, table 4.
        assert_eq!((request.option(option::SERVER), request.option(option::REQUESTED_ADDRESS)), (None, None));
    }
    let mut brief = Script::new(|to| {
        let options = vec![(option::SERVER, vec![10, 9, 0, 1])];
        vec![Message { options, ..answer(to, Kind::Ack, 1, 7) }]
    });
    assert!(matches!(extend(&mut brief, None), Extended::Granted(Times { expiry: 3600, .. }, _)));
    let mut refusing = Script::new(|to| vec![answer(to, Kind::Nak, 1, 0)]);
    assert_eq!(extend(&mut refusing, None), Extended::Refused);
    let mut other = Script::new(|to| vec![answer(to, Kind::Ack, 1, 8)]);
    assert_eq!(extend(&mut other, None), Extended::Silent, "another address is no answer");
    assert_eq!(other.sent.len(), 2);
}

#[test]
fn an_address_goes_back_to_its_server() {
    let mut script = Script::new(serve);
    let who = who();
    let server = (SERVER, Ipv4Addr::new(10, 9, 0, 1));
    Client::new(&mut script, &who).unwrap().release(Ipv4Addr::new(10, 9, 0, 7), server).unwrap();
    let [(route, release)] = script.sent.as_slice() else { panic!("{:?}", script.kinds()) };
    assert_eq!((route.to, release.kind, release.client), (server, Kind::Release, Ipv4Addr::new(10, 9, 0, 7)));
    assert_eq!(release.option(option::CLIENT), Some(who.id.as_slice()));
    assert_eq!(release.address(option::SERVER), Some(server.1));
}
