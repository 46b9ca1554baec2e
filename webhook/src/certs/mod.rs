//! Certificates without cert-manager: an authority, the certificate that we serve, and their renewal while requests go on.
//!
//! Two Secrets hold them ([`authorities`], [`leaf`]). [`plan`] is pure: from the time, what is stored, what is published and
//! what the replicas report, it says the next step. [`mint`] makes pairs, [`x509`] reads and verifies them, and [`served`] is
//! what a handshake gets. Whoever carries the steps out is [`crate::keeper`].

pub mod authorities;
pub mod leaf;
pub mod mint;
pub mod pair;
pub mod plan;
pub mod served;
pub mod x509;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

/// Seconds since 1970.
pub type Unix = i64;

/// Tells the time: moved in tests.
pub type Clock = Arc<dyn Fn() -> Unix + Send + Sync>;

/// The machine's clock.
pub fn clock() -> Clock {
    use std::time::SystemTime;
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, seconds)
    })
}

/// A duration in whole seconds.
pub fn seconds(duration: Duration) -> Unix {
    Unix::try_from(duration.as_secs()).unwrap_or(Unix::MAX)
}

/// How long things live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An authority's certificate.
    pub authority: Duration,
    /// The certificate that is served.
    pub leaf: Duration,
    /// From the publication of an authority until its first certificate is served: API servers hear of it by then.
    pub spread: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Lifetimes {
    fn default() -> Self {
        Self { authority: DAY * 730, leaf: DAY * 90, spread: Duration::from_secs(120) }
    }
}

/// The name by which the API server calls: a Service and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Domain of the cluster's names.
    pub domain: String,
}

impl ServiceName {
    /// The name that an API server asks for in its handshake.
    pub fn called(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Every name of the certificate.
    pub fn all(&self) -> Vec<String> {
        let called = self.called();
        vec![format!("{}.{}", self.service, self.namespace), format!("{called}.{}", self.domain), called]
    }
}
