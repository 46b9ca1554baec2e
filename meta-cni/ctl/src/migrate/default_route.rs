//! Whether a network may give pods a default route. In a list of a dialect that of `eth0` counts; NPWG's words must say so, or each network's stays.

use serde_json::Value;

/// Types whose default routes are those that their configuration names. Others may give one by themselves, as those of flannel, Calico and Weave do.
const AS_CONFIGURED: [&str; 9] =
    ["bridge", "dummy", "host-device", "ipvlan", "macvlan", "ptp", "sriov", "vlan", "vxlan"];

/// May a network with this configuration, the text of a definition, give pods a default route?
pub fn may_be_given(config: &str) -> bool {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let main = config["plugins"].get(0).unwrap_or(&config);
    !main["type"].as_str().is_some_and(|kind| AS_CONFIGURED.contains(&kind)) || names_one(main)
}

fn names_one(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| match key.as_str() {
            "isDefaultGateway" => value == true,
            "dst" => value == "0.0.0.0/0" || value == "::/0",
            _ => names_one(value),
        }),
        Value::Array(items) => items.iter().any(names_one),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_given_where_it_is_named_and_by_programs_of_others() {
        for (config, want) in [
            (r#"{"type":"bridge","isGateway":true,"ipam":{"type":"host-local"}}"#, false),
            (r#"{"type":"bridge","isDefaultGateway":false}"#, false),
            (r#"{"type":"bridge","isDefaultGateway":true}"#, true),
            (r#"{"type":"macvlan","ipam":{"routes":[{"dst":"10.0.0.0/8"},{"dst":"::/0"}]}}"#, true),
            (r#"{"type":"macvlan","ipam":{"routes":[{"dst":"10.0.0.0/8"}]}}"#, false),
            (r#"{"plugins":[{"type":"bridge"},{"type":"portmap"}]}"#, false),
            (r#"{"plugins":[{"type":"flannel"},{"type":"portmap"}]}"#, true),
            (r#"{"type":"calico"}"#, true),
        ] {
            assert_eq!(may_be_given(config), want, "{config}");
        }
    }
}
