//! Keeps one connection to the API server open: an ADD waits for its pod's status to be written, and must not wait for TCP and TLS
//! too.
//!
//! A watch uses its connection alone (HTTP/1), and both sides close a connection that is idle for 90 s.

use std::time::Duration;

use kube::Client;
use meta_cni_kube::said;
use tokio::time::{sleep, timeout};

use super::addresses::Addresses;

/// The time between two requests.
const PERIOD: Duration = Duration::from_secs(30);

/// Keeps the connection open; never ends. The request needs no rights, and its answer has the server's addresses. Failures are
/// logged as debug only: the watches report an API server that is away.
pub async fn run(client: Client, addresses: Addresses) {
    loop {
        // A timeout drops the connection, so the next request opens another one.
        match timeout(PERIOD, client.list_core_api_versions()).await {
            Ok(Ok(versions)) => addresses.learn(&versions).await,
            Ok(Err(error)) => tracing::debug!("no connection is kept open: {}", said(&error)),
            Err(_) => tracing::debug!("no connection is kept open: no answer in {PERIOD:?}"),
        }
        sleep(PERIOD).await;
    }
}
