use super::*;

fn net(namespace: &str, name: &str) -> NetRef {
    NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
}

fn text(length: usize) -> Arc<Outcome> {
    Arc::new(Outcome::Found { config: Some("x".repeat(length)), resource_name: None })
}

/// Reads one definition of a length.
fn read(cache: &mut Cache, reference: &NetRef, revision: &str, length: usize) -> bool {
    cache.begin_read(reference);
    cache.put(reference, revision, text(length))
}

fn is_here(cache: &mut Cache, reference: &NetRef) -> bool {
    matches!(cache.look(reference), Known::Current(Some(_)))
}

#[test]
fn what_was_read_counts_until_the_watch_tells_of_another_version() {
    let (mut cache, lan) = (Cache::default(), net("a", "lan"));
    assert_eq!(cache.look(&lan), Known::Nothing);
    assert!(read(&mut cache, &lan, "1", 10));
    assert_eq!(cache.look(&lan), Known::Current(Some(text(10))));
    assert!(!cache.told(&lan, "1") && is_here(&mut cache, &lan));
    assert!(cache.told(&lan, "2"));
    assert_eq!(cache.look(&lan), Known::Nothing);
    read(&mut cache, &lan, "2", 10);
    assert!(cache.gone(&lan) && !cache.gone(&lan));
    assert_eq!((cache.look(&lan), cache.in_memory), (Known::Nothing, 0));
}

#[test]
fn a_version_that_the_watch_told_of_during_the_read_wins() {
    let (mut cache, lan) = (Cache::default(), net("a", "lan"));
    for told in ["2", ""] {
        cache.begin_read(&lan);
        if told.is_empty() {
            cache.gone(&lan)
        } else {
            cache.told(&lan, told)
        };
        assert!(!cache.put(&lan, "1", text(10)), "{told:?}");
        assert_eq!(cache.look(&lan), Known::Nothing);
    }
    cache.begin_read(&lan);
    cache.told(&lan, "2");
    assert!(cache.put(&lan, "2", text(10)));
    cache.begin_read(&lan);
    cache.told(&lan, "3");
    cache.put_absent(&lan, true);
    cache.begin();
    cache.end();
    assert_eq!(cache.look(&lan), Known::Nothing, "made while it was looked for");
}

#[test]
fn what_does_not_exist_is_remembered_while_the_watch_would_tell() {
    let (mut cache, lan) = (Cache::default(), net("a", "lan"));
    cache.put_absent(&lan, true);
    assert_eq!(cache.look(&lan), Known::Nothing, "nobody watches yet");
    cache.begin();
    cache.end();
    assert_eq!(cache.look(&lan), Known::Absent);
    cache.told(&lan, "1");
    assert_eq!(cache.look(&lan), Known::Nothing);
    cache.put_absent(&lan, false);
    assert_eq!(cache.look(&lan), Known::Nothing);
    cache.put_absent(&lan, true);
    for number in 0..ABSENT {
        cache.put_absent(&net("other", &format!("n{number}")), true);
    }
    assert_eq!((cache.look(&lan), cache.absent.len()), (Known::Nothing, ABSENT));
}

#[test]
fn a_file_counts_once_the_list_confirms_it_and_goes_when_the_list_lacks_it() {
    let mut cache = Cache::default();
    let (kept, changed, deleted) = (net("a", "kept"), net("a", "changed"), net("a", "deleted"));
    for reference in [&kept, &changed, &deleted] {
        cache.found_file(reference.clone(), "1".into(), 100);
        assert_eq!(cache.look(reference), Known::Unconfirmed);
    }
    cache.begin();
    assert!(!cache.told(&kept, "1") && cache.told(&changed, "2"));
    // Read while the list is under way, behind its back.
    let fresh = net("a", "fresh");
    read(&mut cache, &fresh, "9", 10);
    assert_eq!(cache.end(), std::slice::from_ref(&deleted));
    assert_eq!(cache.look(&kept), Known::Current(None), "its text is in the file");
    assert_eq!((cache.look(&changed), cache.look(&deleted)), (Known::Nothing, Known::Nothing));
    assert!(is_here(&mut cache, &fresh));
    cache.put_back(&kept, &text(100));
    assert!(is_here(&mut cache, &kept));
}

#[test]
fn texts_stay_within_the_budget_and_the_least_used_of_the_fullest_namespace_goes() {
    let mut cache = Cache::default();
    let quiet: Vec<_> = (0..8).map(|number| net("quiet", &format!("n{number}"))).collect();
    for reference in &quiet {
        read(&mut cache, reference, "1", 60 << 10);
    }
    let loud = |number: usize| net("loud", &format!("n{number}"));
    for number in 0..1000 {
        read(&mut cache, &loud(number), "1", 60 << 10);
        assert!(cache.in_memory <= IN_MEMORY);
        assert!(is_here(&mut cache, &loud(0)) || number > 100, "what is used stays");
    }
    assert!(quiet.iter().all(|reference| is_here(&mut cache, reference)), "one namespace pushes out nobody else's");
    assert!(is_here(&mut cache, &loud(999)) && !is_here(&mut cache, &loud(500)));
    let left = cache.entries.len();
    assert!(left < 150, "{left}");
}

#[test]
fn what_is_in_a_file_stays_known_and_files_have_bounds_of_their_own() {
    let mut cache = Cache::default();
    let name = |number: usize| net("a", &format!("n{number}"));
    let used = |reference: &NetRef| *reference == name(0);
    let mut gone = Vec::new();
    for number in 0..=IN_FILES.1 {
        read(&mut cache, &name(number), "1", 40 << 10);
        gone.extend(cache.filed(&name(number), 40 << 10, used));
    }
    assert!(gone.contains(&name(1)) && !gone.contains(&name(0)), "used ones stay longest");
    assert_eq!(cache.look(&name(0)), Known::Current(None), "in its file, no longer in memory");
    let files: usize = cache.entries.values().filter_map(|entry| entry.filed).sum();
    assert!(files <= IN_FILES.0 && files > IN_FILES.0 - (64 << 10), "{files}");
    cache.unfile(&name(0));
    assert_eq!(cache.look(&name(0)), Known::Nothing);
    let (mut small, mut gone) = (Cache::default(), 0);
    for number in 0..IN_FILES.1 + 5 {
        read(&mut small, &name(number), "1", 1);
        gone += small.filed(&name(number), 1, |_| true).len();
    }
    assert_eq!(gone, 5);
}
