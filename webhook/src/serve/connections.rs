//! The open connections. When there are too many, the one that has been idle for longest goes: an API server that comes back
//! connects anew, and whoever holds idle connections keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// The most connections. Each is some 20 KB.
pub const MOST: usize = 500;

/// The most where every one is busy: then the one whose last request is the longest ago goes, busy or not.
const MOST_BUSY: usize = 2 * MOST;

/// All of them.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Open>,
    empty: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Arc<State>>,
}

#[derive(Debug)]
struct State {
    requests: AtomicUsize,
    active: Mutex<Instant>,
    closing: watch::Sender<bool>,
}

/// One of them, for as long as anybody holds it.
#[derive(Clone, Debug)]
pub struct Connection {
    state: Arc<State>,
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    connections: Arc<Connections>,
}

/// A request under way: its connection is not idle.
#[derive(Debug)]
pub struct Request {
    state: Arc<State>,
}

impl Connections {
    /// A connection more. If there are too many, another is told to close.
    pub fn open(self: &Arc<Self>, metrics: &Metrics) -> Connection {
        let closing = watch::Sender::new(false);
        let state = Arc::new(State { requests: AtomicUsize::new(0), active: Mutex::new(Instant::now()), closing });
        let mut open = self.lock();
        let remaining = || open.connections.values().filter(|state| !*state.closing.borrow());
        let goes = match remaining().count() {
            ..MOST => None,
            MOST..MOST_BUSY => remaining().filter(|state| state.is_idle()).min_by_key(|state| *state.active()),
            _ => remaining().min_by_key(|state| *state.active()),
        };
        if let Some(oldest) = goes {
            oldest.closing.send_replace(true);
        }
        open.next += 1;
        let number = open.next;
        open.connections.insert(number, Arc::clone(&state));
        metrics.connections.store(u64::try_from(open.connections.len()).unwrap_or_default(), Ordering::Relaxed);
        Connection { state, _place: Arc::new(Place { number, connections: Arc::clone(self) }) }
    }

    /// Tells all to close.
    pub fn close_all(&self) {
        for state in self.lock().connections.values() {
            state.closing.send_replace(true);
        }
    }

    /// Returns when there is none.
    pub async fn gone(&self) {
        loop {
            let waiting = self.empty.notified();
            if self.lock().connections.is_empty() {
                return;
            }
            waiting.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Returns when it is to close.
    pub async fn closed(&self) {
        // The sender is ours: it does not go before.
        let _ = self.state.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// A request begins; it is over when the value goes.
    pub fn request(&self) -> Request {
        self.state.requests.fetch_add(1, Ordering::Relaxed);
        Request { state: Arc::clone(&self.state) }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    fn active(&self) -> MutexGuard<'_, Instant> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        *self.state.active() = Instant::now();
        self.state.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.connections.remove(&self.number);
        if open.connections.is_empty() {
            self.connections.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_too_many_the_longest_idle_one_goes_and_never_a_busy_one() {
        let (connections, metrics) = (Arc::new(Connections::default()), Metrics::default());
        let mut open = Vec::new();
        for _ in 0..MOST {
            open.push(connections.open(&metrics));
        }
        let is_closing = |connection: &Connection| *connection.state.closing.borrow();
        assert!(!open.iter().any(is_closing));
        let busy = open[0].request();
        drop(open[1].request());
        let more = (connections.open(&metrics), connections.open(&metrics));
        let closing: Vec<usize> = (0..MOST).filter(|number| is_closing(&open[*number])).collect();
        assert_eq!(closing, [2, 3]);
        drop(busy);
        assert_eq!(metrics.connections.load(Ordering::Relaxed), u64::try_from(MOST + 2).unwrap());
        let busy: Vec<Request> = open.iter().map(Connection::request).collect();
        let one_busy = || {
            let connection = connections.open(&metrics);
            (connection.request(), connection)
        };
        let closing_of = |open: &[Connection]| open.iter().filter(|connection| is_closing(connection)).count();
        // Two idle ones go, and two are closing already.
        let many: Vec<_> = (0..MOST + 2).map(|_| one_busy()).collect();
        assert_eq!(closing_of(&open), 2, "busy ones stay");
        let further: Vec<_> = (0..8).map(|_| one_busy()).collect();
        assert_eq!(closing_of(&open), 10, "but not without end");
        drop((busy, many, further));
        connections.close_all();
        open.clear();
        drop(more);
        connections.gone().await;
    }
}
