//! What each level says, word for word.

use serde_json::{Value, json};

use super::verdict;
use crate::policy::spec::{AttachmentLevelSpec, AttachmentPolicySpec};
use crate::policy::{Facts, Judged, Labels, Level, Pod, PolicyName, Verdict, compile};
use crate::selection::{NetworkSelection, SelectionTarget};

/// What a level says of a pod in `shop` and of the definition `blue` there.
fn by_level(level: Level, open: Value, config: &str, annotation: &str) -> Vec<String> {
    let open: AttachmentLevelSpec = serde_json::from_value(open).unwrap();
    let facts = Facts { levels: [(level.to_string(), open)].into(), ..Facts::default() };
    verdict(&facts, level, config, annotation).unwrap().refusals
}

#[test]
fn baseline_refuses_what_is_not_the_pods_own_and_was_not_opened() {
    let open = json!({"types": ["passthru"], "masters": ["eth1", "bond0"], "bridges": ["br-shop"],
        "vniRanges": [{"min": 4000, "max": 4099}, {"min": 9000, "max": 9000}], "programs": ["sriov", "whereabouts"],
        "sharedNamespaces": ["infra"]});
    let at = "network-attachment-definition shop/blue: ";
    for (config, closed, opened) in [
        (r#"{"type":"dummy","ipam":{"type":"static"}}"#, None, None),
        (r#"{"type":"ptp","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#, None, None),
        (
            r#"{"type":"macvlan","master":"eth1"}"#,
            Some(
                r#"spec.config.master: Forbidden: "eth1": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#,
            ),
            None,
        ),
        (
            r#"{"type":"ipvlan"}"#,
            Some(
                r#"spec.config.master: Required value: level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#,
            ),
            Some(
                r#"spec.config.master: Required value: level "baseline" rule "masters" allows "bond0", "eth1": without master it is the link of the node's default route"#,
            ),
        ),
        (r#"{"type":"vlan","master":"eth0","linkInContainer":true}"#, None, None),
        (
            r#"{"type":"macvlan","master":"eth1","MODE":"passthru"}"#,
            Some(r#"rule "masters""#),
            Some(
                r#"spec.config.MODE: Forbidden: "passthru": level "baseline" rule "modes" allows anything but "passthru""#,
            ),
        ),
        (r#"{"type":"bridge","bridge":"br-shop"}"#, Some(r#"rule "bridges" allows none"#), None),
        // Under another name too.
        (r#"{"type":"cnv-bridge","bridge":"br-shop"}"#, Some(r#"rule "bridges" allows none"#), None),
        (r#"{"type":"cnv-bridge","bridge":"cni0"}"#, Some(r#"rule "bridges""#), Some(r#"rule "bridges""#)),
        // A VLAN of a master comes with it; one that is named by itself does not.
        (r#"{"type":"macvlan","master":"eth1","masterVlan":100}"#, Some(r#"rule "masters""#), None),
        // A VXLAN over it is an overlay.
        (r#"{"type":"macvlan","master":"eth1","masterVxlan":4000}"#, Some(r#"rule "masters""#), None),
        (
            r#"{"type":"macvlan","master":"eth1","masterVxlan":600}"#,
            Some(r#"rule "masters""#),
            Some(
                r#"spec.config.masterVxlan: Forbidden: 600: level "baseline" rule "master-vnis" allows 4000-4099, 9000-9000"#,
            ),
        ),
        (
            r#"{"type":"ipvlan","master":"eth1","name":"lan","vxlan":600}"#,
            Some(r#"rule "masters""#),
            Some(r#"spec.config.vxlan: Forbidden: 600: level "baseline" rule "master-vnis""#),
        ),
        (r#"{"type":"macvlan","master":"eth1.100"}"#, Some(r#"rule "masters""#), Some(r#"rule "masters""#)),
        (
            r#"{"type":"bridge"}"#,
            Some(r#"spec.config.bridge: Required value"#),
            Some(
                r#"spec.config.bridge: Required value: level "baseline" rule "bridges" allows "br-shop": without bridge it is cni0"#,
            ),
        ),
        (
            r#"{"type":"vxlan","vni":9000}"#,
            Some(r#"spec.config.vni: Forbidden: 9000: level "baseline" rule "vnis" allows none"#),
            None,
        ),
        (
            r#"{"type":"vxlan","vni":5000}"#,
            Some(r#"rule "vnis" allows none"#),
            Some(r#"spec.config.vni: Forbidden: 5000: level "baseline" rule "vnis" allows 4000-4099, 9000-9000"#),
        ),
        (
            r#"{"type":"vxlan","vni":4000,"peers":["10.0.0.1"]}"#,
            Some(r#"rule "vnis""#),
            Some(
                r#"spec.config.peers: Forbidden: ["10.0.0.1"]: level "baseline" rule "peers" allows none: who is in an overlay is the cluster's affair"#,
            ),
        ),
        (r#"{"type":"vxlan","vni":4000,"underlay":"eth9"}"#, Some(r#"rule "vnis""#), Some(r#"rule "underlays""#)),
        (
            r#"{"type":"host-device","device":"ens5"}"#,
            Some(
                r#"spec.config.device: Forbidden: "ens5": level "baseline" rule "devices" allows none: a device comes from a device plugin"#,
            ),
            Some(r#"rule "devices""#),
        ),
        (r#"{"type":"host-device"}"#, None, None),
        (r#"{"type":"bond","linksInContainer":true,"links":[{"name":"net1"}]}"#, None, None),
        (
            r#"{"type":"bond","links":[{"name":"ens5"}]}"#,
            Some(r#"level "baseline" rule "links" allows none: without linksInContainer the links are the node's"#),
            Some(r#"rule "links""#),
        ),
        (r#"{"type":"sriov"}"#, Some(r#"spec.config.type: Forbidden: "sriov": level "baseline" rule "types""#), None),
        (r#"{"type":"dummy","ipam":{"TYPE":"whereabouts","range":"10.1.0.0/24"}}"#, Some(r#"rule "ipam-types""#), None),
        (r#"{"type":"macvlan","linkInContainer":true,"ipam":{"type":"dhcp"}}"#, None, None),
        (r#"{"type":"dummy","ipam":{"type":"other"}}"#, Some(r#"rule "ipam-types""#), Some(r#"rule "ipam-types""#)),
        (r#"{"type":"flannel"}"#, Some(r#"rule "types""#), Some(r#"rule "types""#)),
        (
            r#"{"plugins":[{"type":"dummy"},{"type":"tuning","sysctl":{"net.core.somaxconn":"1"}}]}"#,
            Some(
                r#"spec.config.plugins[1].sysctl: Forbidden: {"net.core.somaxconn":"1"}: level "baseline" rule "sysctls" allows none"#,
            ),
            Some(r#"rule "sysctls""#),
        ),
        (
            r#"{"plugins":[{"type":"tuning","args":{"CNI":{"SYSCTL":{}}}}]}"#,
            Some(r#"rule "sysctl-arguments""#),
            Some(r#"rule "sysctl-arguments""#),
        ),
        (
            r#"{"type":"dummy","ipam":{"type":"host-local","dataDir":"/var/lib/cni/x"}}"#,
            Some(r#"spec.config.ipam.dataDir: Forbidden: "/var/lib/cni/x": level "baseline" rule "paths" allows none"#),
            Some(r#"rule "paths""#),
        ),
        (
            " ",
            Some(
                r#"spec.config.plugins: Required value: level "baseline" rule "configuration" allows no less than 1: an empty spec.config stands for a file of the node"#,
            ),
            Some(r#"rule "configuration""#),
        ),
    ] {
        for (open, want) in [(json!({}), closed), (open.clone(), opened)] {
            let said = by_level(Level::Baseline, open.clone(), config, "blue");
            match want {
                None => assert_eq!(said, Vec::<String>::new(), "{config} {open}"),
                Some(want) => {
                    let is_said = said.iter().any(|said| said.strip_prefix(at).is_some_and(|said| said.contains(want)));
                    assert!(is_said, "{config} {open}: {said:#?}\nwant {want}");
                }
            }
        }
        assert_eq!(by_level(Level::Privileged, json!({}), config, "blue"), Vec::<String>::new(), "{config}");
    }
}

#[test]
fn baseline_refuses_what_a_pod_asks_beyond_its_own() {
    let dummy = r#"{"type":"dummy"}"#;
    for (annotation, want) in [
        ("blue", None),
        (r#"[{"name":"blue","ips":["10.1.0.2/24"],"mac":"02:00:00:00:00:01"}]"#, None),
        (
            r#"[{"name":"blue","portMappings":[{"hostPort":80,"containerPort":80}]}]"#,
            Some(
                r#"nets[0].portMappings: Forbidden: [{"containerPort":80,"hostPort":80}]: level "baseline" rule "host-ports" allows none"#,
            ),
        ),
        (
            r#"[{"name":"blue","deviceID":"0000:3b:02.1"}]"#,
            Some(r#"nets[0].deviceID: Forbidden: "0000:3b:02.1": level "baseline" rule "devices" allows none"#),
        ),
        (
            r#"[{"name":"blue","cni-args":{"Sysctl":{"a":"1"}}}]"#,
            Some(r#"nets[0].cni-args.Sysctl: Forbidden: {"a":"1"}: level "baseline" rule "sysctls" allows none"#),
        ),
        (
            "infra/lan",
            Some(
                r#"nets[0].namespace: Forbidden: "infra": level "baseline" rule "namespaces" allows none: another namespace's definitions need to be shared"#,
            ),
        ),
    ] {
        let facts = Facts {
            namespaces: [("shop".to_owned(), Labels::from([("meta-cni.io/level".to_owned(), "baseline".to_owned())]))]
                .into(),
            ..Facts::default()
        };
        let said = verdict(&facts, Level::Privileged, dummy, annotation).unwrap().refusals;
        assert_eq!(said, want.into_iter().collect::<Vec<_>>(), "{annotation}");
    }
    let shared = json!({"sharedNamespaces": ["infra"]});
    assert_eq!(by_level(Level::Baseline, shared, dummy, "infra/lan"), Vec::<String>::new());
}

#[test]
fn restricted_admits_the_administrators_networks_only() {
    let dummy = r#"{"type":"dummy"}"#;
    assert_eq!(
        by_level(Level::Restricted, json!({}), dummy, "blue"),
        [
            r#"network-attachment-definition shop/blue: metadata.name: Forbidden: "blue": level "restricted" rule "definitions" allows none: only networks of the administrator's namespaces are attached"#,
            r#"nets[0].namespace: Forbidden: "shop": level "restricted" rule "namespaces" allows none: only networks of the administrator's namespaces are attached"#,
        ]
    );
    // The administrator's namespace has a level of its own.
    let label = |level: &str| Labels::from([("meta-cni.io/level".to_owned(), level.to_owned())]);
    let open: AttachmentLevelSpec = serde_json::from_value(json!({"sharedNamespaces": ["infra"]})).unwrap();
    let facts = Facts {
        namespaces: [("shop".to_owned(), label("restricted")), ("infra".to_owned(), label("privileged"))].into(),
        levels: [("restricted".to_owned(), open)].into(),
        ..Facts::default()
    };
    let said = |annotation| verdict(&facts, Level::Baseline, r#"{"type":"macvlan"}"#, annotation).unwrap().refusals;
    assert_eq!(said("infra/lan"), Vec::<String>::new());
    assert_eq!(
        said(r#"[{"name":"lan","namespace":"infra","portMappings":[{"hostPort":80,"containerPort":80}]}]"#).len(),
        1
    );
}

#[test]
fn a_file_of_the_node_is_nothing_that_a_level_admits() {
    let selection = NetworkSelection::new(SelectionTarget::NodeFile("lan".parse().unwrap()));
    let pod = Pod { namespace: "shop", name: Some("web"), labels: None, service_account: None, host_network: false };
    let judged =
        [Judged { selection: &selection, element: "nets[0]", nad: None, is_nodes_own: true, is_of_cluster: false }];
    let refused = |level| Verdict::of(&Facts::default(), level, &pod, &judged).unwrap().refusals;
    assert_eq!(refused(Level::Privileged), Vec::<String>::new());
    assert_eq!(
        refused(Level::Baseline),
        [
            r#"nets[0].name: Required value: level "baseline" rule "definitions" allows no less than 1: a file of the node is the administrator's"#
        ]
    );
    assert!(refused(Level::Restricted)[0].contains(r#"rule "namespaces" allows none"#));
}

#[test]
fn a_level_that_is_none_refuses() {
    let facts = Facts {
        namespaces: [("shop".to_owned(), Labels::from([("meta-cni.io/level".to_owned(), "Baseline".to_owned())]))]
            .into(),
        ..Facts::default()
    };
    let why = verdict(&facts, Level::Privileged, "{}", "blue").unwrap_err();
    assert_eq!(
        why,
        r#"namespace shop: metadata.labels[meta-cni.io/level]: got "Baseline", want privileged, baseline or restricted"#
    );
}

#[test]
fn every_level_is_made_of_policies_that_can_be_read() {
    for level in Level::ALL {
        let policies = level.policies(&AttachmentLevelSpec::default());
        assert_eq!(policies.is_empty(), level == Level::Privileged);
        for spec in policies {
            assert!(compile(PolicyName::Level(level), &spec).is_ok(), "{level}");
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<AttachmentPolicySpec>(&text).unwrap(), spec, "it reads back");
        }
        assert_eq!(level.as_str().parse::<Level>(), Ok(level));
    }
    assert_eq!(serde_json::to_value(Facts::default()).unwrap(), json!({}));
}
