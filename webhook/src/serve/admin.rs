//! Probes and metrics, over plain HTTP on a port of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::PAUSE;
use super::routes::{Reply, reply, text};
use crate::Shared;
use crate::mutate::injectors::Injection;

/// The most connections. More wait.
const MOST: usize = 32;
/// Longest life of a connection: a scrape takes milliseconds.
const LIFE: Duration = Duration::from_secs(30);

/// Serves probes and metrics; never ends.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answered = answer(&request, &shared);
                async move { Ok::<_, Infallible>(answered) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(LIFE / 3);
            let _ = timeout(LIFE, builder.serve_connection(TokioIo::new(stream), service)).await;
            drop(seat);
        });
    }
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Reply {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "want GET\n");
    }
    match request.uri().path() {
        // The process runs and its loop turns: whatever else is missing, a restart does not bring it.
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let mut blockers = shared.readiness.blockers();
            if shared.readiness.needs_caches() {
                blockers.extend(shared.facts.incomplete().iter().map(|cache| format!("all {}", cache.name())));
                if shared.mutator.injectors.injection() == Injection::Unknown {
                    blockers.push("all mutatingwebhookconfigurations".to_owned());
                }
            }
            if blockers.is_empty() {
                return text(StatusCode::OK, "ok\n");
            }
            text(StatusCode::SERVICE_UNAVAILABLE, &format!("waiting for {}\n", blockers.join("; ")))
        }
        "/metrics" => {
            let body = shared.metrics.text(&shared.facts).into_bytes();
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
        }
        _ => text(StatusCode::NOT_FOUND, "want /livez, /readyz or /metrics\n"),
    }
}
