//! `meta-cnid install` and `uninstall` on directories as nodes have them: full, read-only, with the old program running.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use meta_cni_tests::program;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A node's directories, beside the directory that stands for the image.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(TempDir::with_prefix("meta-cni-install-").unwrap());
        for name in ["image", "bin", "net.d", "state"] {
            fs::create_dir(node.at(name)).unwrap();
        }
        fs::copy(program::built("meta-cni"), node.at("image/meta-cni")).unwrap();
        node
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arguments(&self, command: &mut Command, verb: &str) {
        command.arg(verb).arg("--cni-bin-dir").arg(self.at("bin"));
        match verb {
            "install" => command.arg("--from").arg(self.at("image")),
            _ => command.arg("--cni-conf-dir").arg(self.at("net.d")).arg("--state-dir").arg(self.at("state")),
        };
    }

    /// Exit status, and what it said.
    fn run(&self, verb: &str) -> (Option<i32>, String) {
        let mut command = program::command(program::built("meta-cnid"));
        self.arguments(&mut command, verb);
        Self::ended(&mut command)
    }

    /// The same in a mount namespace of its own, after these lines of a shell.
    fn run_after(&self, lines: &str, verb: &str) -> (Option<i32>, String) {
        let mut command = program::command("unshare");
        let script =
            format!("set -e; {lines}; status=0; \"$@\" || status=$?; ls -A {}; exit $status", self.at("bin").display());
        command.args(["-m", "sh", "-c", &script, "sh"]).arg(program::built("meta-cnid"));
        self.arguments(&mut command, verb);
        Self::ended(&mut command)
    }

    fn ended(command: &mut Command) -> (Option<i32>, String) {
        let finished = program::start(command, b"").finish(LIMIT);
        let said = [finished.stdout, finished.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (finished.code, said.concat())
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(dir)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_program_that_runs_is_replaced_beneath_its_own_feet() {
    let node = Node::new();
    // Whatever is running of the old version: sleep can be told how long.
    fs::copy("/usr/bin/sleep", node.at("bin/meta-cni")).unwrap();
    let mut old = program::start(program::command(node.at("bin/meta-cni")).arg("30"), b"");
    let (code, said) = node.run("install");
    assert_eq!(code, Some(0), "{said}");
    assert!(old.runs());
    old.kill();
    assert_eq!(fs::read(node.at("bin/meta-cni")).unwrap(), fs::read(node.at("image/meta-cni")).unwrap());
    assert_eq!(fs::metadata(node.at("bin/meta-cni")).unwrap().mode() & 0o7777, 0o755);
    let mut new = program::command(node.at("bin/meta-cni"));
    let answered = program::start(new.env("CNI_COMMAND", "VERSION"), b"").finish(LIMIT);
    assert_eq!(answered.code, Some(0));

    let before = fs::metadata(node.at("bin/meta-cni")).unwrap().ino();
    let (code, said) = node.run("install");
    assert!(code == Some(0) && said.contains("in place already"), "{said}");
    assert_eq!(fs::metadata(node.at("bin/meta-cni")).unwrap().ino(), before);
    assert_eq!(node.names("bin"), ["meta-cni"]);
}

#[test]
fn a_full_disk_leaves_the_old_program_and_nothing_beside_it() {
    let node = Node::new();
    let bin = node.at("bin").display().to_string();
    let (code, said) =
        node.run_after(&format!("mount -t tmpfs -o size=64k tmpfs {bin}; echo old > {bin}/meta-cni"), "install");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot write {bin}/meta-cni: No space left on device")), "{said}");
    assert!(said.starts_with("meta-cni\n"), "the directory holds one file: {said}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_reason() {
    let node = Node::new();
    let bin = node.at("bin").display().to_string();
    for (option, want) in [("ro", "mounted read-only"), ("noexec", "mounted noexec")] {
        let (code, said) = node.run_after(&format!("mount -t tmpfs -o {option} tmpfs {bin}"), "install");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("--cni-bin-dir: {bin}: {want}")), "{said}");
    }
    fs::remove_dir(node.at("bin")).unwrap();
    let (code, said) = node.run("install");
    assert!(code == Some(1) && said.contains("no such directory"), "{said}");
}

#[test]
fn uninstalling_gives_the_node_back_and_keeps_the_plugin_for_what_it_attached() {
    let node = Node::new();
    node.run("install");
    fs::write(node.at("net.d/00-meta-cni.conflist"), "{}").unwrap();
    fs::write(node.at("net.d/10-cluster.conflist"), "{}").unwrap();
    fs::create_dir(node.at("state/attached")).unwrap();
    fs::write(node.at("state/attached/meta-cni,c1,eth0"), "").unwrap();
    let (code, said) = node.run("uninstall");
    assert!(code == Some(1) && said.contains("sandboxes that still hold further networks: 1;"), "{said}");
    assert_eq!(
        (node.names("net.d"), node.names("bin")),
        (vec!["10-cluster.conflist".to_owned()], vec!["meta-cni".to_owned()])
    );
    fs::remove_file(node.at("state/attached/meta-cni,c1,eth0")).unwrap();
    assert_eq!(node.run("uninstall").0, Some(0));
    assert!(node.names("bin").is_empty());
}
