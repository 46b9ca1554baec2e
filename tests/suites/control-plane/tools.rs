//! `meta-cnictl explain` and `status` against a real API server.

use std::fs;
use std::time::Duration;

use meta_cni_tests::node::{NETWORKS, STATUS};
use meta_cni_tests::program;
use serde_json::{Value, json};

use super::world::{NODE, World, pod, shipped};

/// What it prints and how it ends.
fn ctl(world: &World, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program::command(program::built("meta-cnictl"));
    command.args(args).arg("--kubeconfig").arg(world.plane.kubeconfig());
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(30));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (finished.code, text(&finished.stdout), text(&finished.stderr))
}

fn json_of(answer: &(Option<i32>, String, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

#[test]
fn a_pod_is_explained_by_what_the_api_server_has() {
    let world = World::new();
    world.install_policies();
    let api = world.plane.api();
    world.nad_of("lan", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth1", "mtu": 1400}));
    let keys = json!({"level": "privileged", "namespaceIsolation": true}).to_string();
    api.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "meta-cni"}, "data": {"node.json": keys}})).unwrap();
    api.apply(&pod("web", json!({NETWORKS: "lan"}))).unwrap();
    let explain = ["explain", "web", "-n", "default", "-o", "json"];
    let good = ctl(&world, &explain);
    assert_eq!(good.0, Some(0), "{good:?}");
    let read = json_of(&good);
    assert_eq!(read["pods"][0]["node"], "ConfigMap kube-system/meta-cni");
    let network = &read["pods"][0]["networks"][1];
    assert_eq!(
        (&network["network"], &network["interface"], &network["mtu"]),
        (&json!("default/lan"), &json!("net1"), &json!(1400))
    );

    // A level of the namespace, a policy, isolation.
    api.patch("/api/v1/namespaces/default", &json!({"metadata": {"labels": {"meta-cni.io/level": "baseline"}}}))
        .unwrap();
    let rule = json!({"name": "mtu", "select": "$.config.plugins[*].mtu", "assert": {"range": {"max": 1300}}});
    api.apply(&json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": "small"}, "spec": {"rules": [rule]}})).unwrap();
    let bad = ctl(&world, &explain);
    assert_eq!(bad.0, Some(1), "{bad:?}");
    for words in [r#"level \"baseline\" rule \"masters\""#, r#"policy \"small\" rule \"mtu\""#] {
        assert!(bad.1.contains(words), "{words}: {}", bad.1);
    }
    // A pod that is not there yet, by a file, with the cluster's definitions.
    let mut coming = pod("coming", json!({NETWORKS: "kube-system/lan"}));
    coming["metadata"].as_object_mut().unwrap().remove("namespace");
    let file = world.node.path("coming.json");
    fs::write(&file, coming.to_string()).unwrap();
    let isolated = ctl(&world, &["explain", "-f", file.to_str().unwrap()]);
    assert_eq!(isolated.0, Some(1), "{isolated:?}");
    assert!(isolated.1.contains("namespace isolation enabled"), "{isolated:?}");

    let gone = ctl(&world, &["explain", "nobody"]);
    assert_eq!(
        (gone.0, gone.2.as_str()),
        (Some(2), "meta-cnictl: pod default/nobody: the API server has no such pod\n")
    );
    let context = ctl(&world, &["explain", "web", "--context", "no-such"]);
    assert!(context.0 == Some(2) && context.2.contains("no-such"), "{context:?}");
}

/// As the node agent finds it.
#[test]
fn an_object_of_a_dialect_that_differs_in_its_two_groups_is_told() {
    let world = World::new();
    world.install_policies();
    let api = world.plane.api();
    world.plane.kubectl(["apply", "-f", &shipped("dialects/danm/crds.yaml")]);
    for group in ["danm.io", "danm.k8s.io"] {
        let crd = format!("crd/danmnets.{group}");
        world.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    let keys = json!({"dialects": ["danm"]}).to_string();
    api.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "meta-cni"}, "data": {"node.json": keys}})).unwrap();
    let network = |group: &str, cidr: &str| {
        let spec =
            json!({"NetworkID": "int", "NetworkType": "macvlan", "Options": {"host_device": "eth1", "cidr": cidr}});
        let metadata = json!({"namespace": "default", "name": "internal"});
        api.apply(&json!({"apiVersion": format!("{group}/v1"), "kind": "DanmNet", "metadata": metadata, "spec": spec}))
            .unwrap();
    };
    let list = json!([{"network": "internal", "ip": "dynamic"}]).to_string();
    api.apply(&pod("web", json!({"danm.io/interfaces": list}))).unwrap();
    network("danm.k8s.io", "10.0.0.0/24");
    let explain = ["explain", "web", "-n", "default"];
    for (second, code) in [("10.0.0.0/24", Some(0)), ("10.9.0.0/24", Some(1))] {
        network("danm.io", second);
        let told = ctl(&world, &explain);
        assert_eq!(told.0, code, "{told:?}");
        let differs = "DanmNet default/internal is in the groups danm.k8s.io and danm.io, and the two differ";
        assert_eq!(told.1.contains(differs), code == Some(1), "{told:?}");
    }
}

#[test]
fn pods_of_a_node_show_what_they_ask_for() {
    let world = World::new();
    let api = world.plane.api();
    for (name, status) in [
        (
            "good",
            Some(
                r#"[{"name":"cbr0","interface":"eth0"},{"name":"default/lan","interface":"net1","ips":["10.1.0.2"]}]"#,
            ),
        ),
        ("bad", None),
        ("pending", None),
    ] {
        api.apply(&pod(name, json!({NETWORKS: "lan"}))).unwrap();
        let mut patch = json!({"status": {"phase": "Running"}});
        if let Some(status) = status {
            patch["metadata"] = json!({"annotations": {STATUS: status}});
        }
        if name != "pending" {
            api.patch(&format!("/api/v1/namespaces/default/pods/{name}/status"), &patch).unwrap();
        }
    }
    let none = world.node.text("no-state");
    let ask = |of: &str| ctl(&world, &["status", of, "-o", "json", "--state-dir", &none]);
    let all = ask(&format!("node/{NODE}"));
    assert_eq!(all.0, Some(1), "{all:?}");
    let pods = json_of(&all)["pods"].clone();
    let told: Vec<(&str, usize)> = pods
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| (pod["pod"].as_str().unwrap(), pod["differences"].as_array().unwrap().len()))
        .collect();
    assert_eq!(told, [("default/bad", 1), ("default/good", 0)]);
    assert_eq!((ask("good").0, ask("pod/bad").0, ask("pending").0), (Some(0), Some(1), Some(0)));
    assert_eq!((ask("nobody").0, ask("node/n9").0, ask("service/x").0), (Some(2), Some(2), Some(2)));
}

/// The pods of connectivity tests.
fn test_pods(world: &World) -> usize {
    let pods = world.plane.api().list("/api/v1/namespaces/default/pods");
    pods.iter().filter(|pod| pod["metadata"]["labels"]["meta-cni.io/connectivity-test"].is_string()).count()
}

/// There is no kubelet, so that no pod ever runs.
#[test]
fn a_connectivity_test_takes_its_pods_away() {
    let world = World::new();
    world.nad_of("lan", json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth1"}));
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x", "lastHeartbeatTime": null, "lastTransitionTime": null}]}});
    world.plane.api().patch(&format!("/api/v1/nodes/{NODE}/status"), &ready).unwrap();
    let late = ctl(&world, &["connectivity", "test", "lan", "-n", "default", "--timeout", "1"]);
    assert_eq!((late.0, test_pods(&world)), (Some(2), 0), "{late:?}");
    assert!(
        late.2.contains("default/lan on 1 nodes, image busybox:stable") && late.2.contains(&format!("{NODE}: Pending")),
        "{late:?}"
    );
    for (args, words) in [(["nowhere", "-n"], "no such definition"), (["lan", "--node"], "no such node")] {
        let refused = ctl(&world, &[&["connectivity", "test"][..], &args, &["default"]].concat());
        assert!(refused.0 == Some(2) && refused.2.contains(words), "{refused:?}");
    }

    let mut command = program::command(program::built("meta-cnictl"));
    command
        .args(["connectivity", "test", "default/lan", "--timeout", "300", "--kubeconfig"])
        .arg(world.plane.kubeconfig());
    let running = program::start(&mut command, b"");
    world.until("pod of the test", || match test_pods(&world) {
        0 => Err("there is none".to_owned()),
        _ => Ok(()),
    });
    program::run("kill", ["-INT", &running.id().to_string()]);
    let ended = running.finish(Duration::from_secs(30));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.code, test_pods(&world)), (Some(2), 0), "{said}");
    assert!(said.contains("removing the pods") && said.ends_with("interrupted\n"), "{said}");
}
