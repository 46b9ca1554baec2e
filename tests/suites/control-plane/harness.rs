//! The control plane that other cases of this suite stand on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::{Api, ControlPlane, place, wait};
use meta_cni_tests::program;
use serde_json::json;

fn config_map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}, "data": {"a": "b"}})
}

fn api_of(kubeconfig: &Path) -> Api {
    Api::new(&serde_json::from_slice(&fs::read(kubeconfig).unwrap()).unwrap())
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
    let api = api_of(&plane.kubeconfig());
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
    let refusal = api_of(&path).get("/api/v1/namespaces/default/pods").unwrap_err();
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

/// Stands for a test that is killed.
#[test]
#[ignore = "waits to be killed by the test below"]
fn stands_until_killed() {
    let plane = ControlPlane::start();
    plane.kubeconfig();
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_killed_maker_leaves_nothing() {
    let mut maker = program::command(std::env::current_exe().unwrap());
    maker.args(["--exact", "harness::stands_until_killed", "--include-ignored"]);
    let mut maker = program::start(&mut maker, b"");
    let dir = place::base().join(format!("{}-0", maker.id()));
    wait::until("control plane", Duration::from_secs(60), || {
        fs::metadata(dir.join("kubeconfig")).map_err(|e| e.to_string())
    });
    let processes = fs::read_to_string(dir.join("holders")).unwrap();
    let holder = processes.split_whitespace().next().unwrap().to_owned();
    maker.kill();
    let gone = |path: &Path| if path.exists() { Err(format!("{} is there", path.display())) } else { Ok(()) };
    wait::until("end of the processes", Duration::from_secs(10), || gone(&Path::new("/proc").join(&holder)));
    wait::until("end of the directory", Duration::from_secs(10), || gone(&dir));
}
