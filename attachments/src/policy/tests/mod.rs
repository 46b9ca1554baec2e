mod levels;

use serde_json::{Value, json};

use super::compile::Flaw;
use super::document::Labels;
use super::spec::AttachmentPolicySpec;
use super::verdict::{Facts, Judged, Verdict};
use super::{CompiledPolicy, Document, Level, Nad, Pod, PolicyName, Request, compile};
use crate::names::ObjectName;
use crate::selection::{NETWORKS, NetworkSelection, parse};

fn spec(value: Value) -> AttachmentPolicySpec {
    serde_json::from_value(value).unwrap()
}

fn flaws(value: Value) -> Vec<String> {
    let flaws = compile(PolicyName::Policy("p".into()), &spec(value)).unwrap_err();
    flaws.iter().map(Flaw::to_string).collect()
}

fn policy(value: Value) -> CompiledPolicy {
    compile(PolicyName::Policy("tenant-a".into()), &spec(value)).unwrap()
}

fn nad(config: &str) -> Nad<'_> {
    Nad { namespace: "shop", name: "blue", labels: None, annotations: None, config: Some(config) }
}

/// The violations of a definition by rules.
fn judged(rules: &Value, config: &str) -> Vec<String> {
    let document = Document::of_definition(&nad(config), None).unwrap();
    policy(json!({"rules": rules})).judge(&document).iter().map(ToString::to_string).collect()
}

fn tenant_a() -> Value {
    json!([
        {"name": "vni-pool", "select": "$.config.plugins[*].vni", "assert": {"range": {"min": 4000, "max": 4099}}, "onMissing": "Pass"},
        {"name": "masters", "forEach": "$.config.plugins[?@.type == 'macvlan' || @.type == 'ipvlan']", "select": "$.master",
            "assert": {"oneOf": ["eth1", "eth2"]}, "onMissing": "Fail"},
        {"name": "plugins", "select": "$.config.plugins[*].type", "assert": {"oneOf": ["macvlan", "vxlan", "tuning"]}},
        {"name": "addresses", "select": "$.config.plugins[*].subnets[*]", "assert": {"within": ["10.64.0.0/12"]}, "onMissing": "Pass"},
    ])
}

#[test]
fn the_violations_of_the_guide_have_these_texts() {
    for (config, want) in [
        (r#"{"type":"vxlan","vni":4050,"ipam":{"type":"blocks","subnet":"10.64.1.0/24"}}"#, vec![]),
        (
            r#"{"plugins":[{"type":"vxlan","vni":5000}]}"#,
            vec![r#"spec.config.plugins[0].vni: Forbidden: 5000: policy "tenant-a" rule "vni-pool" allows 4000-4099"#],
        ),
        (
            r#"{"type":"vxlan","vni":"4050"}"#,
            vec![r#"spec.config.vni: Forbidden: "4050": policy "tenant-a" rule "vni-pool" allows 4000-4099"#],
        ),
        (
            r#"{"plugins":[{"type":"macvlan","Master":"eth0"},{"type":"macvlan"},{"type":"tuning"}]}"#,
            vec![
                r#"spec.config.plugins[0].Master: Forbidden: "eth0": policy "tenant-a" rule "masters" allows "eth1", "eth2""#,
                r#"spec.config.plugins[1].master: Required value: policy "tenant-a" rule "masters" allows "eth1", "eth2""#,
            ],
        ),
        (
            r#"{"type":"tuning","delegate":{"TYPE":"ipvlan","master":"eth1"},"ipam":{"ranges":[[{"subnet":"10.0.0.0/8"}]]}}"#,
            vec![
                r#"spec.config.delegate.TYPE: Forbidden: "ipvlan": policy "tenant-a" rule "plugins" allows "macvlan", "vxlan", "tuning""#,
                r#"spec.config.ipam.ranges[0][0].subnet: Forbidden: "10.0.0.0/8": policy "tenant-a" rule "addresses" allows 10.64.0.0/12"#,
            ],
        ),
        // Nothing is selected, and onMissing is absent.
        (
            "",
            vec![
                r#"spec.config.plugins: Required value: policy "tenant-a" rule "plugins" allows "macvlan", "vxlan", "tuning""#,
            ],
        ),
    ] {
        assert_eq!(judged(&tenant_a(), config), want, "{config}");
    }
}

#[test]
fn counts_absence_and_uniqueness_are_judged_of_the_nodes_together() {
    let config =
        r#"{"plugins":[{"type":"macvlan","master":"eth1","sysctl":{"a":"1"}},{"type":"tuning","master":"eth1"}]}"#;
    let rule =
        |select: &str, assert: Value| json!([{"name": "r", "select": select, "assert": assert, "message": "so it is"}]);
    for (rule, want) in [
        (rule("$.config.plugins[*]", json!({"maxCount": 2})), None),
        (
            rule("$.config.plugins[*]", json!({"maxCount": 1})),
            Some(r#"spec.config.plugins: Too many: 2: policy "tenant-a" rule "r" allows at most 1: so it is"#),
        ),
        (
            rule("$.config.plugins[*]", json!({"minCount": 3})),
            Some(
                r#"spec.config.plugins: Invalid value: 2: policy "tenant-a" rule "r" allows no less than 3: so it is"#,
            ),
        ),
        (
            rule("$.config.plugins[*].vlanId", json!({"minCount": 1})),
            Some(r#"spec.config.plugins: Required value: policy "tenant-a" rule "r" allows no less than 1: so it is"#),
        ),
        (rule("$.config.plugins[*].vlanId", json!({"absent": true})), None),
        (
            rule("$..sysctl", json!({"absent": true})),
            Some(
                r#"spec.config.plugins[0].sysctl: Forbidden: {"a":"1"}: policy "tenant-a" rule "r" allows none: so it is"#,
            ),
        ),
        (
            rule("$.config.plugins[*].master", json!({"unique": true})),
            Some(
                r#"spec.config.plugins[1].master: Duplicate value: "eth1": policy "tenant-a" rule "r" allows each value once: so it is"#,
            ),
        ),
        (rule("$.config.plugins[*].type", json!({"unique": true})), None),
        (rule("$.config.plugins[*].vlanId", json!({"unique": true})), None),
    ] {
        assert_eq!(judged(&rule, config), want.into_iter().collect::<Vec<_>>(), "{rule}");
    }
}

#[test]
fn a_rule_speaks_only_of_what_a_document_can_have() {
    let policy = policy(json!({"rules": [
        {"name": "quota", "select": "$.usage.attachmentsInNamespace", "assert": {"range": {"max": 20}}, "message": "tenant a may have 20 attachments"},
        {"name": "user", "select": "$.request.user", "assert": {"notOneOf": ["eve"]}},
        {"name": "macs", "select": "$.attachment.mac", "assert": {"absent": true}},
        {"name": "labels", "select": "$.pod.labels.app", "assert": {"oneOf": ["web"]}},
        {"name": "cross", "forEach": "$.config.plugins[?@.vni == $.usage.vnis]", "select": "$.x", "assert": {"absent": true}},
        {"name": "host", "select": "$.pod['hostNetwork']", "assert": {"minCount": 1}},
    ]}));
    let said = |document: &Document| policy.judge(document).iter().map(ToString::to_string).collect::<Vec<_>>();
    let nad = nad(r#"{"type":"macvlan"}"#);
    assert_eq!(said(&Document::of_definition(&nad, None).unwrap()), Vec::<String>::new());
    let request =
        Request { user: "eve".into(), usage: [("attachmentsInNamespace".to_owned(), 21)].into(), ..Request::default() };
    assert_eq!(
        said(&Document::of_definition(&nad, Some(&request)).unwrap()),
        [
            r#"usage.attachmentsInNamespace: Forbidden: 21: policy "tenant-a" rule "quota" allows at most 20: tenant a may have 20 attachments"#,
            r#"request.user: Forbidden: "eve": policy "tenant-a" rule "user" allows anything but "eve""#,
        ]
    );
    let labels = Labels::from([("app".to_owned(), "db".to_owned())]);
    let pod = Pod { namespace: "shop", name: None, labels: Some(&labels), service_account: None, host_network: false };
    let asked = networks(r#"[{"name":"blue","mac":"02:00:00:00:00:01"}]"#);
    let document = Document::of_attachment(&pod, &asked[0], "nets[0]", Some(&nad), None).unwrap();
    assert_eq!(
        said(&document),
        [
            r#"nets[0].mac: Forbidden: "02:00:00:00:00:01": policy "tenant-a" rule "macs" allows none"#,
            r#"metadata.labels.app: Forbidden: "db": policy "tenant-a" rule "labels" allows "web""#,
        ]
    );
    let nameless = Pod { labels: None, ..pod };
    let document = Document::of_attachment(&nameless, &asked[0], "nets[0]", None, None).unwrap();
    assert_eq!(said(&document).len(), 1, "its labels are not known");
}

#[test]
fn a_configuration_is_told_from_a_pod_by_its_network() {
    let pod = Pod { namespace: "shop", name: Some("web"), labels: None, service_account: None, host_network: false };
    let asked = networks("blue");
    let nad = nad(r#"{"type":"vxlan","vni":7}"#);
    let document = Document::of_attachment(&pod, &asked[0], "nets[0]", Some(&nad), None).unwrap();
    let rules = json!([{"name": "r", "select": "$.config.plugins[*].vni", "assert": {"absent": true}}]);
    let said = policy(json!({"appliesTo": ["Pod"], "rules": rules})).judge(&document);
    let want = r#"nets[0] (shop/blue spec.config.vni): Forbidden: 7: policy "tenant-a" rule "r" allows none"#;
    assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
    let other = policy(json!({"appliesTo": ["NetworkAttachmentDefinition"], "rules": rules}));
    assert_eq!(other.judge(&document), []);
}

#[test]
fn a_policy_that_cannot_be_read_says_all_that_is_wrong() {
    assert_eq!(flaws(json!({"rules": []})), ["spec.rules: Invalid value: at least one rule is required"]);
    assert_eq!(
        flaws(json!({"rules": [
            {"name": "a", "select": "$..a..b", "assert": {"matches": "("}},
            {"name": "a", "forEach": "$[", "select": "$.a", "assert": {"absent": false}},
            {"name": "c", "select": "$.a", "assert": {}},
        ]})),
        [
            r#"spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed"#,
            r#"spec.rules[0].assert.matches: Invalid value: "(": found open group without closing ')'"#,
            r#"spec.rules[1].name: Invalid value: "a": another rule of the policy has this name"#,
            r#"spec.rules[1].forEach: Invalid value: "$[": not a JSONPath (RFC 9535) from column 3 on"#,
            "spec.rules[1].assert.absent: Invalid value: false: must be true",
            "spec.rules[2].assert: Invalid value: an operator is required, for example oneOf",
        ]
    );
}

#[test]
fn a_document_that_cannot_be_walked_through_is_refused() {
    let mut deep = "1".to_owned();
    for _ in 0..25 {
        deep = format!("[{deep},1]");
    }
    let config = format!(r#"{{"type":"x","a":{deep}}}"#);
    let path = format!("$.config.plugins[0].a{}", "[*,*]".repeat(25));
    let said = judged(&json!([{"name": "r", "select": path, "assert": {"absent": true}}]), &config);
    let want =
        r#"spec.config: Forbidden: policy "tenant-a" rule "r" allows only documents that it can be walked through"#;
    assert_eq!(said, [want]);
}

#[test]
fn one_rule_does_not_fill_an_answer() {
    let config = format!(r#"{{"type":"x","a":[{}]}}"#, vec!["1"; 1000].join(","));
    let said =
        judged(&json!([{"name": "r", "select": "$.config.plugins[0].a[*]", "assert": {"absent": true}}]), &config);
    assert_eq!(said.len(), 16);
}

fn networks(annotation: &str) -> Vec<NetworkSelection> {
    parse(NETWORKS, annotation, &"shop".parse::<ObjectName>().unwrap()).unwrap()
}

fn verdict(facts: &Facts, default: Level, config: &str, annotation: &str) -> Result<Verdict, String> {
    let selections = networks(annotation);
    let named: Vec<_> = selections.iter().filter_map(|selection| selection.target.definition()).collect();
    let judged: Vec<Judged<'_>> = selections
        .iter()
        .zip(&named)
        .map(|(selection, reference)| Judged {
            selection,
            element: "nets[0]",
            nad: Some(Nad { namespace: reference.namespace.as_str(), name: reference.name.as_str(), ..nad(config) }),
            is_nodes_own: false,
            is_of_cluster: false,
        })
        .collect();
    let pod = Pod { namespace: "shop", name: Some("web"), labels: None, service_account: None, host_network: false };
    Verdict::of(facts, default, &pod, &judged).map_err(|finding| finding.to_string())
}

#[test]
fn a_configuration_of_two_readings_refuses_where_a_policy_would_read_it() {
    let config = r#"{"type":"dummy","mtu":1,"MTU":2}"#;
    let why = verdict(&Facts::default(), Level::Baseline, config, "blue").unwrap_err();
    assert_eq!(
        why,
        r#"network-attachment-definition shop/blue: spec.config: got invalid JSON (key "MTU" comes twice at line 1 column 29), want a CNI configuration: a JSON object in which every key appears once"#
    );
    assert_eq!(verdict(&Facts::default(), Level::Privileged, config, "blue"), Ok(Verdict::default()));
}

#[test]
fn policies_select_exempt_warn_and_add_up() {
    let no_vlan = |more: Value| {
        let mut policy = json!({"rules": [{"name": "types", "select": "$.config.plugins[*].type", "assert": {"notOneOf": ["vlan"]}}],
            "appliesTo": ["NetworkAttachmentDefinition"]});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(policy)
    };
    let facts = |policies: Vec<(&str, AttachmentPolicySpec)>| Facts {
        namespaces: [("shop".to_owned(), Labels::from([("tenant".to_owned(), "a".to_owned())]))].into(),
        policies: policies.into_iter().map(|(name, spec)| (name.to_owned(), spec)).collect(),
        ..Facts::default()
    };
    let said = |policies| {
        let Verdict { refusals, warnings } =
            verdict(&facts(policies), Level::Privileged, r#"{"type":"vlan"}"#, "blue").unwrap();
        (refusals.len(), warnings.len())
    };
    assert_eq!(said(vec![("a", no_vlan(json!({}))), ("b", no_vlan(json!({})))]), (2, 0), "each must hold");
    assert_eq!(said(vec![("a", no_vlan(json!({"mode": "Warn"})))]), (0, 1));
    assert_eq!(said(vec![("a", no_vlan(json!({"mode": "Audit"})))]), (0, 0));
    assert_eq!(said(vec![("a", no_vlan(json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}})))]), (1, 0));
    assert_eq!(said(vec![("a", no_vlan(json!({"namespaceSelector": {"matchLabels": {"tenant": "b"}}})))]), (0, 0));
    assert_eq!(said(vec![("a", no_vlan(json!({"exempt": {"namespaces": ["shop"]}})))]), (0, 0));
    // Its name is a label of every namespace.
    for (operator, refused) in [("In", 1), ("NotIn", 0)] {
        let name = json!({"key": "kubernetes.io/metadata.name", "operator": operator, "values": ["shop"]});
        assert_eq!(
            said(vec![("a", no_vlan(json!({"namespaceSelector": {"matchExpressions": [name]}})))]),
            (refused, 0)
        );
    }
    // At ADD there is no user.
    assert_eq!(said(vec![("a", no_vlan(json!({"exempt": {"groups": ["system:masters"]}})))]), (1, 0));
    let concerned = policy(json!({"exempt": {"groups": ["admins"]}, "rules": tenant_a()}));
    assert!(!concerned.concerns("shop", &Labels::new(), &["users".to_owned(), "admins".to_owned()]));
    assert!(concerned.concerns("shop", &Labels::new(), &["users".to_owned()]));

    // Nobody knows what a policy forbids that cannot be read.
    let broken =
        |mode: &str| spec(json!({"mode": mode, "rules": [{"name": "r", "select": "$[", "assert": {"absent": true}}]}));
    let why = verdict(&facts(vec![("a", broken("Enforce"))]), Level::Privileged, "{}", "blue").unwrap_err();
    assert_eq!(
        why,
        r#"policy "a": spec.rules[0].select: Invalid value: "$[": not a JSONPath (RFC 9535) from column 3 on"#
    );
    assert_eq!(said(vec![("a", broken("Warn"))]), (0, 0));
}

#[test]
fn a_message_names_the_first_refusals() {
    let verdict =
        |count: usize| Verdict { refusals: (0..count).map(|i| format!("r{i}")).collect(), warnings: Vec::new() };
    assert_eq!(verdict(0).refusal(), None);
    assert_eq!(verdict(3).refusal().unwrap(), "r0; r1; r2");
    assert_eq!(verdict(5).refusal().unwrap(), "r0; r1; r2; and 2 more");
}

#[test]
fn a_policy_about_pods_says_whether_it_reads_definitions() {
    let reads = |select: &str, more: Value| {
        let mut spec = json!({"rules": [{"name": "r", "select": select, "assert": {"absent": true}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy(spec).reads_definitions()
    };
    for (select, want) in [
        ("$.config.plugins[*].vni", true),
        ("$.Config", true),
        ("$..mtu", true),
        ("$.nad", true),
        ("$.nad.labels.a", true),
        ("$.attachment[?@ == $.config.name]", true),
        ("$.nad.name", false),
        ("$.configured", false),
        ("$.attachment.mac", false),
        ("$.usage.nadsInNamespace", false),
    ] {
        assert_eq!(reads(select, json!({})), want, "{select}");
    }
    assert!(!reads("$.config", json!({"appliesTo": ["NetworkAttachmentDefinition"]})));
}
