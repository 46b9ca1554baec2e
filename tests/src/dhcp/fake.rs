//! A fake server.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::netns::Netns;

/// What the fake does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Grants 10.9.0.7 for so many seconds.
    Grants(u32),
    /// Offers it, and grants nothing.
    Hesitates,
    /// Refuses requests.
    Refuses,
    /// Offers 10.9.0.8.
    OffersAnother,
    /// Answers with garbage.
    Raves,
    /// Answers nothing.
    Away,
}

/// A server that knows one address. It ends when it is dropped.
pub struct FakeServer {
    mood: Arc<Mutex<Mood>>,
    heard: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Serves in the namespace of a wire.
    pub fn start(netns: &Netns, mood: Mood) -> Self {
        let socket = netns.inside(|| UdpSocket::bind("0.0.0.0:67").unwrap());
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (mood, heard, ends) = (Arc::new(Mutex::new(mood)), Arc::default(), Arc::default());
        let server = (Arc::clone(&mood), Arc::clone(&heard), Arc::clone(&ends));
        let thread = std::thread::spawn(move || serve(&socket, &server.0, &server.1, &server.2));
        Self { mood, heard, ends, thread: Some(thread) }
    }

    /// Changes its mood.
    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What it has heard, as "request 10.9.0.7": the kind, and the address that the client has or wants.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard something.
    #[track_caller]
    pub fn hears(&self, what: &str) {
        for _ in 0..250 {
            if self.heard().iter().any(|one| one == what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("never heard {what:?}: {:?}", self.heard());
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, mood: &Mutex<Mood>, heard: &Mutex<Vec<String>>, ends: &AtomicBool) {
    let mut bytes = [0; 1500];
    while !ends.load(Ordering::Relaxed) {
        let Ok((length, _)) = socket.recv_from(&mut bytes) else { continue };
        let request = &bytes[..length];
        let has: [u8; 4] = request[12..16].try_into().unwrap();
        let kind = option(request, 53)[0];
        let address = match option(request, 50) {
            [] => Ipv4Addr::from(has),
            wanted => Ipv4Addr::from(<[u8; 4]>::try_from(wanted).unwrap()),
        };
        let name = match kind {
            1 => "discover",
            3 => "request",
            7 => "release",
            _ => "other",
        };
        heard.lock().unwrap().push(format!("{name} {address}"));
        let mood = *mood.lock().unwrap();
        let to = if has == [0; 4] { Ipv4Addr::BROADCAST } else { has.into() };
        // The link may be gone by now.
        let send = |reply: &[u8]| drop(socket.send_to(reply, (to, 68)));
        let (offer, ack, nak) = (2, 5, 6);
        match (mood, kind) {
            (Mood::Raves, _) => {
                let good = reply(request, offer, 7, 60);
                send(&good[..100]);
                send(&[0xff; 400]);
                send(&[]);
            }
            (Mood::Away, _) | (_, 7) | (Mood::Hesitates, 3) => {}
            (Mood::OffersAnother, 1) => send(&reply(request, offer, 8, 60)),
            (_, 1) => send(&reply(request, offer, 7, 60)),
            (Mood::Grants(seconds), 3) => send(&reply(request, ack, 7, seconds)),
            (_, 3) => send(&reply(request, nak, 0, 0)),
            _ => {}
        }
    }
}

/// The value of an option; empty where it is not there.
fn option(message: &[u8], code: u8) -> &[u8] {
    let mut at = 240;
    while at + 1 < message.len() && message[at] != 255 {
        let end = at + 2 + usize::from(message[at + 1]);
        if message[at] == code {
            return &message[at + 2..end];
        }
        at = if message[at] == 0 { at + 1 } else { end };
    }
    &[]
}

/// The reply of server 10.9.0.1 about 10.9.0.`address`, with itself as router.
fn reply(request: &[u8], kind: u8, address: u8, seconds: u32) -> Vec<u8> {
    let mut reply = request[..240].to_vec();
    reply[0] = 2;
    if address != 0 {
        reply[16..20].copy_from_slice(&[10, 9, 0, address]);
    }
    reply.extend([53, 1, kind, 54, 4, 10, 9, 0, 1]);
    if address != 0 {
        reply.extend([1, 4, 255, 255, 255, 0, 3, 4, 10, 9, 0, 1, 51, 4]);
        reply.extend(seconds.to_be_bytes());
    }
    reply.push(255);
    reply
}
