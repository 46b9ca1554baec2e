//! Settings of the kernel, and what confines programs.

use std::fs;

use super::finding::{Finding, Severity};

/// Reads them.
pub fn examine(findings: &mut Vec<Finding>) {
    judge(|path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned()), findings);
}

fn judge(read: impl Fn(&str) -> Option<String>, findings: &mut Vec<Finding>) {
    let sysctl = |key: &str| read(&format!("/proc/sys/{key}"));
    if sysctl("net/ipv4/ip_forward").as_deref() == Some("0") {
        findings.push(Finding::new(
            "D10",
            Severity::Warning,
            "net.ipv4.ip_forward is 0: the node forwards nothing between pods and elsewhere",
            "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d for the next start; gateways of ours set it when they are made",
        ));
    }
    if sysctl("net/ipv6/conf/all/disable_ipv6").as_deref() == Some("1") {
        findings.push(Finding::new(
            "D11",
            Severity::Warning,
            "net.ipv6.conf.all.disable_ipv6 is 1: new links get no IPv6 address",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or give networks IPv4 alone",
        ));
    }
    for (key, least) in [("fs/inotify/max_user_instances", 128), ("fs/inotify/max_user_watches", 8192)] {
        if sysctl(key).and_then(|text| text.parse::<u64>().ok()).is_some_and(|value| value < least) {
            let name = key.replace('/', ".");
            findings.push(Finding::new(
                "D12",
                Severity::Warning,
                format!("{name} is below {least}: the agent may not see that files of the runtime's directory change"),
                format!("sysctl -w {name}={least}, and in /etc/sysctl.d for the next start"),
            ));
        }
    }
    let selinux = read("/sys/fs/selinux/enforce");
    let apparmor = read("/sys/module/apparmor/parameters/enabled");
    let mut confined = Vec::new();
    if selinux.as_deref() == Some("1") {
        confined.push("SELinux is enforcing");
    }
    if apparmor.as_deref() == Some("Y") {
        confined.push("AppArmor is on");
    }
    if !confined.is_empty() {
        findings.push(Finding::new(
            "D13",
            Severity::Info,
            confined.join(", "),
            "nothing, as long as the DaemonSet keeps its seLinuxOptions and appArmorProfile; denials are in the node's audit log",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(files: &[(&str, &str)]) -> Vec<&'static str> {
        let mut findings = Vec::new();
        judge(|path| files.iter().find(|(known, _)| *known == path).map(|(_, text)| (*text).to_owned()), &mut findings);
        findings.iter().map(|one| one.id).collect()
    }

    #[test]
    fn settings_that_stand_in_the_way_are_told() {
        assert_eq!(ids(&[]), Vec::<&str>::new());
        let good = [("/proc/sys/net/ipv4/ip_forward", "1"), ("/proc/sys/fs/inotify/max_user_instances", "128")];
        assert_eq!(ids(&good), Vec::<&str>::new());
        let bad = [
            ("/proc/sys/net/ipv4/ip_forward", "0"),
            ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
            ("/proc/sys/fs/inotify/max_user_instances", "8"),
            ("/sys/fs/selinux/enforce", "1"),
        ];
        assert_eq!(ids(&bad), ["D10", "D11", "D12", "D13"]);
    }
}
