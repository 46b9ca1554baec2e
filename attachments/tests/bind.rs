//! Binding as its callers see it: a node's configuration and a pod's annotations in, attachments or one refusal out.

#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use std::collections::BTreeMap;

use attachments::bind::{
    Attachment, BindError, BindRequest, Bound, BuiltIn, ConfFile, Lookups, MOST_BYTES, Network, Rules, bind,
};
use attachments::cni::conf::{NetworkConf, PluginConf};
use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface, Ip};
use attachments::cni::spelling::Known;
use attachments::cni::version::Version;
use attachments::definition::Definition;
use attachments::names::{DeviceId, NetRef, PodRef};
use attachments::selection::{NETWORKS, NetworkSelection, Selection, SelectionTarget, parse, parse_default};

fn conf(text: &str) -> NetworkConf {
    NetworkConf::parse(text.as_bytes()).unwrap()
}

fn reference(text: &str) -> NetRef {
    let (namespace, name) = text.split_once('/').unwrap();
    NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
}

const fn built_in(kind: &'static str, path_keys: &'static [&'static str]) -> BuiltIn {
    BuiltIn { kind, path_keys, is_on: true }
}

const BUILT_IN: [BuiltIn; 5] = [
    built_in("macvlan", &[]),
    built_in("tuning", &["dataDir"]),
    built_in("flannel", &["subnetFile", "dataDir"]),
    built_in("bridge", &[]),
    built_in("host-local", &["dataDir", "resolvConf"]),
];

/// A node with an inline default network, and a pod `pods/p` without annotations.
struct Scene {
    rules: Rules,
    delegates: Vec<Network>,
    default_networks: Vec<Network>,
    auxiliary: Option<NetworkConf>,
    args: Vec<(String, String)>,
    runtime_config: Option<Object>,
    selection: Selection,
    definitions: BTreeMap<NetRef, Definition>,
    files: Vec<ConfFile>,
    devices: BTreeMap<String, Vec<DeviceId>>,
}

impl Scene {
    fn new() -> Self {
        let delegate =
            r#"{"cniVersion":"1.0.0","name":"cluster","type":"bridge","capabilities":{"portMappings":true}}"#;
        Self {
            rules: Rules {
                namespace_isolation: false,
                global_namespaces: vec!["default".into()],
                multus_namespace: "kube-system".parse().unwrap(),
                system_namespaces: vec!["kube-system".into()],
                strict: false,
                path_roots: vec!["/var/lib/cni".into(), "/run/cni/".into()],
                built_in: BUILT_IN.to_vec(),
                programs: None,
                max_attachments: 64,
                max_chain: 16,
            },
            delegates: vec![Network::Conf(conf(delegate))],
            default_networks: Vec::new(),
            auxiliary: None,
            args: [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "p")].map(|(k, v)| (k.into(), v.into())).into(),
            runtime_config: None,
            selection: Selection::default(),
            definitions: BTreeMap::new(),
            files: Vec::new(),
            devices: BTreeMap::new(),
        }
    }

    fn wants(mut self, annotation: &str) -> Self {
        self.selection.networks = parse(NETWORKS, annotation, &"pods".parse().unwrap()).unwrap();
        self
    }

    fn default_network(mut self, annotation: &str) -> Self {
        self.selection.default_network = Some(parse_default(annotation, &self.rules.multus_namespace).unwrap());
        self
    }

    fn defines(mut self, name: &str, config: &str) -> Self {
        let reference = reference(name);
        let definition = Definition { reference: reference.clone(), config: Some(config.into()), resource_name: None };
        self.definitions.insert(reference, definition);
        self
    }

    fn with_resource(mut self, name: &str, resource: &str) -> Self {
        self.definitions.get_mut(&reference(name)).unwrap().resource_name = Some(resource.into());
        self
    }

    fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push(ConfFile { name: name.into(), conf: NetworkConf::parse(text.as_bytes()) });
        self
    }

    fn request<T>(&self, then: impl FnOnce(&BindRequest<'_>) -> T) -> T {
        let pod = PodRef { namespace: "pods".parse().unwrap(), name: "p".parse().unwrap(), uid: None };
        then(&BindRequest {
            pod: &pod,
            container: &"c1".parse().unwrap(),
            ifname: &"eth0".parse().unwrap(),
            args: &self.args,
            runtime_config: self.runtime_config.as_ref(),
            delegates: &self.delegates,
            default_networks: &self.default_networks,
            selection: &self.selection,
            auxiliary: self.auxiliary.as_ref(),
            rules: &self.rules,
        })
    }

    fn bind(&self) -> Result<Bound, BindError> {
        let lookups = Lookups { definitions: &self.definitions, files: &self.files, devices: &self.devices };
        // A reader of the key `vlanId` and of the argument `ips`.
        static ARGUMENTS: Known<'static> = Known::of(&[&["ips"]]);
        static ARGS: Known<'static> = Known { keys: &[&["cni"]], inside: &[("cni", &ARGUMENTS)], only: false };
        static READER: Known<'static> = Known { keys: &[&["vlanId", "args"]], inside: &[("args", &ARGS)], only: false };
        let spell = |plugin: &mut PluginConf| {
            plugin.object = READER.read(&plugin.object)?.into_owned();
            Ok(())
        };
        self.request(|request| bind(request, &lookups, &spell))
    }

    fn bound(&self) -> Vec<Attachment> {
        self.bind().unwrap().attachments
    }

    fn refusal(&self) -> String {
        self.bind().unwrap_err().to_string()
    }
}

fn names(attachments: &[Attachment]) -> Vec<String> {
    attachments.iter().map(|a| format!("{} {} {}", a.source, a.network, a.ifname)).collect()
}

const PLAIN: &str = r#"{"cniVersion":"1.0.0","type":"macvlan"}"#;

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
fn isolation_holds_for_every_reference() {
    let isolated = |mut scene: Scene| {
        scene.rules.namespace_isolation = true;
        scene
    };
    let words = "network ns/b: namespace isolation enabled, annotation violates permission, pod is in namespace pods but refers to target namespace ns";
    let scene = isolated(Scene::new().wants("a,ns/b"));
    assert_eq!(scene.refusal(), words);
    assert_eq!(scene.request(|request| request.references()).unwrap_err().to_string(), words);
    assert_eq!(isolated(Scene::new().default_network("ns/b")).refusal(), words);
    let own = Scene::new().defines("pods/a", PLAIN).defines("default/b", PLAIN).wants("a,default/b");
    assert_eq!(isolated(own).bound().len(), 3);
}

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
    assert!(bound.warnings.is_empty() && bound.attachments[1].unverified.is_empty());
    assert_eq!(bound.attachments[1].args, "IgnoreUnknown=1;K8S_POD_NAME=p");
}

#[test]
fn a_capability_that_nobody_declares_warns_or_fails() {
    let mut scene = Scene::new().defines("pods/a", PLAIN).wants(r#"[{"name":"a","bandwidth":{"egressRate":1}}]"#);
    let finding = r#"k8s.v1.cni.cncf.io/networks[0].bandwidth: got {"egressRate":1}, want bandwidth only for a network whose plugins declare the capability "bandwidth""#;
    assert_eq!(scene.bind().unwrap().warnings, [format!("pods/a: {finding}")]);
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
fn locked_arguments_cannot_be_set_in_any_spelling() {
    let scene = |config: &str, key: &str| {
        Scene::new().defines("pods/a", config).wants(&format!(r#"[{{"name":"a","cni-args":{{"{key}":"v"}}}}]"#))
    };
    let single = r#"{"type":"x","lockedArgs":["ips","sysctl"]}"#;
    let list = r#"{"lockedArgs":["sysctl"],"plugins":[{"type":"x","lockedArgs":["ips"]}]}"#;
    for config in [single, list] {
        for key in ["ips", "IPS", "ſysctl"] {
            let message = scene(config, key).refusal();
            let start =
                format!("k8s.v1.cni.cncf.io/networks[0].cni-args.{key}: got \"v\", want no argument that pods/a locks");
            assert!(message.starts_with(&start), "{message}");
        }
        assert!(!scene(config, "other").bound()[1].plugins[0].object.to_json().contains("lockedArgs"));
    }
    let field = "network-attachment-definition pods/a: spec.config.lockedArgs: got 7";
    assert!(scene(r#"{"type":"x","lockedArgs":7}"#, "k").refusal().starts_with(field));
}

#[test]
fn a_definitions_paths_lie_below_the_roots() {
    let bind_with = |config: &str| Scene::new().defines("pods/a", config).wants("a").bind();
    let good = r#"{"plugins":[{"type":"x","ipam":{"dataDir":"/var/lib/cni/a","resolvConf":""}},{"type":"tuning","dataDir":"/run/cni"}]}"#;
    let paths = bind_with(good).unwrap().paths;
    let shown: Vec<_> = paths.iter().map(|p| format!("{} {}", p.field, p.path)).collect();
    let prefix = "network-attachment-definition pods/a: spec.config.plugins";
    // With it the network's directory there, which may be a symbolic link.
    let want = [
        "[0].ipam.dataDir /var/lib/cni/a/a",
        "[0].ipam.dataDir /var/lib/cni/a",
        "[1].dataDir /run/cni/a",
        "[1].dataDir /run/cni",
    ];
    assert_eq!(shown, want.map(|path| format!("{prefix}{path}")));
    for (config, field) in [
        (r#"{"type":"macvlan","ipam":{"type":"host-local","dataDir":"/etc"}}"#, "ipam.dataDir"),
        (r#"{"type":"macvlan","IPAM":{"type":"host-local","DATADIR":"/etc"}}"#, "IPAM.DATADIR"),
        (r#"{"type":"flannel","subnetFile":"/etc/passwd"}"#, "subnetFile"),
        (r#"{"type":"flannel","delegate":{"type":"tuning","dataDir":"run"}}"#, "delegate.dataDir"),
        // A program may take any text for a path.
        (r#"{"type":"x","vendor":{"list":["a","/etc/x"]}}"#, "vendor.list[1]"),
        (
            r#"{"type":"macvlan","ipam":{"type":"whereabouts","kubernetes":{"kubeconfig":"/root/k"}}}"#,
            "ipam.kubernetes.kubeconfig",
        ),
        (r#"{"type":"flannel","delegate":{"type":"x","socket":"/run/x"}}"#, "delegate.socket"),
        (r#"{"type":"x","args":{"cni":{"a":"/"}}}"#, "args.cni.a"),
        (r#"{"type":"x","ipam":{"dataDir":"/var/lib/cni/../x"}}"#, "ipam.dataDir"),
        (r#"{"type":"x","ipam":{"dataDir":"/var/lib/cnix"}}"#, "ipam.dataDir"),
        (r#"{"type":"x","ipam":{"resolvConf":"etc/shadow"}}"#, "ipam.resolvConf"),
        (r#"{"type":"x","ipam":{"RESOLVCONF":"/etc/shadow"}}"#, "ipam.RESOLVCONF"),
        (r#"{"type":"x","ipam":{"reſolvConf":"/etc/shadow"}}"#, "ipam.reſolvConf"),
        (r#"{"type":"x","delegate":{"ipam":{"dataDir":"/etc"},"ipam":{}}}"#, "delegate.ipam.dataDir"),
        (r#"{"plugins":[{"type":"x","l":[{"dataDir":"/etc"}]}]}"#, "plugins[0].l[0].dataDir"),
    ] {
        let message = bind_with(config).unwrap_err().to_string();
        let start = format!("network-attachment-definition pods/a: spec.config.{field}: got \"");
        assert!(message.starts_with(&start) && message.contains("pathRoots: /var/lib/cni"), "{message}");
    }
    for unreadable in [r#"{"dataDir":"/etc/\ud800"}"#, r#"{"\ud800":0,"dataDir":"/etc"}"#] {
        let message = bind_with(&format!(r#"{{"type":"x","ipam":{unreadable}}}"#)).unwrap_err().to_string();
        assert!(message.contains("spec.config") && message.contains("\\ud800"), "{message}");
    }
    // Where nothing opens them, users' keys may hold what they like.
    let vendor = r#"{"type":"macvlan","note":"/etc","subnetFile":"/etc","ipam":{"type":"host-local","x":"/"}}"#;
    assert!(bind_with(vendor).unwrap().paths.is_empty());
    let deep = format!(r#"{{"type":"x","k":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    assert!(bind_with(&deep).unwrap_err().to_string().contains("at most 32 levels"));
    // The node's own files may point anywhere.
    let own =
        Scene::new().defines("pods/a", "").wants("a").file("a.conf", r#"{"name":"a","type":"x","dataDir":"/etc"}"#);
    assert!(own.bind().unwrap().paths.is_empty());
}

#[test]
fn devices_are_given_out_in_order() {
    let config = r#"{"plugins":[{"type":"sriov"},{"type":"tuning","capabilities":{"CNIDeviceInfoFile":true}}]}"#;
    let mut scene = Scene::new()
        .defines("ns/a", config)
        .with_resource("ns/a", "vendor.com/nic")
        .wants(r#"[{"name":"a","namespace":"ns"},{"name":"a","namespace":"ns","deviceID":"own"},{"name":"a","namespace":"ns"}]"#);
    scene.devices.insert("vendor.com/nic".into(), ["d1", "d2"].map(|id| id.parse().unwrap()).into());
    let bound = scene.bind().unwrap();
    let ids: Vec<_> = bound.attachments.iter().map(|a| a.device.as_ref().map(|d| d.id.to_string())).collect();
    assert_eq!(ids, [None, Some("d1".into()), Some("d2".into()), None]);
    assert_eq!(bound.attachments[1].plugins[0].object.to_json(), r#"{"type":"sriov","deviceID":"d1","pciBusID":"d1"}"#);
    assert_eq!(
        bound.attachments[1].runtime_config.to_json(),
        r#"{"deviceID":"d1","CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/ns-a-c1_net1"}"#
    );
    assert_eq!(bound.warnings, ["ns/a: no device of vendor.com/nic is left for it among those of the pod"]);
    scene.devices.clear();
    assert_eq!(scene.bound()[2].plugins[0].object.to_json(), r#"{"type":"sriov"}"#);
    assert!(scene.bound()[2].runtime_config.to_json().starts_with(r#"{"deviceID":"own""#));
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
fn a_meta_plugin_is_nowhere_in_a_tenants_text() {
    let refusal = |config: &str| Scene::new().defines("pods/a", config).wants("a").refusal();
    for kind in ["meta-cni", "meta-cnid", "meta-cnictl", "multus", "multus-shim", "genie", "danm", "knitter"] {
        for (config, field) in [
            (r#"{"type":"KIND","binDir":"/usr/bin"}"#, "type"),
            (r#"{"plugins":[{"type":"macvlan"},{"type":"KIND"}]}"#, "plugins[1].type"),
            (r#"{"type":"macvlan","ipam":{"type":"KIND"}}"#, "ipam.type"),
            (r#"{"type":"macvlan","ipam":{"TYPE":"KIND"}}"#, "ipam.TYPE"),
            (r#"{"type":"flannel","delegate":{"type":"KIND"}}"#, "delegate.type"),
            (r#"{"type":"flannel","delegate":{"type":"bridge","ipam":{"type":"KIND"}}}"#, "delegate.ipam.type"),
            (r#"{"type":"x","delegates":[{"type":"y"},{"delegate":{"type":"KIND"}}]}"#, "delegates[1].delegate.type"),
            (r#"{"type":"x","deep":[[{"a":{"type":"KIND","type":"y"}}]]}"#, "deep[0][0].a.type"),
        ] {
            let message = refusal(&config.replace("KIND", kind));
            let start = format!(
                "network-attachment-definition pods/a: spec.config.{field}: got \"{kind}\", want a plugin that is no meta plugin"
            );
            assert!(message.starts_with(&start), "{message}");
        }
    }
    assert!(refusal(r#"{"type":"x","Type":"danm"}"#).contains("want one of them"));
    // The arguments of a pod are a tenant's text, in the node's own networks too.
    let mut scene = Scene::new().defines("kube-system/own", r#"{"type":"x","delegate":{"type":"multus"}}"#);
    scene.default_networks = vec![Network::Named("own".parse().unwrap())];
    assert!(scene.bind().is_ok(), "the node's own text may name others");
    let args = r#"[{"name":"own","namespace":"kube-system","cni-args":{"type":"multus"}}]"#;
    assert!(scene.wants(args).refusal().starts_with("k8s.v1.cni.cncf.io/networks[0].cni-args.type: got \"multus\""));
    let mut scene = Scene::new();
    scene.delegates.push(Network::Conf(conf(r#"{"name":"again","type":"x","ipam":{"type":"meta-cni"}}"#)));
    assert!(scene.refusal().starts_with("delegates[1].ipam.type: got \"meta-cni\""), "which would call itself");
}

#[test]
fn definitions_use_the_programs_that_the_node_lists() {
    let scene = |config: &str| {
        let mut scene = Scene::new().defines("pods/a", config).wants("a");
        scene.rules.programs = Some(vec!["sriov".parse().unwrap(), "whereabouts".parse().unwrap()]);
        scene
    };
    for good in [
        r#"{"type":"sriov","ipam":{"type":"whereabouts"}}"#,
        r#"{"type":"macvlan","ipam":{"type":"host-local"},"vendor":{"type":"anything"}}"#,
        r#"{"type":"flannel","delegate":{"type":"bridge"}}"#,
    ] {
        assert!(scene(good).bind().is_ok(), "{good}");
    }
    for (config, field) in [
        (r#"{"type":"other"}"#, "type: got \"other\""),
        (r#"{"type":"macvlan","ipam":{"type":"dhcp"}}"#, "ipam.type: got \"dhcp\""),
        (r#"{"type":"flannel","delegate":{"Type":"other"}}"#, "delegate.Type: got \"other\""),
        (r#"{"type":"sriov","delegates":[{"type":"other"}]}"#, "delegates[0].type: got \"other\""),
    ] {
        let message = scene(config).refusal();
        let want = format!(
            "spec.config.{field}, want a type that is built in, or one of the node's programs: sriov, whereabouts"
        );
        assert!(message.contains(&want), "{message}");
    }
    // Switched off, a built-in type is a program like any other.
    let mut off = scene(PLAIN);
    off.rules.built_in[0].is_on = false;
    assert!(off.refusal().contains("type: got \"macvlan\""));
}

#[test]
fn arguments_of_a_pod_hold_no_paths_for_programs() {
    let wants = r#"[{"name":"a","cni-args":{"file":{"x":["/etc/shadow"]}}}]"#;
    let message = Scene::new().defines("pods/a", r#"{"type":"x"}"#).wants(wants).refusal();
    assert!(message.starts_with("k8s.v1.cni.cncf.io/networks[0].cni-args.file.x[0]: got \"/etc/shadow\""), "{message}");
    assert!(Scene::new().defines("pods/a", PLAIN).wants(wants).bind().is_ok(), "nothing in process opens them");
}

#[test]
fn sizes_are_refused_before_the_work() {
    let nets = |count: usize| vec!["a"; count].join(",");
    let mut scene = Scene::new().defines("pods/a", PLAIN).wants(&nets(65));
    assert_eq!(scene.refusal(), "k8s.v1.cni.cncf.io/networks: got 65 networks, want at most 64 (maxAttachments)");
    scene.rules.max_attachments = 65;
    assert_eq!(scene.bound().len(), 66);

    let chain = |count: usize| format!(r#"{{"plugins":[{}]}}"#, vec![r#"{"type":"x"}"#; count].join(","));
    let mut scene = Scene::new().defines("pods/a", &chain(17)).wants("a");
    let at = "network-attachment-definition pods/a: spec.config";
    assert_eq!(scene.refusal(), format!("{at}.plugins: got 17 plugins, want at most 16 (maxChain)"));
    scene.rules.max_chain = 17;
    assert!(scene.bind().is_ok());

    let long = |bytes: usize| format!(r#"{{"type":"x","k":"{}"}}"#, "k".repeat(bytes - 19));
    assert_eq!(Scene::new().defines("pods/a", &long(64 << 10)).wants("a").bound().len(), 2);
    let longer = Scene::new().defines("pods/a", &long((64 << 10) + 1)).wants("a");
    assert_eq!(longer.refusal(), format!("{at}: got 65537 bytes, want at most 65536 bytes"));

    // One definition of which a pod wants many; and arguments that come into every plugin of a chain.
    let many = Scene::new().defines("pods/a", &long(64 << 10)).wants(&nets(64));
    let whole = format!("want at most {MOST_BYTES} bytes of configuration for all networks of a pod");
    let message = many.refusal();
    assert!(
        message.starts_with("k8s.v1.cni.cncf.io/networks[63]: got 41944") && message.ends_with(&whole),
        "{message}"
    );
    let args = |bytes: usize| format!(r#"[{{"name":"a","cni-args":{{"k":"{}"}}}}]"#, "v".repeat(bytes));
    let own = format!(r#"{{"type":"x","k":"{}"}}"#, "k".repeat(3_000));
    let wide = format!(r#"{{"plugins":[{}]}}"#, vec![own.as_str(); 16].join(","));
    let scene = |bytes: usize| Scene::new().defines("pods/a", &wide).wants(&args(bytes));
    let message = scene(262_000).refusal();
    assert!(message.starts_with("k8s.v1.cni.cncf.io/networks[0]: got 42") && message.ends_with(&whole), "{message}");
    assert!(scene(250_000).bind().is_ok());

    let error = parse(NETWORKS, &"[".repeat((256 << 10) + 1), &"pods".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "k8s.v1.cni.cncf.io/networks: got 262145 bytes, want at most 262144 bytes");
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
fn no_definition_takes_the_name_of_a_network_of_the_node() {
    let refusal = |scene: &Scene, name: &str| {
        let message = scene.refusal();
        let want = format!("name: got \"{name}\", want another name: a network of the node's own has it");
        assert!(message.contains(&want), "{message}");
    };
    refusal(&Scene::new().defines("pods/a", r#"{"name":"cluster","type":"x"}"#).wants("a"), "cluster");
    refusal(&Scene::new().defines("pods/cluster", PLAIN).wants("cluster"), "cluster");
    let mut scene = Scene::new()
        .defines("kube-system/own", r#"{"name":"inside","type":"x"}"#)
        .defines("pods/a", r#"{"name":"inside","type":"x"}"#)
        .wants("a");
    assert!(scene.bind().is_ok());
    scene.default_networks = vec![Network::Named("own".parse().unwrap())];
    refusal(&scene, "inside");
    scene.default_networks.clear();
    scene.auxiliary = Some(conf(r#"{"name":"inside","type":"x"}"#));
    refusal(&scene, "inside");
    // In place of the default network too.
    refusal(&Scene::new().defines("kube-system/a", r#"{"name":"cluster","type":"x"}"#).default_network("a"), "cluster");
    // A definition that the node names is the node's.
    let mut own = Scene::new().defines("kube-system/cluster", PLAIN);
    own.delegates = vec![Network::Named("cluster".parse().unwrap())];
    assert!(own.bind().is_ok());
}

#[test]
fn under_isolation_addresses_lie_by_namespace() {
    let mut scene = Scene::new().defines("pods/a", r#"{"name":"lan","type":"x"}"#).wants("a");
    assert_eq!(scene.bound()[1].address_dir, None);
    scene.rules.namespace_isolation = true;
    let bound = scene.bound();
    assert_eq!((bound[0].address_dir.clone(), bound[1].address_dir.as_deref()), (None, Some("pods_lan")));
    scene.delegates.push(Network::Conf(conf(r#"{"name":"pods_lan","type":"x"}"#)));
    assert!(scene.refusal().contains("a network of the node's own has it"), "one that is called as the directory");
    let long = "n".repeat(251);
    let config = format!(r#"{{"name":"{long}","type":"x"}}"#);
    let mut scene = Scene::new().defines("pods/a", &config).wants("a");
    assert!(scene.bind().is_ok());
    scene.rules.namespace_isolation = true;
    let want = "spec.config.name: got 256 bytes, want the name of host-local's directory in at most 255 bytes";
    assert!(scene.refusal().ends_with(want), "{}", scene.refusal());
}

#[test]
fn under_isolation_only_global_namespaces_stand_for_the_nodes_files() {
    let scene = |namespace: &str| {
        let mut scene =
            Scene::new().file("a.conf", r#"{"name":"a","type":"x"}"#).defines(&format!("{namespace}/a"), " ");
        scene.rules.namespace_isolation = true;
        scene.wants(&format!("{namespace}/a"))
    };
    let message = scene("pods").refusal();
    assert!(
        message.starts_with(
            "network-attachment-definition pods/a: namespace isolation enabled, definition violates permission"
        ),
        "{message}"
    );
    assert!(scene("default").bind().is_ok());
    let mut named = scene("default");
    named.rules.global_namespaces.clear();
    named.selection.networks.clear();
    named = named.defines("kube-system/a", "");
    named.default_networks = vec![Network::Named("a".parse().unwrap())];
    assert!(named.bind().is_ok(), "the node itself names it");
}

#[test]
fn a_device_is_only_named_of_a_definition_that_hands_out_devices() {
    let wants = r#"[{"name":"a","deviceID":"0000:3b:02.1"}]"#;
    let scene = || Scene::new().defines("pods/a", PLAIN).wants(wants);
    let message = scene().refusal();
    let want = "k8s.v1.cni.cncf.io/networks[0].deviceID: got 0000:3b:02.1, want no device: pods/a has no annotation k8s.v1.cni.cncf.io/resourceName";
    assert_eq!(message, want);
    let mut resource = scene().with_resource("pods/a", "vendor.com/nic");
    assert!(resource.bind().is_ok());
    resource.rules.namespace_isolation = true;
    assert!(resource.refusal().contains("no device while namespaceIsolation is on"));
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

#[test]
fn records_keep_their_word_for_requests_that_nobody_declares() {
    let bound = Scene::new().defines("pods/lan", PLAIN).wants(r#"[{"name":"lan","ips":["10.0.0.9"]}]"#).bound();
    let json = serde_json::to_value(&bound[1]).unwrap();
    assert_eq!(json["hoped"], serde_json::json!({"ips": ["10.0.0.9"]}));
    assert_eq!(serde_json::from_value::<Attachment>(json).unwrap().unverified, bound[1].unverified);
}
