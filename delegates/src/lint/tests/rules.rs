//! Golden cases: for each rule a text that it accepts and one that it does not, with the words of [`Rule::example`]; and the
//! table of docs/lint.md, which is made from the rules.

use std::fs;
use std::path::Path;

use attachments::names::ObjectName;
use attachments::selection::NETWORKS;
use serde_json::json;

use super::*;

/// What is looked at.
enum Input {
    /// The keys of a configuration with a version.
    Keys(String),
    /// The text of a definition.
    Text(String),
    /// The name of a definition.
    Name(&'static str),
    /// The annotation of a pod.
    Nets(String),
}

use Input::Name;

fn keys(keys: &str) -> Input {
    Input::Keys(keys.to_owned())
}

fn text(text: &str) -> Input {
    Input::Text(text.to_owned())
}

fn nets(text: &str) -> Input {
    Input::Nets(text.to_owned())
}

/// macvlan with this `ipam`.
fn ipam(keys: &str) -> Input {
    Input::Keys(format!(r#""type":"macvlan","master":"eth1","ipam":{{{keys}}}"#))
}

fn host_local(keys: &str) -> Input {
    ipam(&format!(r#""type":"host-local",{keys}"#))
}

fn plugins(count: usize) -> Input {
    Input::Keys(format!(r#""plugins":[{}]"#, vec![r#"{"type":"bridge"}"#; count].join(",")))
}

fn many(count: usize) -> Input {
    Input::Nets(vec!["lan"; count].join(","))
}

/// The rules' lines as `meta-cnictl lint` prints them, without the ids.
fn said(input: &Input) -> Vec<(Option<Rule>, String)> {
    let of_definition = |name, config: &str| {
        let spec = json!({"config": config});
        let mut problems = definition(Some(name), &spec);
        problems.extend(resource(&json!({}), &spec));
        problems
    };
    let problems = match input {
        Input::Keys(keys) => of_definition("lan", &plugin(keys)),
        Input::Text(text) => of_definition("lan", text),
        Name(name) => of_definition(name, &plugin(r#""type":"bridge""#)),
        Input::Nets(text) => {
            let namespace: ObjectName = "shop".parse().unwrap();
            annotations(&namespace, |key| (key == NETWORKS).then_some(text))
        }
    };
    let line = |problem: Problem| {
        let line = problem.to_string().replace("spec.config", "cfg");
        let line = line.replace(&format!("metadata.annotations[{NETWORKS}]"), "nets");
        let id = problem.rule.map(|rule| format!(" [{}]", rule.id())).unwrap_or_default();
        (problem.rule, line.strip_suffix(id.as_str()).unwrap_or_default().to_owned())
    };
    problems.into_iter().map(line).collect()
}

/// The rule, what it accepts, what it does not.
fn cases() -> Vec<(Rule, Input, Input)> {
    vec![
        (Rule::EmptyConfig, keys(r#""type":"bridge""#), text(" ")),
        (Rule::NoMaster, keys(r#""type":"ipvlan","linkInContainer":true"#), keys(r#""type":"macvlan","master":"""#)),
        (
            Rule::NoResourceName,
            keys(r#""type":"host-device","device":"ens5""#),
            keys(r#""plugins":[{"type":"sriov"},{"type":"tuning"}]"#),
        ),
        (
            Rule::CompetingRoute,
            host_local(r#""subnet":"10.9.0.0/24","routes":[{"dst":"10.0.0.0/8"}]"#),
            host_local(r#""subnet":"10.9.0.0/24","routes":[{"dst":"0.0.0.0/0"}]"#),
        ),
        (
            Rule::NodeLocalAddresses,
            keys(r#""type":"bridge","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}"#),
            host_local(r#""subnet":"10.9.0.0/24""#),
        ),
        (
            Rule::WhereaboutsRange,
            ipam(
                r#""type":"whereabouts","range":"10.9.0.5-10.9.0.9/24","ipRanges":[{"range":"fd00::/64"}],"exclude":["10.9.0.7/32"]"#,
            ),
            ipam(r#""type":"whereabouts","range":"abc.1.1.0/24""#),
        ),
        (
            Rule::Exclude,
            ipam(r#""type":"blocks","subnet":"10.9.0.0/24","exclude":["10.9.0.30","10.9.0.64/26"]"#),
            ipam(r#""type":"blocks","subnet":"10.9.0.0/24","exclude":["10.9.0.300"]"#),
        ),
        (
            Rule::BlockSize,
            ipam(r#""type":"blocks","subnet":"10.9.0.0/24","blockSize":128"#),
            ipam(r#""type":"blocks","subnet":"10.9.0.0/24","blockSize":100"#),
        ),
        (
            Rule::NothingLeft,
            ipam(r#""type":"blocks","subnet":"10.9.0.0/30","gateway":"10.9.0.1""#),
            ipam(r#""type":"blocks","subnet":"10.9.0.0/30","gateway":"10.9.0.1","exclude":["10.9.0.2"]"#),
        ),
        (Rule::NoJson, text(r#"{"cniVersion":"0.3.0"}"#), text(r#"{"cniVersion":"0.3.0"mal}"#)),
        (Rule::NoObject, text(r#"{"type":"bridge"}"#), text(r#"["bridge"]"#)),
        (
            Rule::KeyTwice,
            keys(r#""type":"macvlan","master":"eth1""#),
            keys(r#""type":"macvlan","master":"eth1","master":"eth2""#),
        ),
        (
            Rule::KeySpelling,
            keys(r#""type":"macvlan","master":"eth1""#),
            keys(r#""type":"macvlan","master":"eth1","Master":"eth2""#),
        ),
        (Rule::ConfigSize, plugins(16), plugins(17)),
        (
            Rule::CniVersion,
            text(r#"{"cniVersion":"0.3.1","type":"bridge"}"#),
            text(r#"{"cniVersion":"0.5.0","type":"bridge"}"#),
        ),
        (Rule::NoCniVersion, text(r#"{"cniVersion":"1.0.0","type":"bridge"}"#), text(r#"{"type":"bridge"}"#)),
        (Rule::NetworkName, keys(r#""name":"blue.net","type":"bridge""#), keys(r#""name":"blue net","type":"bridge""#)),
        (Rule::DefinitionName, Name("blue-net"), Name("blue.net")),
        (Rule::PluginsShape, keys(r#""plugins":[{"type":"bridge"}]"#), keys(r#""plugins":"bridge""#)),
        (Rule::NoPlugins, keys(r#""plugins":[{"type":"bridge"}]"#), keys(r#""plugins":[]"#)),
        (
            Rule::TypeAndPlugins,
            keys(r#""plugins":[{"type":"bridge"}]"#),
            keys(r#""type":"bridge","plugins":[{"type":"bridge"}]"#),
        ),
        (Rule::NoType, keys(r#""type":"bridge""#), keys(r#""plugins":[{"type":"bridge"},{}]"#)),
        (Rule::TypeName, keys(r#""type":"sh""#), keys(r#""type":"../bin/sh""#)),
        (Rule::UnknownType, keys(r#""type":"macvlan""#), keys(r#""type":"mcavlan""#)),
        (Rule::MetaPlugin, keys(r#""type":"macvlan""#), keys(r#""type":"multus""#)),
        (Rule::UnknownKey, keys(r#""type":"vlan","vlanId":7"#), keys(r#""type":"macvlan","vlanID":7"#)),
        (Rule::JsonType, keys(r#""type":"vxlan","vni":100"#), keys(r#""type":"vxlan","vni":"100""#)),
        (
            Rule::ChainedFirst,
            keys(r#""plugins":[{"type":"bridge"},{"type":"bandwidth"}]"#),
            keys(r#""plugins":[{"type":"bandwidth"},{"type":"bridge"}]"#),
        ),
        (Rule::MacvlanMode, keys(r#""type":"macvlan","mode":"vepa""#), keys(r#""type":"macvlan","mode":"brigde""#)),
        (Rule::IpvlanMode, keys(r#""type":"ipvlan","mode":"l3s""#), keys(r#""type":"ipvlan","mode":"l4""#)),
        (Rule::VlanMaster, keys(r#""type":"vlan","vlanId":7,"master":"eth1""#), keys(r#""type":"vlan","vlanId":7"#)),
        (
            Rule::MasterName,
            keys(r#""type":"macvlan","master":"bond0.123456789""#),
            keys(r#""type":"macvlan","master":"bond0.1234567890""#),
        ),
        (Rule::VlanId, keys(r#""type":"vlan","vlanId":4094"#), keys(r#""type":"vlan","vlanId":4095"#)),
        (
            Rule::VlanTrunk,
            keys(r#""type":"bridge","vlanTrunk":[{"minID":20,"maxID":20}]"#),
            keys(r#""type":"bridge","vlanTrunk":[{"minID":20,"maxID":10}]"#),
        ),
        (Rule::Mtu, keys(r#""type":"bridge","mtu":68"#), keys(r#""type":"bridge","mtu":67"#)),
        (
            Rule::BridgeFlags,
            keys(r#""type":"bridge","hairpinMode":true"#),
            keys(r#""type":"bridge","hairpinMode":true,"promiscMode":true"#),
        ),
        (Rule::BridgeName, keys(r#""type":"bridge","bridge":"br0""#), keys(r#""type":"bridge","bridge":"br/0""#)),
        (
            Rule::Device,
            keys(r#""type":"host-device","device":"ens5""#),
            keys(r#""type":"host-device","device":"ens/5""#),
        ),
        (Rule::NoAddresses, keys(r#""type":"dummy","ipam":{"type":"static"}"#), keys(r#""type":"dummy""#)),
        (
            Rule::Bandwidth,
            keys(r#""plugins":[{"type":"ptp"},{"type":"bandwidth","ingressRate":8000,"ingressBurst":800}]"#),
            keys(r#""plugins":[{"type":"ptp"},{"type":"bandwidth","ingressRate":8000}]"#),
        ),
        (
            Rule::Sysctl,
            keys(r#""plugins":[{"type":"ptp"},{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}]"#),
            keys(r#""plugins":[{"type":"ptp"},{"type":"tuning","sysctl":{"kernel.panic":"1"}}]"#),
        ),
        (Rule::NoRanges, host_local(r#""subnet":"10.9.0.0/24""#), host_local(r#""routes":[]"#)),
        (Rule::Subnet, host_local(r#""subnet":"10.9.0.0/24""#), host_local(r#""subnet":"10.9.0.0""#)),
        (Rule::HostBits, host_local(r#""subnet":"10.9.0.0/24""#), host_local(r#""subnet":"10.9.0.5/24""#)),
        (Rule::SmallSubnet, host_local(r#""subnet":"10.9.0.0/30""#), host_local(r#""subnet":"10.9.0.0/31""#)),
        (
            Rule::OutsideSubnet,
            host_local(r#""subnet":"10.9.0.0/24","rangeEnd":"10.9.0.9""#),
            host_local(r#""subnet":"10.9.0.0/24","rangeEnd":"10.9.1.9""#),
        ),
        (
            Rule::RangeOrder,
            host_local(r#""subnet":"10.9.0.0/24","rangeStart":"10.9.0.20","rangeEnd":"10.9.0.90""#),
            host_local(r#""subnet":"10.9.0.0/24","rangeStart":"10.9.0.90","rangeEnd":"10.9.0.20""#),
        ),
        (
            Rule::RangesOverlap,
            host_local(r#""ranges":[[{"subnet":"10.9.0.0/25"}],[{"subnet":"10.9.0.128/25"}]]"#),
            host_local(r#""ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.9.0.0/25"}]]"#),
        ),
        (
            Rule::RangeFamilies,
            host_local(r#""ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00::/64"}]]"#),
            host_local(r#""ranges":[[{"subnet":"10.9.0.0/24"},{"subnet":"fd00::/126"}]]"#),
        ),
        (
            Rule::VersionForAddresses,
            text(
                r#"{"cniVersion":"0.3.0","type":"bridge","ipam":{"type":"static","addresses":[{"address":"10.9.0.7/24"},{"address":"10.9.0.8/24"}]}}"#,
            ),
            text(
                r#"{"cniVersion":"0.2.0","type":"bridge","ipam":{"type":"static","addresses":[{"address":"10.9.0.7/24"},{"address":"10.9.0.8/24"}]}}"#,
            ),
        ),
        (
            Rule::Gateway,
            host_local(r#""subnet":"10.9.0.0/24","gateway":"10.9.0.1""#),
            host_local(r#""subnet":"10.9.0.0/24","gateway":"10.8.0.1""#),
        ),
        (
            Rule::Route,
            host_local(r#""subnet":"10.9.0.0/24","routes":[{"dst":"0.0.0.0/0"}]"#),
            host_local(r#""subnet":"10.9.0.0/24","routes":[{"dst":"default"}]"#),
        ),
        (
            Rule::StaticAddress,
            ipam(r#""type":"static","addresses":[{"address":"10.9.0.7/24"}]"#),
            ipam(r#""type":"static","addresses":[{"address":"10.9.0.7"}]"#),
        ),
        (
            Rule::OverlayPort,
            keys(r#""type":"vxlan","vni":7,"port":65535"#),
            keys(r#""type":"vxlan","vni":7,"port":70000"#),
        ),
        (Rule::Vni, keys(r#""type":"vxlan","vni":16777215"#), keys(r#""type":"vxlan","vni":0"#)),
        (Rule::AnnotationJson, nets(r#"[{"name":"lan"}]"#), nets(r#"[{"name":"lan" "ips":[]}]"#)),
        (Rule::ElementShape, nets(r#"[{"name":"lan"}]"#), nets("[null]")),
        (Rule::ShortForm, nets("infra/lan@net1"), nets("a/b/c")),
        (Rule::ElementKey, nets(r#"[{"name":"lan","ips":["10.9.0.7"]}]"#), nets(r#"[{"name":"lan","ip":"10.9.0.7"}]"#)),
        (Rule::SelectionName, nets(r#"[{"name":"lan"}]"#), nets("[{}]")),
        (Rule::InterfaceLength, nets("lan@interfacename15"), nets("lan@verylonginterface")),
        (
            Rule::InterfaceName,
            nets(r#"[{"name":"lan","interface":"net1"}]"#),
            nets(r#"[{"name":"lan","interface":"net/1"}]"#),
        ),
        (Rule::Mac, nets(r#"[{"name":"lan","mac":"02:00:00:00:00:01"}]"#), nets(r#"[{"name":"lan","mac":"02-00"}]"#)),
        (
            Rule::Ips,
            nets(r#"[{"name":"lan","ips":["10.9.0.30/24"]}]"#),
            nets(r#"[{"name":"lan","ips":["10.9.0.300"]}]"#),
        ),
        (
            Rule::Routing,
            nets(r#"[{"name":"lan","meta-cni.io/routes":[{"dst":"10.9.0.0/16"}]}]"#),
            nets(r#"[{"name":"lan","meta-cni.io/routes":[{"dst":"10.9.0.1"}]}]"#),
        ),
        (
            Rule::AddressRequest,
            nets(r#"[{"name":"lan","meta-cni.io/addresses":"none"}]"#),
            nets(r#"[{"name":"lan","meta-cni.io/addresses":"none","ips":["10.9.0.7"]}]"#),
        ),
        (
            Rule::AddressSet,
            nets(r#"[{"name":"lan","meta-cni.io/address-set":"web"}]"#),
            nets(r#"[{"name":"lan","meta-cni.io/address-set":"web","ips":["10.9.0.7"]}]"#),
        ),
        (
            Rule::DefaultRoute,
            nets(r#"[{"name":"lan","default-route":["10.9.0.1","fd00::1"]}]"#),
            nets(r#"[{"name":"lan","default-route":["10.9.0.1","10.9.0.2"]}]"#),
        ),
        (Rule::TooManyNetworks, many(64), many(65)),
        (
            Rule::Guid,
            nets(r#"[{"name":"lan","infiniband-guid":"c2:11:22:33:44:55:66:77"}]"#),
            nets(r#"[{"name":"lan","infiniband-guid":"c2:11"}]"#),
        ),
        (Rule::AnnotationSize, nets(&" ".repeat(262_144)), nets(&"[".repeat(262_145))),
    ]
}

#[test]
fn each_rule_accepts_and_rejects_in_its_own_words() {
    let cases = cases();
    let mut wrong = Vec::new();
    for (rule, accepted, rejected) in &cases {
        let of_rule = |input| said(input).into_iter().filter(|(said, _)| *said == Some(*rule)).map(|(_, line)| line);
        wrong.extend(of_rule(accepted).map(|line| format!("{rule:?} accepts, and says: {line}")));
        let lines: Vec<String> = of_rule(rejected).collect();
        if lines != [rule.example()] {
            wrong.push(format!("{rule:?} says {lines:?}, and as its example {:?}", rule.example()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The rule about workloads and those about policies are the command's, which reads them; those about the cluster have their
    // cases in the webhook.
    let is_missing = |rule: &&Rule| !rule.needs_cluster() && !cases.iter().any(|(of, ..)| of == *rule);
    let missing: Vec<&Rule> = Rule::ALL.iter().filter(is_missing).collect();
    assert_eq!(missing, [&Rule::MisplacedAnnotation, &Rule::PolicyPath, &Rule::PolicyExpression]);
}

#[test]
fn every_range_and_exclusion_of_whereabouts_is_read() {
    let text = r#""type":"whereabouts","range":"10.9.0.5-fd00::9/64","exclude":["10.9.0"],"ipRanges":[{"range":"10.9.0.0","exclude":["x"]}]"#;
    let lines: Vec<String> = said(&ipam(text)).into_iter().map(|(_, line)| line).collect();
    let want = [
        r#"cfg.ipam.range: Invalid value: "10.9.0.5-fd00::9/64": must be CIDR or start-end/prefix"#,
        r#"cfg.ipam.ipRanges[0].range: Invalid value: "10.9.0.0": must be CIDR or start-end/prefix"#,
        r#"cfg.ipam.exclude[0]: Invalid value: "10.9.0": must be CIDR"#,
        r#"cfg.ipam.ipRanges[0].exclude[0]: Invalid value: "x": must be CIDR"#,
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_device_resource_is_named_by_the_annotation() {
    let spec = json!({"config": r#"{"cniVersion":"1.0.0","type":"sriov"}"#});
    let named = |name: &str| resource(&json!({attachments::definition::RESOURCE_NAME: name}), &spec);
    assert!(named("vendor.com/vf").is_none() && named("").is_some());
    assert!(resource(&json!(null), &json!({"config": 3})).is_none());
}

/// The tables of docs/lint.md: what lint judges, and what only admission does. `UPDATE_GOLDEN=1` writes it after a deliberate change.
#[test]
fn the_page_lists_the_rules() {
    const HEAD: &str = "| rule | | what it is about | an example | what to do |\n| --- | --- | --- | --- | --- |\n";
    let row = |rule: &Rule| {
        // Quotes of code that hold quotes are double.
        let quote = if rule.example().contains('`') { "``" } else { "`" };
        let example = format!("{quote}{}{quote}", rule.example());
        let cells = [rule.about(), &example, rule.fix()].map(|text| text.replace('|', "\\|"));
        let severity = if rule.severity() == Severity::Deny { "deny" } else { "warn" };
        format!("| {} | {severity} | {} |\n", rule.id(), cells.join(" | "))
    };
    let table = |needs_cluster: bool| -> String {
        Rule::ALL.iter().filter(|rule| rule.needs_cluster() == needs_cluster).map(row).collect()
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lint.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut parts = page.split(HEAD);
    let mut want = parts.next().unwrap().to_owned();
    for (part, needs_cluster) in parts.zip([false, true]) {
        let (_, after) = part.split_once("\n\n").unwrap_or((part, ""));
        want = format!("{want}{HEAD}{}\n{after}", table(needs_cluster));
    }
    assert_eq!(want.matches(HEAD).count(), 2);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &want).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), want);
}
