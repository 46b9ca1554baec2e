//! The Secret of the authority: the one that signs, and earlier ones whose certificates may still be served.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;

use super::Unix;
use super::pair::Pair;
use super::x509;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const OLD: &str = "old.crt";
const PUBLISHED: &str = "meta-cni.io/published-since";
const OLD_UNTIL: &str = "meta-cni.io/old-until";

/// The most earlier authorities that stay trusted. Only Secrets that are lost again and again make more.
const MOST_OLD: usize = 7;

/// What is stored under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored<T> {
    /// Nothing.
    Absent,
    /// Half of it, or something else, with the certificates that can still be read.
    Broken(String, Vec<CertificateDer<'static>>),
    /// What was meant.
    Sound(T),
}

impl<T> Stored<T> {
    /// The value, where it is sound.
    pub fn sound(&self) -> Option<&T> {
        match self {
            Self::Sound(value) => Some(value),
            _ => None,
        }
    }
}

/// Who signs, and who did.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorities {
    /// Signs every new certificate.
    pub signing: Pair,
    /// Since when it is in every published bundle.
    pub published_since: Option<Unix>,
    /// Earlier authorities, the latest first. Their keys are gone.
    pub old: Vec<CertificateDer<'static>>,
    /// The last certificate of an earlier authority has expired by then.
    pub old_until: Unix,
}

impl Authorities {
    /// A new authority, with earlier ones that stay trusted until a time.
    pub fn new(signing: Pair, old: Vec<CertificateDer<'static>>, old_until: Unix) -> Self {
        let mut kept: Vec<CertificateDer<'static>> = Vec::new();
        for one in old {
            if one != signing.certificate() && !kept.contains(&one) && kept.len() < MOST_OLD {
                kept.push(one);
            }
        }
        Self { signing, published_since: None, old: kept, old_until }
    }

    /// Everyone who is to be trusted: what goes into `caBundle`.
    pub fn bundle(&self) -> Vec<CertificateDer<'static>> {
        [self.signing.certificate()].into_iter().chain(self.old.iter().cloned()).collect()
    }

    /// Reads the Secret.
    pub fn read(secret: Option<&Secret>) -> Stored<Self> {
        let Some(secret) = secret else { return Stored::Absent };
        let none = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&none);
        let of = |key: &str| data.get(key).map_or(&[][..], |bytes| &bytes.0);
        let whole = Pair::read(of(CERTIFICATE), of(KEY)).and_then(|signing| match signing.facts.is_authority {
            true => Ok(signing),
            false => Err("the certificate is no authority's".to_owned()),
        });
        let whole = whole.and_then(|signing| Ok((signing, x509::from_pem(of(OLD))?)));
        match whole {
            Ok((signing, old)) => Stored::Sound(Self {
                published_since: annotation(secret, PUBLISHED),
                old_until: annotation(secret, OLD_UNTIL).unwrap_or_default(),
                old,
                signing,
            }),
            Err(why) => {
                let readable = [CERTIFICATE, OLD].into_iter().flat_map(|key| x509::rescued(of(key))).collect();
                Stored::Broken(why, readable)
            }
        }
    }

    /// Writes itself into a Secret, whose other fields stay.
    pub fn write(&self, secret: &mut Secret) {
        let text = |text: String| ByteString(text.into_bytes());
        let mut data = BTreeMap::from([
            (CERTIFICATE.to_owned(), text(x509::to_pem(&self.signing.chain))),
            (KEY.to_owned(), text(self.signing.key.clone())),
        ]);
        if !self.old.is_empty() {
            data.insert(OLD.to_owned(), text(x509::to_pem(&self.old)));
        }
        secret.data = Some(data);
        let annotations = secret.metadata.annotations.get_or_insert_default();
        for (key, value) in
            [(PUBLISHED, self.published_since), (OLD_UNTIL, (!self.old.is_empty()).then_some(self.old_until))]
        {
            match value {
                Some(value) => annotations.insert(key.to_owned(), value.to_string()),
                None => annotations.remove(key),
            };
        }
    }
}

fn annotation(secret: &Secret, key: &str) -> Option<Unix> {
    secret.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}
