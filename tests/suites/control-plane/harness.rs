//! The control plane that other cases of this suite stand on.

use std::time::{Duration, Instant};

use meta_cni_tests::cluster::ControlPlane;
use serde_json::json;

fn config_map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}, "data": {"a": "b"}})
}

#[test]
fn objects_survive_a_restart_of_the_api_server() {
    let mut plane = ControlPlane::start();
    let api = plane.api();
    let made = api.apply(&config_map("kept")).unwrap();
    plane.kill_api();
    assert_eq!(api.get("/api/v1/namespaces/default/configmaps/kept").unwrap_err().code, 0);
    plane.start_api();
    let found = api.get("/api/v1/namespaces/default/configmaps/kept").unwrap();
    assert_eq!(found["metadata"]["uid"], made["metadata"]["uid"]);
}

#[test]
fn the_network_to_the_api_server_can_be_slow_or_cut() {
    let mut plane = ControlPlane::start();
    let api = plane.api();
    api.get("/version").unwrap();
    plane.delay_api(Duration::from_millis(300));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        // The order is on its way.
        let began = Instant::now();
        api.get("/version").unwrap();
        if began.elapsed() >= Duration::from_millis(300) {
            break;
        }
    }
    let began = Instant::now();
    api.get("/version").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    plane.delay_api(Duration::ZERO);
    plane.cut_api();
    let until = |wanted: bool| {
        let began = Instant::now();
        while api.get("/version").is_ok() != wanted {
            assert!(began.elapsed() < Duration::from_secs(10));
        }
    };
    until(false);
    plane.mend_api();
    until(true);
}

#[test]
fn a_service_account_has_only_its_own_rights() {
    let plane = ControlPlane::start();
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "agent"}});
    plane.api().apply(&account).unwrap();
    let path = plane.kubeconfig_of("default", "agent");
    let text = std::fs::read_to_string(path).unwrap();
    let api = meta_cni_tests::cluster::Api::new(&serde_json::from_str(&text).unwrap());
    let refusal = api.get("/api/v1/namespaces/default/pods").unwrap_err();
    assert_eq!(refusal.code, 403, "{refusal}");
    assert!(refusal.message.contains("system:serviceaccount:default:agent"), "{refusal}");
}

#[test]
fn two_control_planes_stand_side_by_side() {
    let (one, two) = (ControlPlane::start(), ControlPlane::start());
    one.api().apply(&config_map("mine")).unwrap();
    assert_eq!(two.api().get("/api/v1/namespaces/default/configmaps/mine").unwrap_err().code, 404);
    assert!(one.kubectl(["get", "configmaps", "-o", "name"]).contains("configmap/mine"));
}
