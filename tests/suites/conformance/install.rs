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
            _ => command
                .arg("--cni-conf-dir")
                .arg(self.at("net.d"))
                .arg("--state-dir")
                .arg(self.at("state"))
                .arg("--cache-dir")
                .arg(self.at("cache"))
                .arg("--socket")
                .arg(self.at("run/agent.sock")),
        };
    }

    /// Exit status, and what it said.
    fn run(&self, verb: &str) -> (Option<i32>, String) {
        // What an uninstallation finds in the kernel is not this machine's.
        let mut command = program::command("unshare");
        command.arg("--net").arg(program::built("meta-cnid"));
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

/// The node's own network, which the plugin calls too.
const CLUSTER: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni9"}]}"#;

impl Node {
    /// With the plugin and our configuration.
    fn installed() -> Self {
        let node = Self::new();
        assert_eq!(node.run("install").0, Some(0));
        fs::write(node.at("net.d/10-cluster.conflist"), CLUSTER).unwrap();
        let conf = serde_json::json!({
            "cniVersion": "1.0.0", "name": "meta-cni", "plugins": [{
                "type": "meta-cni", "clusterNetwork": node.at("net.d/10-cluster.conflist"), "stateDir": node.at("state"),
                "agentSocket": node.at("run/agent.sock"),
            }],
        });
        fs::write(node.at("net.d/00-meta-cni.conflist"), conf.to_string()).unwrap();
        fs::create_dir_all(node.at("cache/results")).unwrap();
        fs::write(node.at("cache/results/meta-cni-c1-eth0"), r#"{"networkName":"meta-cni"}"#).unwrap();
        fs::create_dir_all(node.at("cache/networks/lan")).unwrap();
        fs::write(node.at("cache/networks/lan/lock"), "").unwrap();
        fs::create_dir_all(node.at("cache/networks/pods")).unwrap();
        node
    }

    fn has_record(&self) {
        fs::create_dir_all(self.at("state/attached")).unwrap();
        fs::write(self.at("state/attached/meta-cni,c1,eth0"), "").unwrap();
    }
}

#[test]
fn uninstalling_gives_the_node_back_and_keeps_the_plugin_for_what_it_attached() {
    let node = Node::installed();
    node.has_record();
    let (code, said) = node.run("uninstall");
    assert!(code == Some(1) && said.contains("sandboxes that still hold further networks: 1;"), "{said}");
    assert!(said.contains("delete these pods: sandbox c1"), "{said}");
    assert_eq!(
        (node.names("net.d"), node.names("bin")),
        (vec!["10-cluster.conflist".to_owned()], vec!["meta-cni".to_owned()])
    );
    assert!(node.at("cache/results/meta-cni-c1-eth0").exists());
    fs::remove_file(node.at("state/attached/meta-cni,c1,eth0")).unwrap();
    let (code, said) = node.run("uninstall");
    assert_eq!(code, Some(0), "{said}");
    assert!(node.names("bin").is_empty() && !node.at("state").exists(), "{said}");
    assert_eq!((node.names("cache/results"), node.names("cache/networks")), (vec![], vec!["pods".to_owned()]));
    // There is nothing left to do.
    assert_eq!(node.run("uninstall").0, Some(0));
}

#[test]
fn by_force_the_plugin_goes_whatever_is_attached() {
    let node = Node::installed();
    node.has_record();
    let mut command = program::command("unshare");
    command.arg("--net").arg(program::built("meta-cnid"));
    node.arguments(&mut command, "uninstall");
    let (code, said) = Node::ended(command.arg("--force"));
    assert_eq!(code, Some(0), "{said}");
    assert!(node.names("bin").is_empty() && !node.at("state").exists());
}

#[test]
fn a_record_of_a_later_version_keeps_everything_where_it_is() {
    let node = Node::installed();
    fs::create_dir_all(node.at("state/attached")).unwrap();
    fs::write(node.at("state/attached/meta-cni,c1,eth0"), "meta-cni record 3\nintent 2 00000000\n{}\n").unwrap();
    let (code, said) = node.run("uninstall");
    assert!(code == Some(1) && said.contains("layout version"), "{said}");
    assert_eq!(node.names("bin"), ["meta-cni"]);
    assert_eq!(node.names("state/attached"), ["meta-cni,c1,eth0"]);
}
