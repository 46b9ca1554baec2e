//! Every rule by its exact words, and what holds for any document.

mod addresses;
mod documented_keys;
mod documents;
mod plugins;
mod properties;
mod rules;
mod worst;

use super::*;

/// What is wrong, without what is only seldom meant.
fn lines(text: &str) -> Vec<String> {
    const ADVICE: [Rule; 3] = [Rule::NoMaster, Rule::CompetingRoute, Rule::NodeLocalAddresses];
    let is_wrong = |problem: &&Problem| problem.rule.is_none_or(|rule| !ADVICE.contains(&rule));
    config(text, Origin::Definition).iter().filter(is_wrong).map(Problem::to_string).collect()
}

/// The only problem of a configuration that is right otherwise.
#[track_caller]
fn says(text: &str, want: &str) {
    assert_eq!(lines(text), [want], "{text}");
}

/// One plugin with these keys.
fn plugin(keys: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0",{keys}}}"#)
}

/// macvlan with this section.
fn ipam(keys: &str) -> String {
    plugin(&format!(r#""type":"macvlan","master":"eth1","ipam":{{{keys}}}"#))
}

fn host_local(keys: &str) -> String {
    ipam(&format!(r#""type":"host-local",{keys}"#))
}

#[test]
fn what_is_right_is_passed_over() {
    for text in [
        plugin(r#""type":"macvlan","master":"eth1""#),
        plugin(r#""type":"sriov","vlan":7,"anything":{"x":[1]}"#),
        plugin(
            r#""name":"n","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}},{"type":"portmap","capabilities":{"portMappings":true}}]"#,
        ),
        host_local(
            r#""ranges":[[{"subnet":"10.0.0.0/24","gateway":"10.0.0.9"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.9"}]"#,
        ),
        ipam(r#""type":"whereabouts","range":"10.0.0.0/24","exclude":["10.0.0.0/30"]"#),
        plugin(r#""type":"macvlan","master":"eth1","args":{"cni":{"ips":["10.0.0.5"],"Ä":1}}"#),
        plugin(
            r#""type":"vxlan","vni":4200,"lockedArgs":["ips"],"ipam":{"type":"static"},"capabilities":{"ips":true}"#,
        ),
        r#"{"cniVersions":["1.0.0","1.1.0"],"type":"bridge"}"#.to_owned(),
    ] {
        assert_eq!(lines(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn everything_is_said_at_once() {
    let text = r#"{"name":"a b","Type":1,"plugins":[{"type":"macvlan","mode":"x","mtu":1,"oops":1,
        "ipam":{"type":"host-local","ranges":[[{"subnet":"x"},{"subnet":"10.0.0.0/24","rangeEnd":"y"}],7,[7]],"routes":[{},{"dst":"z","mtu":"w"}]}},{"type":"/"}]}"#;
    let paths: Vec<String> = config(text, Origin::Definition).into_iter().map(|problem| problem.path).collect();
    let want = [
        "Type",
        "cniVersion",
        "name",
        "",
        "plugins[0].oops",
        "plugins[0].mode",
        "plugins[0].mtu",
        "plugins[0].ipam.ranges[0][0].subnet",
        "plugins[0].ipam.ranges[0][1].rangeEnd",
        "plugins[0].ipam.ranges[1]",
        "plugins[0].ipam.ranges[2][0]",
        "plugins[0].ipam.routes[0].dst",
        "plugins[0].ipam.routes[1].dst",
        "plugins[0].ipam.routes[1].mtu",
        "plugins[1].type",
        "plugins[0].master",
        "plugins[0].ipam.type",
    ];
    assert_eq!(paths, want);
}
