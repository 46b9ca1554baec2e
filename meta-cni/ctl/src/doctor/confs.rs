//! The runtime's configurations: it takes the first by name, and that must be ours.

use std::fs;
use std::path::Path;

use attachments::meta_plugins::{is_meta, is_ours};
use meta_cni::conf_dir;

use super::finding::{Finding, Severity};

/// A file of the directory that the runtime reads.
#[derive(Clone, Debug)]
struct Seen {
    file: String,
    /// The types of its plugins, or why it cannot be read.
    types: Result<Vec<String>, String>,
}

/// Looks at the directory.
pub fn examine(dir: &Path, findings: &mut Vec<Finding>) {
    let read = |path: std::path::PathBuf| Seen {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        types: conf_dir::read(&path)
            .map(|conf| conf.plugins.iter().map(|plugin| plugin.kind.to_string()).collect())
            .map_err(|finding| finding.to_string()),
    };
    let seen: Vec<Seen> = conf_dir::paths(dir).into_iter().map(read).collect();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut renamed: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    renamed.retain(|name| name.ends_with(".cilium_bak"));
    renamed.sort();
    judge(&seen, &renamed, findings);
}

fn judge(seen: &[Seen], renamed: &[String], findings: &mut Vec<Finding>) {
    let has =
        |file: &Seen, is: fn(&str) -> bool| file.types.as_ref().is_ok_and(|types| types.iter().any(|kind| is(kind)));
    match seen.first() {
        None => findings.push(Finding::new(
            "D33",
            Severity::Error,
            "the runtime has no configuration",
            "wait for the cluster's own network: the agent writes ours beside it; its readiness says what it waits for",
        )),
        Some(first) if has(first, is_ours) => {}
        Some(first) if !seen.iter().any(|file| has(file, is_ours)) => findings.push(Finding::new(
            "D33",
            Severity::Error,
            format!("the runtime takes {}, and no configuration is ours", first.file),
            "is the agent ready? kubectl -n kube-system describe pod shows what it waits for",
        )),
        Some(first) => findings.push(Finding::new(
            "D32",
            Severity::Error,
            format!("the runtime takes {} and not ours: it is the first by name", first.file),
            "remove or rename it, or give ours an earlier name (META_CNI_CONF_FILE)",
        )),
    }
    for file in seen.iter().filter(|file| has(file, |kind| is_meta(kind) && !is_ours(kind))) {
        let found = format!("{} is the configuration of another meta plugin", file.file);
        let advice = "only one of them is called: uninstall the other one (docs/multus.md, Changing over), or this one";
        findings.push(Finding::new("D34", Severity::Warning, found, advice));
    }
    for file in seen {
        if let Err(why) = &file.types {
            let found = format!("{} cannot be read: {why}", file.file);
            findings.push(Finding::new(
                "D34",
                Severity::Warning,
                found,
                "repair it, or move it away: a runtime that takes it fails every pod",
            ));
        }
    }
    if !renamed.is_empty() {
        let found = format!("Cilium renamed configurations: {}", renamed.join(", "));
        let advice = "set cni.exclusive=false in Cilium's values: it takes the directory for its own otherwise; then remove these files";
        findings.push(Finding::new("D32", Severity::Error, found, advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(files: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let mut findings = Vec::new();
        examine(dir.path(), &mut findings);
        findings.into_iter().map(|one| (one.id, one.found)).collect()
    }

    const OURS: (&str, &str) =
        ("00-meta-cni.conflist", r#"{"cniVersion":"1.0.0","name":"meta-cni","plugins":[{"type":"meta-cni"}]}"#);
    const FLANNEL: (&str, &str) =
        ("10-flannel.conflist", r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"}]}"#);
    const MULTUS: (&str, &str) = ("00-aaa.conf", r#"{"cniVersion":"1.0.0","name":"m","type":"multus-shim"}"#);

    #[test]
    fn ours_is_the_first_or_it_is_told_which_is() {
        assert_eq!(ids(&[OURS, FLANNEL]), []);
        let told = |files: &[(&str, &str)]| ids(files).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(told(&[]), ["D33"]);
        assert_eq!(told(&[FLANNEL]), ["D33"]);
        assert_eq!(told(&[MULTUS, OURS]), ["D32", "D34"]);
        assert_eq!(told(&[OURS, ("05-x.conf", "{")]), ["D34"]);
        let bak = ("10-flannel.conflist.cilium_bak", "{}");
        let said = ids(&[OURS, bak]);
        assert!(said.len() == 1 && said[0].1.contains("10-flannel.conflist.cilium_bak"), "{said:?}");
    }
}
