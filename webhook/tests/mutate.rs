//! What becomes of objects: `golden/mutate/NAME.json` has a request, and what the object becomes, with what is said of it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p meta-cni-webhook` rewrites both after a deliberate change.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod cases;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use webhook::cluster::{Options, View};
use webhook::mutate::{Drawn, Mutation};

use cases::{list, mutated, view};

fn applied(object: &Value, mutation: &Mutation) -> Value {
    let mut object = object.clone();
    json_patch::patch(&mut object, &mutation.patch).unwrap();
    object
}

#[test]
fn every_object_becomes_what_it_should_and_stays_so() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mutate");
    let mut wrong = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 30, "{paths:?}");
    for path in paths {
        let case: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let (view, drawn) = (view(&case["cluster"]), Drawn::default());
        let mutation = mutated(&case["mutates"], &case, &view, &drawn);
        let said: Vec<String> = mutation.problems.iter().map(ToString::to_string).collect();
        let now = applied(&case["object"], &mutation);
        let mut told = case.clone();
        told["becomes"] = if mutation.patch.0.is_empty() { Value::Null } else { now.clone() };
        told["says"] = json!(said);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&told).unwrap())).unwrap();
        } else if told != case {
            wrong.push(format!("{}: becomes {:#}, says {said:#?}", path.display(), told["becomes"]));
        }
        // Shown again, it stays; and what is refused is not changed.
        told["object"] = now;
        let again = mutated(&case["mutates"], &told, &view, &drawn);
        if !again.patch.0.is_empty() {
            wrong.push(format!("{}: changed again: {:?}", path.display(), again.patch));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn overlay(name: &str) -> Value {
    json!({"operation": "CREATE", "object": {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "shop", "name": name}, "spec": {"config": r#"{"type":"vxlan"}"#}}})
}

fn vni(told: &Value, mutation: &Mutation) -> Option<u64> {
    let text = applied(&told["object"], mutation)["spec"]["config"].as_str().unwrap().to_owned();
    serde_json::from_str::<Value>(&text).unwrap()["vni"].as_u64()
}

#[test]
fn before_the_cache_hears_of_any_each_of_many_has_a_vni_of_its_own() {
    let (view, drawn, mut seen) = (View::new(Options::default()), Drawn::default(), HashSet::new());
    let settings = json!({"vniRange": [100_000, 100_049]});
    for number in 0..50 {
        let told = overlay(&format!("net-{number}"));
        assert!(seen.insert(vni(&told, &mutated(&settings, &told, &view, &drawn)).unwrap()), "{number}");
    }
    let full = mutated(&settings, &overlay("more"), &view, &drawn);
    assert!(full.problems.len() == 1 && full.patch.0.is_empty());
    // Another replica knows nothing of it.
    assert!(vni(&overlay("more"), &mutated(&settings, &overlay("more"), &view, &Drawn::default())).is_some());
}

#[test]
fn a_dry_run_takes_nothing() {
    let (view, drawn) = (View::new(Options::default()), Drawn::default());
    let settings = json!({"vniRange": [7, 7]});
    let mut tried = overlay("tried");
    tried["dryRun"] = json!(true);
    for told in [&tried, &tried, &overlay("made")] {
        assert_eq!(vni(told, &mutated(&settings, told, &view, &drawn)), Some(7));
    }
    let late = mutated(&settings, &tried, &view, &drawn);
    assert_eq!(late.problems.len(), 1, "{:?}", late.patch);
}

#[test]
fn a_range_that_is_taken_to_the_last_is_searched_once() {
    let mut cluster = json!({"definitions": []});
    let definitions = cluster["definitions"].as_array_mut().unwrap();
    for vni in 1..=2000 {
        definitions.push(json!({"ref": format!("infra/n{vni}"), "config": {"type": "vxlan", "vni": vni}}));
    }
    let view = view(&cluster);
    for name in ["a", "b", "c"] {
        let told = overlay(name);
        let range = |max: u32| json!({"vniRange": [1, max]});
        assert_eq!(vni(&told, &mutated(&range(2001), &told, &view, &Drawn::default())), Some(2001));
        assert_eq!(mutated(&range(2000), &told, &view, &Drawn::default()).problems.len(), 1);
    }
    assert_eq!(list(&cluster["definitions"]).len(), 2000);
}
