//! What a tenant's text may not do.

use super::*;

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
