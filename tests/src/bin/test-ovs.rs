//! What OVS CNI does, for the bridge of `cluster::neighbours::ovs`: a pod's link is a port of it with the network's VLAN as its tag. It reads
//! that plugin's keys `bridge`, `vlan` and `ipam`.

use std::env;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use meta_cni_tests::program;
use serde_json::{Value, json};

const VSCTL: &str = "/opt/ovs/usr/bin/ovs-vsctl";
/// Where a library of it is.
const LIBRARIES: &str = "/opt/ovs/usr/lib/x86_64-linux-gnu:/opt/ovs/usr/lib/aarch64-linux-gnu";

fn main() -> ExitCode {
    let mut text = String::new();
    let answer = std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string()).and_then(|_| {
        let conf: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        call(&conf, &text)
    });
    match answer {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{}", json!({"cniVersion": "1.0.0", "code": 100, "msg": why}));
            ExitCode::FAILURE
        }
    }
}

fn call(conf: &Value, text: &str) -> Result<String, String> {
    let verb = var("CNI_COMMAND")?;
    if verb == "VERSION" {
        return Ok(json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}).to_string());
    }
    let (id, link) = (var("CNI_CONTAINERID")?, var("CNI_IFNAME")?);
    let port = format!("o{}{link}", id.get(..8).unwrap_or(&id));
    let bridge = conf["bridge"].as_str().ok_or("bridge: missing, want the name of a bridge")?;
    match verb.as_str() {
        "ADD" => {
            let added = add(conf, text, bridge, &port, &link);
            if added.is_err() {
                let _ = del(text, bridge, &port);
            }
            added
        }
        "DEL" => del(text, bridge, &port),
        "CHECK" => vsctl(&["port-to-br", &port]).map(|_| String::new()),
        other => Err(format!("CNI_COMMAND: got {other}")),
    }
}

fn add(conf: &Value, text: &str, bridge: &str, port: &str, link: &str) -> Result<String, String> {
    let path = var("CNI_NETNS")?;
    let sandbox = Path::new(&path).file_name().ok_or("CNI_NETNS: no name")?.to_string_lossy().into_owned();
    let ip = |args: &[&str]| run("ip", args, "");
    ip(&["link", "add", port, "type", "veth", "peer", "name", link, "netns", &sandbox])?;
    ip(&["link", "set", port, "up"])?;
    ip(&["-n", &sandbox, "link", "set", link, "up"])?;
    let tag = format!("tag={}", conf["vlan"]);
    vsctl(&["add-port", bridge, port, &tag])?;
    let mut result: Value = serde_json::from_str(&ipam(text)?).map_err(|e| e.to_string())?;
    for address in result["ips"].as_array().into_iter().flatten().filter_map(|one| one["address"].as_str()) {
        ip(&["-n", &sandbox, "address", "add", address, "dev", link])?;
    }
    result["interfaces"] = json!([{"name": port}, {"name": link, "sandbox": path}]);
    for address in result["ips"].as_array_mut().into_iter().flatten() {
        address["interface"] = json!(1);
    }
    Ok(result.to_string())
}

fn del(text: &str, bridge: &str, port: &str) -> Result<String, String> {
    vsctl(&["--if-exists", "del-port", bridge, port])?;
    if Path::new("/sys/class/net").join(port).exists() {
        run("ip", &["link", "delete", port], "")?;
    }
    ipam(text)
}

fn ipam(text: &str) -> Result<String, String> {
    run("/opt/cni/bin/host-local", &[], text)
}

fn vsctl(args: &[&str]) -> Result<String, String> {
    run(VSCTL, &[&["--timeout=20"], args].concat(), "")
}

fn run(name: &str, args: &[&str], input: &str) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{name}: {e}");
    let mut command = program::command(name);
    command.env("LD_LIBRARY_PATH", LIBRARIES).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    // Dropped: its end is the end of the text. Who reads none of it has ended already.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{name} {args:?}: {}{}", text(&output.stdout), text(&output.stderr))),
    }
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name}: missing"))
}
