//! The plugin that the runtime starts: is it there, and is it of our version?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::finding::{Finding, Severity};
use super::{Place, on_host};
use crate::program;

/// Its file.
const NAME: &str = "meta-cni";
/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at it.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    let path = on_host(&place.cni_bin_dir).join(NAME);
    let shown = place.cni_bin_dir.join(NAME);
    let shown = shown.display();
    let Ok(meta) = fs::metadata(&path) else {
        let advice = "see the init container of the DaemonSet (kubectl -n kube-system describe pod), or name the directory with --cni-bin-dir";
        findings.push(Finding::new("D30", Severity::Error, format!("{shown}: the plugin is not there"), advice));
        return;
    };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        let found = format!("{shown} is no program that can be started");
        findings.push(Finding::new(
            "D30",
            Severity::Error,
            found,
            "restart the DaemonSet's pod: its init container installs the plugin",
        ));
        return;
    }
    match version(&path) {
        Ok(version) if version == env!("CARGO_PKG_VERSION") => {}
        Ok(version) => {
            let found = format!("the plugin is {version}, and this tool is {}", env!("CARGO_PKG_VERSION"));
            findings.push(Finding::new(
                "D31",
                Severity::Warning,
                found,
                "let the rollout end: versions may be one apart, and no more",
            ));
        }
        Err(why) => {
            let found = format!("{shown} does not say its version: {why}");
            findings.push(Finding::new(
                "D31",
                Severity::Warning,
                found,
                "is it for this machine's architecture, and whole? Restart the DaemonSet's pod",
            ));
        }
    }
}

/// Started without a call it says who it is, and does nothing.
pub fn version(path: &Path) -> Result<String, String> {
    let said = program::run(path, &[], PATIENCE)?.stderr;
    let first = said.lines().next().unwrap_or_default();
    let version = first.strip_prefix("meta-cni ").and_then(|rest| rest.split(',').next());
    version.map(str::to_owned).ok_or_else(|| format!("it says {first:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_its_version_or_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let program = |text: &str| {
            let path = dir.path().join("meta-cni");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            version(&path)
        };
        assert_eq!(program("#!/bin/sh\necho 'meta-cni 0.0.9, a multi-network CNI plugin' >&2\n").unwrap(), "0.0.9");
        assert_eq!(program("#!/bin/sh\necho hello >&2\n").unwrap_err(), "it says \"hello\"");
        assert!(program("\u{7f}ELF").is_err());
    }
}
