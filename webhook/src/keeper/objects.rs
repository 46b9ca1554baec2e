//! The objects that the keeper reads and writes.

use std::fmt;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use meta_cni_kube::said;
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::watched::Path;
use crate::Options;
use crate::certs::authorities::{Authorities, Stored};
use crate::certs::leaf::{self, Leaf};
use crate::certs::plan::Report;
use crate::certs::{Unix, x509};

/// Owns `caBundle`, and nothing else of a webhook configuration.
pub const FIELD_MANAGER: &str = "meta-cni-webhook";
/// Reports of replicas that are long gone are removed.
const FORGOTTEN: Unix = 24 * 60 * 60;

/// Why an object was not read or written.
pub enum Failure {
    /// Somebody else wrote it meanwhile.
    Conflict,
    /// Something else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("somebody else wrote it meanwhile"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// The webhooks as they are registered: those that judge, and those that change.
#[derive(Default)]
pub struct Published {
    validating: Vec<String>,
    mutating: Vec<String>,
    bundles: Vec<Vec<CertificateDer<'static>>>,
}

impl Published {
    /// `caBundle` of each.
    pub fn bundles(&self) -> &[Vec<CertificateDer<'static>>] {
        &self.bundles
    }

    fn add(&mut self, client: &WebhookClientConfig) {
        let bundle = client.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()).unwrap_or_default();
        self.bundles.push(x509::rescued(bundle));
    }

    /// Does it hold of every bundle?
    pub fn all(&self, holds: impl Fn(&[CertificateDer<'static>]) -> bool) -> bool {
        self.bundles.iter().all(|bundle| holds(bundle))
    }
}

/// A Secret as it was found, and what it says.
pub struct Kept<T> {
    secret: Option<Secret>,
    /// What it says.
    pub stored: Stored<T>,
}

impl<T> Kept<T> {
    /// Nothing was looked for.
    pub fn absent() -> Self {
        Self { secret: None, stored: Stored::Absent }
    }
}

/// Where they are.
pub struct Objects {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    validating: Api<ValidatingWebhookConfiguration>,
    mutating: Api<MutatingWebhookConfiguration>,
    namespace: String,
    authorities: String,
    leaf: String,
    reports: String,
    configuration: String,
}

impl Objects {
    /// Those of a webhook.
    pub fn new(client: Client, options: &Options) -> Self {
        let namespace = &options.namespace;
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            validating: Api::all(client.clone()),
            mutating: Api::all(client),
            namespace: namespace.clone(),
            authorities: format!("{}-ca", options.service),
            leaf: options.tls_secret.clone().unwrap_or_else(|| format!("{}-tls", options.service)),
            reports: format!("{}-replicas", options.service),
            configuration: options.configuration.clone(),
        }
    }

    /// The Secret of the certificate, to be watched.
    pub fn leaf_path(&self) -> Path {
        Path { collection: Secret::url_path(&(), Some(&self.namespace)), name: self.leaf.clone() }
    }

    /// The Secret of the authority, to be watched.
    pub fn authorities_path(&self) -> Path {
        Path { collection: Secret::url_path(&(), Some(&self.namespace)), name: self.authorities.clone() }
    }

    /// The webhook configurations, to be watched.
    pub fn configuration_paths(&self) -> [Path; 2] {
        let validating = ValidatingWebhookConfiguration::url_path(&(), None);
        let mutating = MutatingWebhookConfiguration::url_path(&(), None);
        [validating, mutating].map(|collection| Path { collection, name: self.configuration.clone() })
    }

    /// The Secret of the authority.
    pub async fn authorities(&self) -> Result<Kept<Authorities>, Failure> {
        let secret = self.secrets.get_opt(&self.authorities).await.map_err(failure)?;
        Ok(Kept { stored: Authorities::read(secret.as_ref()), secret })
    }

    /// The Secret of the certificate.
    pub async fn leaf(&self) -> Result<Kept<Leaf>, Failure> {
        let secret = self.secrets.get_opt(&self.leaf).await.map_err(failure)?;
        Ok(Kept { stored: Leaf::read(secret.as_ref()), secret })
    }

    /// Stores the authority in place of what was found.
    pub async fn store_authorities(&self, found: &Kept<Authorities>, new: &Authorities) -> Result<(), Failure> {
        self.store(&self.authorities, "Opaque", found.secret.clone(), |secret| new.write(secret)).await
    }

    /// Stores the certificate in place of what was found.
    pub async fn store_leaf(&self, found: &Kept<Leaf>, new: &Leaf) -> Result<(), Failure> {
        self.store(&self.leaf, leaf::TYPE, found.secret.clone(), |secret| new.write(secret)).await
    }

    /// The one way to write a Secret: made if none was found, replaced if it is still the one that was found.
    async fn store(
        &self,
        name: &str,
        kind: &str,
        found: Option<Secret>,
        write: impl Fn(&mut Secret),
    ) -> Result<(), Failure> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match found {
            Some(mut secret) => {
                write(&mut secret);
                self.secrets.replace(name, &params, &secret).await.map(drop).map_err(failure)
            }
            None => {
                let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
                let mut secret = Secret { metadata, type_: Some(kind.to_owned()), ..Secret::default() };
                write(&mut secret);
                self.secrets.create(&params, &secret).await.map(drop).map_err(failure)
            }
        }
    }

    /// What is registered.
    pub async fn published(&self) -> Result<Published, Failure> {
        let (validating, mutating) =
            tokio::join!(self.validating.get_opt(&self.configuration), self.mutating.get_opt(&self.configuration));
        let (validating, mutating) = (validating.map_err(failure)?, mutating.map_err(failure)?);
        let mut published = Published::default();
        for webhook in validating.and_then(|configuration| configuration.webhooks).into_iter().flatten() {
            published.add(&webhook.client_config);
            published.validating.push(webhook.name);
        }
        for webhook in mutating.and_then(|configuration| configuration.webhooks).into_iter().flatten() {
            published.add(&webhook.client_config);
            published.mutating.push(webhook.name);
        }
        Ok(published)
    }

    /// Puts a bundle into every webhook that is registered.
    pub async fn publish(&self, published: &Published, bundle: &str) -> Result<(), Failure> {
        self.publish_in(&self.validating, &published.validating, bundle).await?;
        self.publish_in(&self.mutating, &published.mutating, bundle).await
    }

    async fn publish_in<K>(&self, api: &Api<K>, names: &[String], bundle: &str) -> Result<(), Failure>
    where
        K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
    {
        // Applied, a configuration that is absent would be made.
        if names.is_empty() {
            return Ok(());
        }
        let bundle = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        let webhook = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let webhooks: Vec<Value> = names.iter().map(webhook).collect();
        let applied = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": self.configuration}, "webhooks": webhooks,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&applied);
        api.patch(&self.configuration, &params, &patch).await.map(drop).map_err(failure)
    }

    /// What the replicas say that they serve.
    pub async fn reports(&self) -> Result<Vec<Report>, Failure> {
        let map = self.maps.get_opt(&self.reports).await.map_err(failure)?;
        let said = map.and_then(|map| map.data).unwrap_or_default();
        let report = |(replica, text): (String, String)| {
            let (serial, at) = text.split_once(' ')?;
            Some(Report { replica, serial: serial.to_owned(), at: at.parse().ok()? })
        };
        Ok(said.into_iter().filter_map(report).collect())
    }

    /// Says what this replica serves, and removes what was said by those that are long gone.
    pub async fn report(&self, report: &Report) -> Result<(), Failure> {
        let mut data = json!({report.replica.as_str(): format!("{} {}", report.serial, report.at)});
        for old in self.reports().await? {
            if old.replica != report.replica && old.at.saturating_add(FORGOTTEN) < report.at {
                data[old.replica] = Value::Null;
            }
        }
        let merged = json!({ "data": data });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match self.maps.patch(&self.reports, &params, &Patch::Merge(&merged)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop).map_err(failure),
        }
        let map = json!({"metadata": {"name": self.reports}, "data": data});
        let map: ConfigMap = serde_json::from_value(map).map_err(|e| Failure::Other(e.to_string()))?;
        let made = self.maps.create(&PostParams::default(), &map).await;
        made.map(drop).map_err(failure)
    }
}

fn failure(error: kube::Error) -> Failure {
    match &error {
        // What was to be made is there, what was to be replaced is another, or gone.
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Failure::Conflict,
        _ => Failure::Other(said(&error)),
    }
}
