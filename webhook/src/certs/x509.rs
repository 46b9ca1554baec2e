//! What a certificate says, and whether it is trusted.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::Unix;

pub use meta_cni_kube::tls::{from_pem, provider};

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Serial number in hexadecimal.
    pub serial: String,
    /// First moment of its validity.
    pub not_before: Unix,
    /// Last moment of its validity.
    pub not_after: Unix,
    /// DNS names, sorted.
    pub names: Vec<String>,
    /// Common name of whom it is for.
    pub subject: String,
    /// Can it issue others?
    pub is_authority: bool,
}

/// Reads a certificate.
pub fn read(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|e| format!("no X.509 certificate: {e}"))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let mut names: Vec<String> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    names.sort();
    let validity = parsed.validity();
    let subject = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    Ok(Facts {
        serial: parsed.raw_serial_as_string().replace(':', ""),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        names,
        subject: subject.to_owned(),
        is_authority: parsed.is_ca(),
    })
}

/// The certificates of a PEM text that can be read, whatever else is in it.
pub fn rescued(text: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text).filter_map(Result::ok).filter(|found| read(found).is_ok()).collect()
}

/// Certificates as PEM text.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))).collect()
}

/// Would a client that trusts these roots, at that time, take the chain for the server of this name?
pub fn verify(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    name: &str,
    now: Unix,
) -> Result<(), String> {
    let [leaf, others @ ..] = chain else { return Err("no certificate".to_owned()) };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider());
    let verifier = verifier.build().map_err(|e| e.to_string())?;
    let name = ServerName::try_from(name.to_owned()).map_err(|e| format!("{name}: {e}"))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or_default()));
    verifier.verify_server_cert(leaf, others, &name, &[], now).map(drop).map_err(|e| e.to_string())
}
