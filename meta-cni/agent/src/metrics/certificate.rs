//! The certificate with which metrics are served over TLS: two files, read anew when they change.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use meta_cni_kube::tls;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain and its key, PEM files both. Every handshake looks at them, for a scrape is rare and the files are small: nothing
/// has to be told when they were renewed.
#[derive(Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    last: Mutex<Last>,
}

/// What the last look gave.
#[derive(Debug, Default)]
struct Last {
    /// Texts of certificate and key.
    texts: (Vec<u8>, Vec<u8>),
    /// The last pair that could be used.
    pair: Option<Arc<CertifiedKey>>,
    /// What was wrong, and was told.
    wrong: Option<String>,
}

impl CertificateFiles {
    /// See the fields.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, last: Mutex::default() }
    }

    /// The pair for a handshake. Files that cannot be used, in the midst of a renewal or for good, leave the pair before them; what is
    /// wrong is logged once. None while there never was a pair.
    pub fn pair(&self) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = self.look(&mut last).err();
        if let Some(why) = wrong.as_ref().filter(|why| last.wrong.as_ref() != Some(*why)) {
            let meanwhile =
                if last.pair.is_some() { "the earlier certificate is served on" } else { "no metrics are served" };
            tracing::warn!("{meanwhile}: {why}");
        }
        last.wrong = wrong;
        last.pair.clone()
    }

    fn look(&self, last: &mut Last) -> Result<(), String> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain = fs::read(&self.certificate).map_err(|e| format!("--metrics-tls-cert: {certificate}: {e}"))?;
        let private = fs::read(&self.key).map_err(|e| format!("--metrics-tls-key: {key}: {e}"))?;
        let texts = (chain, private);
        if last.pair.is_some() && texts == last.texts {
            return Ok(());
        }
        let chain = tls::from_pem(&texts.0).map_err(|why| format!("--metrics-tls-cert: {certificate}: {why}"))?;
        let pair = tls::certified(chain, &texts.1);
        let pair = pair.map_err(|why| format!("--metrics-tls-cert: {certificate}, --metrics-tls-key: {key}: {why}"))?;
        (last.texts, last.pair) = (texts, Some(pair));
        Ok(())
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pair()
    }
}
