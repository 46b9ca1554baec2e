//! A machine without what this suite compares with: the failure names it, and says how to get it.

use std::path::PathBuf;

use meta_cni_tests::{peers, program};

/// The first of these programs of the machine.
fn machine(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()).unwrap()
}

#[test]
fn a_reference_plugin_that_is_missing_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let missing = peers::find(empty.path(), "vlan").unwrap_err();
    for word in ["vlan is missing", empty.path().to_str().unwrap(), "run tests/peers/build"] {
        assert!(missing.contains(word), "does not say {word:?}: {missing}");
    }
    assert_eq!(peers::find(peers::dir(), "vlan").unwrap(), peers::dir().join("vlan"));
}

#[test]
fn without_go_nothing_is_built_and_go_is_asked_for() {
    let empty = tempfile::tempdir().unwrap();
    let (cache, bin) = (empty.path().join("cache"), empty.path().join("bin"));
    std::fs::create_dir(&bin).unwrap();
    for name in ["bash", "dirname", "cat", "sha256sum", "cut", "sed"] {
        std::os::unix::fs::symlink(machine(name), bin.join(name)).unwrap();
    }
    let output = program::command(peers::script()).env("PATH", &bin).env("XDG_CACHE_HOME", &cache).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()), "{said}");
    assert!(said.contains("Go is missing, want 1.") && said.contains("the reference plugins"), "{said}");
    assert!(!cache.exists(), "something was left where the next run would look");
}
