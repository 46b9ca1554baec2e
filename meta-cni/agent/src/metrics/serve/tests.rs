use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsConnector;

use super::*;

const PAGE: &str = "a 1\n";
const NAME: &str = "n1";

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    options: Options,
}

fn options(flags: &[&str]) -> std::result::Result<Options, clap::Error> {
    let flags = ["meta-cnid", "--node-name", NAME].iter().chain(flags);
    Flags::try_parse_from(flags).map(|flags| flags.options)
}

fn server(flags: &[&str]) -> Server {
    Server::new(&options(flags).unwrap()).unwrap()
}

/// An address that nobody else has.
async fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn connected(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Asks while the server serves.
async fn while_served(server: Server, asking: impl Future<Output = ()>) {
    tokio::select! {
        () = server.serve(|| PAGE.to_owned()) => {}
        () = asking => {}
    }
}

fn is_page(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n\r\n{PAGE}"))
}

#[tokio::test]
async fn one_page_is_served_and_an_address_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    assert!(Listener::tcp(address).await.is_err());
    drop(taken);
    while_served(server(&["--metrics-address", &address.to_string()]), async {
        let page = get(connected(address).await, "GET /metrics").await;
        assert!(is_page(&page), "{page}");
        assert!(get(connected(address).await, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(get(connected(address).await, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    })
    .await;
}

#[tokio::test]
async fn a_socket_is_taken_over_by_the_agent_that_comes_and_open_to_who_may_enter_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let flag = format!("unix:{}", path.display());
    let asked = async || get(UnixStream::connect(&path).await.unwrap(), "GET /metrics").await;
    // An agent that was killed has left it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let old = tokio::spawn(server(&["--metrics-address", &flag]).serve(|| "old 1\n".to_owned()));
    while UnixStream::connect(&path).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(asked().await.ends_with("old 1\n"));
    while_served(server(&["--metrics-address", &flag]), async {
        while !is_page(&asked().await) {
            sleep(Duration::from_millis(5)).await;
        }
        old.abort();
        assert!(is_page(&asked().await));
    })
    .await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Writes a certificate of its own authority, and gives a client that trusts it alone.
fn renew(certificate: &Path, key: &Path) -> TlsConnector {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(certificate, cert.pem()).unwrap();
    fs::write(key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    // A session that goes on sees no certificate.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_certificate_is_read_anew_when_it_changes_and_a_broken_one_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let address = free().await;
    let [address_text, certificate_text, key_text] =
        [address.to_string(), certificate.display().to_string(), key.display().to_string()];
    let flags =
        ["--metrics-address", &address_text, "--metrics-tls-cert", &certificate_text, "--metrics-tls-key", &key_text];
    let asked = async |client: &TlsConnector| {
        let stream = client.connect(ServerName::try_from(NAME).unwrap(), connected(address).await).await;
        match stream {
            Ok(stream) => get(stream, "GET /metrics").await,
            Err(error) => format!("no handshake: {error}"),
        }
    };
    while_served(server(&flags), async {
        // The files may come later than the agent.
        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = renew(&elsewhere.path().join("crt"), &elsewhere.path().join("key"));
        assert!(asked(&stranger).await.starts_with("no handshake"));
        let first = renew(&certificate, &key);
        assert!(is_page(&asked(&first).await));
        assert!(asked(&stranger).await.starts_with("no handshake"));
        let second = renew(&certificate, &key);
        assert!(is_page(&asked(&second).await));
        assert!(asked(&first).await.starts_with("no handshake"));
        // Half of a renewal.
        fs::copy(elsewhere.path().join("key"), &key).unwrap();
        assert!(is_page(&asked(&second).await));
        fs::remove_file(&certificate).unwrap();
        assert!(is_page(&asked(&second).await));
        let plain = get(connected(address).await, "GET /metrics").await;
        assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("want TLS"), "{plain}");
    })
    .await;
}

#[test]
fn a_certificate_has_its_key_and_an_address_with_a_port() {
    let both = ["--metrics-tls-cert", "/c", "--metrics-tls-key", "/k"];
    for half in [&both[..2], &both[2..]] {
        let refusal = options(half).unwrap_err().to_string();
        assert!(refusal.contains("--metrics-tls-"), "{refusal}");
    }
    for address in ["", "unix:/run/m.sock"] {
        let refusal = Server::new(&options(&[&both[..], &["--metrics-address", address]].concat()).unwrap());
        let refusal = refusal.err().unwrap().to_string();
        assert!(refusal.contains("want an address and a port in --metrics-address"), "{refusal}");
    }
}
