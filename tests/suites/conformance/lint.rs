//! `meta-cnictl lint` as people and pipelines call it: what it prints, and how it ends.

use std::fs;

use meta_cni_tests::program::{self, Finished};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::with_prefix("meta-cni-lint-").unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn nad(name: &str, config: Value) -> String {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name}, "spec": {"config": config.to_string()},
    })
    .to_string()
}

fn lint(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let mut command = program::command(program::built("meta-cnictl"));
    command.arg("lint").args(args);
    let Finished { code, stdout, stderr, .. } =
        program::start(&mut command, stdin.as_bytes()).finish(std::time::Duration::from_secs(20));
    (code, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const GOOD: &str = r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#;

#[test]
fn clean_files_are_passed_without_a_word() {
    let files = Files::new();
    let good = files.write("a.conflist", GOOD);
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut paths: Vec<String> =
        fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    // The node's own configuration is no network of a definition: it names the meta plugin.
    paths.retain(|path| !path.ends_with(".conflist"));
    paths.push(good);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(lint(&paths, ""), (Some(0), String::new(), String::new()));
}

#[test]
fn a_denial_is_status_1_and_a_warning_only_where_it_is_strict() {
    let files = Files::new();
    let bad = files.write("bad.json", nad("lan", json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 0})));
    let odd = files.write("odd.json", nad("odd", json!({"cniVersion": "1.0.0", "type": "bridge", "vlanID": 7})));
    let (code, out, err) = lint(&[&bad, &odd], "");
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        format!("{bad}: default/lan: cfg.vni: Invalid value: 0: must be an integer from 1 to 16777215 [X01]")
    );
    assert!(
        lines[1].starts_with(&format!(
            "{odd}: default/odd: warning: cfg.vlanID: unknown key for \"bridge\"; did you mean \"vlan\"?"
        )),
        "{out}"
    );
    assert_eq!(err, "meta-cnictl: 1 denied, 1 warned in 2 files\n");
    assert_eq!(lint(&[&odd], "").0, Some(0));
    assert_eq!(lint(&["--strict", &odd], "").0, Some(1));
}

#[test]
fn peers_that_many_hosts_or_this_one_would_answer_for_are_denied() {
    let files = Files::new();
    let peers = ["192.0.2.2", "255.255.255.255", "239.1.1.1", "127.0.0.1", "0.0.0.0"];
    let conf = json!({"cniVersion": "1.0.0", "type": "vxlan", "vni": 7, "peers": peers});
    let (code, out, _) = lint(&[&files.write("blue.json", nad("blue", conf))], "");
    assert_eq!((code, out.lines().count()), (Some(1), 4), "{out}");
    for (line, (i, peer)) in out.lines().zip(peers.iter().enumerate().skip(1)) {
        assert!(
            line.contains(&format!("cfg.peers[{i}]: Invalid value: \"{peer}\": must be a unicast IP address")),
            "{line}"
        );
    }
}

#[test]
fn json_is_one_object() {
    let files = Files::new();
    let bad = files.write("bad.json", nad("lan", json!({"cniVersion": "1.0.0", "type": "multus"})));
    let gone = files.0.path().join("gone.yaml");
    let (code, out, _) = lint(&["--output", "json", &bad, gone.to_str().unwrap()], "");
    assert_eq!(code, Some(2), "a file that cannot be read");
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["denied"], 1);
    assert_eq!(out["findings"][0]["rule"], "N17");
    assert_eq!(out["findings"][0]["field"], "spec.config.type");
    assert_eq!(out["unreadable"][0]["file"], gone.to_str().unwrap());
}

#[test]
fn stdin_directories_and_wrong_usage() {
    let (code, out, _) = lint(&["-"], "{\"type\": \"bridge\"");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("-: Invalid value: line 1 column"), "{out}");
    assert_eq!(lint(&["-"], GOOD).0, Some(0));
    let files = Files::new();
    let (code, _, err) = lint(&[files.0.path().to_str().unwrap()], "");
    assert!(code == Some(2) && err.to_lowercase().contains("directory"), "{err}");
    let binary = files.write("x.yaml", b"\xff\xfe");
    assert_eq!(lint(&[&binary], "").0, Some(2));
    for args in [&[][..], &["--color"], &["--output", "xml", "-"]] {
        let (code, out, err) = lint(args, "");
        assert!(code == Some(2) && out.is_empty() && err.contains("Usage:"), "{err}");
    }
}
