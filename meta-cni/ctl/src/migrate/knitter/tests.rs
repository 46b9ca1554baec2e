use super::*;
use crate::migrate::objects_text;

fn place(tenant: &str) -> Place {
    Place { tenant: tenant.parse().unwrap(), admin: "admin".parse().unwrap(), default_network: None }
}

fn run(tenant: &str, files: &[Value]) -> Migration {
    let files: Vec<_> = files.iter().map(|file| ("body.json".to_owned(), file.to_string())).collect();
    migrate(&files, &place(tenant)).unwrap()
}

/// A line of the only network of a body.
fn refused(network: Value) -> String {
    let migration = run("shop", &[json!({"network": network})]);
    assert!(migration.objects.is_empty(), "{migration:?}");
    migration.left[0].clone()
}

fn config(migration: &Migration, object: usize) -> Value {
    serde_json::from_str(migration.objects[object].1["spec"]["config"].as_str().unwrap()).unwrap()
}

#[test]
fn a_network_is_an_overlay_with_a_number_of_its_own() {
    let migration = run(
        "shop",
        &[
            json!({"network": {"name": "control", "cidr": "10.9.0.0/24", "gateway": "10.9.0.1", "description": "of the radio"}}),
        ],
    );
    let (notes, object) = &migration.objects[0];
    assert_eq!(object["metadata"], json!({"name": "control", "namespace": "shop"}));
    assert_eq!(notes, &["network \"control\": of the radio"]);
    let ranges = json!([[{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]]);
    let want = json!({"cniVersion": "1.1.0", "type": "vxlan", "capabilities": {"ips": true}, "ipam": {"type": "blocks", "ranges": ranges}});
    assert_eq!(config(&migration, 0), want);
    assert!(migration.left.is_empty());
}

#[test]
fn the_default_network_leads_out_and_public_ones_are_marked() {
    let body = json!({"networks": [
        {"network_id": "1", "name": "net_api", "cidr": "192.168.0.0/16", "public": true},
        {"network_id": "2", "name": "net-api", "cidr": "10.1.0.0/16", "public": true},
        {"network_id": "3", "name": "Net_Api", "cidr": "10.2.0.0/16"},
    ]});
    let migration = run("admin", &[body]);
    let metadata: Vec<_> = migration.objects.iter().map(|(_, object)| object["metadata"].clone()).collect();
    let public = |name: &str, more: Value| {
        let mut annotations = json!({KNITTER_PUBLIC: "true"});
        annotations.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": name, "namespace": "admin", "annotations": annotations})
    };
    // The name that is one of an object's stays, the others get a number in the order of the names.
    assert_eq!(metadata[0], public("net-api-3", json!({KNITTER_NAME: "net_api"})));
    assert_eq!(metadata[1], public("net-api", json!({})));
    assert_eq!(metadata[2]["name"], "net-api-2");
    assert_eq!(metadata[2]["annotations"], json!({KNITTER_NAME: "Net_Api"}));
    let api = config(&migration, 0);
    assert_eq!((&api["isGateway"], &api["ipMasq"]), (&json!(true), &json!(true)));
    assert_eq!(api["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}]));
    assert!(config(&migration, 1).get("isGateway").is_none());

    // A tenant's answer lists them too. They are the administrator's.
    let listed =
        json!({"networks": [{"network_id": "1", "name": "net_api", "cidr": "192.168.0.0/16", "public": true}]});
    let ports = r#"{"ports":[{"attach_to_network":"net_api"}]}"#;
    let pod =
        json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "annotations": {"networks": ports}}});
    let group = json!({"ipgroup": {"name": "web", "network_id": "1", "size": 1}});
    let foreign = run("shop", &[listed.clone(), pod.clone(), group]);
    assert_eq!(
        foreign.left,
        [
            "network \"net_api\": it is public, and so the administrator's: move it with --tenant admin",
            "ipgroup \"web\": its network \"net_api\" is not one of the tenant's that are moved",
        ]
    );
    let annotations = |migration: &Migration| migration.objects.last().unwrap().1["metadata"]["annotations"].clone();
    assert_eq!(annotations(&foreign)["v1.multus-cni.io/default-network"], "admin/net-api");
    let definition = migration.objects[0].1.clone();
    let beside = run("shop", &[definition, listed, pod]);
    assert_eq!((beside.objects.len(), beside.left.len(), beside.skipped.len()), (2, 0, 1), "{beside:?}");
    assert_eq!(annotations(&beside)["v1.multus-cni.io/default-network"], "admin/net-api-3");
}

#[test]
fn a_provider_network_is_a_vlan_of_a_link() {
    let of = |more: Value| {
        let mut body = json!({"name": "san", "cidr": "10.9.0.0/24", "provider:physical_network": "physnet1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run("shop", &[json!({"provider_network": body})])
    };
    let vlan = of(json!({"provider:network_type": "vlan", "provider:segmentation_id": "100"}));
    let conf = config(&vlan, 0);
    assert_eq!(
        (&conf["type"], &conf["master"], &conf["masterVlan"]),
        (&json!("macvlan"), &json!("physnet1"), &json!(100))
    );
    assert!(vlan.objects[0].0[0].contains("write the link of the nodes"), "{vlan:?}");
    let whole = config(&of(json!({"provider:network_type": "vlan", "vlan_transparent": true})), 0);
    assert!(whole.get("masterVlan").is_none());
    let overlay = config(&of(json!({"provider:network_type": "vxlan", "provider:segmentation_id": 5000})), 0);
    assert_eq!((&overlay["type"], &overlay["vni"]), (&json!("vxlan"), &json!(5000)));
    for (more, why) in [
        (json!({"provider:network_type": "vlan"}), "provider:segmentation_id: missing, want 1 to 4094"),
        (json!({"provider:network_type": "vlan", "provider:segmentation_id": 4095}), "got 4095, want 1 to 4094"),
        (json!({"provider:network_type": "vlan", "provider:segmentation_id": "0"}), "got 0, want 1 to 4094"),
        (json!({"provider:network_type": "gre"}), "provider:network_type: got \"gre\""),
    ] {
        let left = of(more).left;
        assert!(left[0].starts_with("network \"san\": ") && left[0].contains(why), "{left:?}");
    }
}

/// The tables of models/network_test.go.
#[test]
fn pools_are_checked_as_knitters_manager_did() {
    let of = |pools: Value| json!({"name": "lan", "cidr": "129.128.127.0/24", "gateway": "129.128.127.1", "allocation_pools": pools});
    let pool =
        |start: u8, end: u8| json!({"start": format!("129.128.127.{start}"), "end": format!("129.128.127.{end}")});
    let migration = run("shop", &[json!({"network": of(json!([pool(10, 99), pool(100, 200)]))})]);
    assert_eq!(
        config(&migration, 0)["ipam"]["ranges"][0][1],
        json!({"subnet": "129.128.127.0/24", "rangeStart": "129.128.127.100", "rangeEnd": "129.128.127.200", "gateway": "129.128.127.1"})
    );
    for (pools, why) in [
        (json!([pool(10, 100), pool(100, 200)]), "want one apart from 129.128.127.10 to 129.128.127.100"),
        (json!([pool(10, 200), pool(20, 30)]), "want one apart from"),
        (json!([{"start": "10.0.0.1", "end": "10.0.0.9"}]), "want a range of 129.128.127.0/24"),
        (json!([pool(20, 10)]), "want a range of"),
        (json!([pool(1, 10)]), "want one without the gateway 129.128.127.1"),
        (json!([{"start": "129.128.127.5"}]), "allocation_pools[0].end: missing"),
    ] {
        let said = refused(of(pools));
        assert!(said.starts_with("network \"lan\": allocation_pools[") && said.contains(why), "{said}");
    }
    for cidr in ["", "12.12.12.0", "12.1a.12.0/24", "fd00::/64"] {
        let said = refused(json!({"name": "lan", "cidr": cidr}));
        assert!(said.starts_with("network \"lan\": cidr: ") && said.contains("want an IPv4 subnet"), "{said}");
    }
    let said = refused(json!({"name": "lan", "cidr": "10.0.0.0/24", "gateway": "10.0.1.1"}));
    assert_eq!(said, "network \"lan\": gateway: got 10.0.1.1, want an address of 10.0.0.0/24");
    assert!(refused(json!({"cidr": "10.0.0.0/24"})).contains("name: missing"));
}

/// The tables of models/ipgroup_test.go.
#[test]
fn groups_are_address_sets() {
    let network =
        json!({"network": {"network_id": "7", "name": "lan_1", "cidr": "1.1.1.0/24", "gateway": "1.1.1.254"}});
    let of = |more: Value| {
        let mut body = json!({"name": "Web", "network_id": "7"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run("shop", &[json!({"ipgroup": body}), network.clone()])
    };
    let set = of(json!({"ips": "[1.1.1.1, 1.1.1.9,1.1.1.1]"}));
    assert_eq!(
        set.objects[1].1,
        json!({
            "apiVersion": "meta-cni.io/v1alpha1", "kind": "AddressSet", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"network": "lan-1", "addresses": ["1.1.1.1", "1.1.1.9"]},
        })
    );
    assert_eq!(of(json!({"size": "1"})).objects[1].1["spec"], json!({"network": "lan-1", "size": 1}));
    let answer =
        of(json!({"id": "g", "ips": [{"ip_addr": "1.1.1.5", "used": true}, {"ip_addr": "1.1.1.6"}], "size": 2}));
    assert_eq!(answer.objects[1].1["spec"]["addresses"], json!(["1.1.1.5", "1.1.1.6"]));
    assert!(answer.objects[1].0[0].contains("until they are made anew"));
    for (more, why) in [
        (json!({"ips": "[1.1.1.1]", "size": "1"}), "want one of them"),
        (json!({"ips": "[]"}), "want addresses as"),
        (json!({"ips": "dddd"}), "want addresses as"),
        (json!({"ips": "[ddd]"}), "got \"ddd\""),
        (json!({"ips": "[1.1.1]"}), "got \"1.1.1\""),
        (json!({"ips": "[1.1.1.1/2.2.2.2]"}), "got \"1.1.1.1/2.2.2.2\""),
        (json!({"ips": "[1.1.2.1]"}), "got 1.1.2.1, want addresses of its network's 1.1.1.0/24"),
        (json!({"ips": "[1.1.1.254]"}), "got 1.1.1.254"),
        (json!({"ips": "", "size": ""}), "it is empty"),
        (json!({"size": "0"}), "it is empty"),
        (json!({"size": "33"}), "want 0 to 32"),
        (json!({"ips": "[1.1.1.1]", "network_id": "8"}), "network_id: got \"8\""),
        (
            json!({"ips": format!("[{}]", (1..=33).map(|i| format!("1.1.1.{i}")).collect::<Vec<_>>().join(","))}),
            "at most 32",
        ),
    ] {
        let migration = of(more.clone());
        assert_eq!(migration.objects.len(), 1, "{more}");
        assert!(migration.left[0].starts_with("ipgroup \"Web\": ") && migration.left[0].contains(why), "{migration:?}");
    }
    let twice = run(
        "shop",
        &[
            network,
            json!({"ipgroups": [{"name": "a", "network_id": "7", "size": 1}, {"name": "A", "network_id": "7", "size": 1}]}),
        ],
    );
    assert_eq!((twice.objects.len(), twice.left.len()), (2, 1), "{twice:?}");
}

#[test]
fn a_tenants_quota_is_a_policy() {
    let policy = |migration: &Migration| {
        let spec = &migration.objects[0].1["spec"];
        (
            spec["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].clone(),
            spec["rules"][0]["assert"]["range"]["max"].clone(),
        )
    };
    assert_eq!(policy(&run("shop", &[json!({"tenant": {"name": "radio", "quota": 20}})])), (json!("radio"), json!(20)));
    assert_eq!(policy(&run("shop", &[json!({"tenant": {}})])), (json!("shop"), json!(10)));
    assert_eq!(policy(&run("admin", &[json!({"tenants": [{}]})])), (json!("admin"), json!(100)));
    for (quota, said) in
        [(json!(0), "got \"0\", want 1 to 1000"), (json!(1001), "got \"1001\""), (json!("many"), "got \"many\"")]
    {
        let migration = run("shop", &[json!({"tenant": {"name": "radio", "quota": quota}})]);
        assert!(
            migration.left[0].starts_with("tenant \"radio\": quota: ") && migration.left[0].contains(said),
            "{migration:?}"
        );
    }
}

#[test]
fn pods_are_moved_to_npwgs_words() {
    let networks = json!({"networks": [
        {"network_id": "1", "name": "net_api", "cidr": "192.168.0.0/16"},
        {"network_id": "2", "name": "control", "cidr": "10.9.0.0/24"},
    ]});
    let pod = |ports: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "annotations": {"a": "b", "networks": ports}}});
    let moved = |ports: Value| {
        let migration = run("shop", &[pod(ports), networks.clone()]);
        let (notes, object) = migration.objects.last().unwrap().clone();
        (object["metadata"]["annotations"].clone(), notes, migration.left)
    };
    let ports = json!({"ports": [
        {"attach_to_network": "control", "attributes": {"nic_name": "ctl", "function": "control", "ip_addr": "10.9.0.9"}},
        {"attach_to_network": "net_api", "attributes": {"nic_name": "eth0"}},
    ]});
    let (annotations, notes, left) = moved(json!(ports.to_string()));
    let list = r#"[{"name":"control","namespace":"shop","interface":"ctl","ips":["10.9.0.9"],"cni-args":{"meta-cni.io/roles":["control"]}}]"#;
    let want =
        json!({"a": "b", "v1.multus-cni.io/default-network": "shop/net-api", "k8s.v1.cni.cncf.io/networks": list});
    assert_eq!((annotations, notes.len(), left.len()), (want, 0, 0));

    let group = r#"{"ports":[{"attach_to_network":"net_api","attributes":{"nic_name":"eth0","ip_group_name":"web"}}]}"#;
    let (annotations, ..) = moved(json!(group));
    let list = r#"[{"name":"net-api","namespace":"shop","meta-cni.io/address-set":"web"}]"#;
    assert_eq!(annotations["v1.multus-cni.io/default-network"], list);
    for default in ["", "\"\""] {
        assert_eq!(moved(json!(default)).0, json!({"a": "b"}));
    }
    let (_, notes, _) = moved(json!(r#"{"ports":[{"attach_to_network":"media"}]}"#));
    assert!(notes.iter().any(|note| note.contains("Needs the definition shop/media")), "{notes:?}");
    let (annotations, _, left) = moved(json!(r#"{"ports":[]}"#));
    assert_eq!(annotations["networks"], r#"{"ports":[]}"#, "it stays as it was");
    assert!(left[0].starts_with("Pod shop/web: networks.ports: missing"), "{left:?}");
    assert_eq!(moved(json!("net1,net2")).0["networks"], "net1,net2", "CNI-Genie's");
}

#[test]
fn what_cannot_be_moved_is_said_and_the_output_does_not_change_again() {
    let bodies = json!([
        {"network": {"name": "net_api", "cidr": "192.168.0.0/16", "public": true}},
        {"ipgroup": {"name": "web", "network_id": "net_api", "ips": "[192.168.0.9]"}},
        {"tenant": {"name": "admin"}},
        {"extenal_network": {"id": "x"}},
        {"router": {"name": "r"}},
        {},
    ]);
    let list = json!({"kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "admin", "annotations": {"networks": r#"{"ports":[{"attach_to_network":"net_api"}]}"#}}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
    ]});
    let first = run("admin", &[bodies, list]);
    assert_eq!(first.objects.len(), 5);
    let said: Vec<&str> = first.left.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(said, ["external network \"x\"", "router", "{}"]);
    let text = objects_text(&first.objects);
    let again = migrate(&[("out.yaml".to_owned(), text)], &place("admin")).unwrap();
    let objects =
        |migration: &Migration| migration.objects.iter().map(|(_, object)| object.clone()).collect::<Vec<_>>();
    assert_eq!(objects(&again), objects(&first));
    assert!(again.left.is_empty());
    // A pod that comes later finds what was moved before.
    let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "annotations": {"networks": r#"{"ports":[{"attach_to_network":"net_api"}]}"#}}});
    let files = [("a".to_owned(), objects_text(&first.objects)), ("b".to_owned(), pod.to_string())];
    let later = migrate(&files, &place("shop")).unwrap();
    let annotations = &later.objects.last().unwrap().1["metadata"]["annotations"];
    assert_eq!(annotations["v1.multus-cni.io/default-network"], "admin/net-api");
    assert!(migrate(&[("x.json".to_owned(), "7".to_owned())], &place("shop")).is_err());
}
