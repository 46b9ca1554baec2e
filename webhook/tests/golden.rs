//! Reviews as the API server sends them, and the answers it gets: `golden/NAME.request.json` and `NAME.response.json`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p meta-cni-webhook` rewrites the answers after a deliberate change.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use webhook::facts::Facts;
use webhook::review::answer;

#[test]
fn every_review_gets_its_answer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".request.json").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let request = fs::read(dir.join(format!("{name}.request.json"))).unwrap();
        let answered = serde_json::to_value(answer(&request, &Facts::default()).unwrap().review).unwrap();
        let path = dir.join(format!("{name}.response.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&answered).unwrap())).unwrap();
        }
        let want: Value = serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default();
        assert_eq!(answered, want, "{name}: {answered:#}");
    }
}
