//! The node's allow list: which settings a tuning may change.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use attachments::finding::Finding;
use attachments::rule::Rule;
use regex_lite::Regex;

use super::config::Setting;
use crate::error::{Error, Result};

/// One regular expression on each line. Without the file every setting of the pod's network namespace may be changed.
pub(super) const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// The most settings that a refusal names.
const TOLD: usize = 8;

/// Every setting must match one of the lines, wherever in its name, as it is written in the configuration.
pub(super) fn check(settings: &[Setting], file: &Path) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format!("read {}", file.display()))(error)),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let compile = |line: &&str| {
        Regex::new(line).map_err(|error| {
            let allowed = format!("a regular expression: {}", error.to_string().replace('\n', " "));
            Finding::new(file.display().to_string(), format_args!("{line:?}"), allowed)
        })
    };
    let expressions = lines.iter().map(compile).collect::<std::result::Result<Vec<_>, _>>()?;
    let allowed = format!("a setting that {} allows: {}", file.display(), lines.join(", "));
    let findings: Vec<_> = settings
        .iter()
        .filter(|setting| !expressions.iter().any(|expression| expression.is_match(&setting.name)))
        // The list is quoted for each: nobody reads more of them, and a definition may have thousands.
        .take(TOLD)
        .map(|setting| Finding::new("sysctl", format_args!("{:?}", setting.name), allowed.clone()).of(Rule::Sysctl))
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(Error::Config(findings)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(list: &str, names: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("allowlist.conf");
        fs::write(&file, list).unwrap();
        let setting = |name: &&str| Setting { name: (*name).to_owned(), value: "1".to_owned() };
        let answer = check(&names.iter().map(setting).collect::<Vec<_>>(), &file);
        answer.err().map(|error| error.to_string().replace(&file.display().to_string(), "FILE")).unwrap_or_default()
    }

    #[test]
    fn a_setting_must_match_some_line_anywhere() {
        let list = "^net\\.ipv4\\.conf\\.(all|IFNAME)\\.\n\n  somaxconn$  \n";
        assert_eq!(answer(list, &["net.ipv4.conf.IFNAME.arp_filter", "net.core.somaxconn"]), "");
        assert_eq!(
            answer(list, &["net.ipv4.conf.eth0.arp_filter", "net.core.somaxconn", "net.core.x"]),
            r#"sysctl: got "net.ipv4.conf.eth0.arp_filter", want a setting that FILE allows: ^net\.ipv4\.conf\.(all|IFNAME)\., somaxconn$; sysctl: got "net.core.x", want a setting that FILE allows: ^net\.ipv4\.conf\.(all|IFNAME)\., somaxconn$"#
        );
        assert!(
            answer("", &["net.core.somaxconn"]).contains("want a setting that FILE allows"),
            "an empty list allows none"
        );
    }

    #[test]
    fn no_list_allows_all_and_a_broken_one_none() {
        let setting = [Setting { name: "net.x".to_owned(), value: String::new() }];
        assert!(check(&setting, Path::new("/nonexistent/allowlist.conf")).is_ok());
        let broken = answer("net.ok\n(", &["net.ok"]);
        assert!(broken.starts_with(r#"FILE: got "(", want a regular expression"#), "{broken}");
        assert!(matches!(check(&setting, Path::new("/proc")), Err(Error::Io { .. })));
    }
}
