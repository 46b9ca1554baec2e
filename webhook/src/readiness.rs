//! Whether API servers can be sent here. The process is alive whatever this says: a restart mends none of it.

use std::sync::{Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use crate::certs::pair::Pair;
use crate::certs::{ServiceName, Unix, x509};

/// A certificate that ends sooner is not served to new connections, if there is another replica.
const SOON: Unix = 24 * 60 * 60;

/// What is not in place yet.
#[derive(Debug)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stopping: bool,
    /// Reviews are answered from caches.
    needs_caches: bool,
    blockers: Vec<String>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::waiting_for("a first look at Secrets and webhook configuration", true)
    }
}

impl Readiness {
    /// Of a janitor that works alone.
    pub fn of_janitor() -> Self {
        Self::waiting_for("a first pass of the janitor", false)
    }

    fn waiting_for(what: &str, needs_caches: bool) -> Self {
        Self { state: Mutex::new(State { stopping: false, needs_caches, blockers: vec![what.to_owned()] }) }
    }

    /// Must the caches be complete?
    pub fn needs_caches(&self) -> bool {
        self.state().needs_caches
    }

    /// What a look at everything found.
    pub fn found(&self, blockers: Vec<String>) {
        self.state().blockers = blockers;
    }

    /// The end is near: nobody new is to come.
    pub fn stop(&self) {
        self.state().stopping = true;
    }

    /// What is waited for; none when ready.
    pub fn blockers(&self) -> Vec<String> {
        let state = self.state();
        if state.stopping { vec!["the end: told to stop".to_owned()] } else { state.blockers.clone() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What keeps an API server from calling: its handshake must succeed now, and for a while.
pub fn blockers(
    now: Unix,
    name: &ServiceName,
    pair: Option<&Pair>,
    published: &[Vec<CertificateDer<'static>>],
) -> Vec<String> {
    let Some(pair) = pair else { return vec!["a certificate".to_owned()] };
    let mut blockers = Vec::new();
    let lifetime = pair.facts.not_after.saturating_sub(pair.facts.not_before);
    let left = pair.facts.not_after.saturating_sub(now);
    if left <= SOON.min(lifetime / 10) {
        blockers.push(format!("a certificate that is valid for longer than {left} s"));
    }
    if published.is_empty() {
        blockers.push("a webhook configuration".to_owned());
    }
    for bundle in published {
        if let Err(why) = x509::verify(&pair.chain, bundle, &name.called(), now) {
            blockers.push(format!("a published caBundle that verifies our certificate: {why}"));
            break;
        }
    }
    blockers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certs::mint;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn ready_is_whoever_an_api_server_can_call_now_and_tomorrow() {
        let name = ServiceName { service: "s".into(), namespace: "n".into(), domain: "cluster.local".into() };
        let authority = mint::authority(1000, DAY * 100).unwrap();
        let other = mint::authority(1000, DAY * 100).unwrap();
        let pair = mint::leaf(&authority, &name.all(), 1000, DAY * 90).unwrap();
        let bundle = vec![authority.certificate()];
        let end = pair.facts.not_after;
        let says = |now, pair: Option<&Pair>, published: &[Vec<CertificateDer<'static>>]| {
            blockers(now, &name, pair, published).join("; ")
        };
        assert_eq!(says(1000, Some(&pair), std::slice::from_ref(&bundle)), "");
        assert_eq!(says(1000, None, std::slice::from_ref(&bundle)), "a certificate");
        assert_eq!(says(1000, Some(&pair), &[]), "a webhook configuration");
        for wrong in [vec![], vec![other.certificate()]] {
            let said = says(1000, Some(&pair), &[bundle.clone(), wrong]);
            assert!(said.starts_with("a published caBundle that verifies our certificate: "), "{said}");
        }
        let both = vec![other.certificate(), authority.certificate()];
        assert_eq!(says(1000, Some(&pair), &[both]), "");
        assert_eq!(says(end - SOON - 1, Some(&pair), std::slice::from_ref(&bundle)), "");
        let said = says(end - SOON, Some(&pair), std::slice::from_ref(&bundle));
        assert_eq!(said, "a certificate that is valid for longer than 86400 s");
    }

    #[test]
    fn whoever_is_told_to_stop_is_not_ready() {
        let readiness = Readiness::default();
        assert_eq!(readiness.blockers().len(), 1);
        readiness.found(Vec::new());
        assert!(readiness.blockers().is_empty());
        readiness.stop();
        assert_eq!(readiness.blockers(), ["the end: told to stop"]);
    }
}
