//! HTTPS for API servers: HTTP/2 and 1.1, with bounds on everything that a caller can hold.
//!
//! Whoever reaches the port may be anybody. A connection has `HANDSHAKE` for its handshake; of more than
//! `connections::MOST` connections the one that has been idle for longest goes (`connections`), so that idle ones keep
//! nobody out. `routes` bounds bodies and time.

pub mod admin;
mod ask;
mod connections;
mod routes;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use meta_cni_kube::tls::{Callers, is_plain_http, refuse_plain_http};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Shared;
use crate::error::{Error, Result};
use connections::{Connection, Connections};
use routes::Router;

pub use tls::{callers, configuration};

/// Longest time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longest time for the head of a request over HTTP/1.1.
const HEAD: Duration = Duration::from_secs(30);
/// A peer over HTTP/2 that is silent is asked whether it lives, and has so long to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Requests at once over one connection.
const STREAMS: u32 = 250;
/// Longest head over HTTP/2.
const LONGEST_HEAD: u32 = 16 << 10;
/// Requests that are under way at the end have so long.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// Listens on an address; `[::]` is every address, also where there is no IPv6.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = |address: SocketAddr| -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = listen(address).or_else(|error| match address.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && error.kind() != io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        _ => Err(error),
    });
    listener.map_err(|e| Error::Io(format!("cannot listen on {address}: {e}")))
}

/// Serves reviews until `stopped` turns true, and what is under way then. `callers` are those who may call; by default all.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    callers: Option<Callers>,
    mut stopped: watch::Receiver<bool>,
) {
    let configuration = match tls::configuration(Arc::clone(&shared), callers) {
        Ok(configuration) => configuration,
        Err(why) => return tracing::error!("no TLS: {why}"),
    };
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    let connections = Arc::new(Connections::default());
    let router = Router::new(Arc::clone(&shared));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connections.open(&shared.metrics);
                tokio::spawn(converse(stream, acceptor.clone(), router.clone(), connection));
            }
            Err(error) => {
                tracing::debug!("no connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close_all();
    if timeout(DRAIN, connections.gone()).await.is_err() {
        tracing::warn!("connections are still open after {DRAIN:?}");
    }
}

/// One connection from its handshake to its end.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor, router: Router, connection: Connection) {
    let shared = Arc::clone(router.shared());
    let handshake = async {
        if is_plain_http(&stream).await {
            refuse_plain_http(&stream).await;
            return Err("plain HTTP");
        }
        let _ = stream.set_nodelay(true);
        acceptor.accept(stream).await.map_err(|error| {
            tracing::debug!("no handshake: {error}");
            "handshake"
        })
    };
    let stream = tokio::select! {
        stream = timeout(HANDSHAKE, handshake) => stream.unwrap_or(Err("slow handshake")),
        () = connection.closed() => Err("too many connections"),
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(reason) => return shared.metrics.closed(reason),
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
    http2.max_concurrent_streams(STREAMS).max_header_list_size(LONGEST_HEAD);
    let service = router.service(connection.clone());
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = connection.closed() => {
            // What is under way is answered, and nothing new is taken.
            served.as_mut().graceful_shutdown();
            timeout(DRAIN, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke: {error}");
    }
}

#[cfg(test)]
mod tests;
