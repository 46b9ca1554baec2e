//! Uninstallations on directories that stand for a node's; `tests/suites/conformance/install.rs` has those with the real plugin.

use std::fs;

use super::*;

fn node() -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "net.d", "state", "cache", "run"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| dir.path().join(name);
    let options = Options {
        cni_bin_dir: at("bin"),
        cni_conf_dir: at("net.d"),
        conf_file: conf::FILE.to_owned(),
        state_dir: at("state"),
        cache_dir: at("cache"),
        socket: at("run/agent.sock"),
        in_host: false,
        host_process: None,
        wait: false,
        force: false,
        stay: false,
    };
    (dir, options)
}

#[test]
fn the_configuration_is_kept_until_the_end() {
    let (dir, options) = node();
    fs::write(dir.path().join("net.d").join(conf::FILE), "text").unwrap();
    fs::write(dir.path().join("net.d/10-cluster.conflist"), "{}").unwrap();
    assert!(take_conf_away(&options).unwrap());
    assert!(!take_conf_away(&options).unwrap());
    assert_eq!(fs::read_to_string(dir.path().join("state").join(KEPT_CONF)).unwrap(), "text");
    assert_eq!(fs::read_dir(dir.path().join("net.d")).unwrap().count(), 1);
}

#[test]
fn the_plugin_stays_as_long_as_a_record_may_hold_further_networks() {
    let (dir, options) = node();
    fs::create_dir_all(dir.path().join("state/attached")).unwrap();
    fs::write(dir.path().join("state/attached/meta-cni,c1,eth0"), "").unwrap();
    fs::write(dir.path().join("bin/meta-cni"), "program").unwrap();
    let fault = attempt(&options).unwrap_err().to_string();
    assert!(fault.starts_with("sandboxes that still hold further networks: 1;"), "{fault}");
    assert!(fault.ends_with("delete these pods: sandbox c1"), "{fault}");
    assert!(dir.path().join("bin/meta-cni").exists() && dir.path().join("state/attached").exists());
}

#[test]
fn a_message_names_some_of_the_pods() {
    let pods: Vec<String> = (1..=7).map(|i| format!("shop/web-{i}")).collect();
    assert_eq!(shown(&pods), "shop/web-1, shop/web-2, shop/web-3, shop/web-4, shop/web-5 and 2 more");
    assert_eq!(shown(&pods[..1]), "shop/web-1");
}

#[test]
fn both_sockets_go_and_what_is_somebody_elses_stays() {
    let (dir, options) = node();
    for name in ["agent.sock", "metrics.sock", "others.sock"] {
        fs::write(dir.path().join("run").join(name), "").unwrap();
    }
    files::remove_sockets(&options.socket).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
    fs::remove_file(dir.path().join("run/others.sock")).unwrap();
    files::remove_sockets(&options.socket).unwrap();
    assert!(!dir.path().join("run").exists());
}
