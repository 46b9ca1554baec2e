//! Probes, metrics and the level of the log, over plain HTTP on a port of their own.
//!
//! The level is for those who can start a program in the pod (`meta-cni-webhook log-level`): it is taken by way of the loopback only.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use meta_cni_kube::log::Levels;
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

/// Until a webhook that does not answer is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest text of levels.
const LONGEST: usize = 1024;

/// Where levels are put.
const LEVEL: &str = "/log-level";

/// Serves probes and metrics, and takes levels of the log; never ends.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, levels: Levels) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (shared, levels) = (Arc::clone(&shared), levels.clone());
        tokio::spawn(async move {
            let is_here = peer.ip().to_canonical().is_loopback();
            let service = service_fn(|request: Request<Incoming>| {
                let (shared, levels) = (&shared, &levels);
                async move {
                    Ok::<_, Infallible>(match (request.method(), request.uri().path()) {
                        (&Method::PUT, LEVEL) if is_here => set_level(request, levels).await,
                        _ => answer(&request, shared),
                    })
                }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(LIFE / 3);
            let _ = timeout(LIFE, builder.serve_connection(TokioIo::new(stream), service)).await;
            drop(seat);
        });
    }
}

async fn set_level(request: Request<Incoming>, levels: &Levels) -> Reply {
    let Ok(body) = Limited::new(request.into_body(), LONGEST).collect().await else {
        return text(StatusCode::BAD_REQUEST, "want a level\n");
    };
    match levels.set(String::from_utf8_lossy(&body.to_bytes()).trim()) {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(refusal) => text(StatusCode::BAD_REQUEST, &format!("{refusal}\n")),
    }
}

/// Tells a webhook of this machine the levels of its log; an empty text stands for those of its flag.
pub fn tell_level(admin: SocketAddr, level: &str) -> Result<(), String> {
    // A listener on every address takes IPv4 too.
    let is_any = admin.ip().is_unspecified();
    let address = if is_any { SocketAddr::from((Ipv4Addr::LOCALHOST, admin.port())) } else { admin };
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = std::net::TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let head = format!("PUT {LEVEL} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", level.len());
    stream.write_all((head + level).as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.contains(" 200 ") { Ok(()) } else { Err(body.trim().to_owned()) }
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
