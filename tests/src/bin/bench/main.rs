//! `make bench`: whole processes, as a runtime starts them. One pod is eth0 and three more bridge networks, all with
//! host-local. Our built-ins, our plugin executing the reference plugins, and the reference plugins one by one take turns
//! on nodes of their own, so that what else the machine does meets all of them alike.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that fails stops and says where")]

mod contender;
mod measure;
mod report;

use std::path::PathBuf;

use contender::Contender;
use meta_cni_tests::{call, program};
use report::{Report, Row};
use serde_json::json;

/// Pods before anything counts: bridges are made, files are cached.
const WARM_UP: usize = 3;

/// Pods that start at once in the burst.
const BURST: usize = 50;

fn main() {
    let (count, json_path) = arguments();
    // Beside the program, on a real disk: the record's fsync is part of what is measured.
    let place = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(place).unwrap();
    let contenders = Contender::all(dir.path());
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    for round in 0..WARM_UP + count {
        for (contender, (adds, dels)) in contenders.iter().zip(&mut times) {
            let (add, del) = contender.attach_and_detach(round);
            if round >= WARM_UP {
                adds.push(add);
                dels.push(del);
            }
        }
    }

    let mut report = Report::new(count);
    for (contender, (adds, dels)) in contenders.iter().zip(&times) {
        report.pods(contender.name, &Row::of(adds), &Row::of(dels));
    }
    let plugin = call::plugin();
    let version = |_| measure::time(program::command(&plugin).env_clear().env("CNI_COMMAND", "VERSION"), b"");
    report.single("plugin VERSION, start to exit", &Row::of(&(0..200).map(version).collect::<Vec<_>>()));
    report.single("write, fsync, rename, fsync of the directory", &Row::of(&measure::synced_writes(dir.path(), 100)));
    for contender in &contenders[..2] {
        report.single(
            &format!("{BURST} ADDs at once, eth0 and one bridge: {}", contender.name),
            &Row::of(&[contender.burst(BURST)]),
        );
    }
    report.fact("peak RSS of one ADD, built-in (KiB)", json!(contenders[0].peak_rss()));
    report.fact("peak RSS of one reference bridge ADD (KiB)", json!(contenders[2].peak_rss()));
    report.fact("processes started per ADD, built-in", json!(contenders[0].processes()));
    report.fact("processes started per ADD, executing the reference plugins", json!(contenders[1].processes()));
    report.fact("size of the plugin (KiB)", json!(std::fs::metadata(&plugin).unwrap().len() / 1024));
    report.print();
    if let Some(path) = json_path {
        std::fs::write(&path, report.json()).unwrap();
        println!("\nAs JSON: {}", path.display());
    }
}

/// `--count N`, `--json FILE`.
fn arguments() -> (usize, Option<PathBuf>) {
    let (mut count, mut json_path) = (100, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--count" => count = words.next().and_then(|n| n.parse().ok()).expect("--count takes a number"),
            "--json" => json_path = words.next().map(PathBuf::from),
            other => panic!("got {other}, want --count N or --json FILE"),
        }
    }
    (count, json_path)
}
