use std::path::PathBuf;

use meta_cni::cluster::wire::{Health, Published};
use tokio::task::JoinHandle;

use super::*;

/// Answers after the frame's own wishes: a status `panic` panics, `late` never ends, `long` gives too long an answer.
struct Scripted;

impl Service for Scripted {
    async fn answer(&self, request: AgentRequest) -> Reply {
        let answer = match request {
            AgentRequest::Publish(publish) => match publish.status.as_str() {
                "panic" => panic!("as scripted"),
                "late" => std::future::pending().await,
                "long" => Answer::Refused(Refusal::new(Cause::Later, "x".repeat(wire::LIMIT))),
                _ => Answer::Published(Published { written: true }),
            },
            AgentRequest::Health => Answer::Healthy(Health {
                dialects: Vec::new(),
                node: "n1".into(),
                program: "0".into(),
                pods_known: false,
                definitions_known: false,
                blockers: Vec::new(),
            }),
            _ => Answer::Noted,
        };
        answer.into()
    }
}

struct Server {
    dir: tempfile::TempDir,
    _task: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(&dir.path().join("run/agent.sock")).unwrap();
        Self { dir, _task: tokio::spawn(serve(listener, Arc::new(Scripted))) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    /// What comes back for some bytes, after which nothing more is sent.
    async fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        // Bytes that nobody read make the end a reset; what was answered is here before it.
        let _ = stream.read_to_end(&mut back).await;
        back
    }

    async fn ask(&self, bytes: &[u8]) -> Answer {
        Answer::decode(&self.send(bytes).await[4..]).unwrap()
    }
}

fn on_file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/frames").join(name);
    wire::frame(&fs::read(path).unwrap()).unwrap()
}

fn publish(status: &str) -> Vec<u8> {
    let json = format!(
        r#"{{"newest":1,"oldest":1,"kind":"publish","body":{{"pod":{{"namespace":"n","name":"p"}},"status":"{status}"}}}}"#
    );
    wire::frame(json.as_bytes()).unwrap()
}

#[tokio::test]
async fn only_root_can_reach_the_socket() {
    let server = Server::start();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&server.path()), 0o600);
    assert_eq!(mode(server.path().parent().unwrap()), 0o700);
    let left = fs::read_dir(server.path().parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no socket under another name");
}

#[tokio::test]
async fn a_socket_that_is_there_is_replaced_and_a_loose_directory_protected() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("agent.sock");
    let first = bind(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o700);
    drop(second);
    let long = dir.path().join("s".repeat(120));
    assert!(bind(&long).unwrap_err().to_string().starts_with("--socket: cannot listen at"));
    if std::os::unix::fs::chown(dir.path(), Some(1000), None).is_ok() {
        let fault = bind(&path).unwrap_err();
        assert!(fault.to_string().contains("got a directory of uid 1000"), "{fault}");
    }
}

#[tokio::test]
async fn frames_of_this_and_of_the_next_version_are_answered() {
    let server = Server::start();
    for name in ["1/request-publish.json", "next/request-publish.json"] {
        assert_eq!(server.ask(&on_file(name)).await, Answer::Published(Published { written: true }), "{name}");
    }
    for name in ["1/request-resolve.json", "next/request-resolve.json", "1/request-report.json", "1/request-join.json"]
    {
        assert_eq!(server.ask(&on_file(name)).await, Answer::Noted, "{name}");
    }
    assert!(matches!(server.ask(&on_file("1/request-health.json")).await, Answer::Healthy(_)));
    for name in ["next/request-unknown.json", "next/request-too-new.json"] {
        let Answer::Refused(refusal) = server.ask(&on_file(name)).await else { panic!("{name}") };
        assert_eq!(refusal.cause, Cause::Unsupported, "{name}");
    }
}

#[tokio::test]
async fn foreign_oversized_and_truncated_frames_harm_nobody() {
    let server = Server::start();
    for foreign in
        [wire::frame(b"{}").unwrap(), wire::frame(b"").unwrap(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 5]]
    {
        let Answer::Refused(refusal) = server.ask(&foreign).await else { panic!("{foreign:?}") };
        assert_eq!(refusal.cause, Cause::Malformed, "{foreign:?}");
    }
    let whole = publish("ok");
    for end in 0..whole.len() {
        assert_eq!(server.send(&whole[..end]).await, b"", "cut at {end}");
    }
    assert!(matches!(server.ask(&whole).await, Answer::Published(_)));
}

#[tokio::test]
async fn a_panic_and_an_endless_question_end_no_other() {
    let server = Server::start();
    let mut endless = UnixStream::connect(server.path()).await.unwrap();
    endless.write_all(&publish("late")).await.unwrap();
    assert_eq!(server.send(&publish("panic")).await, b"");
    let Answer::Refused(refusal) = server.ask(&publish("long")).await else { panic!("too long an answer") };
    assert_eq!(refusal.cause, Cause::Internal);
    assert!(matches!(server.ask(&publish("ok")).await, Answer::Published(_)));
}

#[tokio::test]
async fn a_question_that_does_not_come_is_dropped_in_time() {
    let server = Server::start();
    let mut stream = UnixStream::connect(server.path()).await.unwrap();
    stream.write_all(&publish("ok")[..10]).await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"");
}

#[tokio::test]
async fn more_connections_than_are_served_at_once_wait_and_are_served() {
    let server = Server::start();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(UnixStream::connect(server.path()).await.unwrap());
    }
    let question = publish("ok");
    let late = server.ask(&question);
    let freed = async {
        tokio::task::yield_now().await;
        idle.clear();
    };
    assert!(matches!(tokio::join!(late, freed).0, Answer::Published(_)));
}

#[tokio::test]
async fn long_questions_take_turns_in_memory_and_a_slow_one_is_cut() {
    let server = Server::start();
    // It promises all the memory that there is, and sends next to nothing.
    let mut slow = UnixStream::connect(server.path()).await.unwrap();
    slow.write_all(&u32::try_from(wire::LIMIT).unwrap().to_be_bytes()).await.unwrap();
    slow.write_all(b"{").await.unwrap();
    let long = publish(&"x".repeat(2 * SHORT));
    let short = publish("ok");
    let (short, long) = tokio::join!(server.ask(&short), server.ask(&long));
    assert!(matches!(short, Answer::Published(_)) && matches!(long, Answer::Published(_)));
    let mut back = Vec::new();
    slow.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"");
}
