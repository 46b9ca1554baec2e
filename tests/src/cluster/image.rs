//! The image of the tests' pods: busybox and its names, as `docker save` would write it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::node::IMAGE;
use crate::program;

/// Ends at once when it is told to: pid 1 of a container gets only the signals that it asked for.
const WAITS: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// Makes the archive in a directory.
pub fn make(dir: &Path) -> PathBuf {
    let (root, parts) = (dir.join("image/root"), dir.join("image"));
    for sub in ["bin", "etc", "proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.expect("busybox: Debian's busybox-static"), root.join("bin/busybox")).unwrap();
    for name in program::run("busybox", ["--list"]).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let tar = |from: &Path, to: &Path, what: &[&str]| {
        let mut args = vec!["--numeric-owner".to_owned(), "-C".to_owned(), text(from), "-cf".to_owned(), text(to)];
        args.extend(what.iter().map(|name| (*name).to_owned()));
        program::run("tar", args);
    };
    tar(&root, &parts.join("layer.tar"), &["."]);
    let sum = program::run("sha256sum", [text(&parts.join("layer.tar"))]);
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Cmd": ["/bin/sh", "-c", WAITS], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sum.split(' ').next().unwrap())]},
    });
    fs::write(parts.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = dir.join("pod.tar");
    tar(&parts, &archive, &["manifest.json", "config.json", "layer.tar"]);
    archive
}

/// The machine's architecture in the words of container images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
