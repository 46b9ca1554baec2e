//! Codes, words and their order, over every kind of fault.

use std::collections::HashSet;
use std::mem::discriminant;

use attachments::names::NetRef;

use super::*;

fn quoted(code: u32, msg: &str) -> Fault {
    let object = ErrorObject { cni_version: String::new(), code, msg: msg.to_owned(), details: msg.to_uppercase() };
    Fault::Delegate { subject: "network a/b (net1)".to_owned(), source: DelegateError::Plugin(object) }
}

#[test]
fn a_delegates_code_and_details_are_kept() {
    let object = quoted(11, "later").to_object(Some(Verb::Add), Version::V1_0_0);
    assert_eq!((object.code, object.msg.as_str()), (11, "network a/b (net1): later"));
    assert_eq!(object.details, "LATER");
}

#[test]
fn no_del_error_reads_as_already_gone() {
    let fault = quoted(5, "Link not found: No such file or directory, NOT FOUND");
    let object = fault.to_object(Some(Verb::Del), Version::V1_0_0);
    let text = format!("{} {}", object.msg, object.details).to_lowercase();
    assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");
    assert!(text.contains("link absent: absent (enoent), absent"), "{text}");
    assert!(fault.to_object(Some(Verb::Add), Version::V1_0_0).msg.contains("not found"));
}

#[test]
fn a_long_message_keeps_its_end_and_is_whole_in_the_details() {
    let chain = "failed to set up pod: ".repeat(40);
    let object = quoted(999, &format!("{chain}address in use")).to_object(Some(Verb::Add), Version::V1_0_0);
    assert_eq!(object.msg.chars().count(), SEEN);
    assert!(object.msg.starts_with("network a/b (net1): failed to set up pod"), "{}", object.msg);
    assert!(object.msg.ends_with("pod: address in use"), "{}", object.msg);
    assert!(object.details.starts_with(&format!("network a/b (net1): {chain}address in use; FAILED")));
}

const LONG: &str = "abcdefghijklmnopqrstuvwxyz";

fn finding() -> Finding {
    let allowed = format!("an integer from 1 to 16777215 {}", LONG.repeat(20));
    Finding::new("plugins[0].ipam.ranges[0][0].subnet", format_args!("\"value {}\"", LONG.repeat(40)), allowed)
}

fn of_delegate(source: DelegateError) -> Fault {
    Fault::Delegate { subject: "network production/storage-of-the-nodes (net1)".to_owned(), source }
}

/// One of each kind of a delegate's error, with a text as long as its input can make it, and what must be seen of it.
fn errors() -> Vec<(DelegateError, &'static str)> {
    let long = LONG.repeat(40);
    let path = || format!("/run/netns/{long}");
    let io = std::io::Error::from(Errno::ENOSPC);
    let object =
        ErrorObject { cni_version: String::new(), code: 11, msg: format!("{long}: the cause"), details: String::new() };
    vec![
        (DelegateError::Config(vec![finding(), finding()]), "subnet: got \"value "),
        (
            DelegateError::Kernel { op: format!("open {}", path()), errno: 13, detail: "why".to_owned() },
            "Permission denied (why)",
        ),
        (DelegateError::Parent(finding()), "subnet: got \"value "),
        (DelegateError::Netns { path: path(), allowed: "a network namespace".to_owned() }, "want a network namespace"),
        (DelegateError::Addresses(format!("no address is free in {long}")), "no address is free"),
        (DelegateError::Io { op: format!("write {}", path()), source: io }, "No space left on device"),
        (DelegateError::Plugin(object), "the cause"),
        (DelegateError::NoPlugin { kind: "nope".to_owned(), dirs: long.clone() }, "\"nope\" is in none of"),
        (
            DelegateError::BadAnswer {
                kind: "odd".to_owned(),
                what: format!("exit status 2, stderr \"{long} the cause\""),
            },
            "the cause\"",
        ),
        (DelegateError::Late(format!("ADD of plugin odd in network {long}")), "did not finish before the deadline"),
        (DelegateError::Differs(format!("MTU of net1 is 1500, want 1400 {long}")), "MTU of net1 is 1500"),
        (DelegateError::NotReady(format!("parent eth7 is down {long}")), "parent eth7 is down"),
    ]
}

#[test]
fn network_value_and_cause_are_seen_of_every_fault() {
    let long = LONG.repeat(40);
    let reference =
        NetRef { namespace: "another-team".parse().unwrap(), name: "storage-of-the-nodes".parse().unwrap() };
    let isolated = BindError::Isolated { pod: "production".parse().unwrap(), network: reference.clone() };
    let broken = format!("; skipped 10-x.conf: got {long}, want a CNI configuration");
    let namespace = || reference.namespace.clone();
    let mut faults: Vec<(Fault, &str)> = vec![
        (Fault::Environment(finding().under("CNI_ARGS").to_string()), "subnet: got \"value "),
        (
            Fault::Decode(format!("invalid type: string \"{long}\", expected a map at line 1 column 2")),
            "expected a map at line 1",
        ),
        (Fault::Version(finding().to_string()), "subnet: got \"value "),
        (finding().under("delegates[0]").into(), "delegates[0].plugins[0].ipam.ranges[0][0].subnet: got \"value "),
        (
            finding().under("network-attachment-definition production/storage-of-the-nodes: spec.config").into(),
            "value abc",
        ),
        (Fault::Unsupported(format!("storage-of-the-nodes: 10.0.0.1 was asked for {long}")), "10.0.0.1 was asked for"),
        (Fault::Netns(format!("CNI_NETNS: got \"/{long}\", want a network namespace")), "want a network namespace"),
        (Fault::Io(format!("stateDir: cannot write to /{long}: No space left on device")), "No space left on device"),
        (
            Fault::TryLater(format!("readinessindicatorfile: /{long} is not there: the default network is not ready")),
            "is not ready",
        ),
        (BindError::NoDefinition(reference.clone()).into(), "(storage-of-the-nodes) in namespace (another-team)"),
        (
            BindError::NoNetwork { name: "lan".to_owned(), namespace: namespace(), broken: broken.clone() }.into(),
            "cannot find network \"lan\"",
        ),
        (
            BindError::NoConfiguration { reference: reference.clone(), broken }.into(),
            "another-team/storage-of-the-nodes: spec.config is empty",
        ),
        (Fault::Unknown(format!("sandbox {long} has no attachments")), "has no attachments"),
        (isolated.into(), "network another-team/storage-of-the-nodes: namespace isolation enabled"),
        (
            Fault::Exists(format!("CNI_CONTAINERID: got {long}, which is attached already; want a DEL first")),
            "attached already",
        ),
        (Fault::NotAvailable(format!("network lan: parent eth7 is down {long}")), "parent eth7 is down"),
        (
            Fault::Several(vec![of_delegate(DelegateError::NotReady("first".to_owned())), Fault::Io(long.clone())]),
            "(net1): first",
        ),
        (Fault::Bug(format!("{long}: the cause")), "the cause"),
    ];
    faults.extend(errors().into_iter().map(|(error, cause)| (of_delegate(error), cause)));
    let kinds: HashSet<_> = faults.iter().map(|(fault, _)| discriminant(fault)).collect();
    assert_eq!(kinds.len(), 16, "a kind of fault is missing here");
    for (fault, cause) in faults {
        let object = fault.to_object(Some(Verb::Add), Version::V1_0_0);
        let seen: String = object.msg.chars().take(SEEN).collect();
        assert!(seen.contains(cause), "{cause:?} is not in {seen:?}");
        if let Fault::Delegate { subject, .. } = &fault {
            assert!(seen.starts_with(subject), "{seen:?}");
        }
        let whole = fault.to_string();
        assert!(object.msg == whole || object.details.starts_with(&whole), "{cause:?}: part of the text is lost");
    }
}

#[test]
fn several_faults_take_the_first_code() {
    assert!(Fault::several(Vec::new()).is_ok());
    let both = Fault::several(vec![quoted(11, "a"), Fault::Io("b".into())]).unwrap_err();
    assert_eq!(both.code(), 11);
    assert_eq!(both.to_string(), "network a/b (net1): a; b");
}
