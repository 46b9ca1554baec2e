//! The Secret of the certificate that is served: `kubernetes.io/tls`, ours or cert-manager's.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;

use super::authorities::Stored;
use super::pair::Pair;
use super::x509;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Type of a Secret that holds a pair.
pub const TYPE: &str = "kubernetes.io/tls";

/// What is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The certificate and its key.
    pub pair: Pair,
    /// The authorities that were trusted when it was issued.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Leaf {
    /// Reads the Secret.
    pub fn read(secret: Option<&Secret>) -> Stored<Self> {
        let Some(secret) = secret else { return Stored::Absent };
        let none = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&none);
        let of = |key: &str| data.get(key).map_or(&[][..], |bytes| &bytes.0);
        let authorities = x509::rescued(of(AUTHORITIES));
        match Pair::read(of(CERTIFICATE), of(KEY)) {
            Ok(pair) => Stored::Sound(Self { pair, authorities }),
            Err(why) => Stored::Broken(why, authorities),
        }
    }

    /// Writes itself into a Secret, whose other fields stay.
    pub fn write(&self, secret: &mut Secret) {
        let text = |text: String| ByteString(text.into_bytes());
        secret.data = Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), text(x509::to_pem(&self.pair.chain))),
            (KEY.to_owned(), text(self.pair.key.clone())),
            (AUTHORITIES.to_owned(), text(x509::to_pem(&self.authorities))),
        ]));
    }
}
