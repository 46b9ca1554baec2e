//! The files as a later version, or a person, will read them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ledger::{Changes, names};
use super::*;
use crate::boot;
use crate::reserved::Reserved;

const NONE: &[PathBuf] = &[];

fn node(dir: &std::path::Path) -> Node<'_> {
    let deadline = Instant::now() + Duration::from_millis(50);
    Node {
        plugin_dirs: NONE,
        builtin: None,
        state_dir: dir,
        deadline,
        reserved: Reserved::UNASKED,
        is_alone: true,
        lock: None,
    }
}

fn written() -> String {
    let boot = boot::current().map(|boot| format!(r#""boot":"{boot}","#)).unwrap_or_default();
    format!(
        concat!(
            r#"{{{boot}"link":7,"changes":[{{"change":"promiscuous","owners":["c1,net1","c2,net1"]}},"#,
            r#"{{"change":{{"sysctl":{{"key":"ipv6/conf/br0/accept_ra","value":"0"}}}},"was":"1","owners":["c1,net1"]}},"#,
            r#"{{"change":{{"address":"10.1.0.1/24"}},"owners":["c1,net1"]}},"#,
            r#"{{"change":{{"noAddress":"10.2.0.1/24"}},"owners":["c1,net1"]}},"#,
            r#"{{"change":{{"peers":["192.0.2.2","fd00::2"]}},"foreign":["fd00::2"],"owners":["c1,net1"]}}]}}"#
        ),
        boot = boot
    )
}

#[test]
fn the_layout_of_a_file_is_what_an_earlier_version_wrote() {
    let text = written();
    let changes: Changes = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&changes).unwrap(), text);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let files = Files::lock(&node(&state)).unwrap();
    files.put_changes("br0", &changes).unwrap();
    assert_eq!(std::fs::read_to_string(state.join("shared/br0")).unwrap(), text);
    assert_eq!(files.changes("br0"), Some(changes.clone()));
    assert_eq!(names(&state, CHANGES), (vec!["br0".to_owned()], false), "what was being written is in its place");
    files.put_changes("br0", &Changes { changes: Vec::new(), ..changes }).unwrap();
    assert_eq!(names(&state, CHANGES), (Vec::new(), false));
}

#[test]
fn what_cannot_be_trusted_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::lock(&node(dir.path())).unwrap();
    std::fs::create_dir(dir.path().join(CHANGES)).unwrap();
    let text = written();
    let earlier = text.replacen(r#""link""#, r#""boot":"of-last-year","link""#, 1);
    let earlier = earlier.replacen(&format!(r#""boot":"{}","#, boot::current().unwrap_or_default()), "", 1);
    for untrusted in [earlier.as_str(), &text[..text.len() - 1], "", "[]", "{}"] {
        std::fs::write(dir.path().join(CHANGES).join("br0"), untrusted).unwrap();
        assert_eq!(files.changes("br0"), None, "{untrusted}");
    }
}

#[test]
fn one_call_at_a_time_has_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let held = Files::lock(&node(dir.path())).unwrap();
    assert!(matches!(Files::lock(&node(dir.path())), Err(crate::error::Error::Late(_))));
    drop(held);
    Files::lock(&node(dir.path())).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the lock is no file");
}
