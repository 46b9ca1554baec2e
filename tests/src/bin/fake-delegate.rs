//! The scripted recording delegate; see [`meta_cni_tests::fake`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fake that fails must be seen")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meta_cni_tests::fake::{CALLS, Fakes, Rule, Seen, usual_result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use serde_json::{Value, json};

fn main() {
    let started_as = PathBuf::from(std::env::args_os().next().unwrap());
    let dir = started_as.parent().filter(|dir| dir.is_absolute()).expect("started by an absolute path").to_owned();
    let plugin = started_as.file_name().unwrap().to_str().unwrap().to_owned();
    let env: BTreeMap<String, String> = std::env::vars().filter(|(name, _)| name.starts_with("CNI_")).collect();
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).unwrap();
    let netns = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
    let seen = Seen { plugin, env, stdin, netns, pid: getpid().as_raw() };
    append(&dir.join(CALLS), &(serde_json::to_string(&seen).unwrap() + "\n"));
    let rule = find(&Fakes::new(&dir), &seen).unwrap_or_default();
    obey(&rule, &seen);
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn find(fakes: &Fakes, seen: &Seen) -> Option<Rule> {
    let network =
        serde_json::from_str::<Value>(&seen.stdin).ok().and_then(|conf| Some(conf["name"].as_str()?.to_owned()));
    let fits = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|want| want == have);
    fakes.read_rules(&seen.plugin).into_iter().enumerate().find_map(|(i, rule)| {
        let used = fakes.used(&seen.plugin, i);
        let spent = std::fs::metadata(&used).map_or(0, |data| data.len());
        let fitting = fits(&rule.verb, seen.var("CNI_COMMAND"))
            && fits(&rule.ifname, seen.var("CNI_IFNAME"))
            && fits(&rule.network, network.as_deref().unwrap_or(""))
            && rule.times.is_none_or(|times| spent < times);
        if fitting {
            append(&used, "x");
        }
        fitting.then_some(rule)
    })
}

fn obey(rule: &Rule, seen: &Seen) {
    if let Some(text) = &rule.stderr {
        eprint!("{text}");
    }
    if let Some(file) = &rule.wait_for {
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    if let Some(file) = &rule.orphan_until {
        let script = "while ! [ -e \"$0\" ]; do sleep 0.02; done";
        let mut orphan = meta_cni_tests::program::command("setsid");
        assert!(orphan.args(["--fork", "sh", "-c", script]).arg(file).status().unwrap().success());
    }
    if rule.kill_parent {
        kill(getppid(), Signal::SIGKILL).unwrap();
        // Until the parent is gone its pipes are there and an answer could still arrive.
        let me = getppid();
        while getppid() == me && me != Pid::from_raw(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let text = rule.print.clone().unwrap_or_else(|| usual(seen));
    // A parent that is gone or stopped listening is no matter of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
    if rule.hang {
        std::thread::sleep(Duration::from_secs(3600));
    }
    if let Some(signal) = rule.signal {
        kill(getpid(), Signal::try_from(signal).unwrap()).unwrap();
    }
    std::process::exit(rule.exit);
}

fn usual(seen: &Seen) -> String {
    match seen.var("CNI_COMMAND") {
        "ADD" => usual_result(&seen.conf(), seen.var("CNI_IFNAME"), seen.var("CNI_NETNS")).to_string(),
        "VERSION" => json!({"cniVersion": "1.1.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}).to_string(),
        _ => String::new(),
    }
}
