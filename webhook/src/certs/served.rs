//! The pair that handshakes get. It is replaced while connections go on; a new handshake gets the new one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The cell behind the listener.
#[derive(Debug, Default)]
pub struct Served {
    pair: ArcSwapOption<Pair>,
}

impl Served {
    /// What is served. None until a first pair was read: handshakes fail.
    pub fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.load_full()
    }

    /// Serves a pair from now on. True when it is another one.
    pub fn serve(&self, pair: &Pair) -> bool {
        let is_new = self.pair.load().as_deref() != Some(pair);
        if is_new {
            self.pair.store(Some(Arc::new(pair.clone())));
        }
        is_new
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pair.load().as_ref().map(|pair| pair.certified())
    }
}
