//! Makes pairs: ECDSA on P-256, which every API server takes and which is made in a millisecond.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use super::pair::Pair;
use super::{Unix, seconds};

/// Certificates are valid from an hour ago: clocks of API servers may be behind ours.
pub const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// How every authority's name begins.
pub const AUTHORITY: &str = "meta-cni webhook authority";

/// Makes an authority.
pub fn authority(now: Unix, lifetime: Duration) -> Result<Pair, String> {
    let key = key()?;
    let mut params = dated(now, now.saturating_add(seconds(lifetime)));
    // Two authorities of a rotation have different names: a client picks by name.
    let serial = &key.public_key_raw()[1..5];
    let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    params.distinguished_name.push(DnType::CommonName, format!("{AUTHORITY} {serial}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    Pair::read(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
}

/// Makes a certificate for a server of these names; it does not outlive its authority.
pub fn leaf(authority: &Pair, names: &[String], now: Unix, lifetime: Duration) -> Result<Pair, String> {
    let end = now.saturating_add(seconds(lifetime)).min(authority.facts.not_after);
    let mut params = dated(now, end);
    params.subject_alt_names = CertificateParams::new(names).map_err(|e| e.to_string())?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "meta-cni webhook");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let signer = KeyPair::from_pem(&authority.key).map_err(|e| e.to_string())?;
    let issuer = Issuer::from_ca_cert_der(&authority.certificate(), signer).map_err(|e| e.to_string())?;
    let key = key()?;
    let certificate = params.signed_by(&key, &issuer).map_err(|e| e.to_string())?;
    Pair::read(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
}

fn key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())
}

fn dated(now: Unix, end: Unix) -> CertificateParams {
    let at = |time: Unix| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(time).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = at(now.saturating_sub(seconds(BACKDATED)));
    params.not_after = at(end);
    params
}
