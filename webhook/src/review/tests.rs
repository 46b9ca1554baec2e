//! Levels and policies, and what is missing, by requests.

use attachments::cni::object::Object as Conf;
use attachments::dialect::objects::Kind as Foreign;
use attachments::dialect::{DIALECTS, Dialects};
use attachments::policy::Level;
use attachments::policy::spec::Mode;
use attachments::rule::Severity;
use delegates::lint::Problem;
use serde_json::{Value, json};

use super::judge::{Judgement, Missing, judge};
use crate::cluster::Options;
use crate::facts::{Cache, Known, Object};
use crate::rules::{Operation, Request};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

/// A cluster of namespaces: `shop` of a tenant, `base` and `bound` with levels, `infra`.
fn cluster() -> Known {
    let mut known = Known::new(Options::default(), Level::Privileged);
    for (name, labels) in [
        ("shop", json!({"tenant": "a"})),
        ("base", json!({"meta-cni.io/level": "baseline"})),
        ("bound", json!({"meta-cni.io/level": "restricted"})),
        ("odd", json!({"meta-cni.io/level": "open"})),
        ("infra", json!({})),
    ] {
        known.apply(Cache::Namespaces, object(json!({"metadata": {"name": name, "labels": labels}})));
    }
    for level in ["baseline", "restricted"] {
        known.apply(
            Cache::Levels,
            object(json!({"metadata": {"name": level}, "spec": {"sharedNamespaces": ["infra"]}})),
        );
    }
    known
}

fn policy(known: &mut Known, name: &str, spec: Value) {
    known.apply(Cache::Policies, object(json!({"metadata": {"name": name}, "spec": spec})));
}

fn nad(namespace: &str, name: &str, config: Value) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name}, "spec": {"config": config.to_string()}})
}

fn store(known: &mut Known, nad: &Value) {
    known.apply(Cache::Definitions, object(nad.clone()));
}

fn macvlan(master: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": "macvlan", "master": master})
}

fn pod(namespace: &str, networks: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": "web-0", "annotations": {NETWORKS: networks}}})
}

struct Ask<'a> {
    object: &'a Value,
    old: Option<&'a Value>,
    groups: &'a [&'a str],
    unanswered: Missing,
}

impl<'a> Ask<'a> {
    fn of(object: &'a Value) -> Self {
        Self { object, old: None, groups: &[], unanswered: Missing::default() }
    }

    fn judge(&self, known: &Known) -> Judgement {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let groups: Vec<String> = self.groups.iter().map(|group| (*group).to_owned()).collect();
        let version = text(&self.object["apiVersion"]);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let (kind, metadata) = (text(&self.object["kind"]), &self.object["metadata"]);
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let request = Request {
            operation: if self.old.is_some() { Operation::Update } else { Operation::Create },
            group,
            kind: &kind,
            namespace: &namespace,
            name: &name,
            object: self.object,
            old: self.old,
            user: "eve",
            groups: &groups,
        };
        judge(&request, known, &self.unanswered)
    }
}

fn words(judgement: Judgement) -> Vec<String> {
    let line = |problem: Problem| match problem.severity {
        Severity::Deny => problem.to_string(),
        Severity::Warn => format!("warning: {problem}"),
    };
    judgement.problems.into_iter().map(line).collect()
}

fn said(known: &Known, object: &Value) -> Vec<String> {
    words(Ask::of(object).judge(known))
}

#[test]
fn a_definition_is_judged_by_the_level_of_its_own_namespace() {
    let known = cluster();
    let (base, bound) = (nad("base", "lan", macvlan("eth1")), nad("bound", "lan", macvlan("eth1")));
    let refused = r#"spec.config.master: Forbidden: "eth1": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#;
    assert_eq!(said(&known, &base), [refused]);
    assert_eq!(said(&known, &nad("shop", "lan", macvlan("eth1"))), Vec::<String>::new());
    let refused = said(&known, &bound);
    assert!(refused.len() == 1 && refused[0].contains(r#"level "restricted" rule "definitions""#), "{refused:?}");
    let odd = said(&known, &nad("odd", "lan", macvlan("eth1")));
    assert!(
        odd[0].starts_with(
            "metadata.namespace: Forbidden: namespace odd: metadata.labels[meta-cni.io/level]: got \"open\""
        ),
        "{odd:?}"
    );
    // What was stored before there were levels takes a label, and nothing worse.
    let mut labelled = base.clone();
    labelled["metadata"]["labels"] = json!({"x": "y"});
    let update = |new: &Value| words(Ask { old: Some(&base), ..Ask::of(new) }.judge(&known));
    assert_eq!(
        update(&labelled),
        [
            r#"warning: spec.config.master: Forbidden: "eth1": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#
        ]
    );
    let worse = update(&nad("base", "lan", macvlan("eth2")));
    assert_eq!(
        worse,
        [
            r#"spec.config.master: Forbidden: "eth2": level "baseline" rule "masters" allows none: without master it is the link of the node's default route"#
        ]
    );
}

#[test]
fn a_pod_is_judged_by_the_level_of_its_namespace() {
    let mut known = cluster();
    for namespace in ["base", "infra", "shop"] {
        store(&mut known, &nad(namespace, "lan", json!({"cniVersion": "1.0.0", "type": "ptp"})));
    }
    assert_eq!(said(&known, &pod("base", "infra/lan")), Vec::<String>::new());
    assert_eq!(
        said(&known, &pod("base", "lan,shop/lan")),
        [
            r#"metadata.annotations[k8s.v1.cni.cncf.io/networks][1].namespace: Forbidden: "shop": level "baseline" rule "namespaces" allows "infra": another namespace's definitions need to be shared"#
        ]
    );
    let ports = r#"[{"name":"lan","namespace":"infra","portMappings":[{"hostPort":80,"containerPort":80}]}]"#;
    let said_of_ports = said(&known, &pod("bound", ports));
    assert!(
        said_of_ports.iter().any(|line| line.contains(r#"level "restricted" rule "host-ports" allows none"#)),
        "{said_of_ports:?}"
    );
    let template = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "base", "name": "web"},
        "spec": {"template": pod("base", "shop/lan")}});
    let lines = said(&known, &template);
    assert!(
        lines[0].starts_with("spec.template.metadata.annotations[k8s.v1.cni.cncf.io/networks][0].namespace: Forbidden"),
        "{lines:?}"
    );
}

/// What a hot-plug would be refused on the node is refused when the annotation is edited.
#[test]
fn an_edit_of_a_running_pod_is_judged_as_a_pod_that_is_made() {
    let mut known = cluster();
    for namespace in ["base", "shop"] {
        store(&mut known, &nad(namespace, "lan", json!({"cniVersion": "1.0.0", "type": "ptp"})));
    }
    let edit = |old: &str, new: &str| {
        let (old, new) = (pod("base", old), pod("base", new));
        words(Ask { old: Some(&old), ..Ask::of(&new) }.judge(&known))
    };
    assert_eq!(edit("lan", "lan,lan@x"), Vec::<String>::new());
    for (new, words) in [
        ("lan,shop/lan", r#"level "baseline" rule "namespaces" allows "infra""#),
        ("lan,lan@eth0", "used by the cluster network"),
        ("lan,nowhere", r#"Not found: "nowhere" in namespace "base""#),
        ("lan,[", "metadata.annotations[k8s.v1.cni.cncf.io/networks]"),
    ] {
        let said = edit("lan", new);
        assert!(said.iter().any(|line| !line.starts_with("warning") && line.contains(words)), "{new}: {said:?}");
    }
    // What was so before does not keep the rest from going.
    let said = edit("shop/lan,lan", "shop/lan");
    assert!(said.iter().all(|line| line.starts_with("warning")), "{said:?}");
}

#[test]
fn policies_refuse_warn_or_count_and_know_user_usage_and_labels() {
    let mut known = cluster();
    let rule = json!([{"name": "macs", "select": "$.attachment.mac", "assert": {"absent": true}},
        {"name": "quota", "select": "$.usage.attachmentsInNamespace", "assert": {"range": {"max": 2}}},
        {"name": "user", "select": "$.request.user", "assert": {"notOneOf": ["mallory"]}},
        {"name": "tenant", "select": "$.request.nsLabels.tenant", "assert": {"oneOf": ["a"]}},
        {"name": "apps", "select": "$.pod.labels.app", "assert": {"oneOf": ["web"]}, "onMissing": "Pass"}]);
    let tenant = json!({"matchLabels": {"tenant": "a"}});
    let with = |mode: &str| json!({"namespaceSelector": tenant, "mode": mode, "exempt": {"groups": ["admins"]}, "rules": rule});
    policy(&mut known, "tenant-a", with("Enforce"));
    store(
        &mut known,
        &nad("shop", "lan", json!({"cniVersion": "1.0.0", "type": "ptp", "capabilities": {"mac": true}})),
    );
    let mut asks = pod("shop", r#"[{"name":"lan","mac":"02:00:00:00:00:01"},{"name":"lan"},{"name":"lan"}]"#);
    asks["metadata"]["labels"] = json!({"app": "db"});
    let at = format!("metadata.annotations[{NETWORKS}]");
    let lines = |mode: &str| {
        let of = |line: &str| format!("{mode}{line}");
        let quota = "usage.attachmentsInNamespace: Forbidden: 3: policy \"tenant-a\" rule \"quota\" allows at most 2";
        let app = "metadata.labels.app: Forbidden: \"db\": policy \"tenant-a\" rule \"apps\" allows \"web\"";
        let mac =
            format!("{at}[0].mac: Forbidden: \"02:00:00:00:00:01\": policy \"tenant-a\" rule \"macs\" allows none");
        [of(&mac), of(quota), of(app), of(quota), of(app), of(quota), of(app)]
    };
    assert_eq!(said(&known, &asks), lines(""));
    assert_eq!(words(Ask { groups: &["admins"], ..Ask::of(&asks) }.judge(&known)), Vec::<String>::new());
    // Of what a pod has already, and asks for again, nothing counts twice.
    known.apply(
        Cache::Pods,
        object(json!({"metadata": {"namespace": "shop", "name": "web-0", "annotations": {NETWORKS: "lan,lan"}}})),
    );
    assert_eq!(said(&known, &pod("shop", "lan,lan")), Vec::<String>::new());
    known.apply(Cache::Pods, object(json!({"metadata": {"namespace": "shop", "name": "web-0"}})));
    for (mode, told, counted) in [("Warn", lines("warning: ").to_vec(), Mode::Warn), ("Audit", Vec::new(), Mode::Audit)]
    {
        known.policies.delete("tenant-a");
        policy(&mut known, "tenant-a", with(mode));
        let judgement = Ask::of(&asks).judge(&known);
        assert_eq!(judgement.violations.into_iter().collect::<Vec<_>>(), [(("tenant-a".to_owned(), counted), 7)]);
        assert_eq!(said(&known, &asks), told);
    }
    // A definition counts itself.
    policy(
        &mut known,
        "nads",
        json!({"rules": [{"name": "n", "select": "$.usage.nadsInNamespace", "assert": {"range": {"max": 1}}}]}),
    );
    let again = nad("shop", "lan", json!({"cniVersion": "1.0.0", "type": "tap"}));
    let by_policy =
        |object: &Value| said(&known, object).iter().filter(|line| line.contains("policy \"nads\"")).count();
    assert_eq!((by_policy(&again), by_policy(&nad("shop", "wan", json!({"type": "tap"})))), (0, 1));
}

/// The nodes read DANM's words.
fn with_danm(known: &mut Known) {
    let mut conf = Conf::new();
    conf.set(DIALECTS, &["danm"]);
    known.view.options.dialects = Dialects::read(&conf).unwrap();
}

#[test]
fn the_link_of_a_definition_in_danms_words_is_read_where_nodes_read_them() {
    let mut known = cluster();
    let of = |keys: Value| {
        let mut config = macvlan("eth1");
        config["name"] = json!("lan");
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        nad("shop", "lan", config)
    };
    let unknown = said(&known, &of(json!({"vlan": 500})));
    assert!(matches!(unknown.as_slice(), [one] if one.contains("vlan: unknown key for \"macvlan\"")), "{unknown:?}");
    with_danm(&mut known);
    for keys in [json!({"vlan": 500}), json!({"vxlan": 600})] {
        assert_eq!(said(&known, &of(keys)), Vec::<String>::new());
    }
    for (keys, words) in [
        (json!({"vlan": 500, "vxlan": 600}), ["spec.config.vxlan", "600"]),
        (json!({"vlan": 5000}), ["spec.config.masterVlan", "5000"]),
    ] {
        let refused = said(&known, &of(keys));
        assert!(refused.iter().any(|one| words.iter().all(|word| one.contains(word))), "{refused:?}");
    }
}

#[test]
fn a_network_of_the_cluster_is_judged_by_policies_and_by_no_level() {
    let mut known = cluster();
    with_danm(&mut known);
    let options = json!({"host_device": "eth1", "cidr": "10.0.0.0/24"});
    let blue =
        json!({"metadata": {"name": "blue"}, "spec": {"NetworkID": "b", "NetworkType": "macvlan", "Options": options}});
    known.apply(Cache::Foreign(Foreign::ClusterNetwork, "danm.io/v1"), object(blue));
    let list = json!([{"clusterNetwork": "blue", "ip": "dynamic"}]).to_string();
    let asks = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "bound", "name": "web-0", "annotations": {"danm.io/interfaces": list}}});
    assert_eq!(said(&known, &asks), Vec::<String>::new());
    let rule = json!({"name": "links", "select": "$.config.plugins[*].master", "assert": {"oneOf": ["eth2"]}});
    policy(&mut known, "p", json!({"rules": [rule]}));
    let refused = said(&known, &asks);
    assert!(matches!(refused.as_slice(), [one] if one.contains(r#""eth1": policy "p" rule "links""#)), "{refused:?}");
}

#[test]
fn a_definition_that_is_older_than_its_level_is_told_to_the_pods_that_name_it() {
    let mut known = cluster();
    store(&mut known, &nad("base", "old", macvlan("eth1")));
    let at = format!("metadata.annotations[{NETWORKS}][0]");
    let violation = r#"level "baseline" rule "masters""#;
    assert_eq!(
        said(&known, &pod("base", "old,old@net9")),
        [format!(
            "{at}: Forbidden: network-attachment-definition base/old: spec.config.master: Forbidden: \"eth1\": {violation} allows none: without master it is the link of the node's default route"
        )]
    );
    // Of another namespace's definition nothing is told but the rule.
    let foreign = said(&known, &pod("shop", "base/old"));
    assert_eq!(foreign, [format!("{at}: Forbidden: network-attachment-definition base/old breaks {violation}")]);
}

#[test]
fn what_is_not_known_is_missing_before_it_refuses_anything() {
    let mut known = cluster();
    let missing = |known: &Known, object: &Value| Ask::of(object).judge(known).missing;
    let new = missing(&known, &nad("new", "lan", macvlan("eth1")));
    assert_eq!(new.namespaces.into_iter().collect::<Vec<_>>(), ["new"]);
    let pod_of = pod("shop", "lan,other");
    let definitions = missing(&known, &pod_of).definitions;
    assert_eq!(definitions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/lan", "shop/other"]);
    // A level decides only where it refuses.
    known.policies.delete_level("baseline");
    let (refused, admitted) =
        (nad("base", "lan", macvlan("eth1")), nad("base", "p", json!({"cniVersion": "1.0.0", "type": "ptp"})));
    assert_eq!(missing(&known, &refused).levels.into_iter().collect::<Vec<_>>(), [Level::Baseline]);
    assert!(missing(&known, &admitted).is_empty());

    // What nobody could ask for refuses nothing.
    let unanswered = Missing {
        namespaces: ["new".to_owned()].into(),
        definitions: definitions.into_iter().take(1).collect(),
        levels: [Level::Baseline].into(),
        ..Missing::default()
    };
    let told = |object: &Value| {
        let judgement = Ask { unanswered: unanswered.clone(), ..Ask::of(object) }.judge(&known);
        (judgement.missing.clone(), words(judgement))
    };
    assert_eq!(
        told(&nad("new", "lan", macvlan("eth1"))),
        (Missing::default(), vec![r#"warning: levels and policies of namespace "new" are not known here"#.to_owned()])
    );
    let (missing, lines) = told(&pod_of);
    assert_eq!(missing.definitions.len(), 1);
    assert!(lines[0].starts_with("warning: ") && lines[0].contains("; the API server could not be asked"), "{lines:?}");
    assert!(lines[1].starts_with("metadata.annotations"), "{lines:?}");
    let (missing, lines) = told(&refused);
    assert!(missing.is_empty() && lines.iter().all(|line| line.starts_with("warning: ")), "{lines:?}");
}

#[test]
fn a_text_that_is_not_kept_is_missing_only_where_a_policy_reads_it() {
    let mut known = cluster();
    let mut long = nad("infra", "lan", json!({"cniVersion": "1.0.0", "type": "ptp"}));
    long["metadata"]["annotations"] = json!({"a": "x".repeat(20 << 10)});
    store(&mut known, &long);
    let asks = pod("shop", "infra/lan");
    assert!(Ask::of(&asks).judge(&known).missing.is_empty());
    let rule = |select: &str| json!({"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "rules": [{"name": "r", "select": select, "assert": {"absent": true}}]});
    policy(&mut known, "macs", rule("$.attachment.mac"));
    assert!(Ask::of(&asks).judge(&known).missing.is_empty());
    policy(&mut known, "types", rule("$.config.plugins[*].type"));
    let missing = Ask::of(&asks).judge(&known).missing;
    assert_eq!(missing.texts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["infra/lan"]);
    let unanswered = missing.clone();
    let judgement = Ask { unanswered, ..Ask::of(&asks) }.judge(&known);
    assert!(judgement.missing.is_empty() && judgement.problems.is_empty());
    let facts = crate::facts::Facts::default();
    facts.change(|inside| *inside = known);
    let lines = facts.with(&[(Cache::Definitions, object(long))], |known| said(known, &asks));
    assert_eq!(
        lines,
        [format!(
            "metadata.annotations[{NETWORKS}][0] (infra/lan spec.config.type): Forbidden: \"ptp\": policy \"types\" rule \"r\" allows none"
        )]
    );
    assert_eq!(Ask::of(&asks).judge(&facts.known()).missing, missing, "nothing of it was kept");
}

#[test]
fn what_was_lent_is_taken_back_whatever_happens() {
    let facts = crate::facts::Facts::default();
    let found = [
        (Cache::Definitions, object(nad("shop", "lan", macvlan("eth1")))),
        (Cache::Namespaces, object(json!({"metadata": {"name": "shop"}}))),
        (Cache::Levels, object(json!({"metadata": {"name": "baseline"}, "spec": {}}))),
    ];
    let counts = |known: &Known| Cache::ALL.map(|cache| known.count(cache));
    assert_eq!(facts.with(&found, counts), [1, 0, 1, 0, 0, 0, 1, 0]);
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| facts.with(&found, |_| panic!("a fault"))));
    assert!(broken.is_err());
    assert_eq!(counts(&facts.known()), [0; 8]);
    // What is known stays.
    facts.change(|known| {
        known.apply(Cache::Namespaces, object(json!({"metadata": {"name": "shop", "labels": {"a": "b"}}})))
    });
    assert_eq!(facts.with(&found, |known| known.view.namespace("shop").unwrap().labels.len()), 1);
    assert!(facts.known().view.namespace("shop").is_some());
}

#[test]
fn a_namespace_has_a_level_that_there_is() {
    let known = cluster();
    let namespace = |level: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"namespace": "x", "name": "x", "labels": {"meta-cni.io/level": level}}});
    assert_eq!(said(&known, &namespace("baseline")), Vec::<String>::new());
    let words_of = r#"metadata.labels[meta-cni.io/level]: Unsupported value: "open": supported values: "privileged", "baseline", "restricted""#;
    assert_eq!(said(&known, &namespace("open")), [words_of]);
    let mut labelled = namespace("open");
    labelled["metadata"]["labels"]["x"] = json!("y");
    let update = words(Ask { old: Some(&namespace("open")), ..Ask::of(&labelled) }.judge(&known));
    assert_eq!(update, [format!("warning: {words_of}")]);
}

#[test]
fn what_is_no_policy_is_told_with_all_that_is_wrong() {
    let known = cluster();
    let policy = |spec: Value| json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": "p"}, "spec": spec});
    let bad = policy(json!({"rules": [{"name": "r", "select": "$..a..b", "assert": {"matches": "("}}]}));
    let flaws = [
        r#"spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed [A01]"#,
        r#"spec.rules[0].assert.matches: Invalid value: "(": found open group without closing ')' [A02]"#,
    ];
    assert_eq!(said(&known, &bad), flaws);
    let unread = said(&known, &policy(json!({"mode": "Ask", "rules": []})));
    assert!(unread.len() == 1 && unread[0].starts_with("spec: Invalid value: unknown variant `Ask`"), "{unread:?}");
    let update = words(Ask { old: Some(&bad), ..Ask::of(&bad) }.judge(&known));
    assert_eq!(update, flaws.map(|line| format!("warning: {line}")));
    let level = |spec: Value| json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentLevel", "metadata": {"name": "baseline"}, "spec": spec});
    assert_eq!(said(&known, &level(json!({"masters": ["eth1"]}))), Vec::<String>::new());
    let unread = said(&known, &level(json!({"masters": 7})));
    assert!(unread[0].starts_with("spec: Invalid value: invalid type"), "{unread:?}");
}

#[test]
fn new_labels_of_a_namespace_tell_what_they_bring_and_what_they_take() {
    let mut known = cluster();
    for (name, config) in
        [("lan", macvlan("eth1")), ("wan", macvlan("eth2")), ("own", json!({"cniVersion": "1.0.0", "type": "ptp"}))]
    {
        store(&mut known, &nad("infra", name, config));
    }
    let rule = json!([{"name": "masters", "select": "$.config.plugins[*].master", "assert": {"oneOf": ["eth1"]}, "onMissing": "Pass"}]);
    policy(&mut known, "b", json!({"namespaceSelector": {"matchLabels": {"tenant": "b"}}, "rules": rule}));
    policy(
        &mut known,
        "soft",
        json!({"namespaceSelector": {"matchLabels": {"tenant": "b"}}, "mode": "Warn", "rules": rule}),
    );
    let infra = |labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"namespace": "infra", "name": "infra", "labels": labels}});
    let change = |known: &Known, old: Value, new: Value| {
        let (old, new) = (infra(old), infra(new));
        words(Ask { old: Some(&old), ..Ask::of(&new) }.judge(known))
    };
    let level = |name: &str| json!({"meta-cni.io/level": name});
    let brought = r#"warning: 2 existing objects violate rule "masters", first infra/lan [A03]"#;
    assert_eq!(change(&known, json!({}), level("baseline")), [brought]);
    assert_eq!(
        change(&known, json!({}), json!({"tenant": "b"})),
        [r#"warning: 1 existing object violates rule "masters", first infra/wan [A03]"#]
    );
    assert_eq!(change(&known, json!({"tenant": "b"}), json!({"tenant": "b", "x": "y"})), Vec::<String>::new());
    assert_eq!(change(&known, level("baseline"), json!({})), Vec::<String>::new(), "nobody is attached");
    known.apply(
        Cache::Pods,
        object(json!({"metadata": {"namespace": "infra", "name": "p", "annotations": {NETWORKS: "own,own"}}})),
    );
    let taken =
        r#"warning: metadata.labels: level "baseline" no longer applies; 2 attachments stay unrestricted [L03]"#;
    assert_eq!(change(&known, level("baseline"), level("privileged")), [taken]);
    assert_eq!(change(&known, level("baseline"), level("baseline")), Vec::<String>::new());
}
