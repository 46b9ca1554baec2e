//! The subnets of a plugin's configuration, whoever manages its addresses: a policy about addresses is one rule for all of them.

use serde_json::{Map, Value};

use crate::cni::spelling::is_spelling;

/// Each subnet with its path in the plugin's configuration. What is no subnet is there as it is written: a rule that wants one refuses it.
pub fn subnets(plugin: &Map<String, Value>) -> Vec<(Value, String)> {
    let mut found = Vec::new();
    // ovn-kubernetes lists them beside the type, joined by commas.
    if let Some((key, written)) = member(plugin, "subnets") {
        each(written, key, &mut |value, path| match value.as_str() {
            Some(text) => found.extend(text.split(',').map(|one| (one.trim().into(), path.clone()))),
            None => found.push((value.clone(), path)),
        });
    }
    if let Some((key, ipam)) = member(plugin, "ipam") {
        of_ipam(ipam, key, &mut found);
    }
    found
}

fn of_ipam(ipam: &Value, at: &str, found: &mut Vec<(Value, String)>) {
    let Some(ipam) = ipam.as_object() else { return };
    let mut take = |value: &Value, path: String| found.push((network(value), path));
    // host-local and blocks; whereabouts; static; kube-ovn.
    for key in ["subnet", "range", "subnets", "cidr"] {
        if let Some((key, written)) = member(ipam, key) {
            each(written, &format!("{at}.{key}"), &mut take);
        }
    }
    for (list, key) in [("ranges", "subnet"), ("ipRanges", "range"), ("addresses", "address")] {
        let Some((list, entries)) = member(ipam, list) else { continue };
        each(entries, &format!("{at}.{list}"), &mut |entry, path| match entry
            .as_object()
            .and_then(|entry| member(entry, key))
        {
            Some((key, value)) => take(value, format!("{path}.{key}")),
            None => take(entry, path),
        });
    }
}

/// The member of an object that a reader would take for `key`.
pub fn member<'a>(object: &'a Map<String, Value>, key: &str) -> Option<(&'a str, &'a Value)> {
    let exact = object.get_key_value(key);
    exact.or_else(|| object.iter().find(|(other, _)| is_spelling(other, key))).map(|(key, value)| (key.as_str(), value))
}

/// The value, or every element of a list of lists.
fn each(value: &Value, at: &str, take: &mut dyn FnMut(&Value, String)) {
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(i, one)| each(one, &format!("{at}[{i}]"), take)),
        one => take(one, at.to_owned()),
    }
}

/// Of whereabouts' `10.9.0.10-10.9.0.200/24` the network.
fn network(value: &Value) -> Value {
    let of = |text: &str| {
        let (first, rest) = text.split_once('-')?;
        let (_, prefix) = rest.split_once('/')?;
        Some(format!("{}/{}", first.trim(), prefix.trim()))
    };
    value.as_str().and_then(of).map_or_else(|| value.clone(), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_address_management_is_read() {
        for (plugin, want) in [
            (json!({"ipam": {"subnet": "10.1.0.0/16"}}), vec![("10.1.0.0/16", "ipam.subnet")]),
            (
                json!({"IPAM": {"Ranges": [[{"SUBNET": "10.1.0.0/16"}], [{"subnet": "fd00::/64", "rangeStart": "fd00::1"}]]}}),
                vec![("10.1.0.0/16", "IPAM.Ranges[0][0].SUBNET"), ("fd00::/64", "IPAM.Ranges[1][0].subnet")],
            ),
            (
                json!({"ipam": {"type": "whereabouts", "range": "10.9.0.10-10.9.0.200/24", "ipRanges": [{"range": "10.8.0.0/16"}]}}),
                vec![("10.9.0.10/24", "ipam.range"), ("10.8.0.0/16", "ipam.ipRanges[0].range")],
            ),
            (
                json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.7/8"}, 7]}}),
                vec![("10.1.0.7/8", "ipam.addresses[0].address"), ("7", "ipam.addresses[1]")],
            ),
            (json!({"subnets": "10.1.0.0/16, fd00::/64"}), vec![("10.1.0.0/16", "subnets"), ("fd00::/64", "subnets")]),
            (json!({"ipam": {"type": "dhcp"}}), vec![]),
            (json!({"ipam": "x"}), vec![]),
        ] {
            let found = subnets(plugin.as_object().unwrap());
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let found: Vec<(String, &str)> = found.iter().map(|(value, path)| (text(value), path.as_str())).collect();
            let want: Vec<(String, &str)> = want.into_iter().map(|(value, path)| (value.to_owned(), path)).collect();
            assert_eq!(found, want, "{plugin}");
        }
    }
}
