//! TLS as our servers speak it, and their answer to whoever does not.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;

/// First byte of a TLS record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

const NOT_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 45\r\nconnection: close\r\n\r\n\
got plain HTTP on a port of HTTPS, want TLS.\n";

/// Who may call: whose certificate these authorities signed.
pub type Callers = Arc<dyn ClientCertVerifier>;

/// The cryptography of every handshake and signature.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a PEM text, in their order. What is no certificate is an error.
pub fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|e| format!("no PEM: {e}"))
}

/// A certificate chain and the key of its first certificate, a PEM text, for handshakes. Two that do not belong together are an error.
pub fn certified(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    if chain.is_empty() {
        return Err("no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("no private key: {e}"))?;
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(|e| format!("certificate and key do not belong together: {e}"))
}

/// The configuration of handshakes: each gets what `served` has then. `callers` are those who may call; by default all. `protocols` are
/// those of ALPN, the preferred one first.
pub fn configuration(
    served: Arc<dyn ResolvesServerCert>,
    callers: Option<Callers>,
    protocols: &[&str],
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    let builder = builder.with_client_cert_verifier(callers.unwrap_or_else(|| Arc::new(NoClientAuth)));
    let mut configuration = builder.with_cert_resolver(served);
    configuration.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(configuration)
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
