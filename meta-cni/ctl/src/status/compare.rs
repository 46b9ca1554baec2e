//! Comparisons of what is said with what is. Pure.

use attachments::cni::result::CniResult;
use delegates::nl::address::Address;
use delegates::nl::link::Link;
use delegates::spec::LinkId;
use serde_json::Value;

/// What the kernel holds in a sandbox.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// Its links.
    pub links: Vec<Link>,
    /// Their addresses.
    pub addresses: Vec<Address>,
}

/// What one attachment's result says and the sandbox does not have. `made` are the links that the record names.
pub fn attachment(network: &str, result: &CniResult, made: &[LinkId], sandbox: &Sandbox) -> Vec<String> {
    let mut differences = Vec::new();
    for (i, interface) in result.interfaces.iter().enumerate().filter(|(_, one)| !one.sandbox.is_empty()) {
        let name = &interface.name;
        let Some(link) = sandbox.links.iter().find(|link| link.is_called(name)) else {
            let renamed = made
                .iter()
                .filter(|id| id.name.as_str() == name)
                .find_map(|id| sandbox.links.iter().find(|link| id.is(link)));
            differences.push(match renamed {
                Some(link) => format!("{network}: {name} is called {} in the pod", link.name),
                None => format!("{network}: {name} is not in the pod"),
            });
            continue;
        };
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        if !interface.mac.is_empty() && !interface.mac.eq_ignore_ascii_case(&mac) {
            differences.push(format!("{network}: {name} has the MAC address {mac}, want {}", interface.mac));
        }
        if !link.up {
            differences.push(format!("{network}: {name} is down"));
        }
        let is_of_it =
            |index: Option<i64>| index.map_or(result.interfaces.len() == 1, |index| usize::try_from(index) == Ok(i));
        for ip in result.ips.iter().filter(|ip| is_of_it(ip.interface)) {
            match sandbox.addresses.iter().find(|held| held.index == link.index && held.net == ip.address) {
                None => differences.push(format!("{network}: {name} does not have the address {}", ip.address)),
                Some(held) if held.dad_failed => {
                    differences.push(format!(
                        "{network}: {name}: another host has the address {} (duplicate address detection)",
                        ip.address
                    ));
                }
                Some(_) => {}
            }
        }
    }
    differences
}

/// What the annotation says otherwise than the record.
pub fn annotations(recorded: &str, written: Option<&str>) -> Vec<String> {
    let Some(written) = written else {
        return vec!["network-status is not written".to_owned()];
    };
    let (Some(recorded), Some(written)) = (entries(recorded), entries(written)) else {
        return vec!["network-status is no list".to_owned()];
    };
    let mut differences = Vec::new();
    for entry in &recorded {
        match written.iter().find(|other| is_same(entry, other)) {
            None => differences.push(format!("network-status does not name {}", title(entry))),
            Some(other) => {
                for key in ["ips", "mac", "default"].into_iter().filter(|key| entry[key] != other[key]) {
                    differences.push(format!(
                        "network-status: {}: {key} is {}, want {}",
                        title(entry),
                        other[key],
                        entry[key]
                    ));
                }
            }
        }
    }
    let unknown = written.iter().filter(|other| !recorded.iter().any(|entry| is_same(entry, other)));
    differences
        .extend(unknown.map(|other| format!("network-status names {}, which the record does not", title(other))));
    differences
}

/// What a pod selects, by name and interface, and its `network-status` does not show.
pub fn wanted(wanted: &[(String, Option<String>)], written: Option<&str>) -> Vec<String> {
    let Some(written) = written else {
        return vec!["network-status is not written".to_owned()];
    };
    let Some(mut entries) = entries(written) else { return vec!["network-status is no list".to_owned()] };
    let mut differences = Vec::new();
    // Those with an interface of their own first: the others take what is left.
    for (name, interface) in
        wanted.iter().filter(|one| one.1.is_some()).chain(wanted.iter().filter(|one| one.1.is_none()))
    {
        let fits = |entry: &Value| {
            entry["name"] == **name && interface.as_ref().is_none_or(|wanted| entry["interface"] == **wanted)
        };
        match entries.iter().position(fits) {
            Some(at) => drop(entries.remove(at)),
            None => differences.push(format!(
                "{name}{} is asked for and not in network-status",
                interface.as_ref().map(|interface| format!(" ({interface})")).unwrap_or_default()
            )),
        }
    }
    differences
}

fn entries(text: &str) -> Option<Vec<Value>> {
    serde_json::from_str(text).ok()
}

fn is_same(a: &Value, b: &Value) -> bool {
    a["name"] == b["name"] && a["interface"] == b["interface"]
}

fn title(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}", text("name"), text("interface")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_of_an_annotation_is_told() {
        let recorded = r#"[{"name":"cbr0","interface":"eth0","ips":["10.0.0.2"],"default":true},{"name":"shop/lan","interface":"net1","mac":"02:00:00:00:00:01"},{"name":"shop/lan","interface":"net2"}]"#;
        assert_eq!(annotations(recorded, Some(recorded)), Vec::<String>::new());
        let written = r#"[{"name":"cbr0","interface":"eth0","ips":["10.0.0.3"]},{"name":"shop/lan","interface":"net1","mac":"02:00:00:00:00:01"},{"name":"shop/old","interface":"net3"}]"#;
        assert_eq!(
            annotations(recorded, Some(written)),
            [
                r#"network-status: cbr0 eth0: ips is ["10.0.0.3"], want ["10.0.0.2"]"#,
                "network-status: cbr0 eth0: default is null, want true",
                "network-status does not name shop/lan net2",
                "network-status names shop/old net3, which the record does not",
            ]
        );
        assert_eq!(annotations(recorded, None), ["network-status is not written"]);
        assert_eq!(annotations(recorded, Some("{}")), ["network-status is no list"]);
    }

    #[test]
    fn what_is_asked_for_twice_is_there_twice() {
        let asked = |name: &str, interface: Option<&str>| (name.to_owned(), interface.map(str::to_owned));
        let written = r#"[{"name":"cbr0","interface":"eth0"},{"name":"a/x","interface":"net1"},{"name":"a/x","interface":"up1"}]"#;
        let all = [asked("a/x", None), asked("a/x", Some("up1"))];
        assert_eq!(wanted(&all, Some(written)), Vec::<String>::new());
        let more = [asked("a/x", None), asked("a/x", None), asked("a/x", None), asked("a/y", Some("net9"))];
        assert_eq!(
            wanted(&more, Some(written)),
            ["a/y (net9) is asked for and not in network-status", "a/x is asked for and not in network-status"]
        );
        assert_eq!(wanted(&[], None), ["network-status is not written"]);
    }
}
