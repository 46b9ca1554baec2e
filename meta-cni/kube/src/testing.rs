//! A minimal API server for tests.

#![allow(clippy::unwrap_used, reason = "a test's server that fails ends its test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::follow::Versioned;

/// An object of which name and version count.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    /// What the API server says of it.
    pub metadata: SeenMeta,
}

/// Its metadata.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenMeta {
    /// Its name.
    pub name: String,
    /// Its version.
    pub resource_version: String,
}

impl Versioned for Seen {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// The server. It answers while its gate is open.
pub struct Server {
    /// A client of it.
    pub client: Client,
    gate: watch::Sender<bool>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// A server whose answer to the path of a request is this: bytes of HTTP.
    pub async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (gate, open) = watch::channel(true);
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut open, count, answer) = (open.clone(), Arc::clone(&count), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                        count.fetch_add(1, Ordering::Relaxed);
                        let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
                        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                        if open.wait_for(|open| *open).await.is_err() {
                            return;
                        }
                        // Whoever has read enough closes.
                        let _ = stream.write_all(answer(&path).as_bytes()).await;
                    }
                });
            }
        });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        Self { client, gate, asked }
    }

    /// Closes the gate: answers wait.
    pub fn close(&self) {
        self.gate.send_replace(false);
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }

    /// The number of requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// An answer with its code and its body.
pub fn answer(code: &str, body: &str) -> String {
    format!("HTTP/1.1 {code}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A deadline that no test reaches.
pub fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}
