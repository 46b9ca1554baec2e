//! Objects made at a real API server, many at once, or at a pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meta_cni_tests::cluster::ControlPlane;
use meta_cni_tests::cluster::api::path_of;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant as At, sleep_until};

/// Requests under way: fewer than those from which on an API server sends clients away.
const AT_ONCE: usize = 64;

/// What an API server answered.
pub struct Asked {
    /// Its code; 0 where there was no answer.
    pub code: u16,
    /// Its words.
    pub said: String,
    /// Since the first object was due.
    pub at: Duration,
}

/// Makes objects. `pace` is how many are due in a second.
pub fn create(plane: &ControlPlane, objects: Vec<Value>, pace: Option<u32>) -> Vec<Asked> {
    let kubeconfig = Kubeconfig::from_yaml(&plane.inside("admin").to_string()).unwrap();
    plane.space().within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            let client = Client::try_from(config).unwrap();
            let (seats, began) = (Arc::new(Semaphore::new(AT_ONCE)), Instant::now());
            let mut asked = Vec::new();
            for (number, object) in objects.into_iter().enumerate() {
                if let Some(pace) = pace {
                    let due = Duration::from_secs(1) * u32::try_from(number).unwrap() / pace;
                    sleep_until(At::from_std(began + due)).await;
                }
                let seat = Arc::clone(&seats).acquire_owned().await.unwrap();
                let client = client.clone();
                asked.push(tokio::spawn(async move {
                    let (code, said) = ask(&client, &object).await;
                    drop(seat);
                    Asked { code, said, at: began.elapsed() }
                }));
            }
            let mut answers = Vec::new();
            for asked in asked {
                answers.push(asked.await.unwrap());
            }
            answers
        })
    })
}

async fn ask(client: &Client, object: &Value) -> (u16, String) {
    let path = path_of(object);
    let collection = path.rsplit_once('/').unwrap().0;
    let request = http::Request::post(collection).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => (201, String::new()),
        Err(kube::Error::Api(status)) => (status.code, status.message),
        Err(error) => (0, error.to_string()),
    }
}
