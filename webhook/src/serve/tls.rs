//! Whose calls are served, and with which certificate.

use std::path::Path;
use std::sync::Arc;

use meta_cni_kube::tls::{self, Callers};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::Shared;
use crate::certs::x509;
use crate::error::{Error, Result as Started};

/// Reads the authorities of callers from a file of certificates in PEM.
pub fn callers(file: &Path) -> Started<Callers> {
    let wrong = |why: String| Error::Flag(format!("--client-ca: {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|e| wrong(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in x509::from_pem(&text).map_err(wrong)? {
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("got no certificate, want at least one in PEM".to_owned()));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), x509::provider()).build();
    verifier.map_err(|e| wrong(e.to_string())).map(|verifier| verifier as Callers)
}

/// The configuration of handshakes: each gets the pair that is served then.
pub fn configuration(shared: Arc<Shared>, callers: Option<Callers>) -> Result<ServerConfig, String> {
    tls::configuration(Arc::new(Resolver(shared)), callers, &["h2", "http/1.1"])
}

struct Resolver(Arc<Shared>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.served.resolve(hello)
    }
}
