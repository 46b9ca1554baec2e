//! A tenant with every right on definitions and pods of a namespace of level `baseline`: what docs/security.md says is refused at
//! `kubectl apply`, and at ADD where nobody was there to refuse it.

use meta_cni_tests::cluster::{Api, wait};
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, definition, is_ready, restore_webhook, take_webhook_away};

/// A configuration of the tenant's own, and the rule of the level that refuses it.
fn definitions() -> Vec<(&'static str, Value, &'static str)> {
    let lan = |data_dir: Option<&str>| {
        let mut ipam = json!({"type": "host-local", "subnet": "10.150.0.0/24"});
        if let Some(dir) = data_dir {
            ipam["dataDir"] = json!(dir);
        }
        json!({"type": "ptp", "ipam": ipam})
    };
    let mut program = lan(None);
    program["ipam"] = json!({"type": "whereabouts", "range": "10.150.0.0/24"});
    let mut all = vec![
        ("master", json!({"type": "macvlan", "master": "eth0"}), "masters"),
        ("no-master", json!({"type": "ipvlan"}), "masters"),
        ("passthru", json!({"type": "macvlan", "master": "eth0", "mode": "passthru"}), "modes"),
        ("bridge", json!({"type": "bridge", "bridge": "br-other"}), "bridges"),
        ("no-bridge", json!({"type": "bridge"}), "bridges"),
        ("device", json!({"type": "host-device", "device": "eth0"}), "devices"),
        ("flannel", json!({"type": "flannel"}), "types"),
        ("program", json!({"type": "sriov"}), "types"),
        ("ipam-program", program, "ipam-types"),
        ("overlay", json!({"type": "vxlan", "vni": 4200}), "vnis"),
        ("underlay", json!({"type": "vxlan", "vni": 4200, "underlay": "eth0"}), "underlays"),
        ("peers", json!({"type": "vxlan", "vni": 4200, "peers": ["10.99.0.9"]}), "peers"),
        ("group", json!({"type": "vxlan", "vni": 4200, "group": "239.1.2.3"}), "peers"),
        (
            "sysctl",
            json!({"plugins": [lan(None), {"type": "tuning", "sysctl": {"net.ipv4.conf.all.accept_redirects": "1"}}]}),
            "sysctls",
        ),
        ("path", lan(Some("/var/lib/cni/elsewhere")), "paths"),
    ];
    for (name, config, _) in &mut all {
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!(name);
    }
    all
}

/// The floor refuses a device that nobody allocated before the level is asked.
const NO_DEVICE: &str = "networks[0].deviceID: got 0000:03:00.0, want no device";

/// What a pod asks of a definition that is the tenant's and right, and the rule of the level that refuses it.
fn pods() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("elsewhere", json!([{"name": "infra", "namespace": "default"}]), "namespaces"),
        (
            "host-port",
            json!([{"name": "own", "portMappings": [{"hostPort": 18080, "containerPort": 80}]}]),
            "host-ports",
        ),
        ("device-id", json!([{"name": "own", "deviceID": "0000:03:00.0"}]), "devices"),
        ("sysctl", json!([{"name": "own", "cni-args": {"sysctl": {"net.core.somaxconn": "1"}}}]), "sysctls"),
    ]
}

/// The tenant's account in the case's namespace.
fn tenant(bed: &Bed) -> Api {
    let (namespace, name) = (&bed.namespace, "tenant");
    let metadata = json!({"namespace": namespace, "name": name});
    let rules = json!([
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
    ]);
    let rbac = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }),
    ] {
        bed.api.apply(&object).unwrap();
    }
    let plane = bed.cluster.plane();
    Api::new(&plane.kubeconfig_with(&plane.token_of(namespace, name)))
}

/// By whom something is refused.
fn by(rule: &str) -> String {
    format!("level \"baseline\" rule \"{rule}\"")
}

#[test]
fn a_tenant_of_level_baseline_is_refused_at_apply_and_at_add() {
    let bed = Bed::new("tenant");
    let namespace = bed.namespace.as_str();
    let label = json!({"metadata": {"labels": {"meta-cni.io/level": "baseline"}}});
    bed.api.patch(&format!("/api/v1/namespaces/{namespace}"), &label).unwrap();
    let own = json!({
        "cniVersion": "1.0.0", "name": "own", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.151.0.0/24"},
    });
    bed.nad_in("default", "infra", &own);
    let tenant = tenant(&bed);
    // The caches of the webhook hear of the label in their own time.
    let first = &definitions()[0];
    wait::until("level that is known", PATIENCE, || {
        match tenant.apply(&definition(namespace, first.0, &first.1.to_string())) {
            Err(refusal) if refusal.message.contains(&by(first.2)) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    tenant.apply(&definition(namespace, "own", &own.to_string())).unwrap();
    tenant.apply(&bed.pod_with("right", None, "own")).unwrap();

    let pod = |name: &str, networks: String| bed.pod_with(name, Some("n2"), &networks);
    for (name, config, rule) in definitions() {
        let refusal = tenant.apply(&definition(namespace, name, &config.to_string())).unwrap_err();
        assert!(refusal.code == 422 && refusal.message.contains(&by(rule)), "{name}: {refusal}");
    }
    for (name, networks, rule) in pods() {
        let refusal = tenant.apply(&pod(name, networks.to_string())).unwrap_err();
        assert!(refusal.code == 422 && refusal.message.contains(&by(rule)), "{name}: {refusal}");
    }
    bed.status("right");

    take_webhook_away(&bed);
    for (name, config, _) in definitions() {
        tenant.apply(&definition(namespace, name, &config.to_string())).unwrap();
        tenant.apply(&pod(&format!("with-{name}"), name.to_owned())).unwrap();
    }
    for (name, networks, _) in pods() {
        tenant.apply(&pod(name, networks.to_string())).unwrap();
    }
    for (name, _, rule) in definitions() {
        bed.event(&format!("with-{name}"), &by(rule));
    }
    for (name, _, rule) in pods() {
        bed.event(name, &if name == "device-id" { NO_DEVICE.to_owned() } else { by(rule) });
    }
    for pod in bed.api.list(&format!("/api/v1/namespaces/{namespace}/pods")) {
        let is_right = pod["metadata"]["name"] == "right";
        assert_eq!(is_ready(&pod), is_right, "{}", pod["metadata"]);
        assert!(is_right || pod["metadata"]["annotations"][NETWORKS].is_string());
    }
    restore_webhook(&bed);
    let path = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/infra";
    bed.api.delete(path).unwrap();
    bed.clear();
}
