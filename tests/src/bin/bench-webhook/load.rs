//! Reviews at a steady rate, over a few connections of HTTP/2, as an API server asks.
//!
//! The rate does not wait for answers: each review has a time at which it is due, and its answer counts from then, whether it was
//! sent in time or not.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meta_cni_tests::cluster::ControlPlane;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::cluster::{CPUS, LISTEN, stay_on};
use crate::objects::Made;

/// Connections.
const CONNECTIONS: usize = 3;
/// As the Service is called.
const NAME: &str = "meta-cni-webhook.meta-cni.svc";

/// A review that is to be asked.
pub struct Question {
    /// Path of the webhook.
    path: String,
    body: Bytes,
    is_good: bool,
}

impl Question {
    pub fn new(made: &Made, body: Vec<u8>) -> Self {
        let path = format!("/validate/{}?timeout=5s", made.webhook);
        Self { path, body: body.into(), is_good: made.is_good }
    }
}

/// What became of reviews.
#[derive(Default)]
pub struct Answers {
    /// From when each was due until its answer was whole.
    pub times: Vec<Duration>,
    /// Those without an answer: why.
    pub lost: Vec<String>,
    /// Those with another answer than the right one: what it was.
    pub wrong: Vec<String>,
}

/// Asks at a rate, and returns when everything is answered or lost.
pub fn ask(plane: &ControlPlane, authority: &[u8], questions: &[Question], rate: u32) -> Answers {
    // The runtime's clock has milliseconds; a thread that sleeps is exact. Inside of the space none can be started.
    let (due, dues) = unbounded_channel();
    let (begin, begun) = std::sync::mpsc::channel::<Instant>();
    let count = u32::try_from(questions.len()).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            stay_on(CPUS.1);
            let Ok(began) = begun.recv() else { return };
            for number in 0..count {
                let at = began + Duration::from_secs(1) * number / rate;
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if due.send((number as usize, at)).is_err() {
                    return;
                }
            }
        });
        plane.space().within(|| {
            stay_on(CPUS.1);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(all(authority, questions, begin, dues))
        })
    })
}

async fn all(
    authority: &[u8],
    questions: &[Question],
    begin: std::sync::mpsc::Sender<Instant>,
    mut dues: UnboundedReceiver<(usize, Instant)>,
) -> Answers {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(authority).map(Result::unwrap));
    let mut config = ClientConfig::builder_with_provider(webhook::certs::x509::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(&connector).await);
    }
    begin.send(Instant::now() + Duration::from_millis(100)).unwrap();
    let mut asked = Vec::new();
    while let Some((number, at)) = dues.recv().await {
        let question = &questions[number];
        let request = hyper::Request::post(format!("https://{NAME}:443{}", question.path))
            .header("content-type", "application/json")
            .body(Full::new(question.body.clone()))
            .unwrap();
        let connection = connections[number % CONNECTIONS].clone();
        asked.push(tokio::spawn(async move {
            let answer = send(connection, request).await;
            (number, at.elapsed(), answer)
        }));
    }
    let mut answers = Answers::default();
    for asked in asked {
        let (number, time, answer) = asked.await.unwrap();
        answers.times.push(time);
        match answer {
            Err(why) => answers.lost.push(why),
            Ok(body) => answers.wrong.extend(wrong(&questions[number], &body)),
        }
    }
    answers
}

async fn connect(connector: &TlsConnector) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(LISTEN).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(mut connection: SendRequest<Full<Bytes>>, request: hyper::Request<Full<Bytes>>) -> Result<Bytes, String> {
    let answer = connection.send_request(request).await.map_err(|e| e.to_string())?;
    let code = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    if code.is_success() { Ok(body) } else { Err(format!("{code}: {}", String::from_utf8_lossy(&body))) }
}

fn wrong(question: &Question, body: &[u8]) -> Option<String> {
    let review: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_right = review["response"]["allowed"] == question.is_good;
    (!is_right).then(|| format!("{}: want allowed = {}, got {}", question.path, question.is_good, review["response"]))
}
