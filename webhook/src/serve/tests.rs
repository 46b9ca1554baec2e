//! A server in this process, and callers that mean well or not.

use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Version};
use meta_cni_kube::log;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::connections::MOST;
use super::*;
use crate::certs::pair::Pair;
use crate::certs::served::Served;
use crate::certs::{ServiceName, clock, mint};
use crate::dial::handshake;
use crate::facts::Facts;
use crate::metrics::Metrics;
use crate::mutate::{self, Mutator};
use crate::readiness::Readiness;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct TestServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    name: String,
    roots: Vec<CertificateDer<'static>>,
    authority: Pair,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn pair_of(authority: &Pair) -> Pair {
    mint::leaf(authority, &name().all(), clock()(), DAY).unwrap()
}

fn name() -> ServiceName {
    ServiceName { service: "s".into(), namespace: "n".into(), domain: "cluster.local".into() }
}

impl TestServer {
    async fn start() -> Self {
        Self::start_for(None).await
    }

    async fn start_for(callers: Option<Callers>) -> Self {
        let authority = mint::authority(clock()(), DAY).unwrap();
        let shared = Arc::new(Shared {
            facts: Facts::default(),
            mutator: Mutator::new(&mutate::options::MutateOptions::default()),
            metrics: Metrics::default(),
            readiness: Readiness::default(),
            served: Served::default(),
        });
        shared.served.serve(&pair_of(&authority));
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, Arc::clone(&shared), callers, stopped));
        let roots = vec![authority.certificate()];
        Self { address, shared, name: name().called(), roots, authority, stop, task }
    }

    /// A connection for requests over HTTP/2, as API servers make it.
    async fn connect(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = handshake(self.address, &self.name, &self.roots).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(&self, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        send(&mut self.connect().await, path, body).await
    }

    /// A review that must be answered, and its uid.
    async fn must_answer(&self) {
        let (code, body) = self.ask("/validate/nads?timeout=5s", review(json!("[]"))).await;
        let answered: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &answered["response"]["uid"]), (StatusCode::OK, &json!("u")), "{answered}");
        assert_eq!(answered["response"]["status"]["details"]["causes"][0]["field"], "spec.config", "{answered}");
    }

    fn closed(&self, reason: &str) -> bool {
        let row = format!("webhook_connections_closed_total{{reason={reason:?}}}");
        self.shared.metrics.text(&self.shared.facts).contains(&row)
    }
}

async fn send(
    sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    path: &str,
    body: Vec<u8>,
) -> (StatusCode, String) {
    let request = Request::post(format!("https://s.n.svc{path}")).version(Version::HTTP_2);
    let reply = sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
    let code = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn review(config: Value) -> Vec<u8> {
    let object = json!({"metadata": {"name": "a"}, "spec": {"config": config}});
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "operation": "CREATE", "userInfo": {}, "object": object,
        "kind": {"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"},
        "resource": {"group": "k8s.cni.cncf.io", "version": "v1", "resource": "network-attachment-definitions"},
    }})
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn reviews_are_answered_over_http2_and_over_1_1() {
    let server = TestServer::start().await;
    server.must_answer().await;
    let mut stream = handshake(server.address, &server.name, &server.roots).await.unwrap();
    let body = review(json!("[]"));
    let head = format!(
        "POST /validate/nads HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""uid":"u""#), "{answer}");
    let text = server.shared.metrics.text(&server.shared.facts);
    let row = r#"webhook_requests_total{webhook="nads",operation="CREATE",result="denied"} 2"#;
    assert!(text.contains(row) && text.contains(r#"webhook_findings_total{rule="N03",severity="deny"} 2"#), "{text}");
}

#[tokio::test]
async fn what_is_no_review_is_told_so() {
    let server = TestServer::start().await;
    let mut sender = server.connect().await;
    let deep = format!(r#"{{"request":{{"uid":"u","object":{}{}}}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    for (path, body, code, words) in [
        ("/validate/nads", Vec::new(), StatusCode::BAD_REQUEST, "no AdmissionReview"),
        ("/validate/nads", b"[]".to_vec(), StatusCode::BAD_REQUEST, "no AdmissionReview"),
        ("/validate/nads", b"{}".to_vec(), StatusCode::BAD_REQUEST, "request.uid: missing"),
        ("/validate/nads", b"\xff\xfe".to_vec(), StatusCode::BAD_REQUEST, "no AdmissionReview"),
        ("/validate/nads", deep.into_bytes(), StatusCode::OK, "the object cannot be read"),
        ("/mutate/nads", Vec::new(), StatusCode::BAD_REQUEST, "no AdmissionReview"),
        ("/mutate/nads", review(json!("[]")), StatusCode::OK, r#""allowed":true"#),
        ("/mutate/nads", review(json!(r#"{"type":"vxlan"}"#)), StatusCode::SERVICE_UNAVAILABLE, "not all known yet"),
        ("/mutate/nad-delete", Vec::new(), StatusCode::NOT_FOUND, "want one of: nads, nads-system, pods"),
        ("/validate/nads", vec![b' '; 10 << 20], StatusCode::PAYLOAD_TOO_LARGE, "longer than 8388608 bytes"),
        ("/validate/others", Vec::new(), StatusCode::NOT_FOUND, "want one of: nads,"),
        ("/", Vec::new(), StatusCode::NOT_FOUND, "want /validate/WEBHOOK"),
    ] {
        let (got, said) = send(&mut sender, path, body).await;
        assert!(got == code && said.contains(words), "{path}: {got} {said}");
    }
    // One connection has seen all of it, and another is served.
    server.must_answer().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off_where_it_is_too_long() {
    let server = TestServer::start().await;
    let mut stream = handshake(server.address, &server.name, &server.roots).await.unwrap();
    let head = "POST /validate/nads HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
        for _ in 0..200 {
            if writer.write_all(&chunk).await.is_err() {
                break;
            }
        }
    });
    let mut answer = [0; 64];
    let length = reader.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    writing.abort();
    server.must_answer().await;
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_https() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("want TLS.\n"), "{answer}");
    assert!(server.closed("plain HTTP"));
    server.must_answer().await;
}

#[tokio::test]
async fn a_caller_that_trusts_another_authority_is_let_go_and_others_come() {
    let server = TestServer::start().await;
    let other = mint::authority(clock()(), DAY).unwrap();
    let refused = handshake(server.address, &server.name, &[other.certificate()]).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let wrong = handshake(server.address, "other.n.svc", &server.roots).await.unwrap_err();
    assert!(wrong.contains("not valid for name"), "{wrong}");
    server.must_answer().await;
    assert!(server.closed("handshake"));
}

#[tokio::test]
async fn a_slow_handshake_is_given_up_and_holds_nobody_up() {
    let server = TestServer::start().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The head of a record that never comes.
        stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
        slow.push(stream);
    }
    server.must_answer().await;
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = timeout(HANDSHAKE * 4, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it is still open");
    }
    assert!(server.closed("slow handshake"));
    server.must_answer().await;
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let server = TestServer::start().await;
    let mut sender = server.connect().await;
    assert_eq!(send(&mut sender, "/validate/nads", review(json!("[]"))).await.0, StatusCode::OK);
    let mut idle = Vec::new();
    for number in 0..1000 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
        // An API server that calls now and then is never the one that has been idle for longest.
        if number % 100 == 99 {
            assert_eq!(send(&mut sender, "/validate/nads", review(json!("[]"))).await.0, StatusCode::OK);
        }
    }
    server.must_answer().await;
    assert_eq!(send(&mut sender, "/validate/nads", review(json!("[]"))).await.0, StatusCode::OK);
    assert!(server.closed("too many connections"));
    let open = usize::try_from(server.shared.metrics.connections.load(Ordering::Relaxed)).unwrap();
    assert!(open <= MOST + 10, "{open}");
}

#[tokio::test]
async fn idle_connections_that_shook_hands_go_first_too() {
    let server = TestServer::start().await;
    let mut idle = Vec::new();
    for _ in 0..MOST + 20 {
        idle.push(server.connect().await);
    }
    server.must_answer().await;
    let mut gone = idle.iter().take(20).filter(|sender| sender.is_closed()).count();
    for _ in 0..100 {
        if gone >= 15 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
        gone = idle.iter().take(20).filter(|sender| sender.is_closed()).count();
    }
    assert!(gone >= 15, "{gone} of the oldest 20 are closed");
}

#[tokio::test]
async fn another_certificate_is_served_to_new_handshakes_and_open_connections_go_on() {
    let server = TestServer::start().await;
    let mut before = server.connect().await;
    let second = mint::authority(clock()(), DAY).unwrap();
    assert!(server.shared.served.serve(&pair_of(&second)));
    assert!(handshake(server.address, &server.name, &server.roots).await.is_err());
    handshake(server.address, &server.name, &[server.authority.certificate(), second.certificate()]).await.unwrap();
    assert_eq!(send(&mut before, "/validate/nads", review(json!("[]"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn without_a_certificate_there_is_no_handshake_and_with_one_there_is() {
    let server = TestServer::start().await;
    let expired = mint::leaf(&server.authority, &name().all(), clock()() - 100, Duration::from_secs(50)).unwrap();
    server.shared.served.serve(&expired);
    let refused = handshake(server.address, &server.name, &server.roots).await.unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    server.shared.served.serve(&pair_of(&server.authority));
    server.must_answer().await;
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered() {
    let server = TestServer::start().await;
    let mut stream = handshake(server.address, &server.name, &server.roots).await.unwrap();
    let body = review(json!("[]"));
    let head = format!("POST /validate/nads HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..10]).await.unwrap();
    // The request is there once its connection counts as busy; a second connection shows that the loop has turned.
    server.must_answer().await;
    server.stop.send(true).unwrap();
    for _ in 0..100 {
        if TcpStream::connect(server.address).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody new is taken");
    stream.write_all(&body[10..]).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""uid":"u""#), "{answer}");
    timeout(DRAIN, server.task).await.expect("the server ends").unwrap();
}

/// A certificate for a client, and its key.
fn client_pair(authority: &Pair) -> (CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>) {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    let signer = KeyPair::from_pem(&authority.key).unwrap();
    let issuer = Issuer::from_ca_cert_der(&authority.certificate(), signer).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.der().clone(), rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// What a caller with this certificate gets for a review.
async fn ask_with(server: &TestServer, client: Option<&Pair>) -> std::result::Result<String, String> {
    use rustls::{ClientConfig, RootCertStore};
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(server.roots.iter().cloned());
    let builder = ClientConfig::builder_with_provider(crate::certs::x509::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match client.map(client_pair) {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(server.name.clone()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
    let body = review(json!("[]"));
    let head = format!(
        "POST /validate/nads HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let asked = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    asked.await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn only_callers_of_the_named_authority_are_answered() {
    let (theirs, other) = (mint::authority(clock()(), DAY).unwrap(), mint::authority(clock()(), DAY).unwrap());
    let dir = std::env::temp_dir().join(format!("meta-cni-webhook-callers-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("ca.pem");
    std::fs::write(&file, crate::certs::x509::to_pem(&[theirs.certificate()])).unwrap();
    let server = TestServer::start_for(Some(callers(&file).unwrap())).await;
    for stranger in [None, Some(&other)] {
        let refused = ask_with(&server, stranger).await.unwrap_err();
        assert!(refused.contains("alert") || refused.contains("closed") || refused.contains("reset"), "{refused}");
    }
    let answer = ask_with(&server, Some(&theirs)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""uid":"u""#), "{answer}");
    // Its own look at itself needs no certificate: the handshake is as far as it goes.
    handshake(server.address, &server.name, &server.roots).await.unwrap();
    for (text, words) in [
        ("", "want at least one in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "--client-ca"),
    ] {
        std::fs::write(&file, text).unwrap();
        let Err(error) = callers(&file) else { panic!("{text:?} is taken") };
        assert!(error.to_string().contains(words), "{error}");
    }
    let Err(error) = callers(&dir.join("none")) else { panic!("a file that is not there") };
    assert!(error.to_string().starts_with("--client-ca: "), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn the_level_of_the_log_is_set_from_within_the_pod() {
    let server = TestServer::start().await;
    let levels = log::start(&log::Options { level: "info".parse().unwrap(), format: log::Format::Text });
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(admin::serve(listener, Arc::clone(&server.shared), levels.clone()));
    let tell = |level: &'static str| tokio::task::spawn_blocking(move || admin::tell_level(address, level));
    tell("warn,meta_cni=debug").await.unwrap().unwrap();
    assert_eq!(levels.to_string(), "meta_cni=debug,warn");
    let refusal = tell("meta_cni=loud").await.unwrap().unwrap_err();
    assert!(refusal.starts_with("got \"meta_cni=loud\"") && refusal.contains("want off, error"), "{refusal}");
    tell("").await.unwrap().unwrap();
    assert_eq!(levels.to_string(), "info");
    task.abort();
    let gone = tell("info").await.unwrap().unwrap_err();
    assert!(gone.contains("refused"), "{gone}");
}
