//! Objects and pods of dialects: what is refused of them, in the exact words, and what is admitted.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod cases;

use serde_json::{Value, json};
use webhook::review::{self, Missing};
use webhook::rules;

use cases::{ask, known, mutated};
use webhook::mutate::Drawn;

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

fn danm(group: &str, kind: &str, name: &str, spec: Value) -> Value {
    let mut metadata = json!({"namespace": "shop", "name": name});
    if ["ClusterNetwork", "TenantConfig"].contains(&kind) {
        metadata = json!({"name": name});
    }
    let mut object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata});
    match kind {
        "TenantConfig" => object.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone()),
        _ => object["spec"] = spec,
    }
    object
}

fn tenants() -> Value {
    danm(
        "danm.io",
        "TenantConfig",
        "tenants",
        json!({
            "hostDevices": [
                {"name": "ens4", "vniType": "vxlan", "vniRange": "700-701"},
                {"name": "ens3", "vniType": "vlan", "vniRange": "200,500-501"},
                {"name": "nokia.k8s.io/sriov", "vniType": "vlan", "vniRange": "900"},
                {"name": "plain"},
            ],
            "networkIds": {"flannel": "flannel"},
            "allowedClusterNetworks": [{"name": "external", "privileges": ["reservedIp"]}, {"name": "other", "privileges": ["x"]}],
        }),
    )
}

/// A cluster with a namespace, the dialect danm, and these objects.
fn of_danm(foreign: Vec<Value>) -> Value {
    json!({"options": {"dialects": ["danm"]}, "namespaces": [{"name": "shop"}], "foreign": foreign})
}

fn tenant(name: &str, spec: Value) -> Value {
    danm("danm.io", "TenantNetwork", name, spec)
}

/// What a network becomes: the writes by path, or what is refused.
fn given(cluster: &Value, told: &Value, drawn: &Drawn) -> String {
    let mutation = mutated(&json!({}), told, &known(cluster).view, drawn);
    if !mutation.problems.is_empty() {
        return mutation.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    }
    let patch = serde_json::to_value(&mutation.patch).unwrap();
    let write =
        |one: &Value| format!("{}={}", one["path"].as_str().unwrap().trim_start_matches("/spec/"), one["value"]);
    patch.as_array().unwrap().iter().map(write).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_tenants_network_is_given_what_the_tenant_config_has() {
    for group in ["danm.io", "danm.k8s.io"] {
        let cluster = of_danm(vec![tenants()]);
        let of = |spec: Value| given(&cluster, &create(danm(group, "TenantNetwork", "new", spec)), &Drawn::default());
        for (spec, want) in [
            (json!({"NetworkID": "n", "Options": {"host_device": "ens3"}}), "Options/vlan=200"),
            (json!({"NetworkID": "n", "Options": {"host_device": "ens4"}}), "Options/vxlan=700"),
            (json!({"NetworkID": "n", "Options": {"host_device": "plain"}}), ""),
            (
                json!({"NetworkID": "n", "NetworkType": "sriov", "Options": {"device_pool": "nokia.k8s.io/sriov"}}),
                "Options/vlan=900",
            ),
            (json!({"NetworkID": "n"}), r#"Options={} Options/host_device="ens3" Options/vlan=200"#),
            (json!({"NetworkID": "n", "NetworkType": "Flannel"}), r#"NetworkID="flannel""#),
            (json!({"NetworkID": "n", "NetworkType": "calico"}), ""),
            (
                json!({"NetworkID": "n", "Options": {"host_device": "ens9"}}),
                r#"spec.Options.host_device: Invalid value: "ens9": The provided physical interface is not allowed to be used by tenants!"#,
            ),
            (
                json!({"NetworkID": "n", "Options": {"host_device": "ens3", "vlan": 50, "vxlan": 60}}),
                "spec.Options.vlan: Forbidden: 50: a tenant's network is given one of the TenantConfig's vniRange; leave it out; spec.Options.vxlan: Forbidden: 60: a tenant's network is given one of the TenantConfig's vniRange; leave it out",
            ),
        ] {
            assert_eq!(of(spec.clone()), want, "{spec}");
        }
    }
    let without = given(&of_danm(vec![]), &create(tenant("new", json!({"NetworkID": "n"}))), &Drawn::default());
    assert!(without.starts_with("spec: Required value: a TenantConfig"), "{without}");
    let off = json!({"namespaces": [{"name": "shop"}]});
    assert_eq!(given(&off, &create(tenant("new", json!({"NetworkID": "n"}))), &Drawn::default()), "");
}

#[test]
fn identifiers_are_drawn_once_and_are_free_when_their_network_is_gone() {
    let on = |name: &str, device: &str, vlan: u32| {
        tenant(name, json!({"NetworkID": name, "Options": {"host_device": device, "vlan": vlan}}))
    };
    let new = create(tenant("new", json!({"NetworkID": "n", "Options": {"host_device": "ens3"}})));
    let of = |foreign: Vec<Value>, drawn: &Drawn| given(&of_danm([vec![tenants()], foreign].concat()), &new, drawn);
    let fresh = Drawn::default;
    // Another device's VLAN is another one; a network of a namespace without tenants has its VLAN all the same.
    assert_eq!(of(vec![on("a", "ens3", 200), on("b", "plain", 500)], &fresh()), "Options/vlan=500");
    let cluster_network = danm(
        "danm.k8s.io",
        "ClusterNetwork",
        "c",
        json!({"NetworkID": "c", "Options": {"host_device": "ens3", "vlan": 500}}),
    );
    assert_eq!(of(vec![on("a", "ens3", 200), cluster_network], &fresh()), "Options/vlan=501");
    let full = vec![on("a", "ens3", 200), on("b", "ens3", 500), on("c", "ens3", 501)];
    assert_eq!(
        of(full.clone(), &fresh()),
        "spec.Options.vlan: Required value: no vlan of 200,500-501 is free on ens3; delete a network, or have vniRange widened"
    );
    assert_eq!(of(full[..2].to_vec(), &fresh()), "Options/vlan=501");
    // What was drawn a moment ago is not in the cache yet.
    let drawn = Drawn::default();
    let other = create(tenant("other", json!({"NetworkID": "n", "Options": {"host_device": "ens3"}})));
    let empty = of_danm(vec![tenants()]);
    assert_eq!(given(&empty, &other, &drawn), "Options/vlan=200");
    assert_eq!(given(&empty, &new, &drawn), "Options/vlan=500");
    assert_eq!(given(&empty, &other, &drawn), "Options/vlan=200", "asked again, it means the same network");
    // A VXLAN network is one of the whole cluster: definitions and claims have theirs.
    let mut cluster = empty.clone();
    cluster["definitions"] = json!([{"ref": "shop/lan", "config": {"type": "vxlan", "vni": 700}}]);
    let vxlan = create(tenant("new", json!({"NetworkID": "n", "Options": {"host_device": "ens4"}})));
    assert_eq!(given(&cluster, &vxlan, &fresh()), "Options/vxlan=701");
    cluster["claims"] =
        json!([{"metadata": {"name": "4789-701"}, "spec": {"owner": {"namespace": "infra", "name": "red"}}}]);
    assert!(given(&cluster, &vxlan, &fresh()).contains("no vxlan of 700-701 is free on ens4"));
    // One that it claimed itself, by the name that agents give it, is its own.
    cluster["claims"] = json!([{"metadata": {"name": "4789-701"}, "spec": {"owner": {"namespace": "shop", "name": "new.tenantnetwork"}}}]);
    let mutation = mutated(&json!({}), &vxlan, &known(&cluster).view, &fresh());
    let drawn: Vec<String> = mutation.drawn.iter().map(|(what, owner)| format!("{what:?} {owner}")).collect();
    assert_eq!(drawn, ["Pair((4789, 701)) shop/new.tenantnetwork"]);
    // The least used device, the first by name of several.
    let any = create(tenant("new", json!({"NetworkID": "n", "NetworkType": "macvlan"})));
    let busy = of_danm(vec![tenants(), on("a", "ens3", 200), on("b", "ens4", 1)]);
    assert_eq!(given(&busy, &any, &fresh()), r#"Options={} Options/host_device="plain""#);
}

#[test]
fn an_update_means_the_same_network_and_changes_nothing_that_was_given() {
    let old = tenant("t", json!({"NetworkID": "n", "Options": {"host_device": "ens3", "vlan": 200}}));
    let update = |spec: Value| json!({"operation": "UPDATE", "old": old, "object": tenant("t", spec)});
    let cluster = of_danm(vec![tenants(), old.clone()]);
    assert_eq!(
        given(&cluster, &update(json!({"NetworkID": "n"})), &Drawn::default()),
        r#"Options={} Options/host_device="ens3" Options/vlan=200"#
    );
    let same = json!({"NetworkID": "n2", "Options": {"host_device": "ens3", "vlan": 200}});
    assert_eq!(given(&cluster, &update(same.clone()), &Drawn::default()), "");
    assert!(said(&cluster, &update(same)).is_empty());
    let moved = update(json!({"NetworkID": "n", "Options": {"host_device": "plain", "vlan": 500}}));
    let problems = said(&cluster, &moved);
    for key in ["host_device", "vlan"] {
        let is_said = |text: &String| {
            text.starts_with(&format!("spec.Options.{key}: ")) && text.ends_with("a tenant's network keeps its link")
        };
        assert!(problems.iter().any(is_said), "{problems:?}");
    }
}

#[test]
fn a_network_in_use_keeps_its_link_and_is_not_deleted() {
    let network = |options: Value| danm("danm.k8s.io", "DanmNet", "net", json!({"NetworkID": "n", "Options": options}));
    let old = network(json!({"host_device": "ens3", "vlan": 50, "mtu": 1500}));
    let mut cluster = of_danm(vec![old.clone()]);
    let update = |options: Value| json!({"operation": "UPDATE", "old": old, "object": network(options)});
    let delete = json!({"operation": "DELETE", "object": null, "old": old});
    let moved = update(json!({"host_device": "ens4", "vxlan": 60, "mtu": 1400}));
    assert!(said(&cluster, &moved).is_empty() && said(&cluster, &delete).is_empty(), "nobody uses it");
    cluster["pods"] = json!([{"namespace": "shop", "name": "web-0",
        "annotations": {"danm.io/interfaces": r#"[{"network":"net","ip":"dynamic"}]"#}}]);
    let paths: Vec<String> = said(&cluster, &moved);
    for key in ["host_device", "vlan", "vxlan", "mtu"] {
        let is_said =
            |text: &String| text.starts_with(&format!("spec.Options.{key}: ")) && text.ends_with("pods are attached");
        assert!(paths.iter().any(is_said), "{paths:?}");
    }
    assert!(
        said(&cluster, &update(json!({"host_device": "ens3", "vlan": 50, "mtu": 9000, "container_prefix": "x"})))
            .is_empty()
    );
    assert_eq!(said(&cluster, &delete), ["Forbidden: 1 running pod uses it, first shop/web-0; delete those first"]);
    cluster["namespaces"] = json!([{"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}]);
    assert!(said(&cluster, &delete).is_empty(), "its namespace goes with the pods");
}

#[test]
fn one_name_means_one_network() {
    let spec = |id: &str| json!({"NetworkID": id, "NetworkType": "bridge"});
    let old = danm("danm.k8s.io", "DanmNet", "net", spec("a"));
    let in_group = |id: &str| create(danm("danm.io", "DanmNet", "net", spec(id)));
    assert!(said(&of_danm(vec![old.clone()]), &in_group("a")).is_empty());
    let differs = said(&of_danm(vec![old.clone()]), &in_group("b"));
    assert_eq!(
        differs,
        [
            "metadata.name: Forbidden: DanmNet shop/net is in the groups danm.k8s.io and danm.io, and the two differ: delete one of them"
        ]
    );
    let update = json!({"operation": "UPDATE", "old": old, "object": danm("danm.k8s.io", "DanmNet", "net", spec("b"))});
    assert!(said(&of_danm(vec![old.clone()]), &update).is_empty());
    let other = said(&of_danm(vec![old, tenants()]), &create(tenant("net", spec("a"))));
    assert_eq!(
        other,
        [
            "metadata.name: Forbidden: DanmNet shop/net has the name: a namespace has networks of the one mode or the other"
        ]
    );
}

#[test]
fn tenant_configs_are_told_everything_at_once() {
    let config = json!({"hostDevices": [{"name": "", "vniType": "vlan2", "vniRange": "7"}, {"name": "a", "alloc": "AAAA"}], "networkIds": {"sriov": "twelve-chars"}});
    let problems = said(&of_danm(vec![]), &create(danm("danm.k8s.io", "TenantConfig", "t", config)));
    assert_eq!(
        problems,
        [
            "hostDevices[0].name: Required value: the name of a link of the nodes, or of a resource",
            r#"hostDevices[0].vniType: Unsupported value: "vlan2": supported values: "vlan", "vxlan""#,
            r#"networkIds[sriov]: Invalid value: "twelve-chars": must be at most 10 characters"#,
            r#"hostDevices[1].alloc: Invalid value: "AAAA": must be nothing: it is DANM's own state"#,
        ]
    );
    let empty = said(&of_danm(vec![]), &create(danm("danm.io", "TenantConfig", "t", json!({}))));
    assert_eq!(empty, ["hostDevices: Required value: hostDevices or networkIds: the object says nothing"]);
}

#[test]
fn a_tenants_network_that_nobody_gave_anything_is_refused() {
    let cluster = of_danm(vec![tenants()]);
    let of =
        |options: Value| said(&cluster, &create(tenant("t", json!({"NetworkID": "n", "Options": options})))).join("; ");
    for (options, want) in [
        (json!({"host_device": "ens3", "vlan": 501}), ""),
        (json!({"host_device": "ens4", "vxlan": 700}), ""),
        (json!({"host_device": "plain"}), ""),
        (
            json!({"host_device": "ens3"}),
            "spec.Options.vlan: Required value: given when the network is made, by mutate-danm",
        ),
        (
            json!({"host_device": "ens3", "vlan": 300}),
            "spec.Options.vlan: Invalid value: 300: must be one of the device's vniRange 200,500-501",
        ),
        (
            json!({"host_device": "plain", "vlan": 300}),
            "spec.Options.vlan: Forbidden: 300: the TenantConfig gives none of the device to tenants",
        ),
        (
            json!({"host_device": "ens9", "vlan": 300}),
            r#"spec.Options.host_device: Invalid value: "ens9": The provided physical interface is not allowed to be used by tenants!"#,
        ),
    ] {
        assert_eq!(of(options.clone()), want, "{options}");
    }
}

#[test]
fn addresses_are_reserved_inside_of_a_network_by_who_may() {
    let subnets = || json!({"NetworkID": "n", "Options": {"cidr": "10.0.0.0/24", "net6": "fd00::/64"}});
    let cluster = of_danm(vec![
        tenants(),
        danm("danm.io", "ClusterNetwork", "external", subnets()),
        danm("danm.io", "ClusterNetwork", "other", subnets()),
        tenant("own", subnets()),
        danm("danm.io", "ReservedIP", "taken", json!({"network": {"name": "own"}, "ips": [{"address": "10.0.0.9"}]})),
    ]);
    let reserved = |kind: &str, name: &str, ips: Value| {
        create(danm("danm.io", "ReservedIP", "r", json!({"network": {"name": name, "type": kind}, "ips": ips})))
    };
    let both = || json!([{"address": "10.0.0.7"}, {"address": "fd00::7", "shareable": true}]);
    for (told, want) in [
        (reserved("ClusterNetwork", "external", both()), ""),
        (reserved("TenantNetwork", "own", both()), ""),
        (
            reserved("ClusterNetwork", "other", both()),
            r#"spec.network.name: Forbidden: "other": the TenantConfig must give the privilege "reservedIp" on it (allowedClusterNetworks)"#,
        ),
        (reserved("TenantNetwork", "none", both()), "spec.network.name: Not found: TenantNetwork shop/none"),
        (
            reserved("TenantNetwork", "own", json!([{"address": "10.0.1.7"}, {"address": "10.0.0.300"}])),
            r#"spec.ips[1].address: Invalid value: "10.0.0.300": must be an IP address"#,
        ),
        (
            reserved("TenantNetwork", "own", json!([{"address": "10.0.1.7"}])),
            r#"spec.ips[0].address: Invalid value: "10.0.1.7": must be an address of the network's cidr 10.0.0.0/24"#,
        ),
        (
            reserved("TenantNetwork", "own", json!([{"address": "fd00::1"}, {"address": "fd00::2"}])),
            r#"spec.ips[1].address: Invalid value: "fd00::2": must be one address of a family at most"#,
        ),
        (
            reserved("TenantNetwork", "own", json!([{"address": "10.0.0.9"}])),
            r#"spec.ips[0].address: Invalid value: "10.0.0.9": must be an address that no other ReservedIP keeps: ReservedIP shop/taken does"#,
        ),
    ] {
        assert_eq!(said(&cluster, &told).join("; "), want);
    }
    let without = said(
        &of_danm(vec![danm("danm.io", "ClusterNetwork", "external", subnets())]),
        &reserved("ClusterNetwork", "external", both()),
    );
    assert_eq!(without.len(), 1, "{without:?}");
}

#[test]
fn a_pods_list_is_judged_by_what_its_networks_say() {
    let network = |kind: &str, name: &str, spec: Value| danm("danm.io", kind, name, spec);
    let options = || json!({"host_device": "ens3", "cidr": "10.0.0.0/24", "container_prefix": "external-network"});
    let cluster = of_danm(vec![
        network("DanmNet", "net", json!({"NetworkID": "n", "Options": options()})),
        network(
            "ClusterNetwork",
            "theirs",
            json!({"NetworkID": "n", "AllowedTenants": ["lab"], "Options": {"host_device": "ens3", "cidr": "10.1.0.0/24"}}),
        ),
        tenants(),
        tenant(
            "outside",
            json!({"NetworkID": "n", "Options": {"host_device": "ens3", "vlan": 300, "cidr": "10.2.0.0/24"}}),
        ),
        tenant(
            "inside",
            json!({"NetworkID": "n", "Options": {"host_device": "ens3", "vlan": 200, "cidr": "10.3.0.0/24"}}),
        ),
        danm(
            "danm.io",
            "ReservedIP",
            "front",
            json!({"network": {"name": "inside"}, "ips": [{"address": "10.3.0.9"}]}),
        ),
    ]);
    for key in ["danm.io/interfaces", "danm.k8s.io/interfaces"] {
        let of = |list: &str| said(&cluster, &pod(json!({key: list}))).join("; ");
        assert_eq!(of(r#"[{"network":"net","ip":"dynamic"}]"#), "");
        assert_eq!(of("[]"), "");
        assert_eq!(of(r#"[{"tenantNetwork":"inside","ip":"front"}]"#), "");
        for (list, want) in [
            (r#"[{"network":"net","ip":"10.1.0.7"}]"#, "it is outside the network's CIDR"),
            (r#"[{"network":"net","ip":"dynamic"},{"network":"net","ip":"none"}]"#, "external-network1"),
            (r#"[{"clusterNetwork":"theirs","ip":"dynamic"}]"#, "AllowedTenants have namespace shop: lab"),
            (
                r#"[{"tenantNetwork":"outside","ip":"dynamic"}]"#,
                "spec.Options.vlan: got 300, want one of 200,500-501, which TenantConfig tenants gives of ens3",
            ),
            (r#"[{"network":"none","ip":"dynamic"}]"#, "[0]: Not found: DanmNet shop/none"),
            (r#"[{"tenantNetwork":"inside","ip":"none-such"}]"#, "[0].ip: Not found: ReservedIP shop/none-such"),
            (r#"[{"clusterNetwork":"theirs","ip6":"front"}]"#, "AllowedTenants have namespace shop: lab"),
            (r#"[{"network":"net","ip":"front"}]"#, "ReservedIP shop/front is one of TenantNetwork shop/inside"),
            (
                r#"[{"tenantNetwork":"inside","ip":"10.3.0.9"}]"#,
                "ReservedIP shop/front gives it to pods that name the object",
            ),
            (
                r#"[{"network":"net","tenantNetwork":"x","ip":"dynamic"}]"#,
                "exactly one of network, tenantNetwork and clusterNetwork",
            ),
            (r#"[{"network":"net","ipv4":"dynamic"}]"#, "no other key than"),
            ("x", "a JSON list of interfaces"),
        ] {
            let said = of(list);
            assert!(said.starts_with(&format!("metadata.annotations[{key}]")) && said.contains(want), "{list}: {said}");
        }
    }
}
