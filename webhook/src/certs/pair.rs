//! A certificate and its key, as a Secret holds them.

use std::fmt;
use std::sync::Arc;

use meta_cni_kube::tls;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::x509::{self, Facts};

/// A certificate chain and the key of its first certificate: they belong together.
#[derive(Clone)]
pub struct Pair {
    /// The certificate, and intermediate ones behind it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key as PEM.
    pub key: String,
    /// What the first certificate says.
    pub facts: Facts,
    certified: Arc<CertifiedKey>,
}

impl Pair {
    /// Reads a pair; half of one, or two halves of different ones, is an error.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain = x509::from_pem(certificate)?;
        let first = chain.first().ok_or("no certificate")?;
        let facts = x509::read(first)?;
        let certified = tls::certified(chain.clone(), key)?;
        let key = std::str::from_utf8(key).map_err(|e| format!("no private key: {e}"))?.to_owned();
        Ok(Self { chain, key, facts, certified })
    }

    /// The first certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certified.cert.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()))
    }

    /// The pair for handshakes.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        (&self.chain, &self.key) == (&other.chain, &other.key)
    }
}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.facts).finish()
    }
}
