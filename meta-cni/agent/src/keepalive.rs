//! One connection to the API server that is always open: an ADD waits for its pod's status to be written, and is not to
//! wait for TCP and TLS before that.
//!
//! A watch has its connection to itself (HTTP/1), and both sides close one that has been idle for 90 s.

use std::time::Duration;

use kube::Client;
use meta_cni_kube::said;
use tokio::time::{sleep, timeout};

use super::addresses::Addresses;

/// Between two uses.
const PERIOD: Duration = Duration::from_secs(30);

/// Keeps it open; never ends. What is asked is what anybody may ask, and the server says with it where it is; whether it is
/// answered is the watches' to tell.
pub async fn run(client: Client, addresses: Addresses) {
    loop {
        // A server that hangs is to be tried by another connection the next time.
        match timeout(PERIOD, client.list_core_api_versions()).await {
            Ok(Ok(versions)) => addresses.learn(&versions).await,
            Ok(Err(error)) => tracing::debug!("no connection is kept open: {}", said(&error)),
            Err(_) => tracing::debug!("no connection is kept open: no answer in {PERIOD:?}"),
        }
        sleep(PERIOD).await;
    }
}
