//! Which networks a pod gets, under which names, and where their configurations come from.

use super::*;

#[test]
fn a_pod_without_annotations_gets_the_default_network() {
    let attachments = Scene::new().bound();
    assert_eq!(names(&attachments), ["cluster cluster eth0"]);
    assert!(attachments[0].is_default);
    assert_eq!(attachments[0].args, "IgnoreUnknown=1;K8S_POD_NAME=p");
}

#[test]
fn a_name_counts_the_whole_list() {
    let mut scene = Scene::new().defines("pods/a", PLAIN).defines("pods/b", PLAIN).wants("a@x,b,a");
    scene.default_networks = vec![Network::Conf(conf(r#"{"name":"all","type":"y"}"#))];
    scene.auxiliary = Some(conf(r#"{"name":"aux","type":"z"}"#));
    let want = ["cluster cluster eth0", "all all net1", "pods/a a x", "pods/b b net3", "pods/a a net4", "aux aux net5"];
    assert_eq!(names(&scene.bound()), want);
}

#[test]
fn a_name_is_used_once() {
    let scene = |wants: &str| Scene::new().defines("pods/a", PLAIN).wants(wants);
    assert_eq!(
        scene("a@net2,a").refusal(),
        "k8s.v1.cni.cncf.io/networks[1].interface: got net2, want a name that no earlier attachment has (pods/a has it)"
    );
    assert!(scene("a@eth0").refusal().contains("networks[0].interface: got eth0"));
    for reserved in ["lo", "all", "default"] {
        let message = scene(&format!("a@{reserved}")).refusal();
        assert!(message.contains(&format!("got {reserved}, want a name other than lo, all, default")));
    }
    assert!(scene("a@x,a@x").refusal().contains("networks[1].interface: got x"));
}

#[test]
fn a_definition_gives_the_network_its_name_unless_it_has_one() {
    let scene = Scene::new().defines("pods/a", PLAIN).defines("ns/b", r#"{"name":"other","type":"x"}"#).wants("a,ns/b");
    assert_eq!(names(&scene.bound())[1..], ["pods/a a net1", "ns/b other net2"]);
    assert_eq!(scene.bound()[2].version, Version::V0_1_0);
}

#[test]
fn a_missing_definition_is_named_in_the_words_of_the_field() {
    let error = Scene::new().wants("ns/x").bind().unwrap_err();
    assert_eq!(error, BindError::NoDefinition(reference("ns/x")));
    assert_eq!(error.to_string(), "cannot find a network-attachment-definition (x) in namespace (ns)");
}

#[test]
fn an_empty_definition_is_looked_up_in_files_lists_first() {
    let scene = Scene::new()
        .defines("pods/a", " ")
        .wants("a")
        .file("05-broken.conf", "{")
        .file("10-a.conf", r#"{"name":"a","type":"single"}"#)
        .file("20-a.conflist", r#"{"name":"a","plugins":[{"type":"listed"}]}"#);
    let bound = scene.bind().unwrap();
    assert_eq!(names(&bound.attachments)[1], "pods/a a net1");
    assert_eq!(bound.attachments[1].plugins[0].kind.as_str(), "listed");
    assert_eq!(bound.warnings.len(), 1);
    assert!(bound.warnings[0].starts_with("skipped file 05-broken.conf: got invalid JSON"), "{bound:?}");
}

#[test]
fn without_any_configuration_the_unreadable_files_are_told() {
    let scene = Scene::new().defines("pods/a", "").wants("a").file("05-x.conf", "{}");
    let message = scene.refusal();
    let start = "network-attachment-definition pods/a: spec.config is empty, and no configuration file is named \"a\"; skipped 05-x.conf.type: missing";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_named_default_network_is_a_definition_or_else_a_file() {
    let mut scene = Scene::new().file("10.conflist", r#"{"name":"flannel","plugins":[{"type":"flannel"}]}"#);
    scene.delegates = vec![Network::Named("flannel".parse().unwrap())];
    assert_eq!(names(&scene.bound()), ["flannel flannel eth0"]);
    let scene = scene.defines("kube-system/flannel", PLAIN);
    assert_eq!(names(&scene.bound()), ["kube-system/flannel flannel eth0"]);
    let mut scene = Scene::new();
    scene.delegates = vec![Network::Named("Not_An_Object".parse().unwrap())];
    assert!(scene.refusal().starts_with("cannot find network \"Not_An_Object\": no network-attachment-definition in"));
}

#[test]
fn lookups_are_announced_and_files_read_only_when_needed() {
    let mut scene = Scene::new().wants("a,ns/b,a").defines("pods/a", PLAIN).defines("ns/b", PLAIN);
    scene.default_networks = vec![Network::Named("d".parse().unwrap())];
    let references = scene.request(|request| request.references()).unwrap();
    let shown: Vec<String> = references.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["kube-system/d", "ns/b", "pods/a"]);
    let needs = |scene: &Scene| scene.request(|request| request.needs_files(&scene.definitions));
    assert!(needs(&scene));
    assert!(!needs(&scene.defines("kube-system/d", PLAIN)));
    // What is missing fails without a file.
    assert!(!needs(&Scene::new().wants("a")));
    assert!(needs(&Scene::new().wants("a").defines("pods/a", "")));
}

#[test]
fn pods_of_system_namespaces_get_no_default_networks() {
    let mut scene = Scene::new();
    scene.default_networks = vec![Network::Named("missing".parse().unwrap())];
    scene.rules.system_namespaces.push("pods".into());
    assert_eq!(scene.bound().len(), 1);
}

#[test]
fn the_pod_may_replace_its_default_network() {
    let config = r#"{"cniVersion":"1.0.0","type":"x","capabilities":{"ips":true,"portMappings":true}}"#;
    let annotation = r#"[{"name":"d","ips":["10.0.0.9/24"],"mac":"02:00:00:00:00:09"}]"#;
    let mut scene = Scene::new().defines("kube-system/d", config).default_network(annotation);
    scene.runtime_config = Object::parse(br#"{"portMappings":[{"hostPort":80}],"bandwidth":{}}"#).ok();
    let attachments = scene.bound();
    assert_eq!(names(&attachments), ["kube-system/d d eth0"]);
    assert!(attachments[0].is_default);
    assert_eq!(
        attachments[0].runtime_config.to_json(),
        r#"{"portMappings":[{"hostPort":80}],"bandwidth":{},"ips":["10.0.0.9/24"],"mac":"02:00:00:00:00:09"}"#
    );
    assert_eq!(attachments[0].args, "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=02:00:00:00:00:09");
    let renamed = Scene::new().defines("kube-system/d", PLAIN).default_network("d@eth1");
    assert!(renamed.refusal().starts_with("v1.multus-cni.io/default-network[0].interface: got eth1, want eth0"));
}

#[test]
fn every_definition_is_valid_before_anything_runs() {
    for (config, start) in [
        ("{", "got invalid JSON"),
        ("[]", "got invalid JSON"),
        (r#"{"plugins":[]}"#, "plugins: got []"),
        (r#"{"name":"x"}"#, "plugins: missing"),
        (r#"{"type":"../x"}"#, r#"type: got "../x""#),
        (r#"{"type":"x","name":"a/b"}"#, r#"name: got "a/b""#),
        (r#"{"type":"x","cniVersion":"9"}"#, r#"cniVersion: got "9""#),
        (r#"{"plugins":[{"type":"x"},{}]}"#, "plugins[1].type: missing"),
    ] {
        let message = Scene::new().defines("pods/a", config).wants("a").refusal();
        let prefix = "network-attachment-definition pods/a: spec.config";
        let (dot, colon) = (format!("{prefix}.{start}"), format!("{prefix}: {start}"));
        assert!(message.starts_with(&dot) || message.starts_with(&colon), "{message}");
    }
    let mut scene = Scene::new();
    scene.delegates = vec![Network::Conf(conf(r#"{"type":"x"}"#))];
    assert!(scene.refusal().starts_with("delegates[0].name: missing"));
    scene.delegates.clear();
    assert!(scene.refusal().starts_with("delegates: missing"));
}

#[test]
fn a_selected_file_of_the_node_is_the_nodes_own_text_and_isolation_refuses_it() {
    let file = SelectionTarget::NodeFile("weave".parse().unwrap());
    let mut scene = Scene::new().file("10-weave.conf", r#"{"name":"weave","type":"macvlan"}"#);
    scene.selection.networks = vec![NetworkSelection::new(file)];
    let bound = scene.bound();
    assert_eq!(names(&bound)[1], "weave weave net1");
    assert!(!bound[1].is_tenants);
    assert_eq!(scene.request(|request| request.references()), Ok(std::collections::BTreeSet::new()));
    scene.rules.namespace_isolation = true;
    assert!(scene.refusal().ends_with("pod is in namespace pods but refers to a file of the node"));
    scene.rules.namespace_isolation = false;
    scene.files.clear();
    assert_eq!(scene.refusal(), "cannot find network \"weave\": no configuration file has this name");
}
