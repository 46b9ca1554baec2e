//! What a pod asks of an attachment: capabilities, arguments, devices, routes.

use attachments::rule::Rule;

use super::*;

#[test]
fn the_runtimes_requests_stay_with_the_default_network() {
    let mut scene = Scene::new().defines("pods/a", PLAIN).wants("a");
    scene.runtime_config = Object::parse(br#"{"portMappings":[]}"#).ok();
    let attachments = scene.bound();
    assert!(attachments[1].runtime_config.is_empty());
    assert!(!attachments[0].runtime_config.is_empty());
}

#[test]
fn requests_are_offered_as_they_were_written() {
    let config = r#"{"plugins":[{"type":"x","capabilities":{"ips":true,"mac":true}},{"type":"y","capabilities":{"bandwidth":true,"portMappings":true,"infinibandGUID":true}}]}"#;
    let annotation = r#"[{"name":"a","ips":["10.0.0.1"],"mac":"02:00:00:00:00:01","infiniband-guid":"c2:11:22:33:44:55:66:77",
        "portMappings":[{"hostPort":1, "containerPort":2}],"bandwidth":{"egressRate":1e0}}]"#;
    let refused = parse(NETWORKS, annotation, &"pods".parse().unwrap());
    assert!(refused.is_err(), "1e0 is no integer to Go");
    let scene = Scene::new().defines("pods/a", config).wants(&annotation.replace("1e0", " 1"));
    let bound = scene.bind().unwrap();
    assert_eq!(
        bound.attachments[1].runtime_config.to_json(),
        r#"{"ips":["10.0.0.1"],"mac":"02:00:00:00:00:01","infinibandGUID":"c2:11:22:33:44:55:66:77","portMappings":[{"hostPort":1,"containerPort":2}],"bandwidth":{"egressRate":1}}"#
    );
    assert!(bound.unmet.is_empty() && bound.attachments[1].unverified.is_empty());
    assert_eq!(bound.attachments[1].args, "IgnoreUnknown=1;K8S_POD_NAME=p");
}

#[test]
fn a_capability_that_nobody_declares_warns_or_fails() {
    let mut scene = Scene::new().defines("pods/a", PLAIN).wants(r#"[{"name":"a","bandwidth":{"egressRate":1}}]"#);
    let finding = r#"k8s.v1.cni.cncf.io/networks[0].bandwidth: got {"egressRate":1}, want bandwidth only for a network whose plugins declare the capability "bandwidth""#;
    assert_eq!(scene.bind().unwrap().unmet, [format!("pods/a: {finding}")]);
    scene.rules.strict = true;
    assert_eq!(scene.refusal(), finding);
}

#[test]
fn addresses_go_through_cni_args_where_undeclared_and_the_result_tells() {
    let annotation = r#"[{"name":"a","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01"}]"#;
    let mut scene = Scene::new().defines("pods/a", PLAIN).wants(annotation);
    scene.args = vec![("MAC".into(), "old".into()), ("X".into(), "a=b".into()), ("MAC".into(), "older".into())];
    let attachment = &scene.bound()[1];
    assert_eq!(attachment.args, "IgnoreUnknown=1;MAC=02:00:00:00:00:01;X=a=b;IP=10.0.0.1/24,fd00::1");
    assert_eq!(scene.bound()[0].args, "MAC=older;X=a=b");

    let mut result = CniResult::default();
    assert_eq!(attachment.unmet(&result).len(), 3);
    result.ips = vec![Ip::new("10.0.0.1/16".parse().unwrap(), None, None)];
    let interface = Interface { mac: "02:00:00:00:00:01".into(), sandbox: "/ns".into(), ..Interface::default() };
    result.interfaces = vec![interface];
    let unmet = attachment.unmet(&result);
    assert_eq!(unmet, ["pods/a: fd00::1 was asked for but not given: no plugin declares the capability \"ips\""]);
}

#[test]
fn cni_args_go_to_every_plugin_and_win() {
    let config =
        r#"{"plugins":[{"type":"x","args":{"cni":{"a":1,"b":[ 2 ]},"o":3}},{"type":"y","big":12345678901234567890}]}"#;
    let scene = Scene::new().defines("pods/a", config).wants(r#"[{"name":"a","cni-args":{"a":9.10,"c":{}}}]"#);
    let plugins = &scene.bound()[1].plugins;
    assert_eq!(plugins[0].object.to_json(), r#"{"type":"x","args":{"cni":{"a":9.10,"b":[ 2 ],"c":{}},"o":3}}"#);
    assert_eq!(
        plugins[1].object.to_json(),
        r#"{"type":"y","big":12345678901234567890,"args":{"cni":{"a":9.10,"c":{}}}}"#
    );
    let scene = Scene::new()
        .defines("pods/a", r#"{"plugins":[{"type":"x"},{"type":"y","args":{"cni":3}}]}"#)
        .wants(r#"[{"name":"a","cni-args":{"a":1}}]"#);
    let field = "network-attachment-definition pods/a: spec.config.plugins[1].args.cni: got 3";
    assert!(scene.refusal().starts_with(field));
}

#[test]
fn what_is_bound_is_spelled_as_it_is_read() {
    let scene = |config: &str, wants: &str| Scene::new().defines("pods/a", config).wants(wants);
    let bound = scene(r#"{"Name":"n","Type":"x","VLANID":7,"other":{"A":1}}"#, "a").bound();
    assert_eq!(names(&bound)[1..], ["pods/a n net1"]);
    assert_eq!(bound[1].plugins[0].object.to_json(), r#"{"Name":"n","type":"x","vlanId":7,"other":{"A":1}}"#);

    let args = r#"{"type":"x","ARGS":{"cni":{"ips":1,"b":2}}}"#;
    let bound = scene(args, r#"[{"name":"a","cni-args":{"IPS":3,"B":4}}]"#).bound();
    assert_eq!(bound[1].plugins[0].object.to_json(), r#"{"type":"x","args":{"cni":{"ips":3,"B":4}}}"#);

    let list = r#"{"plugins":[{"type":"y"},{"type":"x","vlanId":1,"vlanID":2}]}"#;
    let field = "network-attachment-definition pods/a: spec.config.plugins[1].vlanID: got \"vlanID\" beside \"vlanId\"";
    assert!(scene(list, "a").refusal().starts_with(field), "{}", scene(list, "a").refusal());
    let named = scene(r#"{"name":"mine","NAME":"cbr0","type":"x"}"#, "a").refusal();
    assert!(named.starts_with("network-attachment-definition pods/a: spec.config.NAME: got"), "{named}");
}

#[test]
fn many_arguments_take_no_time_that_grows_with_their_square() {
    let keys = |value: usize| (0..5_000).map(|i| format!("\"k{i}\":{value}")).collect::<Vec<_>>().join(",");
    let config = format!(r#"{{"type":"x","args":{{"cni":{{{}}}}}}}"#, keys(1));
    let bound = Scene::new()
        .defines("pods/a", &config)
        .wants(&format!(r#"[{{"name":"a","cni-args":{{{}}}}}]"#, keys(2)))
        .bound();
    assert_eq!(bound[1].plugins[0].object.to_json(), config.replace(":1", ":2"));
}

#[test]
fn one_attachment_has_the_default_route() {
    let route = r#"[{"name":"a","default-route":["10.0.0.1"]}]"#;
    let scene = Scene::new().defines("pods/a", PLAIN).wants(route);
    assert_eq!(scene.bound()[1].default_route, Some(vec!["10.0.0.1".parse().unwrap()]));
    let both = scene.defines("kube-system/a", PLAIN).default_network(route);
    assert!(both.refusal().starts_with("k8s.v1.cni.cncf.io/networks[0].default-route: got a second time"));
}

#[test]
fn an_attachment_survives_the_record_byte_for_byte() {
    let config = r#"{"type":"x","big":12345678901234567890.100,"s":{"a" : [ 1,2 ], "u":"\u00e4"},"capabilities":{"ips":true,"CNIDeviceInfoFile":true}}"#;
    let annotation = r#"[{"name":"a","ips":["10.0.0.1"],"mac":"02:00:00:00:00:01","cni-args":{"n":1e400},"default-route":[],"deviceID":"d"}]"#;
    let scene = Scene::new().defines("pods/a", config).with_resource("pods/a", "vendor.com/nic").wants(annotation);
    for attachment in scene.bound() {
        let text = serde_json::to_string(&attachment).unwrap();
        let again: Attachment = serde_json::from_str(&text).unwrap();
        assert_eq!(again, attachment);
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }
    let text = scene.bound()[1].plugins[0].object.to_json();
    assert!(text.starts_with(r#"{"type":"x","big":12345678901234567890.100,"s":{"a" : [ 1,2 ], "u":"\u00e4"}"#));
    assert!(text.ends_with(r#""args":{"cni":{"n":1e400}}}"#));
}

#[test]
fn many_arguments_come_into_every_plugin_in_one_pass() {
    let keys: Vec<String> = (0..10_000).map(|i| format!("\"key-{i}\":{i}")).collect();
    let args = format!(r#"[{{"name":"a","cni-args":{{{}}}}}]"#, keys.join(","));
    let plugins = vec![r#"{"type":"x","args":{"cni":{"key-7":"own","k":0}}}"#; 16].join(",");
    let bound = Scene::new().defines("pods/a", &format!(r#"{{"plugins":[{plugins}]}}"#)).wants(&args).bound();
    for plugin in &bound[1].plugins {
        let cni = plugin.object.object("args").unwrap().unwrap().object("cni").unwrap().unwrap();
        assert_eq!((cni.iter().count(), cni.get("key-7").unwrap().get()), (10_001, "7"));
    }
}

#[test]
fn records_keep_their_word_for_requests_that_nobody_declares() {
    let bound = Scene::new().defines("pods/lan", PLAIN).wants(r#"[{"name":"lan","ips":["10.0.0.9"]}]"#).bound();
    let json = serde_json::to_value(&bound[1]).unwrap();
    assert_eq!(json["hoped"], serde_json::json!({"ips": ["10.0.0.9"]}));
    assert_eq!(serde_json::from_value::<Attachment>(json).unwrap().unverified, bound[1].unverified);
}

#[test]
fn what_admission_refuses_too_is_refused_by_its_rule() {
    let plain = |annotation: &str| Scene::new().defines("pods/a", PLAIN).wants(annotation);
    let meta = r#"{"type":"x","ipam":{"type":"multus"}}"#;
    let many = format!(r#"{{"plugins":[{}]}}"#, vec![PLAIN; 200].join(","));
    let mut strict = plain(r#"[{"name":"a","bandwidth":{"egressRate":1}}]"#);
    strict.rules.strict = true;
    let both = plain(r#"[{"name":"a","default-route":[]}]"#)
        .default_network(r#"[{"name":"a","namespace":"pods","default-route":[]}]"#);
    for (scene, rule) in [
        (plain("a@x,a@x"), Rule::InterfaceTaken),
        (plain("a@lo"), Rule::InterfaceReserved),
        (plain("a@eth0"), Rule::InterfaceReserved),
        (plain(&vec!["a"; 1000].join(",")), Rule::TooManyNetworks),
        (Scene::new().defines("pods/a", meta).wants("a"), Rule::MetaPlugin),
        (Scene::new().defines("pods/a", &many).wants("a"), Rule::ConfigSize),
        (strict, Rule::Undeclared),
        (both, Rule::DefaultRoute),
    ] {
        match scene.bind() {
            Err(BindError::Invalid(finding)) => assert_eq!(finding.rule, Some(rule), "{finding}"),
            other => unreachable!("{rule:?}: {other:?}"),
        }
    }
}
