//! The cluster that the webhook knows, and what it is asked: definitions of every kind, pods as controllers make them, and templates.

use meta_cni_tests::node::{NETWORKS, STATUS};
use serde_json::{Value, json};

/// Definitions in the cluster.
pub const NADS: usize = 1000;
/// Pods in the cluster.
pub const PODS: usize = 5000;
/// Namespaces that they are in.
pub const NAMESPACES: usize = 20;
/// Second number of the first subnet: clear of the cluster's services, which are in 10.96.0.0/16.
const SUBNETS: usize = 128;
/// Definitions of one namespace.
const PER_NAMESPACE: usize = NADS / NAMESPACES;

/// A namespace by its number.
pub fn namespace(number: usize) -> String {
    format!("tenant-{}", number % NAMESPACES)
}

/// A definition of the cluster.
pub fn definition(number: usize) -> Value {
    nad(&namespace(number), &format!("net-{number}"), &config(number, number))
}

fn nad(namespace: &str, name: &str, config: &Value) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app.kubernetes.io/part-of": "networks"}},
        "spec": {"config": config.to_string()},
    })
}

/// The configuration of a definition: its kind is that of the number, and its subnet, VNI and links are the slot's alone.
fn config(number: usize, slot: usize) -> Value {
    let (high, low) = (slot / 256, slot % 256);
    let subnet = format!("10.{}.{low}.0/24", SUBNETS + high);
    let name = format!("net-{slot}");
    let local = json!({"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "192.168.0.0/16"}]});
    let plugin = match number % 8 {
        0 => json!({"type": "vxlan", "vni": 10_000 + slot, "ipam": {"type": "blocks", "subnet": subnet}}),
        1 => {
            json!({"type": "macvlan", "master": format!("eth{}", 1 + slot % 7), "mode": "bridge", "ipam": {"type": "whereabouts", "range": subnet}})
        }
        2 => {
            json!({"type": "ipvlan", "master": format!("ens{}", 1 + slot % 7), "mode": "l2", "ipam": {"type": "whereabouts", "range": subnet}})
        }
        3 => json!({"type": "bridge", "bridge": format!("br-{slot}"), "isGateway": true, "ipam": local}),
        4 => json!({"type": "vlan", "master": "bond0", "vlanId": slot % 4000 + 1, "ipam": local}),
        5 => {
            json!({"type": "host-device", "device": format!("dev{slot}"), "ipam": {"type": "static", "addresses": [{"address": format!("10.{}.{low}.7/24", SUBNETS + high)}]}})
        }
        6 => json!({"type": "ptp", "ipam": local, "mtu": 1400}),
        _ => {
            json!({"type": "bridge", "bridge": format!("vb-{slot}"), "ipam": local, "capabilities": {"ips": true, "mac": true}})
        }
    };
    match number % 3 {
        0 => {
            let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}, "capabilities": {"mac": true}});
            json!({"cniVersion": "1.0.0", "name": name, "plugins": [plugin, tuning]})
        }
        _ => {
            let mut plugin = plugin;
            plugin["cniVersion"] = json!("1.0.0");
            plugin["name"] = json!(name);
            plugin
        }
    }
}

/// The definitions that a pod of the number uses: one to three of its namespace.
fn used(number: usize) -> Vec<usize> {
    let first = number / NAMESPACES;
    (first..first + 1 + number % 3).map(|one| number % NAMESPACES + NAMESPACES * (one % PER_NAMESPACE)).collect()
}

fn networks(number: usize) -> String {
    used(number).iter().map(|one| format!("net-{one}")).collect::<Vec<_>>().join(", ")
}

/// What an agent wrote about a pod that runs.
fn status(number: usize) -> String {
    let namespace = namespace(number);
    let entry = |(i, one): (usize, &usize)| {
        let ip = format!("10.{}.{}.{}", SUBNETS + one / 256, one % 256, 2 + number / NAMESPACES % 250);
        let mac = format!("02:00:00:{:02x}:{:02x}:{i:02x}", number / 256, number % 256);
        json!({"name": format!("{namespace}/net-{one}"), "interface": format!("net{}", i + 1), "ips": [ip], "mac": mac, "dns": {}})
    };
    let used = used(number);
    json!(used.iter().enumerate().map(entry).collect::<Vec<_>>()).to_string()
}

/// A pod of the cluster, running.
pub fn pod(number: usize) -> Value {
    let mut pod = new_pod(&format!("web-{number}"), number, &networks(number));
    pod["metadata"]["annotations"][STATUS] = json!(status(number));
    pod
}

/// A pod as a ReplicaSet makes it.
fn new_pod(name: &str, number: usize, networks: &str) -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/shop/{name}:1.27.3"), "imagePullPolicy": "IfNotPresent",
            "args": ["--listen=0.0.0.0:8080", "--log-level=info"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}, {"name": "MODE", "value": "production"}],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace(number), "name": name,
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "pod-template-hash": "6d4cf56db6"},
            "annotations": {NETWORKS: networks},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": uid(number), "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "containers": [container("web"), container("sidecar")],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
    })
}

fn uid(number: usize) -> String {
    format!("6ba7b810-9dad-41d1-80b4-{number:012}")
}

/// An object that somebody makes, and whether it may be stored.
pub struct Made {
    /// The object.
    pub object: Value,
    /// The webhook that is asked about it.
    pub webhook: &'static str,
    /// May it be stored?
    pub is_good: bool,
}

/// What comes while the webhook is measured: of a hundred, 76 pods that are right and 4 that are not, 10 definitions that are right and
/// 5 that are not, 5 templates. Names, VNIs and subnets are nobody else's; `round` tells several runs apart.
pub fn made(round: usize, number: usize) -> Made {
    let name = format!("new-{round}-{number}");
    let slot = NADS + 1 + (round * 2500 + number) % 20_000;
    let nad =
        |config: Value, is_good| Made { object: nad(&namespace(number), &name, &config), webhook: "nads", is_good };
    // A hundred in an order in which nothing comes in a row.
    match number * 37 % 100 {
        0..76 => Made { object: new_pod(&name, number, &networks(number)), webhook: "pods", is_good: true },
        76..80 => {
            let twice = used(number)[0];
            let networks = json!([{"name": format!("net-{twice}"), "interface": "lan"}, {"name": format!("net-{twice}"), "interface": "lan"}]);
            Made { object: new_pod(&name, number, &networks.to_string()), webhook: "pods", is_good: false }
        }
        80..90 => nad(config(number, slot), true),
        // An overlay of somebody else's.
        90 => nad(json!({"cniVersion": "1.0.0", "name": name, "type": "vxlan", "vni": 10_000}), false),
        91 => {
            nad(json!({"cniVersion": "1.0.0", "name": name, "type": "vlan", "master": "bond0", "vlanId": 5000}), false)
        }
        92 => nad(
            json!({"cniVersion": "1.0.0", "name": name, "type": "macvlan", "master": "eth1", "mode": "brigde"}),
            false,
        ),
        93..95 => {
            let ipam = json!({"type": "host-local", "subnet": "10.9.0.5/24"});
            nad(json!({"cniVersion": "1.0.0", "name": name, "type": "ptp", "ipam": ipam}), false)
        }
        _ => {
            let pod = new_pod(&name, number, &networks(number));
            let template = json!({"metadata": {"labels": pod["metadata"]["labels"], "annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]});
            let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}}, "template": template});
            let metadata = json!({"namespace": namespace(number), "name": name});
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
            Made { object, webhook: "templates", is_good: true }
        }
    }
}

/// The review by which an API server asks about it.
pub fn review(made: &Made, number: usize) -> Vec<u8> {
    let object = &made.object;
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", "v1"),
    };
    let resource = match made.webhook {
        "nads" => "network-attachment-definitions",
        "pods" => "pods",
        _ => "deployments",
    };
    let kind = json!({"group": group, "version": version, "kind": object["kind"]});
    let resource = json!({"group": group, "version": version, "resource": resource});
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
    let user =
        json!({"username": "system:serviceaccount:kube-system:replicaset-controller", "uid": uid(7), "groups": groups});
    let request = json!({
        "uid": uid(number), "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"], "operation": "CREATE", "userInfo": user,
        "object": object, "oldObject": null, "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kube-controller-manager"},
    });
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
    serde_json::to_vec(&review).unwrap()
}

/// What administrators forbid: three policies, which nothing of the above breaks.
pub fn policies() -> Vec<Value> {
    let policy = |name: &str, rule: Value| json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": {"name": name}, "spec": {"rules": [rule]}});
    let addresses = json!({"name": "r", "select": "$.config.plugins[*].subnets[*]", "assert": {"within": ["10.0.0.0/8"]}, "onMissing": "Pass"});
    let vnis = json!({"name": "r", "forEach": "$.config.plugins[?@.type == 'vxlan']", "select": "$.vni", "assert": {"range": {"min": 10_000, "max": 99_999}}});
    let macs = json!({"name": "r", "select": "$.attachment.mac", "assert": {"absent": true}});
    vec![policy("addresses", addresses), policy("vnis", vnis), policy("macs", macs)]
}
