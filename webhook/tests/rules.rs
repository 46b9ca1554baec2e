//! Golden cases of the rules about more than one object: `golden/rules/ID.json` for each.
//!
//! A file has a cluster, requests that the rule accepts, and requests that it does not, with its exact lines. The first line of
//! the first rejected request is the example of [`Rule::example`], which docs/lint.md shows.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use std::fs;
use std::path::Path;

use attachments::definition::RESOURCE_NAME;
use attachments::policy::Level;
use attachments::rule::{Rule, Severity};
use attachments::selection::NETWORKS;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use webhook::cluster::{Options, View};
use webhook::facts::{Cache, Known};
use webhook::review::{self, Missing};
use webhook::rules::{Operation, Request, judge, missing};

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn read<T: serde_json::value::Index + Copy>(value: &Value, key: T) -> Vec<String> {
    list(&value[key]).iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn options(told: &Value) -> Options {
    let mut options = Options::default();
    let known =
        ["strict", "isolation", "hotPlug", "denyDeleteInUse", "tunnelPorts", "enforced", "pods", "services", "nodes"];
    for (key, value) in told.as_object().into_iter().flatten() {
        assert!(known.contains(&key.as_str()), "{key}");
        assert!(!value.is_null());
    }
    options.strict = told["strict"] == true;
    options.namespace_isolation = told["isolation"] == true;
    options.hot_plug = told["hotPlug"] == true;
    options.deny_delete_in_use = told["denyDeleteInUse"] == true;
    options.tunnel_ports = list(&told["tunnelPorts"]).iter().map(|port| port.as_u64().unwrap() as u16).collect();
    options.enforced_types = read(told, "enforced");
    let nets = |key| read(told, key).iter().map(|net| net.parse().unwrap()).collect();
    (options.pod_networks, options.service_networks, options.node_networks) =
        (nets("pods"), nets("services"), nets("nodes"));
    options
}

fn known(cluster: &Value) -> Known {
    let mut known = Known::new(options(&cluster["options"]), Level::Privileged);
    for definition in list(&cluster["definitions"]) {
        let (namespace, name) = definition["ref"].as_str().unwrap().split_once('/').unwrap();
        let mut metadata = json!({"namespace": namespace, "name": name});
        if definition["resource"].is_string() {
            metadata["annotations"] = json!({RESOURCE_NAME: definition["resource"]});
        }
        let object = json!({"metadata": metadata, "spec": {"config": definition["config"].to_string()}});
        known.apply(Cache::Definitions, serde_json::from_value(object).unwrap());
    }
    let view = &mut known.view;
    for pod in list(&cluster["pods"]) {
        view.apply_pod(&serde_json::from_value(pod).unwrap());
    }
    for namespace in list(&cluster["namespaces"]) {
        view.apply_namespace(&serde_json::from_value(namespace).unwrap());
    }
    for node in list(&cluster["nodes"]) {
        view.networks_mut().apply_node(&serde_json::from_value(node).unwrap());
    }
    for services in list(&cluster["services"]) {
        view.networks_mut().apply_services(&serde_json::from_value(services).unwrap());
    }
    for (name, selector) in cluster["policies"].as_object().into_iter().flatten() {
        let selector: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
        assert!(view.apply_policy(name, selector));
    }
    known
}

fn view(cluster: &Value) -> View {
    known(cluster).view
}

/// Shows a request to the function.
fn ask<T>(told: &Value, view: &View, answer: impl Fn(&Request<'_>, &View) -> T) -> T {
    let operation = match told["operation"].as_str().unwrap() {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        other => unreachable!("{other}"),
    };
    let object = if operation == Operation::Delete { &told["old"] } else { &told["object"] };
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let group = match text(&object["apiVersion"]).split_once('/') {
        Some((group, _)) => group.to_owned(),
        None => String::new(),
    };
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let request = Request {
        operation,
        group: &group,
        kind: &kind,
        namespace: &namespace,
        name: &name,
        object: &told["object"],
        old: told.get("old"),
        user: told["user"].as_str().unwrap_or("someone"),
        groups: &[],
    };
    answer(&request, view)
}

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
        let lines = |told: &Value| match rule {
            Rule::PolicyUnmet => lines_by_texts(*rule, told, &known),
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
            "nets[1].default-route: Forbidden: metadata.annotations[v1.multus-cni.io/default-network] already sets a default route"
        ]
    );
}
