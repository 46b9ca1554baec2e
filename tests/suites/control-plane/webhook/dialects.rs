//! Objects and pods of dialects by the webhook as the components ship it: what is refused in both groups, what tenants are given.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use meta_cni_tests::cluster::{Api, Refusal};
use serde_json::{Value, json};

use super::world::{World, shipped};

/// A world with these components, and replicas that read these dialects.
fn world(dialects: &[&str], replicas: u16) -> World {
    let mut world = World::new();
    world.install_policies();
    world.install_claims();
    let dir = world.plane.place().path("with-dialects");
    fs::create_dir_all(&dir).unwrap();
    let up = "../".repeat(fs::canonicalize(&dir).unwrap().components().count() - 1);
    let at = |file: &str| {
        format!("{up}{}", fs::canonicalize(shipped(file)).unwrap().display().to_string().trim_start_matches('/'))
    };
    let components: Vec<String> = dialects.iter().map(|dialect| at(&format!("dialects/{dialect}"))).collect();
    let kustomization = json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [at("kustomize/webhook")], "components": components});
    fs::write(Path::new(&dir).join("kustomization.yaml"), kustomization.to_string()).unwrap();
    world.plane.kubectl(["apply", "-k", dir.to_str().unwrap()]);
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    world.plane.kubectl(established);
    for namespace in ["default", "kube-system"] {
        let metadata = json!({"namespace": namespace, "name": "default"});
        world.plane.api().apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).unwrap();
    }
    for number in 0..replicas {
        world.start_with(number, &[&format!("--dialects={}", dialects.join(","))]);
    }
    (0..replicas).for_each(|number| world.until_ready(number));
    world.until_in_force();
    world
}

fn path(group: &str, plural: &str) -> String {
    match plural {
        "clusternetworks" | "tenantconfigs" => format!("/apis/{group}/v1/{plural}"),
        _ => format!("/apis/{group}/v1/namespaces/default/{plural}"),
    }
}

fn object(group: &str, kind: &str, name: &str, says: Value) -> Value {
    let mut object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
    match kind {
        "TenantConfig" => object.as_object_mut().unwrap().extend(says.as_object().unwrap().clone()),
        _ => object["spec"] = says,
    }
    object
}

/// What comes of an object that is only tried.
fn tried(api: &Api, group: &str, kind: &str, says: Value) -> Result<Value, Refusal> {
    let path = path(group, &format!("{}s", kind.to_ascii_lowercase()));
    api.post(&format!("{path}?dryRun=All"), &object(group, kind, "tried", says))
}

fn pod(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]}})
}

#[test]
fn objects_and_pods_of_genie_are_refused_before_they_are_stored() {
    const GENIE: &str = "alpha.network.k8s.io";
    let world = world(&["genie"], 1);
    let api = world.plane.api();
    let logical = |name: &str, spec: Value| {
        let mut object = object(GENIE, "Logicalnetwork", name, spec);
        object["metadata"]["namespace"] = json!("default");
        object
    };
    world.until("webhook that is asked about Logicalnetworks", || {
        match tried(&api, GENIE, "Logicalnetwork", json!({"sub_subnet": "10.1.0.0/24"})) {
            Err(refusal) if refusal.message.contains("spec.plugin: Required value") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let (code, said) = world.kubectl_apply(&logical("a", json!({"physicalNet": "none"})));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("spec.physicalNet: Not found: Physicalnetwork default/none"), "{said}");
    // One file with both applies.
    let mut physical = object(
        GENIE,
        "Physicalnetwork",
        "p",
        json!({"sharedStatus": {"plugin": "weave", "subnet": "10.40.0.0/16", "dedicatedNet": true}}),
    );
    physical["metadata"]["namespace"] = json!("default");
    let both =
        json!({"apiVersion": "v1", "kind": "List", "items": [physical, logical("a", json!({"physicalNet": "p"}))]});
    let (code, said) = world.kubectl_apply(&both);
    assert_eq!(code, Some(0), "{said}");
    let beside = logical("b", json!({"plugin": "weave", "sub_subnet": "10.40.7.0/24"}));
    world.until("overlap that is refused", || match world.kubectl_apply(&beside) {
        (Some(1), said) if said.contains("overlaps 10.40.0.0/16 of Logicalnetwork default/a") => Ok(()),
        (_, said) => Err(said),
    });
    api.delete(&format!("{}/a", path(GENIE, "logicalnetworks"))).unwrap();
    world.until("subnet that is free", || match world.kubectl_apply(&beside) {
        (Some(0), _) => Ok(()),
        (_, said) => Err(said),
    });
    for (annotations, want) in [
        (json!({"cni": "weave@eth3"}), "must be an entry that is eth0"),
        (
            json!({"cni": "", "networks": "none"}),
            "metadata.annotations[networks][0]: Not found: Logicalnetwork default/none",
        ),
    ] {
        let (code, said) = world.kubectl_apply(&pod("web", annotations));
        assert!(code == Some(1) && said.contains(want), "{said}");
    }
    let (code, said) = world.kubectl_apply(&pod("web", json!({"cni": "", "networks": "b"})));
    assert_eq!(code, Some(0), "{said}");
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "default", "name": "p",
        "annotations": {"genieNetworkPolicy": "[]"}}, "spec": {"podSelector": {}}});
    let (code, said) = world.kubectl_apply(&policy);
    assert!(
        code == Some(0)
            && said.contains("Warning: metadata.annotations[genieNetworkPolicy]: not enforced; use MultiNetworkPolicy"),
        "{said}"
    );
}

/// What DANM's own tests of admission try, and what must come of it: nothing for what is stored.
fn of_danm() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let options = |options: Value| json!({"NetworkID": "net", "NetworkType": "bridge", "Options": options});
    let routes = |gw: &str| json!({"cidr": "10.20.1.0/24", "routes": {"10.30.0.0/16": gw}});
    let routes6 = |gw: &str| json!({"net6": "2a00:8a00:a000:1193::/64", "routes6": {"3ffe::/16": gw}});
    let pool =
        |start: &str, end: &str| json!({"cidr": "192.168.1.64/26", "allocation_pool": {"start": start, "end": end}});
    let pool6 = |cidr: &str| json!({"net6": "2a00:8a00:a000:1193::/64", "allocation_pool_v6": {"cidr": cidr}});
    let (danm, tenant, cluster) = ("DanmNet", "TenantNetwork", "ClusterNetwork");
    vec![
        (danm, options(json!({"routes": {"10.20.0.0/24": "10.0.0.1"}})), vec!["spec.Options.routes"]),
        (danm, options(json!({"cidr": "192.168.1.0/a4"})), vec!["spec.Options.cidr"]),
        (danm, options(json!({"cidr": "10.0.0.0/7"})), vec!["spec.Options.cidr"]),
        (danm, options(routes("10.20.0.1")), vec!["spec.Options.routes"]),
        (danm, options(routes("10.20.1.1")), vec![]),
        (danm, options(json!({"routes6": {"3ffe::/16": "2a00::1"}})), vec!["spec.Options.routes6"]),
        (danm, options(json!({"net6": "2a00:8a00:a000:1193::/164"})), vec!["spec.Options.net6"]),
        (danm, options(routes6("2a00:8a00:a000:1192::1")), vec!["spec.Options.routes6"]),
        (danm, options(routes6("2a00:8a00:a000:1193::1")), vec![]),
        (danm, options(json!({"vlan": 50, "vxlan": 60})), vec!["spec.Options.vxlan"]),
        (
            danm,
            json!({"NetworkID": "abcdeftgasdf", "Options": {"host_device": "ens3", "vlan": 50}}),
            vec!["spec.NetworkID"],
        ),
        (danm, json!({"NetworkID": "net", "AllowedTenants": ["a"]}), vec!["spec.AllowedTenants"]),
        (cluster, json!({"NetworkID": "net", "NetworkType": "bridge", "AllowedTenants": ["a"]}), vec![]),
        (danm, json!({"NetworkID": "net", "NetworkType": "sriov"}), vec!["spec.Options.device_pool"]),
        (
            danm,
            json!({"NetworkID": "net", "NetworkType": "sriov", "Options": {"host_device": "ens3"}}),
            vec!["spec.Options.device_pool", "spec.Options.host_device"],
        ),
        (
            danm,
            json!({"NetworkID": "net", "NetworkType": "ipvlan", "Options": {"host_device": "ens3", "device_pool": "a.io/p"}}),
            vec!["spec.Options.host_device"],
        ),
        (danm, options(json!({"cidr": "10.20.1.0/24", "alloc": "gAAB"})), vec!["spec.Options.alloc"]),
        (
            danm,
            options(json!({"allocation_pool": {"start": "192.168.1.65", "end": "192.168.1.70"}})),
            vec!["spec.Options.allocation_pool"],
        ),
        (danm, options(pool("192.168.1.63", "192.168.1.100")), vec!["spec.Options.allocation_pool.start"]),
        (danm, options(pool("192.168.1.70", "192.168.1.128")), vec!["spec.Options.allocation_pool.end"]),
        (danm, options(pool("192.168.1.70", "192.168.1.70")), vec!["spec.Options.allocation_pool.end"]),
        (danm, options(pool("192.168.1.70", "192.168.1.80")), vec![]),
        (danm, options(json!({"cidr": "2a00::/64"})), vec!["spec.Options.cidr"]),
        (danm, options(json!({"net6": "10.0.0.0/24"})), vec!["spec.Options.net6"]),
        (danm, options(pool6("10.0.0.0/24")), vec!["spec.Options.allocation_pool_v6.cidr"]),
        (danm, options(pool6("2a00:8a00:a000:1193::/129")), vec!["spec.Options.allocation_pool_v6.cidr"]),
        (danm, options(pool6("2a00:8a00:a000:1193::/104")), vec!["spec.Options.allocation_pool_v6.cidr"]),
        (danm, options(pool6("2a00:8a00:a000:1193::/112")), vec![]),
        (danm, options(json!({"allocation_pool_v6": {"cidr": "2a00::/112"}})), vec!["spec.Options.allocation_pool_v6"]),
        // All of it in one message.
        (
            danm,
            json!({"NetworkID": "net", "NetworkType": "bridge", "AllowedTenants": ["a"], "Options": {"cidr": "10.0.0.0/7", "vlan": 50, "vxlan": 60}}),
            vec!["spec.AllowedTenants", "spec.Options.cidr", "spec.Options.vxlan"],
        ),
        (
            tenant,
            json!({"NetworkID": "net", "Options": {"host_device": "ens9"}}),
            vec!["The provided physical interface is not allowed to be used by tenants!"],
        ),
        (
            tenant,
            json!({"NetworkID": "net", "Options": {"host_device": "ens3", "vlan": 50}}),
            vec!["spec.Options.vlan: Forbidden: 50"],
        ),
        (
            tenant,
            json!({"NetworkID": "net", "Options": {"host_device": "ens3", "vxlan": 50}}),
            vec!["spec.Options.vxlan: Forbidden: 50"],
        ),
        (
            tenant,
            json!({"NetworkID": "net", "NetworkType": "bridge", "AllowedTenants": ["a"]}),
            vec!["spec.AllowedTenants"],
        ),
        (tenant, json!({"NetworkType": "flannel"}), vec![]),
        (tenant, json!({"NetworkType": "calico"}), vec!["spec.NetworkID"]),
        ("TenantConfig", json!({}), vec!["hostDevices: Required value"]),
        (
            "TenantConfig",
            json!({"hostDevices": [{"name": "", "vniType": "vxlan2", "vniRange": "700"}, {"name": "a", "vniType": "vlan", "vniRange": "700-71a0"}]}),
            vec!["hostDevices[0].name", "hostDevices[0].vniType", "hostDevices[1].vniRange"],
        ),
        ("TenantConfig", json!({"networkIds": {"sriov": "abcdefghijkl"}}), vec!["networkIds[sriov]"]),
        ("TenantConfig", json!({"networkIds": {"flannel": "abcdefghijkl"}}), vec![]),
        (
            "ReservedIP",
            json!({"network": {"name": "none"}, "ips": [{"address": "10.0.0.1"}]}),
            vec!["spec.network.name: Not found: TenantNetwork default/none"],
        ),
    ]
}

fn tenants() -> Value {
    object(
        "danm.io",
        "TenantConfig",
        "tenants",
        json!({
            "hostDevices": [
                {"name": "ens3", "vniType": "vlan", "vniRange": "200,500-501"},
                {"name": "ens4", "vniType": "vxlan", "vniRange": "700-719"},
                {"name": "ens5", "vniType": "vlan", "vniRange": "1000-1019"},
            ],
            "networkIds": {"flannel": "flannel"},
        }),
    )
}

/// The TenantConfig is there, and the webhook has heard of it.
fn with_tenants(world: &World, api: &Api) {
    world.until("webhook that is asked about TenantConfigs", || {
        match tried(api, "danm.io", "TenantConfig", json!({})) {
            Err(refusal) if refusal.code == 422 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    api.post(&path("danm.io", "tenantconfigs"), &tenants()).unwrap();
    world.until("webhook that knows the TenantConfig", || {
        // Whichever replica answers.
        for _ in 0..8 {
            tried(api, "danm.io", "TenantNetwork", json!({"NetworkID": "net"}))
                .map_err(|refusal| refusal.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn ports_of_knitter_are_refused_before_their_pod_or_template_is_stored() {
    let world = world(&["knitter"], 1);
    let ports = |name: &str| json!({"ports": [{"attach_to_network": "net_api", "attributes": {"nic_name": name}}]});
    let asking = |name: &str, networks: &Value| pod(name, json!({"networks": networks.to_string()}));
    let want = "nic_name: Invalid value: \"thirteen-char\": must be at most 12 characters";
    let wrong = asking("web", &ports("thirteen-char"));
    world.until("webhook that is asked about ports", || match world.kubectl_apply(&wrong) {
        (Some(1), said) if said.contains(want) => Ok(()),
        (_, said) => Err(said),
    });
    let template = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": wrong["metadata"]["annotations"]},
                "spec": wrong["spec"],
            },
        },
    });
    let (code, said) = world.kubectl_apply(&template);
    assert!(code == Some(1) && said.contains(want), "{said}");
    let (code, said) = world.kubectl_apply(&asking("web", &json!({"ports": []})));
    assert!(code == Some(1) && said.contains("[networks].ports: Required value"), "{said}");
    let (code, said) = world.kubectl_apply(&pod("blank", json!({"networks": ""})));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_danms_own_tests_try_is_stored_or_refused_in_both_groups() {
    let world = world(&["danm"], 1);
    let api = world.plane.api();
    with_tenants(&world, &api);
    let mut wrong = Vec::new();
    for group in ["danm.io", "danm.k8s.io"] {
        for (kind, says, want) in of_danm() {
            match (tried(&api, group, kind, says.clone()), want.as_slice()) {
                (Ok(_), []) => {}
                (Err(refusal), [_, ..]) if want.iter().all(|text| refusal.message.contains(text)) => {}
                (came, _) => wrong.push(format!("{group} {kind} {says}: {came:?}, want {want:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_tenants_network_is_given_an_identifier_that_is_free_again_when_it_is_gone() {
    let world = world(&["danm"], 1);
    let api = world.plane.api();
    with_tenants(&world, &api);
    let networks = path("danm.io", "tenantnetworks");
    let on = |name: &str, device: &str| {
        object(
            "danm.io",
            "TenantNetwork",
            name,
            json!({"NetworkID": "n", "Options": {"host_device": device, "cidr": "10.9.0.0/24"}}),
        )
    };
    let vlan =
        |name: &str| api.post(&networks, &on(name, "ens3")).map(|stored| stored["spec"]["Options"]["vlan"].clone());
    assert_eq!([vlan("a"), vlan("b"), vlan("c")].map(Result::unwrap), [200, 500, 501]);
    let full = vlan("d").unwrap_err();
    assert!(full.message.contains("no vlan of 200,500-501 is free on ens3"), "{full}");
    api.delete(&format!("{networks}/b")).unwrap();
    world.until("VLAN that is free again", || vlan("d").map_err(|refusal| refusal.to_string()));
    assert_eq!(api.get(&format!("{networks}/d")).unwrap()["spec"]["Options"]["vlan"], 500);
    // The same file again means the same network; another link or identifier is another network.
    let mut again = on("a", "ens3");
    again["metadata"]["namespace"] = json!("default");
    let (code, said) = world.kubectl_apply(&again);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(api.get(&format!("{networks}/a")).unwrap()["spec"]["Options"]["vlan"], 200);
    let moved = json!({"spec": {"Options": {"vlan": 501}}});
    let refusal = api.patch(&format!("{networks}/a"), &moved).unwrap_err();
    assert!(refusal.message.contains("spec.Options.vlan"), "{refusal}");
    // Nobody has it named; then a pod has.
    api.apply(&pod("web", json!({"danm.io/interfaces": r#"[{"tenantNetwork":"a","ip":"dynamic"}]"#}))).unwrap();
    world.until("network in use that stays", || match api.delete(&format!("{networks}/a?dryRun=All")) {
        Err(refusal) if refusal.message.contains("1 running pod uses it, first default/web") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn two_replicas_give_each_network_another_identifier() {
    let world = world(&["danm"], 2);
    let api = world.plane.api();
    with_tenants(&world, &api);
    let networks = path("danm.k8s.io", "tenantnetworks");
    let on = |name: &str, device: &str| {
        object("danm.k8s.io", "TenantNetwork", name, json!({"NetworkID": "n", "Options": {"host_device": device}}))
    };
    for (device, key, range) in [("ens4", "vxlan", 700..720), ("ens5", "vlan", 1000..1020)] {
        let apis: Vec<Api> = (0..10).map(|_| world.plane.api()).collect();
        let make = |(thread, api): (usize, Api)| {
            let (networks, on) = (&networks, &on);
            move || {
                let each = |i| loop {
                    // A claim that is answered late is its network's all the same.
                    match api.post(networks, &on(&format!("{device}-{thread}-{i}"), device)) {
                        Err(refusal) if refusal.message.contains("apply again") => {}
                        stored => return stored.unwrap()["spec"]["Options"][key].as_u64().unwrap(),
                    }
                };
                (0..2).map(each).collect::<Vec<u64>>()
            }
        };
        let drawn: HashSet<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = apis.into_iter().enumerate().map(make).map(|thread| scope.spawn(thread)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(drawn, range.clone().collect::<HashSet<u64>>());
        let refusal = api.post(&networks, &on(&format!("{device}-more"), device)).unwrap_err();
        assert!(
            refusal.message.contains(&format!("no {key} of {}-{} is free on {device}", range.start, range.end - 1)),
            "{refusal}"
        );
    }
    let leases = api.get("/apis/coordination.k8s.io/v1/namespaces/meta-cni/leases").unwrap();
    let locks = leases["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["metadata"]["name"].as_str().unwrap().starts_with("vlan-"));
    assert_eq!(locks.count(), 20, "each VLAN was locked");
    world.until("locks that are gone", || {
        let leases = api.get("/apis/coordination.k8s.io/v1/namespaces/meta-cni/leases").map_err(|e| e.to_string())?;
        let text = leases.to_string();
        if text.contains("\"vlan-") { Err("there are locks".to_owned()) } else { Ok(()) }
    });
}
