//! Open vSwitch in user space (Debian's), with a bridge on the node, and a plugin of the tests in the place of OVS CNI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::place;
use crate::cluster::node::Node;
use crate::cluster::service::Service;
use crate::program;

/// The bridge.
pub const BRIDGE: &str = "br1";
const DIR: &str = "/opt/ovs";
const START: Duration = Duration::from_secs(60);

/// A node's Open vSwitch.
#[derive(Debug)]
pub struct Switch {
    // In the order in which they go.
    _switch: Service,
    _database: Service,
}

/// Starts it on a node, makes the bridge, and puts the plugin there.
pub fn start(node: &Node) -> Switch {
    let files = files();
    program::run("cp", ["-r", files.to_str().unwrap(), node.file(DIR).to_str().unwrap()]);
    place(node, &program::built("test-ovs"), "/opt/cni/bin/ovs");
    node.space().run("mkdir -p /run/openvswitch /var/log/openvswitch");
    let schema = format!("{DIR}/usr/share/openvswitch/vswitch.ovsschema");
    node.space().run(&format!("{} create /run/openvswitch/conf.db {schema}", with_libraries(DIR, "bin/ovsdb-tool")));
    let log = |name: &str| node.file(format!("/var/log/{name}.log"));
    let mut command = program_of(node, "sbin/ovsdb-server");
    command.args(["/run/openvswitch/conf.db", "--remote=punix:/run/openvswitch/db.sock"]);
    let mut database = Service::start("ovsdb-server", node.space(), &mut command, &log("ovsdb-server"));
    database.wait_for("database of Open vSwitch", START, || tries(node, &["--no-wait", "init"]));
    let mut command = program_of(node, "lib/openvswitch-switch/ovs-vswitchd");
    let switch = Service::start("ovs-vswitchd", node.space(), &mut command, &log("ovs-vswitchd"));
    // No module of the kernel is needed for netdev.
    tries(node, &["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]).unwrap();
    Switch { _switch: switch, _database: database }
}

/// What it says of its version.
pub fn version() -> String {
    let said = program::run(
        "sh",
        ["-c", &format!("{} --version", with_libraries(files().to_str().unwrap(), "bin/ovs-vsctl"))],
    );
    said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
}

/// The ports of the bridge.
pub fn ports(node: &Node) -> String {
    node.space().run(&format!("{} list-ports {BRIDGE}", with_libraries(DIR, "bin/ovs-vsctl")))
}

fn tries(node: &Node, args: &[&str]) -> Result<(), String> {
    let mut command = program_of(node, "bin/ovs-vsctl");
    command.arg("--timeout=20").args(args);
    let output = node.space().within(|| command.output()).map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// One of its programs on a node.
fn program_of(node: &Node, name: &str) -> Command {
    let mut command = node.command(&format!("{DIR}/usr/{name}"));
    command.env("LD_LIBRARY_PATH", libraries(DIR));
    command
}

/// The same as words of a line, wherever its files are.
fn with_libraries(dir: &str, name: &str) -> String {
    format!("env LD_LIBRARY_PATH={} {dir}/usr/{name}", libraries(dir))
}

/// libxdp comes with it.
fn libraries(dir: &str) -> String {
    format!("{dir}/usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

/// Debian's packages, unpacked: installed, they would start services on this machine.
fn files() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("neighbours/unpack");
    let mut unpack = program::command(&script);
    unpack
        .args(["ovs", "openvswitch-switch", "openvswitch-common", "libxdp1"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = unpack.output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(output.status.success(), "{}: {}; its words are on stderr", script.display(), output.status);
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
