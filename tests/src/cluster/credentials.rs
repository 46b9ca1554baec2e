//! Who is who to the API server: a token for each, the key of service accounts, and kubeconfig files.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::program;

/// Users of the API server by their tokens.
#[derive(Debug)]
pub struct Tokens {
    secret: String,
}

impl Tokens {
    /// Tokens that nobody knows yet.
    pub fn new() -> Self {
        use std::io::Read;
        let mut bytes = [0; 18];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        Self { secret: URL_SAFE_NO_PAD.encode(bytes) }
    }

    /// The token of a user.
    pub fn of(&self, user: &str) -> String {
        format!("{}.{}", user.replace(':', "-"), self.secret)
    }

    /// The server's list: the administrator, the programs of Kubernetes, and the kubelets of these nodes.
    pub fn list<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> String {
        let line = |user: &str, group: &str| format!("{},{user},{user},\"{group}\"\n", self.of(user));
        let mut list = line("admin", "system:masters");
        for program in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            list += &line(&format!("system:{program}"), "");
        }
        for node in nodes {
            list += &line(&format!("system:node:{node}"), "system:nodes");
        }
        list
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the key pair of service-account tokens: `sa.key` and `sa.pub`.
pub fn service_account_keys(dir: &Path) {
    let (key, public) = (dir.join("sa.key"), dir.join("sa.pub"));
    let (key, public) = (key.to_str().unwrap(), public.to_str().unwrap());
    program::run("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]);
    program::run("openssl", ["ec", "-in", key, "-pubout", "-out", public]);
}

/// A kubeconfig: server as `host:port`, the PEM text of its certificate, and a token.
pub fn kubeconfig(server: &str, certificate: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{server}"),
            // One name that the certificate has, wherever the server is reached.
            "tls-server-name": "kubernetes",
            "certificate-authority-data": STANDARD.encode(certificate),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
    })
}
