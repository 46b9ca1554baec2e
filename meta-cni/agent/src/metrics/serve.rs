//! The address at which metrics are read: plain HTTP, one page.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The most connections. More wait.
const MOST: usize = 8;
/// Longest life of a connection: a scrape takes milliseconds.
const LIFE: Duration = Duration::from_secs(30);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// `--metrics-address`: an address and a port, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsAddress(pub Option<SocketAddr>);

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address =
            text.parse().map_err(|_| format!("got {text:?}, want an address and a port, as [::]:9464, or nothing"));
        Ok(Self(Some(address?)))
    }
}

/// Serves the page; never ends. An address that is taken is tried again: pods do not wait for metrics.
pub async fn serve(MetricsAddress(address): MetricsAddress, page: impl Fn() -> String + Send + Sync + 'static) {
    let Some(address) = address else { return std::future::pending().await };
    let page = Arc::new(page);
    let mut has_failed = false;
    loop {
        match bind(address).await {
            Ok(listener) => accept(&listener, &page).await,
            Err(error) if !has_failed => {
                tracing::warn!("--metrics-address: {address}: no metrics are served yet: {error}");
                has_failed = true;
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

/// Listens. A node without IPv6 has no `[::]`, and means all of its addresses by it.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_without_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let no = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| no.contains(&code))
}

/// Until the listener fails.
async fn accept(listener: &TcpListener, page: &Arc<impl Fn() -> String + Send + Sync + 'static>) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        let page = Arc::clone(page);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answered = answer(&request, &*page);
                async move { Ok::<_, Infallible>(answered) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(LIFE / 3);
            let _ = timeout(LIFE, builder.serve_connection(TokioIo::new(stream), service)).await;
            drop(seat);
        });
    }
}

fn answer(request: &Request<Incoming>, page: &impl Fn() -> String) -> Response<String> {
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(port: u16, line: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn an_address_has_a_port_and_may_be_absent() {
        let read = |text: &str| text.parse::<MetricsAddress>();
        assert_eq!(read(""), Ok(MetricsAddress(None)));
        assert_eq!(read("[::]:9464").unwrap().0.unwrap().port(), 9464);
        for bad in ["9464", "localhost:9464", "::", "127.0.0.1:70000"] {
            let refusal = read(bad).unwrap_err();
            assert!(
                refusal.contains(&format!("got {bad:?}")) && refusal.contains("want an address and a port"),
                "{refusal}"
            );
        }
    }

    #[tokio::test]
    async fn one_page_is_served_and_an_address_that_is_taken_is_waited_for() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        assert!(bind(address).await.is_err());
        drop(taken);
        let serving = serve(MetricsAddress(Some(address)), || "a 1\n".to_owned());
        let asking = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            let port = address.port();
            let page = get(port, "GET /metrics").await;
            assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("\r\n\r\na 1\n"), "{page}");
            assert!(get(port, "GET /").await.starts_with("HTTP/1.1 404"));
            assert!(get(port, "POST /metrics").await.starts_with("HTTP/1.1 405"));
        };
        tokio::select! {
            () = serving => {}
            () = asking => {}
        }
    }
}
