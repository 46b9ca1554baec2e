//! TLS as we speak it, and the answer to whoever does not.

use std::path::Path;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;

use crate::Shared;
use crate::certs::x509;
use crate::error::{Error, Result as Started};

/// First byte of a TLS record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

const NOT_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 45\r\nconnection: close\r\n\r\n\
got plain HTTP on a port of HTTPS, want TLS.\n";

/// Who may call: whose certificate these authorities signed.
pub type Callers = Arc<dyn ClientCertVerifier>;

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
    let builder = ServerConfig::builder_with_provider(x509::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    let builder = match callers {
        Some(callers) => builder.with_client_cert_verifier(callers),
        None => builder.with_no_client_auth(),
    };
    let mut configuration = builder.with_cert_resolver(Arc::new(Resolver(shared)));
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(configuration)
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

/// Does a connection begin as no TLS does? Waits for its first byte.
pub async fn is_plain_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1) if first[0] != HANDSHAKE_RECORD)
}

/// Says what is wrong, as far as the other side listens.
pub async fn refuse_plain_http(stream: &TcpStream) {
    if stream.writable().await.is_ok() {
        let _ = stream.try_write(NOT_TLS);
    }
    // What came is read, or the end would be a reset that takes the answer along.
    let _ = stream.try_read(&mut [0; 4096]);
}
