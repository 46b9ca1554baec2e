//! Golden cases of the rules about more than one object: `golden/rules/ID.json` for each.
//!
//! A file has a cluster, requests that the rule accepts, and requests that it does not, with its exact lines. A rule about what is
//! changed in objects has `mutates`, the settings of that. The first line of
//! the first rejected request is the example of [`Rule::example`], which docs/lint.md shows.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod cases;

use std::fs;
use std::path::Path;

use attachments::rule::{Rule, Severity};
use attachments::selection::NETWORKS;
use serde_json::{Value, json};
use webhook::cluster::{Options, View};
use webhook::facts::Known;
use webhook::mutate::Drawn;
use webhook::review::{self, Missing};
use webhook::rules::{Operation, Request, judge, missing};

use cases::{ask, known, list, mutated, read, view};

/// The lines of a rule, as lint abbreviates them.
fn lines(rule: Rule, told: &Value, view: &View) -> Vec<String> {
    worded(rule, ask(told, view, judge))
}

/// The same of a rule that reads what definitions say.
fn lines_by_texts(rule: Rule, told: &Value, known: &Known) -> Vec<String> {
    worded(rule, ask(told, &known.view, |request, _| review::judge(request, known, &Missing::default()).problems))
}

fn worded(rule: Rule, problems: Vec<delegates::lint::Problem>) -> Vec<String> {
    let line = |problem: delegates::lint::Problem| {
        let line = problem.to_string().replace("spec.config", "cfg");
        let line = line.replace(&format!("metadata.annotations[{NETWORKS}]"), "nets");
        let line = line.strip_suffix(&format!(" [{}]", rule.id())).unwrap().to_owned();
        if problem.severity == Severity::Warn { format!("warning: {line}") } else { line }
    };
    problems.into_iter().filter(|problem| problem.rule == Some(rule)).map(line).collect()
}

#[test]
fn each_rule_accepts_and_rejects_in_its_own_words() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rules");
    let mut wrong = Vec::new();
    let of_cluster = Rule::ALL.iter().filter(|rule| rule.needs_cluster() || **rule == Rule::MisplacedAnnotation);
    let ids: Vec<&str> = of_cluster.clone().map(|rule| rule.id()).collect();
    for rule in of_cluster {
        let Ok(text) = fs::read_to_string(dir.join(format!("{}.json", rule.id()))) else {
            wrong.push(format!("{} has no case", rule.id()));
            continue;
        };
        let case: Value = serde_json::from_str(&text).unwrap();
        let known = known(&case["cluster"]);
        let lines = |told: &Value| match (rule, case.get("mutates")) {
            // Rules about what is changed are asked where objects are changed.
            (_, Some(settings)) => worded(*rule, mutated(settings, told, &known.view, &Drawn::default()).problems),
            (Rule::PolicyUnmet, None) => lines_by_texts(*rule, told, &known),
            _ => lines(*rule, told, &known.view),
        };
        let (accepts, rejects) = (list(&case["accepts"]), list(&case["rejects"]));
        assert!(!accepts.is_empty() && !rejects.is_empty(), "{}", rule.id());
        for (i, accepted) in accepts.iter().enumerate() {
            let lines = lines(accepted);
            if !lines.is_empty() {
                wrong.push(format!("{} accepts[{i}], and says {lines:#?}", rule.id()));
            }
        }
        for (i, rejected) in rejects.iter().enumerate() {
            let (said, want) = (lines(rejected), read(rejected, "says"));
            if said != want {
                wrong.push(format!("{} rejects[{i}] says {said:#?}, not {want:#?}", rule.id()));
            }
        }
        let first = read(&rejects[0], "says")[0].trim_start_matches("warning: ").to_owned();
        if first != rule.example() {
            wrong.push(format!("{} has the example {:?}, and says {first:?}", rule.id(), rule.example()));
        }
    }
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !ids.iter().any(|id| name == format!("{id}.json")) {
            wrong.push(format!("{name} is the case of no rule"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_missing_is_named_for_one_more_look() {
    let cluster = json!({"definitions": [{"ref": "shop/lan", "config": {"type": "macvlan"}}]});
    let pod = |text: &str| {
        json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-0", "annotations": {NETWORKS: text}}}})
    };
    let named = |cluster: &Value, text: &str| -> Vec<String> {
        ask(&pod(text), &view(cluster), missing).iter().map(ToString::to_string).collect()
    };
    assert_eq!(named(&cluster, "lan,other,infra/wan,other"), ["infra/wan", "shop/other"]);
    assert_eq!(named(&cluster, &vec!["x"; 65].join(",")), Vec::<String>::new());
    // What the pod may not name is not asked for.
    let isolated = json!({"options": {"isolation": true}});
    assert_eq!(named(&isolated, "lan,infra/wan,default/wan"), ["default/wan", "shop/lan"]);
}

#[test]
fn kinds_of_other_groups_and_objects_of_any_shape_pass() {
    let view = View::new(Options::default());
    for kind in ["Pod", "Deployment", "CronJob", "Namespace", "NetworkAttachmentDefinition", "MultiNetworkPolicy"] {
        for group in ["", "apps", "batch", "k8s.cni.cncf.io", "example.org"] {
            for object in [
                json!(null),
                json!(7),
                json!({"metadata": 7, "spec": []}),
                json!({"spec": {"template": "x", "ingress": [1, {"from": 2}]}}),
            ] {
                for operation in [Operation::Create, Operation::Update, Operation::Delete] {
                    let request = Request {
                        operation,
                        group,
                        kind,
                        namespace: "shop",
                        name: "x",
                        object: &object,
                        old: Some(&object),
                        user: "",
                        groups: &[],
                    };
                    let problems = judge(&request, &view);
                    assert!(
                        problems.iter().all(|problem| problem.rule == Some(Rule::PolicyFor)),
                        "{kind} {problems:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn ranges_of_whereabouts_are_apart_or_the_same_where_they_are_blocks() {
    let lan =
        |range: &str| json!({"type": "macvlan", "master": "eth1", "ipam": {"type": "whereabouts", "range": range}});
    let said = |options: Value, range: &str| {
        let definitions = json!([{"ref": "default/lan", "config": lan("10.9.0.0/24")}]);
        let told = json!({"operation": "CREATE", "object": {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "shop", "name": "new"}, "spec": {"config": lan(range).to_string()}}});
        of_rule(Rule::SegmentSubnet, &json!({"options": options, "definitions": definitions}), &told)
    };
    let blocks = || json!({"whereaboutsAsBlocks": true});
    for (options, range, count) in [
        (json!({}), "10.9.0.0/28", 0),
        (blocks(), "10.9.0.0/28", 1),
        (blocks(), "10.9.0.5-10.9.0.9/24", 1),
        (blocks(), "10.9.0.0/24", 0),
        (blocks(), "10.9.1.0/24", 0),
    ] {
        assert_eq!(said(options.clone(), range).len(), count, "{options} {range}");
    }
}

fn of_rule(rule: Rule, cluster: &Value, told: &Value) -> Vec<String> {
    lines(rule, told, &view(cluster))
}

#[test]
fn strict_refuses_what_else_is_warned_of() {
    let mut cluster = json!({"options": {"strict": true}, "definitions": [
        {"ref": "default/lan", "config": {"name": "lan", "type": "ipvlan", "master": "eth1",
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"}}}]});
    let new = json!({"operation": "CREATE", "object": {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "shop", "name": "new"}, "spec": {"config": json!({"name": "lan", "type": "macvlan",
            "master": "eth1", "ipam": {"type": "static", "addresses": [{"address": "10.9.0.7/24"}]}}).to_string()}}});
    for strict in [true, false] {
        cluster["options"]["strict"] = strict.into();
        for rule in [Rule::MasterOfBoth, Rule::NameTaken, Rule::SegmentSubnet] {
            let lines = of_rule(rule, &cluster, &new);
            assert_eq!(lines.len(), 1, "{rule:?}");
            assert_eq!(lines[0].starts_with("warning: "), !strict, "{lines:?}");
        }
    }
}

#[test]
fn a_definition_in_use_stays_where_the_flag_says_so() {
    let pod = |namespace: &str| json!({"namespace": namespace, "name": "web-0", "annotations": {NETWORKS: "lan"}});
    let cluster = json!({"options": {"denyDeleteInUse": true}, "pods": [pod("shop"), pod("gone")],
        "namespaces": [{"name": "shop"}, {"name": "gone", "deletionTimestamp": "2026-01-01T00:00:00Z"}]});
    let delete = |namespace: &str| {
        json!({"operation": "DELETE", "object": null, "old": {"apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition", "metadata": {"namespace": namespace, "name": "lan"}}})
    };
    assert_eq!(
        of_rule(Rule::DeleteInUse, &cluster, &delete("shop")),
        ["Forbidden: 1 running pod uses it, first shop/web-0; delete those first"]
    );
    let warned = "warning: 1 running pod uses it, first gone/web-0; they cannot restart without it";
    assert_eq!(of_rule(Rule::DeleteInUse, &cluster, &delete("gone")), [warned]);
}

#[test]
fn names_are_apart_under_isolation_and_numbers_are_the_flags() {
    let new = json!({"operation": "CREATE", "object": {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "shop", "name": "lan"}, "spec": {"config": r#"{"type":"macvlan","master":"eth2"}"#}}});
    let other = json!([{"ref": "default/lan", "config": {"type": "macvlan", "master": "eth1"}}]);
    for isolation in [false, true] {
        let cluster = json!({"options": {"isolation": isolation}, "definitions": other});
        assert_eq!(of_rule(Rule::NameTaken, &cluster, &new).is_empty(), isolation);
    }
    let mut view = View::new(Options { max_attachments: 2, networks_before: 1, ..Options::default() });
    let pod = |text: &str| {
        json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-0", "annotations": {NETWORKS: text}}}})
    };
    // What is refused for its number is not looked at one by one.
    let many = pod("a,b,c");
    assert_eq!(lines(Rule::TooManyNetworks, &many, &view), ["nets: Too many: 3: must have at most 2"]);
    assert_eq!(ask(&many, &view, judge).len(), 1);
    assert_eq!(
        lines(Rule::InterfaceTaken, &pod("a,b@net2"), &view),
        [r#"nets[1].interface: Duplicate value: "net2": also given to nets[0]"#]
    );
    view.options.max_attachments = 3;
    assert!(lines(Rule::TooManyNetworks, &many, &view).is_empty());
}

#[test]
fn routes_of_both_annotations_lead_to_a_destination_once() {
    let element = |name: &str, gw: &str| {
        json!([{"name": name, "meta-cni.io/routes": [{"dst": "10.20.0.0/16", "gw": gw}]}]).to_string()
    };
    let pod = json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web-0",
        "annotations": {NETWORKS: element("a", "10.9.0.1"), "v1.multus-cni.io/default-network": element("lan", "10.8.0.1")}}}});
    assert_eq!(
        lines(Rule::Routing, &pod, &View::new(Options::default())),
        [
            r#"nets[0].meta-cni.io/routes[0].dst: Invalid value: "10.20.0.0/16": must be a destination that no other route of its table has: metadata.annotations[v1.multus-cni.io/default-network] has it"#
        ]
    );
}

#[test]
fn default_routes_of_both_annotations_exclude_one_another() {
    let pod = |first: &str| {
        json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web-0",
            "annotations": {NETWORKS: r#"[{"name":"a"},{"name":"b","default-route":[]}]"#, "v1.multus-cni.io/default-network": first}}}})
    };
    let view = View::new(Options::default());
    assert!(lines(Rule::DefaultRoute, &pod("lan"), &view).is_empty());
    assert_eq!(
        lines(Rule::DefaultRoute, &pod(r#"[{"name":"lan","default-route":[]}]"#), &view),
        [
            "nets[1].default-route: Forbidden: metadata.annotations[v1.multus-cni.io/default-network] already sets the IPv4 default route"
        ]
    );
}
