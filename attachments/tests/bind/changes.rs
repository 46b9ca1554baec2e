//! Edits of a running pod's annotation: what stays, what goes, what comes and under which name.

use super::*;

fn scene() -> Scene {
    Scene::new().defines("pods/a", PLAIN).defines("pods/b", OTHER).defines("pods/c", THIRD)
}

const OTHER: &str = r#"{"cniVersion":"1.0.0","name":"other","type":"x"}"#;
const THIRD: &str = r#"{"cniVersion":"1.0.0","name":"third","type":"x"}"#;

/// The names of what goes and of what comes when the annotation of a pod becomes another one.
fn edit(before: &str, after: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let held = scene().wants(before).bound();
    let mut scene = scene().wants(after);
    let changes = Changes::between(&held, &scene.selection.networks).map_err(|finding| finding.to_string())?;
    let gone = changes.removed.iter().map(|at| held[*at].ifname.to_string()).collect();
    scene.growth = Some((held, changes.added));
    let bound = scene.bind().map_err(|error| error.to_string())?;
    let come = bound.attachments.iter().map(|one| format!("{} {}", one.source, one.ifname));
    assert!(bound.attachments.iter().all(|one| !one.is_default));
    Ok((gone, come.collect()))
}

#[test]
fn what_stays_keeps_its_name_wherever_it_stands() {
    for (before, after, gone, come) in [
        ("a", "a", &[][..], &[][..]),
        ("", "a,b", &[], &["pods/a net1", "pods/b net2"]),
        ("a,b", "", &["net1", "net2"], &[]),
        ("a,b", "b,a", &[], &[]),
        ("a,b", "b", &["net1"], &[]),
        // What is new comes before what is old goes: its name is not free yet.
        ("a,b", "b,c", &["net1"], &["pods/c net3"]),
        ("a", "c,a,b", &[], &["pods/c net2", "pods/b net3"]),
        ("a", "a,b,c@net2", &[], &["pods/b net3", "pods/c net2"]),
    ] {
        let want = (gone.iter().map(ToString::to_string).collect(), come.iter().map(ToString::to_string).collect());
        assert_eq!(edit(before, after).unwrap(), want, "{before:?} becomes {after:?}");
    }
}

#[test]
fn of_two_attachments_of_one_network_the_right_one_goes() {
    for (before, after, gone) in [
        ("a,a", "a", "net2"),
        ("a,a", "a@net2", "net1"),
        ("a@x,a@y", "a@y", "x"),
        ("a@x,a@y", "a", "y"),
        (r#"[{"name":"a","mac":"02:00:00:00:00:01"},{"name":"a"}]"#, "a", "net1"),
        (r#"[{"name":"a"},{"name":"a","cni-args":{"x":1}}]"#, r#"[{"name":"a","cni-args":{ "x" : 1 }}]"#, "net1"),
    ] {
        assert_eq!(edit(before, after).unwrap(), (vec![gone.to_owned()], Vec::new()), "{before:?} becomes {after:?}");
    }
}

#[test]
fn nothing_is_changed_in_place_and_no_name_is_given_twice() {
    for (before, after, words) in [
        ("a@x", r#"[{"name":"a","interface":"x","mac":"02:00:00:00:00:01"}]"#, "pods/a has it, and nothing is changed"),
        ("a", "b@net1", "pods/a has it, and nothing is changed in place; remove it first"),
        ("a", "a,b@eth0", "a name that no earlier attachment has (cluster has it)"),
        ("a", "a,b@lo", "a name other than lo"),
        ("a", "a,b@x,c@x", "a name that no earlier attachment has (pods/b has it)"),
    ] {
        let refusal = edit(before, after).unwrap_err();
        assert!(refusal.contains(words), "{before:?} becomes {after:?}: {refusal}");
    }
}

#[test]
fn the_most_attachments_are_counted_over_all_and_a_file_of_the_node_is_nobodys_request() {
    let mut scene = scene().wants("a,b,c");
    let held = scene.bound();
    scene.rules.max_attachments = 2;
    scene.growth = Some((held[..3].to_vec(), vec![2]));
    assert!(scene.refusal().contains("3 networks, want at most 2 (maxAttachments)"), "{}", scene.refusal());
    let mut given = held;
    for one in &mut given {
        (one.selected, one.is_tenants) = (None, false);
    }
    assert!(Changes::between(&given, &[]).unwrap().is_empty());
}

#[test]
fn the_record_of_an_earlier_version_is_compared_by_what_it_shows() {
    let config = r#"{"name":"lan","plugins":[{"type":"x","capabilities":{"mac":true}}]}"#;
    let scene = Scene::new().defines("pods/a", config);
    let with_mac = r#"[{"name":"a","mac":"02:00:00:00:00:01","cni-args":{"x":1}}]"#;
    let mut held = scene.wants(with_mac).bound();
    held[1].selected = None;
    let networks = |annotation: &str| parse(NETWORKS, annotation, &"pods".parse().unwrap()).unwrap();
    assert!(Changes::between(&held, &networks(with_mac)).unwrap().is_empty());
    let other = Changes::between(&held, &networks("a")).unwrap();
    assert_eq!((other.removed, other.added), (vec![1], vec![0]));
}
