use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use attachments::names::PodRef;

use super::*;

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

/// An agent that answers each connection with the next of some bytes; empty bytes are no answer.
fn answering(path: &Path, answers: Vec<Vec<u8>>) -> thread::JoinHandle<Vec<Vec<u8>>> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let each = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4];
            stream.read_exact(&mut head).unwrap();
            let mut json = vec![0; wire::length(head).unwrap()];
            stream.read_exact(&mut json).unwrap();
            stream.write_all(&answer).unwrap();
            json
        };
        answers.into_iter().map(each).collect()
    })
}

fn on_file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(name);
    wire::frame(&fs::read(path).unwrap()).unwrap()
}

fn ask(agent: &Agent, patient: bool, within: Duration) -> Result<Facts> {
    let (pod, kube_system) = (pod(), "kube-system".parse().unwrap());
    let query = Query {
        pod: Some(&pod),
        annotations: true,
        references: &[],
        optional: &[],
        objects: &[],
        candidates: &[],
        multus_namespace: &kube_system,
        policies: false,
        devices: true,
    };
    agent.resolve(&query, patient, Instant::now() + within)
}

fn pod() -> PodRef {
    PodRef { namespace: "default".parse().unwrap(), name: "web".parse().unwrap(), uid: None }
}

fn refusal(fault: &Fault) -> (u32, String) {
    (fault.code(), fault.to_string())
}

/// So long that whatever ends before did not wait for it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn an_answer_of_the_next_version_is_taken() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let found = |name: &str| {
        let text = String::from_utf8(on_file(name)[4..].to_vec()).unwrap();
        let mut answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let all = answer["body"]["definitions"].as_array_mut().unwrap();
        all.retain(|lookup| ["found", "missing"].contains(&lookup["outcome"]["state"].as_str().unwrap()));
        wire::frame(answer.to_string().as_bytes()).unwrap()
    };
    let agent = answering(&path, vec![found("1/answer-resolved.json"), found("next/answer-resolved.json")]);
    let (this, next) = (ask(&Agent::new(&path), false, LONG).unwrap(), ask(&Agent::new(&path), false, LONG).unwrap());
    assert_eq!(this, next);
    assert_eq!((this.definitions.len(), this.missing.len()), (1, 1));
    assert!(agent.join().unwrap().iter().all(|json| wire::AgentRequest::decode(json).1.is_ok()));
}

#[test]
fn a_join_is_waited_for_and_an_agent_that_knows_none_has_joined_before() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let refused = |cause, text: &str| Answer::Refused(Refusal::new(cause, text)).encode(1).unwrap();
    let answers = vec![
        Answer::Noted.encode(1).unwrap(),
        refused(wire::Cause::Unsupported, "a request of the kind \"join\", which this agent does not know"),
        refused(wire::Cause::Configuration, "vni: got 4200, want one that no other definition has"),
        refused(wire::Cause::Later, "pool 10.42.0.0/24 is exhausted"),
    ];
    let agent = answering(&path, answers);
    let join = || {
        let lan = attachments::names::NetRef { namespace: "default".parse().unwrap(), name: "lan".parse().unwrap() };
        let multus_namespace = "kube-system".parse().unwrap();
        let join = wire::Join {
            pod: pod(),
            references: vec![lan],
            objects: Vec::new(),
            multus_namespace,
            wait_ms: 0,
            plain: false,
        };
        Agent::new(&path).join(join, Instant::now() + LONG).map_err(|fault| refusal(&fault))
    };
    assert_eq!((join(), join()), (Ok(()), Ok(())));
    assert_eq!(join(), Err((7, "vni: got 4200, want one that no other definition has".to_owned())));
    assert_eq!(join(), Err((11, "pool 10.42.0.0/24 is exhausted".to_owned())));
    let asked = agent.join().unwrap();
    assert!(asked.iter().all(
        |json| matches!(wire::AgentRequest::decode(json).1, Ok(wire::AgentRequest::Join(join)) if join.wait_ms > 0)
    ));
}

#[test]
fn devices_are_told_not_known_or_missing_from_an_older_agent() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let ids: Vec<attachments::names::DeviceId> = vec!["0000:3b:02.1".parse().unwrap()];
    let allocated = std::collections::BTreeMap::from([("vendor.com/nic".to_owned(), ids)]);
    let answer = |resource: Option<&str>, devices| {
        let reference = attachments::names::NetRef { namespace: "a".parse().unwrap(), name: "b".parse().unwrap() };
        let outcome = Outcome::Found { config: None, resource_name: resource.map(str::to_owned) };
        let definitions = vec![Lookup { reference, outcome }];
        Answer::Resolved(wire::Resolved { definitions, devices, ..wire::Resolved::default() }).encode(1).unwrap()
    };
    let nic = Some("vendor.com/nic");
    let unknown = |text: &str| Some(Allocation::Unknown(text.to_owned()));
    let cases = [
        (answer(nic, Some(Devices::Known { allocated: allocated.clone() })), Some(Allocation::Told(allocated))),
        (answer(nic, Some(Devices::Unknown { reason: "no socket".into() })), unknown("no socket")),
        (answer(nic, Some(Devices::Unheard)), unknown("the node agent's answer needs a newer plugin")),
        (answer(nic, None), unknown("the node agent is older than the plugin and does not tell the pod's devices")),
        (answer(None, None), None),
    ];
    let (answers, wants): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let agent = answering(&path, answers);
    for want in wants {
        assert_eq!(ask(&Agent::new(&path), false, LONG).unwrap().devices, want);
    }
    let asked = agent.join().unwrap();
    assert!(asked.iter().all(
        |json| matches!(wire::AgentRequest::decode(json).1, Ok(wire::AgentRequest::Resolve(asked)) if asked.devices)
    ));
}

#[test]
fn every_outcome_that_is_no_definition_says_what_is_wrong() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let answer = |outcome: Outcome| {
        let reference = attachments::names::NetRef { namespace: "a".parse().unwrap(), name: "b".parse().unwrap() };
        let resolved = wire::Resolved { definitions: vec![Lookup { reference, outcome }], ..wire::Resolved::default() };
        Answer::Resolved(resolved).encode(1).unwrap()
    };
    let answers = vec![
        answer(Outcome::Broken { reason: "spec.config: got 7".into() }),
        answer(Outcome::Unreachable { reason: "refused".into() }),
        answer(Outcome::TooLarge { size: 70_000, limit: 65_536 }),
        Answer::Refused(Refusal::new(wire::Cause::Configuration, "pod a/b: annotation: too long")).encode(1).unwrap(),
        Answer::Refused(Refusal::new(wire::Cause::Addresses, "network-attachment-definition a/b: 10.0.0.7 is taken"))
            .encode(1)
            .unwrap(),
        on_file("next/answer-outcome.json"),
        on_file("1/answer-refused.json"),
        on_file("next/answer-refused.json"),
        on_file("1/answer-noted.json"),
        on_file("next/answer-too-new.json"),
    ];
    let wants = [
        (7, "network-attachment-definition a/b: spec.config: got 7"),
        (11, "network-attachment-definition a/b: not known here yet, and the API server cannot be asked: refused"),
        (7, "network-attachment-definition a/b: spec.config: got 70000 bytes, want at most 65536"),
        (7, "pod a/b: annotation: too long"),
        (110, "network-attachment-definition a/b: 10.0.0.7 is taken"),
        (11, "network-attachment-definition default/lan: the node agent's answer needs a newer plugin"),
        (11, "pod default/web: the API server has no such pod"),
        (11, "agentSocket: the node agent refuses: not now"),
        (11, "an answer to another question"),
        (11, "an answer in version 2, want 1 to 1"),
    ];
    let agent = answering(&path, answers);
    for (code, text) in wants {
        let got = refusal(&ask(&Agent::new(&path), false, LONG).unwrap_err());
        assert!(got.0 == code && got.1.contains(text), "{got:?}, want {code} {text}");
    }
    agent.join().unwrap();
}

#[test]
fn an_agent_that_is_away_is_asked_again_for_a_second() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let started = Instant::now();
    let got = refusal(&ask(&Agent::new(&path), true, LONG).unwrap_err());
    assert!(got.0 == 11 && got.1.contains("no node agent is at"), "{got:?}");
    assert!((PATIENCE..LONG).contains(&started.elapsed()), "{:?}", started.elapsed());

    drop(UnixListener::bind(&path).unwrap());
    let started = Instant::now();
    let got = refusal(&ask(&Agent::new(&path), false, LONG).unwrap_err());
    assert!(got.0 == 11 && got.1.contains("does not answer at"), "{got:?}");
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
}

#[test]
fn a_node_is_ready_while_its_agent_is_being_replaced_but_not_without_one_or_with_a_silent_one() {
    let dir = directory();
    let agent = Agent::new(&dir.path().join("agent.sock"));
    let ready = || agent.ready(Duration::from_millis(50));
    assert!(refusal(&ready().unwrap_err()).1.contains("no node agent is at"));
    let listener = UnixListener::bind(dir.path().join("agent.sock")).unwrap();
    assert!(refusal(&ready().unwrap_err()).1.contains("no answer in time"));
    drop(listener);
    ready().unwrap();
}

#[test]
fn an_agent_that_comes_back_or_dies_with_the_question_is_asked_again() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let late = {
        let path = path.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            answering(&path, vec![Vec::new(), Answer::Resolved(wire::Resolved::default()).encode(1).unwrap()])
        })
    };
    assert!(ask(&Agent::new(&path), true, LONG).is_ok());
    assert_eq!(late.join().unwrap().join().unwrap().len(), 2);
}

#[test]
fn a_stalling_agent_costs_the_deadline_and_no_more() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let within = Duration::from_millis(200);
    // Nobody accepts: the kernel takes connections until the backlog is full, and then none.
    let mut kept = Vec::new();
    for accepted in [true, false] {
        let started = Instant::now();
        let got = refusal(&ask(&Agent::new(&path), true, within).unwrap_err());
        assert_eq!(got.0, 11, "{got:?}");
        assert!((within..LONG).contains(&started.elapsed()), "{accepted} {:?}", started.elapsed());
        while accepted && let Ok(Timed { stream, .. }) = Agent::new(&path).open(Instant::now() + LONG) {
            kept.push(stream);
        }
    }
    drop(listener);
}

#[test]
fn answers_that_are_cut_or_too_long_are_no_answers() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let whole = Answer::Noted.encode(1).unwrap();
    let agent = answering(&path, vec![whole[..whole.len() - 1].to_vec(), vec![0xff; 8], b"HTTP/1.1 400 Bad".to_vec()]);
    let texts = ["went away before it answered", "a frame of 4294967295 bytes", "a frame of"];
    for text in texts {
        let got = refusal(&ask(&Agent::new(&path), false, LONG).unwrap_err());
        assert!(got.0 == 11 && got.1.contains(text), "{got:?}, want {text}");
    }
    agent.join().unwrap();
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_at_once() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let started = Instant::now();
    let got = refusal(&ask(&Agent::new(&path), true, LONG).unwrap_err());
    assert!(got.0 == 7 && got.1.starts_with("agentSocket: ") && got.1.contains("mode 0770"), "{got:?}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if std::os::unix::fs::chown(dir.path(), Some(1000), None).is_ok() {
        let got = refusal(&ask(&Agent::new(&path), true, LONG).unwrap_err());
        assert!(got.0 == 7 && got.1.contains("uid 1000"), "{got:?}");
    }
    assert!(started.elapsed() < LONG);
}

#[test]
fn a_path_too_long_for_a_socket_is_named() {
    let dir = directory();
    let path = dir.path().join("s".repeat(120));
    let got = refusal(&ask(&Agent::new(&path), false, LONG).unwrap_err());
    assert!(got.0 == 11 && got.1.contains("ssssss"), "{got:?}");
}

#[test]
fn nobody_waits_for_the_answer_to_a_report_or_to_a_status_that_waits_for_nothing() {
    let dir = directory();
    let path = dir.path().join("agent.sock");
    let agent = answering(&path, vec![Vec::new(), Vec::new()]);
    let asker = Agent::new(&path);
    let started = Instant::now();
    asker
        .publish(Publish {
            pod: pod(),
            status: "[]".into(),
            added: Vec::new(),
            annotations: Default::default(),
            wait_ms: 0,
        })
        .unwrap();
    asker.report(AddFailure { pod: pod(), reason: "NoNetworkFound".into(), message: "x".into() });
    assert!(started.elapsed() < LONG);
    let heard = agent.join().unwrap();
    assert!(matches!(AgentRequest::decode(&heard[0]).1, Ok(AgentRequest::Publish(_))));
    assert!(matches!(AgentRequest::decode(&heard[1]).1, Ok(AgentRequest::AddFailure(_))));
    drop(asker);
    Agent::new(&dir.path().join("none")).report(AddFailure {
        pod: pod(),
        reason: String::new(),
        message: String::new(),
    });
}
