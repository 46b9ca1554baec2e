//! The result cache of libcni, which Multus keeps under its `cniDir` (C41, C42). A DEL without a record of ours finds there
//! what another meta plugin attached before this one was installed.

use std::fs;
use std::path::{Path, PathBuf};

use attachments::bind::{Attachment, Source, UnverifiedRequests};
use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::Finding;
use attachments::meta_plugins::is_meta;
use attachments::names::{ContainerId, IfName, NetworkName};
use base64::prelude::{BASE64_STANDARD, Engine};
use delegates::spelling;

use super::log::warn;
use super::record::RecordedAttachment;
use attachments::cni::version::Version;

/// An attachment that another meta plugin made.
#[derive(Debug)]
pub struct CachedAttachment {
    /// The entry's file.
    pub file: PathBuf,
    /// What was attached.
    pub attachment: Attachment,
    /// Its result.
    pub entry: RecordedAttachment,
}

/// The entries of one sandbox in the order of their file names, the default network's first: that with the interface `default`.
pub fn find(cni_dir: &Path, container: &ContainerId, default: &IfName) -> Vec<CachedAttachment> {
    let entries = fs::read_dir(cni_dir.join("results")).into_iter().flatten().flatten();
    let of_sandbox = |path: &PathBuf| path.to_string_lossy().contains(container.as_str());
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(of_sandbox).collect();
    files.sort();
    let mut cached = Vec::new();
    for file in files {
        match fs::read(&file)
            .map_err(|e| e.to_string())
            .and_then(|bytes| read(&bytes, container, default).map_err(|finding| finding.to_string()))
        {
            Ok(Some((attachment, entry))) => cached.push(CachedAttachment { file, attachment, entry }),
            Ok(None) => {}
            // As libcni does: an unreadable entry must not keep the pod.
            Err(why) => warn(&format!("cached result {} is left alone: {why}", file.display())),
        }
    }
    cached.sort_by_key(|one| !one.attachment.is_default);
    cached
}

/// Removes the entries that are undone, as their writer would have.
pub fn forget(cni_dir: &Path, container: &ContainerId, cached: &[CachedAttachment]) {
    let files = cached.iter().map(|one| one.file.clone());
    for file in files.chain([cni_dir.join(container.as_str())]) {
        // An entry that cannot be removed is undone again by the next DEL, which is harmless.
        let _ = fs::remove_file(file);
    }
}

fn read(
    bytes: &[u8],
    container: &ContainerId,
    default: &IfName,
) -> Result<Option<(Attachment, RecordedAttachment)>, Finding> {
    const KIND: &str = "cniCacheV1";
    let object = Object::parse(bytes).map_err(|e| Finding::new("", e, "a cached result"))?;
    let is_ours = object.text("containerId")?.as_deref() == Some(container.as_str());
    if !is_ours || object.text("kind")?.as_deref() != Some(KIND) {
        return Ok(None);
    }
    let mut conf = decode_conf(&object)?;
    // The runtime caches meta plugins too; undoing such an entry would call us again.
    if conf.plugins.iter().any(|plugin| is_meta(plugin.kind.as_str())) {
        return Ok(None);
    }
    for plugin in &mut conf.plugins {
        // The program that attached it took keys in any case.
        spelling::settle(plugin, true)?;
    }
    let network: NetworkName = required(&object, "networkName", NetworkName::ALLOWED)?;
    let ifname: Option<IfName> = object.decode("ifName", IfName::ALLOWED)?;
    let ifname = ifname.ok_or_else(|| Finding::missing("ifName", IfName::ALLOWED))?;
    let args: Vec<(String, String)> = object.decode("cniArgs", "a list of pairs")?.unwrap_or_default();
    let args: Vec<String> = args.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let result = match object.object("result")? {
        Some(result) => CniResult::from_object(result, conf.version)?.encode(Version::NEWEST)?,
        None => Object::new(),
    };
    let attachment = Attachment {
        source: Source::Node(network.clone()),
        network,
        address_dir: None,
        version: conf.version,
        disable_check: conf.disable_check,
        disable_gc: conf.disable_gc,
        is_default: ifname == *default,
        ifname,
        plugins: conf.plugins,
        runtime_config: object.object("capabilityArgs")?.unwrap_or_default(),
        args: args.join(";"),
        default_route: None,
        routes: Vec::new(),
        rules: Vec::new(),
        without_ipv6: false,
        address_set: None,
        ipam_claim: None,
        is_tenants: false,
        translated: None,
        device: None,
        device_info_file: None,
        unverified: UnverifiedRequests::default(),
        selected: None,
    };
    Ok(Some((attachment, RecordedAttachment { result, ..RecordedAttachment::default() })))
}

fn required<T: std::str::FromStr>(object: &Object, key: &str, allowed: &'static str) -> Result<T, Finding> {
    object.parsed(key, allowed)?.ok_or_else(|| Finding::missing(key, allowed))
}

/// Go writes the bytes of the configuration as base64.
fn decode_conf(object: &Object) -> Result<NetworkConf, Finding> {
    const ALLOWED: &str = "a configuration in base64";
    let text: String = object.decode("config", ALLOWED)?.unwrap_or_default();
    let bytes = BASE64_STANDARD.decode(&text).map_err(|_| Finding::new("config", text, ALLOWED))?;
    NetworkConf::parse(&bytes).map_err(|finding| finding.under("config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_entry(conf: &str, ifname: &str) -> String {
        let conf = BASE64_STANDARD.encode(conf);
        format!(
            r#"{{"kind":"cniCacheV1","containerId":"c1","config":"{conf}","ifName":"{ifname}","networkName":"lan",
                "netns":"/n","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","a"]],"capabilityArgs":{{"mac":"02:00:00:00:00:01"}},
                "result":{{"cniVersion":"0.4.0","ips":[{{"version":"4","address":"10.0.0.2/24"}}]}}}}"#
        )
    }

    fn names() -> (ContainerId, IfName) {
        ("c1".parse().unwrap(), "eth0".parse().unwrap())
    }

    #[test]
    fn an_entry_becomes_the_attachment_that_it_was() {
        let (container, default) = names();
        let text = cache_entry(r#"{"cniVersion":"0.4.0","name":"lan","type":"macvlan","vendor":1}"#, "net1");
        let (attachment, entry) = read(text.as_bytes(), &container, &default).unwrap().unwrap();
        assert_eq!(attachment.args, "IgnoreUnknown=1;K8S_POD_NAME=a");
        assert_eq!(attachment.plugins[0].object.get("vendor").map(|v| v.get()), Some("1"));
        assert!(!attachment.is_default && attachment.runtime_config.get("mac").is_some());
        assert!(entry.result.to_json().contains(r#""cniVersion":"1.1.0""#));
    }

    #[test]
    fn the_meta_plugins_own_entries_and_other_sandboxes_are_none() {
        let (_, default) = names();
        for kind in ["meta-cni", "multus", "multus-shim", "danm"] {
            let text = cache_entry(&format!(r#"{{"cniVersion":"0.4.0","name":"lan","type":"{kind}"}}"#), "eth0");
            assert!(read(text.as_bytes(), &"c1".parse().unwrap(), &default).unwrap().is_none(), "{kind}");
        }
        let text = cache_entry(r#"{"name":"lan","type":"macvlan"}"#, "net1");
        assert!(read(text.as_bytes(), &"c2".parse().unwrap(), &default).unwrap().is_none());
    }

    #[test]
    fn a_damaged_entry_is_told_and_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("results");
        fs::create_dir(&results).unwrap();
        fs::write(results.join("lan-c1-net1"), "{").unwrap();
        fs::write(results.join("lan-c1-net2"), cache_entry(r#"{"name":"lan","type":"x"}"#, "net2")).unwrap();
        fs::write(results.join("def-c1-eth0"), cache_entry(r#"{"name":"lan","type":"x"}"#, "eth0")).unwrap();
        let (container, default) = names();
        let found = find(dir.path(), &container, &default);
        let ifnames: Vec<_> = found.iter().map(|one| one.attachment.ifname.as_str()).collect();
        assert_eq!(ifnames, ["eth0", "net2"]);
        forget(dir.path(), &container, &found);
        assert_eq!(fs::read_dir(&results).unwrap().count(), 1);
    }
}
