//! A client of the API server: paths and JSON in, JSON out, one request at a time.

use std::fmt;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A client with somebody's rights.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// Why there is no answer, or one that says no.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP code; 0 when there was no answer.
    pub code: u16,
    /// The server's words.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

/// An answer of the API server.
pub type Answer = Result<Value, Refusal>;

impl Api {
    /// A client for a kubeconfig.
    pub fn new(kubeconfig: &Value) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig.to_string()).unwrap();
        let client = runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            config.connect_timeout = Some(Duration::from_secs(5));
            config.read_timeout = Some(Duration::from_secs(30));
            Client::try_from(config).unwrap()
        });
        Self { runtime, client }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, "application/json")
    }

    /// POST of an object, or of a request such as an eviction.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body), "application/json")
    }

    /// PUT of a whole object.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, Some(body), "application/json")
    }

    /// A merge patch.
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, Some(body), "application/merge-patch+json")
    }

    /// Creates an object or makes it what is given here (server-side apply).
    pub fn apply(&self, object: &Value) -> Answer {
        let path = format!("{}?fieldManager=tests&force=true", path_of(object));
        self.ask("PATCH", &path, Some(object), "application/apply-patch+yaml")
    }

    /// DELETE; `Ok` also when it is gone already.
    pub fn delete(&self, path: &str) -> Result<(), Refusal> {
        match self.ask("DELETE", path, None, "application/json") {
            Err(refusal) if refusal.code != 404 => Err(refusal),
            _ => Ok(()),
        }
    }

    /// The `items` of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// GET of what is no JSON: logs, metrics, health.
    pub fn text(&self, path: &str) -> Result<String, Refusal> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.client.request_text(request)).map_err(refusal)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>, kind: &str) -> Answer {
        let bytes = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(bytes).unwrap();
        self.runtime.block_on(self.client.request::<Value>(request)).map_err(refusal)
    }
}

fn refusal(error: kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) => Refusal { code: status.code, message: status.message },
        other => Refusal { code: 0, message: other.to_string() },
    }
}

/// Path of an object by its `kind`, namespace and name.
pub fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let namespace = match text(&object["metadata"]["namespace"]) {
        none if none.is_empty() => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let plural = match text(&object["kind"]).as_str() {
        "NetworkAttachmentDefinition" => "network-attachment-definitions".to_owned(),
        kind if kind.ends_with('y') => format!("{}ies", kind[..kind.len() - 1].to_lowercase()),
        kind if kind.ends_with('s') => format!("{}es", kind.to_lowercase()),
        kind => format!("{}s", kind.to_lowercase()),
    };
    format!("{root}{namespace}/{plural}/{}", text(&object["metadata"]["name"]))
}
