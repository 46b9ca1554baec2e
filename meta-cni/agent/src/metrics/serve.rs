//! The server of metrics: one page, over HTTP or HTTPS.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use meta_cni_kube::tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::CertificateFiles;
use super::listener::{Listener, MetricsAddress, Stream};
use crate::error::{Error, Result};
use crate::options::Options;

/// The most connections. More wait.
const MOST: usize = 8;
/// Longest life of a connection: a scrape takes milliseconds.
const LIFE: Duration = Duration::from_secs(30);
/// Longest time for a handshake, and for the head of a request.
const BEGINNING: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// Where metrics are served, and over what.
pub struct Server {
    address: MetricsAddress,
    tls: Option<TlsAcceptor>,
}

impl Server {
    /// As the flags say.
    pub fn new(options: &Options) -> Result<Self> {
        let (certificate, key) = match (&options.metrics_tls_cert, &options.metrics_tls_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => return Ok(Self { address: options.metrics_address.clone(), tls: None }),
        };
        if !matches!(options.metrics_address, MetricsAddress::Tcp(_)) {
            let why =
                "--metrics-tls-cert: want an address and a port in --metrics-address: nothing else is served over TLS";
            return Err(Error::Config(why.to_owned()));
        }
        let files = Arc::new(CertificateFiles::new(certificate.clone(), key.clone()));
        // What is wrong with them is told at once.
        files.pair();
        let configuration = tls::configuration(files, None, &["http/1.1"]);
        let configuration = configuration.map_err(|why| Error::Bug(format!("no TLS for metrics: {why}")))?;
        Ok(Self { address: options.metrics_address.clone(), tls: Some(Arc::new(configuration).into()) })
    }

    /// Serves the page; never ends. An address that is taken is tried again: pods do not wait for metrics.
    pub async fn serve(self, page: impl Fn() -> String + Send + Sync + 'static) {
        let page = Arc::new(page);
        let mut has_failed = false;
        loop {
            let (bound, shown) = match &self.address {
                MetricsAddress::Nowhere => return std::future::pending().await,
                MetricsAddress::Tcp(address) => (Listener::tcp(*address).await, address.to_string()),
                MetricsAddress::Unix(path) => (Listener::unix(path), path.display().to_string()),
            };
            match bound {
                Ok(listener) => self.accept(&listener, &page).await,
                Err(error) if !has_failed => {
                    tracing::warn!("--metrics-address: {shown}: no metrics are served yet: {error}");
                    has_failed = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    /// Until the listener fails.
    async fn accept(&self, listener: &Listener, page: &Arc<impl Fn() -> String + Send + Sync + 'static>) {
        let seats = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
            let Ok(stream) = listener.accept().await else { return };
            let (page, tls) = (Arc::clone(page), self.tls.clone());
            tokio::spawn(async move {
                let _ = timeout(LIFE, converse(stream, tls, &*page)).await;
                drop(seat);
            });
        }
    }
}

/// One connection from its beginning to its end.
async fn converse(stream: Stream, acceptor: Option<TlsAcceptor>, page: &(impl Fn() -> String + Sync)) {
    match (stream, acceptor) {
        (Stream::Unix(stream), _) => answer(stream, page).await,
        (Stream::Tcp(stream), None) => answer(stream, page).await,
        (Stream::Tcp(stream), Some(acceptor)) => {
            if let Ok(Some(stream)) = timeout(BEGINNING, secure(stream, &acceptor)).await {
                answer(stream, page).await;
            }
        }
    }
}

/// The handshake of a connection. None where there was none.
async fn secure(stream: TcpStream, acceptor: &TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    if tls::is_plain_http(&stream).await {
        tls::refuse_plain_http(&stream).await;
        return None;
    }
    let secured = acceptor.accept(stream).await;
    secured.inspect_err(|error| tracing::debug!("no handshake for metrics: {error}")).ok()
}

/// Answers the requests of a connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, page: &(impl Fn() -> String + Sync)) {
    let service = service_fn(|request: Request<Incoming>| {
        let answered = response(&request, page);
        async move { Ok::<_, Infallible>(answered) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(BEGINNING);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn response(request: &Request<Incoming>, page: &impl Fn() -> String) -> Response<String> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page()),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "want /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "want GET\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
