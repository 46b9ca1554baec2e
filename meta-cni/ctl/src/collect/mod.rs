//! `meta-cnictl collect`: a support archive of this node and of our objects, without secrets.

mod archive;
mod kernel;
mod redact;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use meta_cni::cluster::Agent;
use meta_cni::conf_dir;
use meta_cni::engine::inspect::inspect;
use meta_cni_kube::Selector;
use serde_json::{Value, json};

use self::archive::Archive;
use crate::access::{self, Api, block_on};
use crate::doctor::{self, Place, on_host};
use crate::style::Style;
use crate::{Answer, status};

/// As much of the end of a log.
const LOG: u64 = 4 << 20;
/// As much of any other file.
const FILE: u64 = 1 << 20;

/// Where it goes.
#[derive(Debug, PartialEq, Args)]
pub struct CollectOptions {
    /// The archive, a new file. Without it meta-cni-collect-TIME.tar.gz in the working directory; - is stdout.
    #[arg(value_name = "ARCHIVE")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    api: Api,
}

/// Our objects, and those that name them. No Secret, no pod's environment.
const OBJECTS: [(&str, &str); 10] = [
    ("network-attachment-definitions", "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"),
    ("attachmentpolicies", "/apis/meta-cni.io/v1alpha1/attachmentpolicies"),
    ("attachmentlevels", "/apis/meta-cni.io/v1alpha1/attachmentlevels"),
    ("vniclaims", "/apis/meta-cni.io/v1alpha1/vniclaims"),
    ("overlaymembers", "/apis/meta-cni.io/v1alpha1/overlaymembers"),
    ("addressblocks", "/apis/meta-cni.io/v1alpha1/addressblocks"),
    ("addressclaims", "/apis/meta-cni.io/v1alpha1/addressclaims"),
    ("addresssets", "/apis/meta-cni.io/v1alpha1/addresssets"),
    ("daemonsets", "/apis/apps/v1/namespaces/kube-system/daemonsets"),
    ("nodes", "/api/v1/nodes"),
];

/// Collects. Steps that cannot be done are told in the archive.
pub fn run(options: &CollectOptions) -> Result<Answer, String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = options.archive.clone().unwrap_or_else(|| format!("meta-cni-collect-{time}.tar.gz").into());
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        collect(options, Archive::new(&mut bytes, time)).map_err(failed)?;
        std::io::stdout().lock().write_all(&bytes).map_err(failed)?;
        return Ok(Answer { text: String::new(), is_good: true });
    }
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    collect(options, Archive::new(out, time)).map_err(failed)?;
    Ok(Answer { text: format!("{}\n", path.display()), is_good: true })
}

fn collect<W: Write>(options: &CollectOptions, mut archive: Archive<W>) -> std::io::Result<()> {
    let CollectOptions { place, api, .. } = options;
    step("versions");
    archive.json("versions.json", &versions(place))?;
    step("doctor");
    let findings = doctor::examine(place, api);
    archive.text("doctor.txt", &doctor::text(&findings, Style::Plain))?;
    step("status");
    match status::this_node(&on_host(&place.state_dir), api) {
        Ok(found) => {
            archive.text("status.txt", &status::report::text(&found, Style::Plain))?;
            archive.text("status.json", &status::report::json(&found))?;
        }
        Err(why) => archive.text("status.txt", &why)?,
    }
    step("records and configurations");
    records(place, &mut archive)?;
    for (name, dir) in [("cni-conf-dir", &place.cni_conf_dir), ("conf-dir", &place.conf_dir)] {
        for path in conf_dir::paths(&on_host(dir)) {
            file(&path, name, FILE, &mut archive)?;
        }
    }
    step("kernel");
    kernel::collect(&place.state_dir, &mut archive)?;
    step("logs");
    logs(Path::new("/var/log/pods"), &mut archive)?;
    step("objects");
    let asked = if api.is_named() || api.is_usual() {
        objects(api)
    } else {
        Err("no kubeconfig, and no service account".to_owned())
    };
    match asked {
        Ok(found) => {
            for (name, objects) in found {
                archive.json(&format!("objects/{name}.json"), &objects)?;
            }
        }
        Err(why) => archive.text("objects/none.txt", &why)?,
    }
    archive.finish()?.flush()
}

/// What is done, for who waits.
fn step(what: &str) {
    eprintln!("meta-cnictl: collecting {what}");
}

fn versions(place: &Place) -> Value {
    let read = |path: &str| fs::read_to_string(on_host(Path::new(path))).unwrap_or_default().trim().to_owned();
    let agent = Agent::new(&on_host(&place.socket)).health(Duration::from_secs(2));
    json!({
        "meta-cnictl": env!("CARGO_PKG_VERSION"),
        "meta-cni": doctor::plugin::version(&on_host(&place.cni_bin_dir).join("meta-cni")).unwrap_or_else(|why| why),
        "meta-cnid": agent.map_or_else(|fault| json!(fault.to_string()), |health| json!({"node": health.node, "version": health.program, "waitsFor": health.blockers})),
        "kernel": read("/proc/version"),
        "system": read("/etc/os-release"),
    })
}

/// Records as JSON: what they hold of configurations is redacted by key.
fn records<W: Write>(place: &Place, archive: &mut Archive<W>) -> std::io::Result<()> {
    let state_dir = on_host(&place.state_dir);
    for record in inspect(&state_dir).unwrap_or_default() {
        let attachments: Vec<Value> = record
            .attachments
            .iter()
            .map(|one| json!({"attachment": one.attachment, "result": one.result, "links": one.links, "undone": one.is_undone}))
            .collect();
        let pod = record.pod.as_ref().map(ToString::to_string);
        let whole = json!({
            "file": record.file, "pod": pod, "netns": record.netns, "state": record.state.as_str(), "damage": record.damage,
            "group": record.group, "attachments": attachments,
        });
        archive.json(&format!("records/{}.json", record.file), &whole)?;
    }
    for entry in fs::read_dir(state_dir.join("networks")).into_iter().flatten().flatten() {
        let name = format!("networks/{}", entry.file_name().to_string_lossy());
        for below in fs::read_dir(entry.path()).into_iter().flatten().flatten().filter(|below| below.path().is_file()) {
            file(&below.path(), &name, FILE, archive)?;
        }
    }
    Ok(())
}

/// The logs of our pods on this node, as the kubelet keeps them.
fn logs<W: Write>(dir: &Path, archive: &mut Archive<W>) -> std::io::Result<()> {
    for pod in fs::read_dir(on_host(dir)).into_iter().flatten().flatten() {
        let name = pod.file_name().to_string_lossy().into_owned();
        if !name.starts_with("kube-system_meta-cni-") && !name.starts_with("meta-cni_") {
            continue;
        }
        for container in fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            for log in fs::read_dir(container.path()).into_iter().flatten().flatten() {
                file(&log.path(), &format!("logs/{name}/{}", container.file_name().to_string_lossy()), LOG, archive)?;
            }
        }
    }
    Ok(())
}

/// The end of a file.
fn file<W: Write>(path: &Path, dir: &str, most: u64, archive: &mut Archive<W>) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = || -> std::io::Result<String> {
        let mut open = File::open(path)?;
        let length = open.metadata()?.len();
        open.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        open.take(most).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => archive.text(&format!("{dir}/{name}"), &text),
        Err(error) => archive.text(&format!("{dir}/{name}.unreadable"), &error.to_string()),
    }
}

/// Our objects, and of pods what is about networks.
fn objects(api: &Api) -> Result<Vec<(String, Value)>, String> {
    block_on(async {
        let access = api.open().await?;
        let mut all = Vec::new();
        for (name, collection) in OBJECTS {
            let mut found = Vec::new();
            let read = access::list(&access, collection, Selector::default(), |object| found.push(object)).await;
            all.push((name.to_owned(), read.map_or_else(Value::from, |()| Value::Array(found))));
        }
        let mut pods = Vec::new();
        let read = access::list(&access, "/api/v1/pods", Selector::default(), |pod| pods.extend(of_pod(&pod))).await;
        all.push(("pods".to_owned(), read.map_or_else(Value::from, |()| Value::Array(pods))));
        let keys = access::object(&access, "/api/v1/namespaces/kube-system/configmaps", "meta-cni").await;
        all.push(("configmap".to_owned(), keys.map_or_else(Value::from, |found| found.unwrap_or_default())));
        Ok(all)
    })
}

/// Name, node and the annotations of networks; none of a pod without them.
fn of_pod(pod: &Value) -> Option<Value> {
    let annotations: serde_json::Map<String, Value> = pod["metadata"]["annotations"]
        .as_object()?
        .iter()
        .filter(|(key, _)| key.contains("cni.cncf.io/") || key.contains("multus-cni.io/"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let metadata = &pod["metadata"];
    (!annotations.is_empty()).then(|| {
        json!({
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"], "annotations": annotations,
            "node": pod["spec"]["nodeName"], "phase": pod["status"]["phase"], "conditions": pod["status"]["conditions"],
        })
    })
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    const PLANTED: &str = "pl4nted";

    /// All files of an archive.
    fn read(bytes: &[u8]) -> Vec<(String, String)> {
        let mut tar = tar::Archive::new(GzDecoder::new(bytes));
        let each = |entry: std::io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        tar.entries().unwrap().map(each).collect()
    }

    #[test]
    fn planted_secrets_are_in_no_archive() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in [
            "conf",
            "multus",
            "state/networks/4789-7",
            "logs/kube-system_meta-cni-x_u/agent",
            "logs/default_other_u/main",
        ] {
            fs::create_dir_all(at(sub)).unwrap();
        }
        let conf = json!({"cniVersion": "1.0.0", "name": "a", "type": "x", "token": PLANTED, "ipam": {"type": "y", "etcd": {"password": PLANTED}}});
        fs::write(at("conf/10-a.conf"), conf.to_string()).unwrap();
        fs::write(at("conf/20-broken.conf"), format!("{{\"password\": \"{PLANTED}\", ")).unwrap();
        fs::write(at("multus/b.conflist"), json!({"plugins": [{"type": "z", "clientSecret": PLANTED}]}).to_string())
            .unwrap();
        fs::write(at("state/networks/4789-7/network.json"), json!({"apiKey": PLANTED, "node": "n1"}).to_string())
            .unwrap();
        fs::write(
            at("logs/kube-system_meta-cni-x_u/agent/0.log"),
            format!("sent Authorization: Bearer {PLANTED}\nfine\n"),
        )
        .unwrap();
        fs::write(at("logs/default_other_u/main/0.log"), PLANTED).unwrap();
        let place = Place::below(dir.path());
        let kubeconfig = at("kubeconfig");
        fs::write(&kubeconfig, format!("users: [{{name: a, user: {{token: {PLANTED}}}}}]\n")).unwrap();
        let options = CollectOptions { archive: None, place, api: Api { kubeconfig: Some(kubeconfig), context: None } };
        let mut bytes = Vec::new();
        collect(&options, Archive::new(&mut bytes, 7)).unwrap();
        let mut more = Vec::new();
        let mut archive = Archive::new(&mut more, 7);
        logs(&at("logs"), &mut archive).unwrap();
        let pod = json!({"metadata": {"namespace": "shop", "name": "web", "annotations": {"k8s.v1.cni.cncf.io/networks": "lan", "other": PLANTED}}, "spec": {"containers": [{"env": [{"name": "TOKEN", "value": PLANTED}]}]}});
        archive.json("objects/pods.json", &json!([of_pod(&pod)])).unwrap();
        archive.text("../../etc/x", "y").unwrap();
        archive.finish().unwrap();

        let files = [read(&bytes), read(&more)].concat();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "versions.json",
            "doctor.txt",
            "status.json",
            "cni-conf-dir/10-a.conf",
            "conf-dir/b.conflist",
            "networks/4789-7/network.json",
            "kernel/links.txt",
            "logs/kube-system_meta-cni-x_u/agent/0.log",
            "objects/pods.json",
            "etc/x",
        ] {
            assert!(names.contains(&format!("meta-cni-collect/{name}").as_str()), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("default_other")), "{names:?}");
        for (name, text) in &files {
            assert!(!text.contains(PLANTED), "{name}: {text}");
        }
        let of = |name: &str| &files.iter().find(|(known, _)| known.ends_with(name)).unwrap().1;
        assert!(
            of("0.log").contains("fine") && of("10-a.conf").contains("REDACTED") && of("pods.json").contains("lan")
        );
    }

    #[test]
    fn an_archive_replaces_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        fs::write(&path, "kept").unwrap();
        let place = Place::below(dir.path());
        let options = CollectOptions { archive: Some(path.clone()), place, api: Api::default() };
        assert!(run(&options).unwrap_err().contains("a.tar.gz: "));
        assert_eq!(fs::read_to_string(path).unwrap(), "kept");
    }
}
