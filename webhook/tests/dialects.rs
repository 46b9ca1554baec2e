//! Objects and pods of dialects: what is refused of them, in the exact words, and what is admitted.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod cases;

use serde_json::{Value, json};
use webhook::review::{self, Missing};
use webhook::rules;

use cases::{ask, known};

/// What is said of a request, warnings marked.
fn said(cluster: &Value, told: &Value) -> Vec<String> {
    let known = known(cluster);
    ask(told, &known.view, |request, _| {
        let problems = review::judge(request, &known, &Missing::default()).problems;
        let line = |problem: &delegates::lint::Problem| match problem.severity {
            delegates::lint::Severity::Warn => format!("warning: {problem}"),
            delegates::lint::Severity::Deny => problem.to_string(),
        };
        problems.iter().map(line).collect()
    })
}

fn create(object: Value) -> Value {
    json!({"operation": "CREATE", "object": object})
}

fn genie(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "alpha.network.k8s.io/v1", "kind": kind, "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

fn pod(annotations: Value) -> Value {
    let metadata = json!({"namespace": "shop", "name": "web-0", "annotations": annotations});
    create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}))
}

/// A cluster with a namespace, the dialect genie, and these objects.
fn of_genie(foreign: Value) -> Value {
    json!({"options": {"dialects": ["genie"]}, "namespaces": [{"name": "shop"}], "foreign": foreign})
}

#[test]
fn logical_networks_are_refused_for_the_reasons_of_genies_own_admission() {
    let dedicated =
        |plugin: Value| json!({"sharedStatus": {"plugin": plugin, "subnet": "10.32.0.0/16", "dedicatedNet": true}});
    let cluster = of_genie(json!([
        genie("Physicalnetwork", "own", dedicated(json!("weave"))),
        genie("Physicalnetwork", "blank", dedicated(json!(""))),
        genie("Physicalnetwork", "shared", json!({"sharedStatus": {"plugin": "weave"}})),
        genie("Logicalnetwork", "taken", json!({"plugin": "weave", "sub_subnet": "10.40.0.0/16"})),
    ]));
    let of = |spec: Value| said(&cluster, &create(genie("Logicalnetwork", "new", spec))).join("; ");
    for (spec, want) in [
        (json!({"physicalNet": "own", "sub_subnet": "10.32.7.0/24"}), ""),
        (json!({"plugin": "weave"}), ""),
        (json!({"plugin": "flannel", "sub_subnet": "10.40.7.0/24"}), ""),
        (json!({"physicalNet": "none"}), "spec.physicalNet: Not found: Physicalnetwork shop/none"),
        (json!({"physicalNet": "blank"}), "spec.physicalNet: Required value: a Physicalnetwork with a plugin"),
        (
            json!({"physicalNet": "own", "sub_subnet": "10.33.0.0/24"}),
            r#"spec.sub_subnet: Invalid value: "10.33.0.0/24": must be a subnet of its physicalNet's 10.32.0.0/16"#,
        ),
        (json!({"sub_subnet": "10.32.7.0/24"}), "spec.plugin: Required value: the name of a network's file"),
        (
            json!({"physicalNet": "shared", "plugin": "weave"}),
            "spec.sub_subnet: Required value: a subnet: an address, '/' and the length of its prefix, for its physicalNet is shared",
        ),
        (
            json!({"physicalNet": "shared", "sub_subnet": "10.40.7.0/24"}),
            r#"spec.sub_subnet: Invalid value: "10.40.7.0/24": overlaps 10.40.0.0/16 of Logicalnetwork shop/taken, which has the same plugin "weave""#,
        ),
        (json!("x"), r#"spec: Invalid value: "x": must be an object"#),
    ] {
        assert_eq!(of(spec.clone()), want, "{spec}");
    }
    let nic = create(genie("Physicalnetwork", "p", json!({"refer_nic": "eth1"})));
    assert_eq!(said(&cluster, &nic), [r#"warning: spec.refer_nic: Invalid value: "eth1": has no effect"#]);
}

#[test]
fn an_object_does_not_stand_in_its_own_way_and_what_it_had_is_free_when_it_is_gone() {
    let spec = json!({"plugin": "weave", "sub_subnet": "10.40.0.0/16"});
    let taken = genie("Logicalnetwork", "taken", spec.clone());
    let update = json!({"operation": "UPDATE", "old": taken, "object": genie("Logicalnetwork", "taken",
        json!({"plugin": "weave", "sub_subnet": "10.40.0.0/17"}))});
    assert!(said(&of_genie(json!([taken])), &update).is_empty());
    let other = create(genie("LogicalNetwork", "other", spec));
    assert_eq!(said(&of_genie(json!([taken])), &other).len(), 1);
    assert!(said(&of_genie(json!([])), &other).is_empty());
}

#[test]
fn a_pod_is_judged_by_the_annotations_of_the_dialects_that_are_on() {
    let net1 = genie("Logicalnetwork", "net1", json!({"plugin": "weave"}));
    let cluster = of_genie(json!([net1]));
    for (annotations, want) in [
        (json!({"cni": "weave,flannel@eth4"}), vec![]),
        (json!({"cni": "", "networks": "net1"}), vec![]),
        (json!({"cni": ""}), vec![]),
        (json!({"networks": "what,ever@@"}), vec![]),
        (
            json!({"cni": "weave@eth3"}),
            vec![
                r#"metadata.annotations[cni]: Invalid value: "eth3": must be an entry that is eth0: the runtime needs one"#,
            ],
        ),
        (
            json!({"cni": "weave,weave@eth1,flannel@eth1"}),
            vec![
                r#"metadata.annotations[cni][2]: Invalid value: "eth1": must be an interface that no other entry asks for"#,
            ],
        ),
        (
            json!({"cni": "", "networks": "net1,net2"}),
            vec!["metadata.annotations[networks][1]: Not found: Logicalnetwork shop/net2"],
        ),
        (
            json!({"cni": "genie", "k8s.v1.cni.cncf.io/networks": "[]"}),
            vec![
                "warning: metadata.annotations[cni]: counts for nothing: the pod has k8s.v1.cni.cncf.io/networks or v1.multus-cni.io/default-network, which count before it",
            ],
        ),
        (
            json!({"genieNetworkPolicy": "[]"}),
            vec!["warning: metadata.annotations[genieNetworkPolicy]: not enforced; use MultiNetworkPolicy"],
        ),
    ] {
        assert_eq!(said(&cluster, &pod(annotations.clone())), want, "{annotations}");
    }
    let many = vec!["weave"; 65].join(",");
    assert_eq!(
        said(&cluster, &pod(json!({"cni": many}))),
        ["metadata.annotations[cni]: Too many: 65: must have at most 64 [P25]"]
    );
    // With the dialect off none of it is read.
    let off = json!({"namespaces": [{"name": "shop"}]});
    assert!(said(&off, &pod(json!({"cni": "weave@eth3", "genieNetworkPolicy": "[]"}))).is_empty());
    assert!(said(&off, &create(genie("Logicalnetwork", "new", json!({})))).is_empty());
}

#[test]
fn what_is_not_known_is_looked_for_before_it_refuses() {
    let cluster = of_genie(json!([]));
    let view = known(&cluster).view;
    let named = |told: &Value| -> Vec<String> {
        ask(told, &view, rules::missing_foreign).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        named(&pod(json!({"cni": "", "networks": "a,b@eth1"}))),
        ["Logicalnetwork shop/a", "Logicalnetwork shop/b"]
    );
    let logical = create(genie("Logicalnetwork", "new", json!({"physicalNet": "p"})));
    assert_eq!(named(&logical), ["Physicalnetwork shop/p"]);
    // What nobody answers refuses nothing.
    let known = known(&cluster);
    let problems = ask(&logical, &known.view, |request, view| {
        let unanswered =
            Missing { foreign: rules::missing_foreign(request, view).into_iter().collect(), ..Missing::default() };
        review::judge(request, &known, &unanswered).problems
    });
    assert!(problems[0].severity == delegates::lint::Severity::Warn, "{problems:?}");
    assert!(problems[0].text.ends_with("; the API server could not be asked"), "{problems:?}");
}

#[test]
fn a_template_may_come_before_its_networks() {
    let template = json!({"metadata": {"annotations": {"cni": "", "networks": "net1"}}, "spec": {}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"template": template}});
    assert_eq!(
        said(&of_genie(json!([])), &create(deployment)),
        ["warning: spec.template.metadata.annotations[networks][0]: Not found: Logicalnetwork shop/net1"]
    );
}

#[test]
fn a_policy_of_genie_is_said_to_have_no_effect() {
    let policy = |key: &str| {
        create(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": "p", "annotations": {key: "[]"}}, "spec": {}}))
    };
    for key in ["genieNetworkPolicy", "genieNetworkpolicy"] {
        let said = said(&of_genie(json!([])), &policy(key));
        assert_eq!(said, [format!("warning: metadata.annotations[{key}]: not enforced; use MultiNetworkPolicy")]);
    }
    assert!(said(&of_genie(json!([])), &policy("other")).is_empty());
    assert!(said(&json!({}), &policy("genieNetworkPolicy")).is_empty());
}
