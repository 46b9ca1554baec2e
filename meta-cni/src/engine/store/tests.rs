use super::super::record::Undone;
use super::*;

fn intent(container: &str) -> Intent {
    Intent {
        key: Key {
            network: "node".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        },
        pod: None,
        netns: "/run/netns/a".into(),
        netns_id: (4, 1),
        boot: None,
        plugin_dirs: Vec::new(),
        builtin: None,
        strict: false,
        attachments: Vec::new(),
        asked: None,
    }
}

#[test]
fn a_record_moves_from_pending_to_attached_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("state"));
    let mut file = store.begin(&intent("c1")).unwrap();
    assert_eq!(store.pending().unwrap().len(), 1);
    file.append(&Entry::Done(&Done::default())).unwrap();
    file.settle().unwrap();
    assert!(store.pending().unwrap().is_empty());
    assert_eq!(store.settled().unwrap()[0].0, intent("c1").key);

    let mut found = store.find(&intent("c1").key).unwrap().unwrap();
    assert!(found.record.done.is_some());
    found.unsettle().unwrap();
    found.append(&Entry::Undone(&Undone { attachment: 0 })).unwrap();
    assert_eq!(store.keys().unwrap(), [intent("c1").key]);
    assert!(store.is_recorded(&intent("c1").key.container) && !store.is_recorded(&intent("c2").key.container));
    assert!(store.tombstones().containers().is_empty());
    let again = store.find(&intent("c1").key).unwrap().unwrap();
    assert_eq!(again.record.undone, [0]);
    again.remove(None).unwrap();
    assert!(store.find(&intent("c1").key).unwrap().is_none());
    assert!(store.tombstones().containers().contains(&intent("c1").key.container));
}

#[test]
fn a_time_that_is_still_to_come_is_long_ago() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let file = store.begin(&intent("c1")).unwrap();
    assert!(store.idle(&file.key).unwrap() < Duration::from_secs(3600));
    let stepped = File::options().append(true).open(dir.path().join("pending/node,c1,eth0")).unwrap();
    stepped.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    assert_eq!(store.idle(&file.key), Some(Duration::MAX));
    assert_eq!(store.pending().unwrap()[0].idle, Duration::MAX);
    file.touch();
    assert!(store.idle(&file.key).unwrap() < Duration::from_secs(3600), "the next attempt waits as ever");
    // A DEL that failed before the step starts its time anew and is not given up at once.
    assert_eq!(store.failing_for(&file.key).unwrap(), Duration::ZERO);
    let mark = File::options().append(true).open(dir.path().join("damaged/node,c1,eth0")).unwrap();
    mark.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
    assert!(store.failing_for(&file.key).unwrap() >= Duration::from_secs(1000));
    mark.set_modified(SystemTime::now() + Duration::from_secs(1000)).unwrap();
    assert_eq!(store.failing_for(&file.key).unwrap(), Duration::ZERO);
}

#[test]
fn of_many_pending_records_a_few_are_given_and_each_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    for number in 0..100 {
        store.begin(&intent(&format!("c{number}"))).unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let some = store.some_pending(1024, 16).unwrap();
        assert_eq!(some.len(), 16);
        seen.extend(some.iter().map(Key::to_string));
    }
    assert_eq!(seen.len(), 100);
    assert_eq!(store.some_pending(10, 16).unwrap().len(), 10);
    assert!(Store::new(&dir.path().join("other")).some_pending(10, 16).unwrap().is_empty());
}

#[test]
fn whose_a_record_is_stands_at_its_beginning_and_failed_undos_are_found_by_pod() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let pod = |name: &str| PodRef { namespace: "ns".parse().unwrap(), name: name.parse().unwrap(), uid: None };
    let mut file = store.begin(&Intent { pod: Some(pod("web-0")), ..intent("c1") }).unwrap();
    let key = file.key.clone();
    assert!(store.is_about(&key, &pod("web-0")));
    assert!(!store.is_about(&key, &pod("web")) && !store.is_about(&key, &pod("web-01")));

    file.note_failure(Some(&pod("web-0")));
    assert_eq!(store.failed().keys(&pod("web-0")), std::slice::from_ref(&key));
    assert!(store.failed().keys(&pod("web-1")).is_empty());
    store.sweep();
    assert_eq!(store.failed().keys(&pod("web-0")).len(), 1, "its record is there");
    file.append(&Entry::Undone(&Undone { attachment: 0 })).unwrap();
    file.remove(Some(&pod("web-0"))).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("failed")).unwrap().count(), 0);
    // By hand, as people do.
    store.failed().note(&pod("web-0"), &key);
    store.failing_for(&key).unwrap();
    fs::write(dir.path().join("probe.4711"), "x").unwrap();
    store.sweep();
    assert!(!dir.path().join("probe.4711").exists());
    let left = ["failed", "damaged"].map(|sub| fs::read_dir(dir.path().join(sub)).unwrap().count());
    assert_eq!(left, [0, 0]);
}

#[test]
fn a_second_record_of_the_same_set_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let _first = store.begin(&intent("c1")).unwrap();
    assert_eq!(store.begin(&intent("c1")).unwrap_err().code(), 5);
    assert!(store.begin(&intent("c2")).is_ok());
}

#[test]
fn a_name_that_no_file_system_takes_is_refused_with_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = intent("c1");
    long.key.network = "n".repeat(260).parse().unwrap();
    let fault = Store::new(dir.path()).begin(&long).unwrap_err();
    assert_eq!(fault.code(), 7);
    assert!(fault.to_string().contains("want at most 253"), "{fault}");
}
