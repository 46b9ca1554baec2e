//! Other injectors: network-resources-injector, as it is or under another's name. Two that add the same would add it twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Client, Resource};
use meta_cni_kube::{Collection, Event, Index, Versioned, follow_objects};
use serde::Deserialize;

/// Part of the names under which it is registered, by whomever (the SR-IOV operator, KubeVirt's).
const INJECTOR: &str = "network-resources-injector";

/// Whether something is injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// No: it was not asked for.
    Off,
    /// Not yet: nobody knows whether another one does it.
    Unknown,
    /// No: the MutatingWebhookConfiguration of this name does it.
    Elsewhere(String),
    /// Yes.
    On,
}

/// The registrations of others, as far as they are injectors.
#[derive(Debug)]
pub struct Injectors {
    is_wanted: bool,
    known: Mutex<Index<String, ()>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Seen {
    metadata: SeenMeta,
    #[serde(default)]
    webhooks: Option<Vec<SeenWebhook>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenMeta {
    name: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Clone, Debug, Deserialize)]
struct SeenWebhook {
    name: String,
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Seen {
    fn is_injector(&self) -> bool {
        let webhooks = self.webhooks.iter().flatten().map(|webhook| &webhook.name);
        webhooks.chain([&self.metadata.name]).any(|name| name.contains(INJECTOR))
    }
}

impl Injectors {
    /// None is known.
    pub fn new(is_wanted: bool) -> Self {
        Self { is_wanted, known: Mutex::default() }
    }

    /// Whether something is injected.
    pub fn injection(&self) -> Injection {
        let known = self.known();
        match known.iter().next() {
            _ if !self.is_wanted => Injection::Off,
            Some((name, ())) => Injection::Elsewhere(name.clone()),
            None if known.is_complete() => Injection::On,
            None => Injection::Unknown,
        }
    }

    /// Follows the registrations, where something is to be injected; never ends. `changed` is told whether something is.
    pub async fn follow(&self, client: Client, changed: impl Fn(bool)) {
        if !self.is_wanted {
            return std::future::pending().await;
        }
        let path = MutatingWebhookConfiguration::url_path(&(), None);
        let collection = Collection { what: "mutatingwebhookconfigurations", path: &path, fields: None, labels: None };
        follow_objects(client, collection, |event| {
            let before = self.injection();
            self.heard(event);
            let now = self.injection();
            changed(now == Injection::On);
            match now {
                now if now == before => {}
                Injection::Elsewhere(name) => {
                    tracing::warn!("nothing is injected into pods: the MutatingWebhookConfiguration {name} does it");
                }
                Injection::On => tracing::info!("resources and node selectors are injected into pods"),
                Injection::Off | Injection::Unknown => {}
            }
        })
        .await;
    }

    /// The list is complete, and has none.
    #[cfg(test)]
    pub fn nobody_else(&self) {
        self.heard(Event::Begin);
        self.heard(Event::End);
    }

    fn heard(&self, event: Event<Seen>) {
        let mut known = self.known();
        match event {
            Event::Begin => known.begin(),
            Event::End => known.end(),
            Event::Listed(seen) | Event::Applied(seen) if seen.is_injector() => {
                known.apply(seen.metadata.name, ());
            }
            Event::Listed(seen) | Event::Applied(seen) | Event::Deleted(seen) => {
                known.delete(&seen.metadata.name);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Index<String, ()>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(name: &str, webhooks: &[&str]) -> Seen {
        let webhooks: Vec<_> = webhooks.iter().map(|name| json!({"name": name, "clientConfig": {}})).collect();
        serde_json::from_value(json!({"metadata": {"name": name}, "webhooks": webhooks})).unwrap()
    }

    #[test]
    fn an_injector_is_told_by_its_names() {
        for (name, webhooks, is_one) in [
            ("network-resources-injector-config", &["network-resources-injector-config.k8s.io"][..], true),
            ("cnv-network-resources-injector", &["x.k8s.io"], true),
            ("x", &["a.k8s.io", "cnv-network-resources-injector-config.k8s.io"], true),
            ("meta-cni-webhook", &["mutate-pods.meta-cni.io"], false),
            ("istio-sidecar-injector", &["rev.namespace.sidecar-injector.istio.io"], false),
            ("x", &[], false),
        ] {
            assert_eq!(seen(name, webhooks).is_injector(), is_one, "{name} {webhooks:?}");
        }
        assert!(!serde_json::from_str::<Seen>(r#"{"metadata":{"name":"x"}}"#).unwrap().is_injector());
    }

    #[test]
    fn nothing_is_injected_until_it_is_known_that_nobody_else_does_it() {
        let injectors = Injectors::new(true);
        assert_eq!(injectors.injection(), Injection::Unknown);
        injectors.heard(Event::Begin);
        injectors.heard(Event::Listed(seen("other", &[])));
        injectors.heard(Event::End);
        assert_eq!(injectors.injection(), Injection::On);
        injectors.heard(Event::Applied(seen("other", &["network-resources-injector-config.k8s.io"])));
        assert_eq!(injectors.injection(), Injection::Elsewhere("other".to_owned()));
        // It may become another one, too.
        injectors.heard(Event::Applied(seen("other", &["a.k8s.io"])));
        assert_eq!(injectors.injection(), Injection::On);
        injectors.heard(Event::Applied(seen("network-resources-injector-config", &[])));
        injectors.heard(Event::Deleted(seen("network-resources-injector-config", &[])));
        assert_eq!(injectors.injection(), Injection::On);
        assert_eq!(Injectors::new(false).injection(), Injection::Off);
    }
}
