//! TCP in front of the API server: where programs of the machine reach it, and where its network can be made slow or cut.
//!
//! The relay is a process of its own, so that it outlives `make cluster`. It takes orders on stdin, one per line.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What the relay does to connections.
#[derive(Debug, Default)]
struct Weather {
    delay_ms: AtomicU64,
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// An order, as a line on the relay's stdin.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// What clients send arrives this much later.
    Delay(Duration),
    /// All connections break, and new ones are closed at once.
    Cut,
    /// Connections are taken again.
    Mend,
}

impl Order {
    /// The line.
    pub fn line(self) -> String {
        match self {
            Self::Delay(time) => format!("delay {}\n", time.as_millis()),
            Self::Cut => "cut\n".to_owned(),
            Self::Mend => "mend\n".to_owned(),
        }
    }
}

/// The process: relays what reaches `own` and the listener that stdout is to `target`, until it is killed.
pub fn serve(own: SocketAddr, target: SocketAddr) {
    let weather = Arc::new(Weather::default());
    let own = TcpListener::bind(own).unwrap_or_else(|e| panic!("listen on {own}: {e}"));
    // A listener of another network namespace can only be handed over; stdin is taken.
    let handed = TcpListener::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    for listener in [own, handed] {
        let weather = Arc::clone(&weather);
        thread::spawn(move || accept(&listener, target, &weather));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("delay", time)) => weather.delay_ms.store(time.parse().unwrap(), Ordering::Relaxed),
            _ => weather.set_cut(line == "cut"),
        }
        eprintln!("relay: {line}");
    }
    // Nobody gives orders any more: a cluster that was left running.
    loop {
        thread::park();
    }
}

impl Weather {
    fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap();
        if cut {
            for stream in open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, weather: &Arc<Weather>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut open = weather.open.lock().unwrap();
        if weather.cut.load(Ordering::Relaxed) {
            continue;
        }
        let Ok(server) = TcpStream::connect(target) else { continue };
        open.retain(|stream| stream.peer_addr().is_ok());
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        open.push(client.try_clone().unwrap());
        let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let slow = Arc::clone(weather);
        thread::spawn(move || carry_late(from, to, &slow));
        thread::spawn(move || carry(server, client));
    }
}

/// Carries one direction at once.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    // The end of one direction, or of both.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Carries one direction. A delayed chunk does not hold up the reading of the next: latency, not a narrow wire.
fn carry_late(mut from: TcpStream, mut to: TcpStream, weather: &Weather) {
    let queue = (Mutex::new(VecDeque::new()), Condvar::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let mut due = queue.0.lock().unwrap();
                while due.is_empty() {
                    due = queue.1.wait(due).unwrap();
                }
                let (when, chunk): (Instant, Vec<u8>) = due.pop_front().unwrap();
                drop(due);
                thread::sleep(when.saturating_duration_since(Instant::now()));
                if chunk.is_empty() || to.write_all(&chunk).is_err() {
                    // The end of one direction, or of both.
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
            }
        });
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let delay = weather.delay_ms.load(Ordering::Relaxed);
            let chunk = (Instant::now() + Duration::from_millis(delay), buffer[..length].to_vec());
            queue.0.lock().unwrap().push_back(chunk);
            queue.1.notify_one();
            if length == 0 {
                return;
            }
        }
    });
}
