use std::collections::BTreeMap;
use std::path::PathBuf;

use attachments::dialect::alias::Alias;
use attachments::dialect::objects::{ForeignRef, Kind};
use attachments::names::{NetRef, PodRef};

use super::*;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(name)).unwrap()
}

fn value(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).unwrap()
}

fn net(namespace: &str, name: &str) -> NetRef {
    NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
}

fn pod(uid: Option<&str>) -> PodRef {
    PodRef { namespace: "default".parse().unwrap(), name: "web".parse().unwrap(), uid: uid.map(str::to_owned) }
}

fn resolve() -> AgentRequest {
    AgentRequest::Resolve(Resolve {
        pod: Some(pod(Some("6d4c3a52-5f0e-4a0f-8f0e-0f5f3b7f2a11"))),
        annotations: true,
        references: vec![net("default", "lan")],
        optional: vec![net("kube-system", "cluster")],
        multus_namespace: "kube-system".parse().unwrap(),
        wait_ms: 54_000,
        policies: false,
        joins: false,
        devices: false,
        objects: Vec::new(),
        candidates: Vec::new(),
        aliases: Vec::new(),
    })
}

/// From a plugin that joins networks by itself where `joins`, and in any case judges by levels and policies.
fn resolve_policies(joins: bool) -> AgentRequest {
    AgentRequest::Resolve(Resolve {
        pod: Some(pod(None)),
        annotations: false,
        references: vec![net("default", "lan")],
        optional: Vec::new(),
        multus_namespace: "kube-system".parse().unwrap(),
        wait_ms: 54_000,
        policies: true,
        joins,
        devices: false,
        objects: Vec::new(),
        candidates: Vec::new(),
        aliases: Vec::new(),
    })
}

/// From a plugin that also asks for the pod's devices.
fn resolve_devices() -> AgentRequest {
    let AgentRequest::Resolve(request) = resolve_policies(true) else { unreachable!() };
    AgentRequest::Resolve(Resolve { devices: true, ..request })
}

fn resolved_devices() -> Answer {
    let ids = |all: &[&str]| all.iter().map(|id| id.parse().unwrap()).collect();
    let allocated = [("intel.com/sriov", ids(&["0000:3b:02.1", "0000:3b:02.0"])), ("intel.com/none", ids(&[]))];
    let allocated = allocated.map(|(resource, ids)| (resource.to_owned(), ids)).into();
    Answer::Resolved(Resolved { devices: Some(Devices::Known { allocated }), ..Resolved::default() })
}

fn resolved_without_devices() -> Answer {
    let devices = Some(Devices::Unknown { reason: "the kubelet does not answer".into() });
    Answer::Resolved(Resolved { devices, ..Resolved::default() })
}

fn resolved_policies() -> Answer {
    let facts = serde_json::from_value(serde_json::json!({
        "namespaces": {"default": {"meta-cni.io/level": "baseline"}},
        "policies": {"tenant-a": {"mode": "Enforce", "rules": [
            {"name": "types", "select": "$.config.plugins[*].type", "assert": {"oneOf": ["macvlan", 7]}, "onMissing": "Pass"},
        ]}},
        "levels": {"baseline": {"masters": ["eth1"], "vniRanges": [{"min": 4000, "max": 4099}]}},
    }));
    Answer::Resolved(Resolved { policies: Some(Policies::Known { facts: facts.unwrap() }), ..Resolved::default() })
}

fn resolved_without_policies() -> Answer {
    let policies = Some(Policies::Unknown { reason: "no answer in time".into() });
    Answer::Resolved(Resolved { policies, ..Resolved::default() })
}

fn publish() -> AgentRequest {
    AgentRequest::Publish(Publish {
        pod: pod(None),
        status: "[]".into(),
        added: vec!["Add net1 [10.43.0.10/24] from default/lan".into()],
        annotations: BTreeMap::new(),
        wait_ms: 20,
    })
}

fn resolved() -> Answer {
    let lookup = |name: &str, outcome| Lookup { reference: net("default", name), outcome };
    let found =
        Outcome::Found { config: Some(r#"{"type": "bridge"}"#.into()), resource_name: Some("intel.com/sriov".into()) };
    Answer::Resolved(Resolved {
        annotations: Some([("k8s.v1.cni.cncf.io/networks".to_owned(), "lan".to_owned())].into()),
        definitions: vec![
            lookup("lan", found),
            lookup("a", Outcome::Missing),
            lookup("b", Outcome::Broken { reason: "spec.config: got 7".into() }),
            lookup("c", Outcome::Unreachable { reason: "no route".into() }),
            lookup("d", Outcome::TooLarge { size: 70_000, limit: 65_536 }),
        ],
        node: NodeAddresses::default(),
        policies: None,
        devices: None,
        objects: Vec::new(),
        aliases: Vec::new(),
    })
}

/// From an agent that tells where it is.
fn resolved_at() -> Answer {
    let node = NodeAddresses {
        internal_ips: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        api_servers: vec!["10.0.0.1".parse().unwrap()],
    };
    Answer::Resolved(Resolved { node, ..Resolved::default() })
}

fn object(kind: Kind, name: &str) -> ForeignRef {
    ForeignRef::within(&"default".parse().unwrap(), kind, name.parse().unwrap())
}

/// From a plugin whose node speaks a dialect.
fn resolve_objects() -> AgentRequest {
    let AgentRequest::Resolve(request) = resolve_policies(true) else { unreachable!() };
    AgentRequest::Resolve(Resolve { objects: vec![object(Kind::Logicalnetwork, "net1")], ..request })
}

fn resolved_objects() -> Answer {
    let found = Outcome::Found { config: Some(r#"{"plugin":"weave"}"#.into()), resource_name: None };
    let objects = vec![
        ObjectLookup { reference: object(Kind::Logicalnetwork, "net1"), outcome: found },
        ObjectLookup { reference: object(Kind::Physicalnetwork, "p"), outcome: Outcome::Missing },
    ];
    Answer::Resolved(Resolved { objects, ..Resolved::default() })
}

fn alias(name: &str) -> Alias {
    Alias { name: name.into(), namespace: "default".parse().unwrap(), shared: "admin".parse().unwrap() }
}

/// From a plugin whose node speaks a dialect that has names of its own for definitions.
fn resolve_aliases() -> AgentRequest {
    let AgentRequest::Resolve(request) = resolve_policies(true) else { unreachable!() };
    AgentRequest::Resolve(Resolve { aliases: vec![alias("net_api")], ..request })
}

fn resolved_aliases() -> Answer {
    let aliases = vec![
        AliasLookup { alias: alias("net_api"), found: vec![net("admin", "net-api")] },
        AliasLookup { alias: alias("none"), found: Vec::new() },
    ];
    Answer::Resolved(Resolved { aliases, ..Resolved::default() })
}

fn publish_beside() -> AgentRequest {
    let annotations = [("multi-ip-preferences".to_owned(), "{}".to_owned())].into();
    AgentRequest::Publish(Publish { pod: pod(None), status: "[]".into(), added: Vec::new(), annotations, wait_ms: 20 })
}

fn requests() -> [(&'static str, AgentRequest); 13] {
    let message = "cannot find a network-attachment-definition (lan) in namespace (default)".to_owned();
    let report = AddFailure { pod: pod(None), reason: "NoNetworkFound".into(), message };
    let multus_namespace = "kube-system".parse().unwrap();
    let join = Join {
        pod: pod(None),
        references: vec![net("default", "lan")],
        objects: Vec::new(),
        multus_namespace,
        wait_ms: 54_000,
        plain: false,
    };
    [
        ("resolve", resolve()),
        ("resolve-policies", resolve_policies(false)),
        ("resolve-joins", resolve_policies(true)),
        ("resolve-devices", resolve_devices()),
        ("resolve-objects", resolve_objects()),
        ("resolve-aliases", resolve_aliases()),
        ("choose", AgentRequest::Choose(Choose { pod: pod(None), wait_ms: 54_000 })),
        ("publish-beside", publish_beside()),
        ("join", AgentRequest::Join(join)),
        ("publish", publish()),
        ("report", AgentRequest::AddFailure(report)),
        ("health", AgentRequest::Health),
        ("log-level", AgentRequest::LogLevel("debug".to_owned())),
    ]
}

fn answers() -> [(&'static str, Answer); 14] {
    let health = Health {
        node: "n1".into(),
        program: "0.1.0".into(),
        pods_known: true,
        definitions_known: false,
        blockers: vec!["a default network".into()],
        dialects: Vec::new(),
    };
    let with_dialects =
        Health { definitions_known: true, blockers: Vec::new(), dialects: vec!["genie".into()], ..health.clone() };
    let refusal = Refusal::new(Cause::Later, "pod default/web: the API server has no such pod");
    [
        ("resolved", resolved()),
        ("resolved-at", resolved_at()),
        ("resolved-policies", resolved_policies()),
        ("resolved-without-policies", resolved_without_policies()),
        ("resolved-devices", resolved_devices()),
        ("resolved-without-devices", resolved_without_devices()),
        ("resolved-objects", resolved_objects()),
        ("resolved-aliases", resolved_aliases()),
        ("chosen", Answer::Chosen("weave".into())),
        ("healthy-dialects", Answer::Healthy(with_dialects)),
        ("published", Answer::Published(Published { written: true })),
        ("noted", Answer::Noted),
        ("healthy", Answer::Healthy(health)),
        ("refused", Answer::Refused(refusal)),
    ]
}

/// The JSON of a frame whose length is right.
fn json(frame: &[u8]) -> &[u8] {
    let (head, json) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(length(*head).unwrap(), json.len());
    json
}

#[test]
fn frames_of_this_version_are_read_and_written_as_they_are_on_file() {
    for (name, request) in requests() {
        let file = file(&format!("1/request-{name}.json"));
        assert_eq!(AgentRequest::decode(&file), (1, Ok(request.clone())), "{name}");
        assert_eq!(value(json(&request.encode().unwrap())), value(&file), "{name}");
    }
    for (name, answer) in answers() {
        let file = file(&format!("1/answer-{name}.json"));
        assert_eq!(Answer::decode(&file).unwrap(), answer, "{name}");
        assert_eq!(value(json(&answer.encode(1).unwrap())), value(&file), "{name}");
    }
}

#[test]
fn every_frame_on_file_is_replayed() {
    let on_file = std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frames/1")).unwrap();
    assert_eq!(on_file.count(), requests().len() + answers().len());
}

#[test]
fn requests_of_the_next_version_are_understood_in_this_one() {
    assert_eq!(AgentRequest::decode(&file("next/request-resolve.json")), (1, Ok(resolve())));
    assert_eq!(AgentRequest::decode(&file("next/request-publish.json")), (1, Ok(publish())));
    let (version, unknown) = AgentRequest::decode(&file("next/request-unknown.json"));
    assert_eq!((version, unknown.unwrap_err().cause), (1, Cause::Unsupported));
}

#[test]
fn a_request_with_no_version_in_common_is_refused_with_both_ranges() {
    let (version, refused) = AgentRequest::decode(&file("next/request-too-new.json"));
    let refusal = refused.unwrap_err();
    assert_eq!((version, refusal.cause), (1, Cause::Unsupported));
    assert_eq!(refusal.message, "a request in versions 2 to 3, want one of 1 to 1");
}

#[test]
fn answers_of_the_next_version_are_understood_in_this_one() {
    assert_eq!(Answer::decode(&file("next/answer-resolved.json")).unwrap(), resolved());
    assert_eq!(Answer::decode(&file("next/answer-resolved-at.json")).unwrap(), resolved_at());
    let Answer::Resolved(unheard) = Answer::decode(&file("next/answer-outcome.json")).unwrap() else { panic!() };
    assert_eq!(unheard.definitions[0].outcome, Outcome::Unheard);
    assert_eq!(Answer::decode(&file("next/answer-resolved-policies.json")).unwrap(), resolved_policies());
    let Answer::Resolved(unheard) = Answer::decode(&file("next/answer-policies.json")).unwrap() else { panic!() };
    assert_eq!(unheard.policies, Some(Policies::Unheard));
    let Answer::Resolved(unheard) = Answer::decode(&file("next/answer-devices.json")).unwrap() else { panic!() };
    assert_eq!(unheard.devices, Some(Devices::Unheard));
    let refused = Answer::decode(&file("next/answer-refused.json")).unwrap();
    assert_eq!(refused, Answer::Refused(Refusal::new(Cause::Internal, "not now")));
    assert!(matches!(Answer::decode(&file("next/answer-too-new.json")), Err(WireError::Version(2))));
}

#[test]
fn a_question_names_no_more_than_the_limit_and_a_frame_takes_no_more_memory_than_one() {
    let many = |number: usize| {
        let names: Vec<_> =
            (0..number).map(|n| serde_json::json!({"namespace": "n", "name": format!("d{n}")})).collect();
        let body = serde_json::json!({"references": names, "multusNamespace": "m", "waitMs": 1});
        let request = serde_json::json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body});
        AgentRequest::decode(request.to_string().as_bytes()).1
    };
    assert!(many(MOST_REFERENCES).is_ok());
    let refusal = many(MOST_REFERENCES + 1).unwrap_err();
    assert_eq!(refusal.cause, Cause::Malformed);
    assert!(refusal.message.contains("want") || refusal.message.contains("at most 4096 references"), "{refusal:?}");
    let long = Answer::Refused(Refusal::new(Cause::Later, "x".repeat(LIMIT)));
    assert!(matches!(long.encode(1), Err(WireError::Length(length)) if length > LIMIT));
}

#[test]
fn bytes_that_are_no_frame_are_refused() {
    assert!(matches!(length([0xff; 4]), Err(WireError::Length(_))));
    assert!(matches!(frame(&vec![b' '; LIMIT + 1]), Err(WireError::Length(_))));
    for garbage in
        [&b""[..], b"GET / HTTP/1.1\r\n", b"{}", b"[]", b"\xff\xfe", br#"{"newest":1,"oldest":1,"kind":"resolve"}"#]
    {
        assert_eq!(AgentRequest::decode(garbage).1.unwrap_err().cause, Cause::Malformed, "{garbage:?}");
        assert!(Answer::decode(garbage).is_err(), "{garbage:?}");
    }
}
