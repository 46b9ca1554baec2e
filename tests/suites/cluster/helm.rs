//! The Helm chart: what it gives is what kustomize gives, and its life from installation to uninstallation. These cases need helm and
//! kubeconform, which take minutes to build once: `make test-operate` runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meta_cni_tests::cluster::operators::operators;
use meta_cni_tests::cluster::programs::Programs;
use meta_cni_tests::cluster::snapshot::as_before;
use meta_cni_tests::cluster::{Cluster, ControlPlane, Node, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

use crate::bed::{PATIENCE, gone, ready, wait_for_agents, wait_for_webhook};
use crate::lifecycle::{full_pod, given_back, make_networks, used_cluster};

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

fn chart() -> String {
    format!("{}/../deploy/helm/meta-cni", env!("CARGO_MANIFEST_DIR"))
}

/// Exit status, stdout and stderr of helm.
fn helm_says(kubeconfig: Option<&Path>, args: &[&str]) -> (bool, String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = program::command(operators("helm"));
    command.env("HOME", home.path()).args(args).args(["--namespace", "kube-system"]);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(400));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (finished.code == Some(0), text(&finished.stdout), text(&finished.stderr))
}

#[track_caller]
fn helm(kubeconfig: Option<&Path>, args: &[&str]) -> String {
    let (is_done, out, err) = helm_says(kubeconfig, args);
    assert!(is_done, "helm {args:?}\n{out}{err}");
    out
}

fn template(args: &[&str]) -> Objects {
    let chart = chart();
    let line = [&["template", "meta-cni", chart.as_str(), "--include-crds"], args].concat();
    objects(&helm(None, &line))
}

/// The objects of a text, without Helm's own annotations. Hooks are no objects of the release.
fn objects(text: &str) -> Objects {
    let mut found = Objects::new();
    for mut object in serde_saphyr::from_multiple::<Value>(text).unwrap() {
        let name = |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = format!("{} {}/{}", object["kind"], name(&object, "namespace"), name(&object, "name"));
        let is_hook = object["metadata"]["annotations"]["helm.sh/hook"].is_string();
        if object.is_null() || is_hook {
            continue;
        }
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.starts_with("helm.sh/"));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        assert!(found.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    found
}

/// Where two values differ, by path.
fn differences(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &of(one), &of(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).enumerate().for_each(|(i, (a, b))| differences(&format!("{path}[{i}]"), a, b, found));
        }
        // kustomize writes folded texts anew, with empty lines more; in an expression they mean nothing.
        (Value::String(one), Value::String(other))
            if path.to_lowercase().ends_with("expression") && one.split_whitespace().eq(other.split_whitespace()) => {}
        _ if one != other => found.push(format!("{path}: {one} and {other}")),
        _ => {}
    }
}

fn compare(one: &Objects, other: &Objects) -> Vec<String> {
    let mut found = Vec::new();
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    let of = |objects: &Objects, key: &str| objects.get(key).cloned().unwrap_or_default();
    keys.for_each(|key| differences(key, &of(one, key), &of(other, key), &mut found));
    found
}

fn kustomize(dir: &str) -> Objects {
    let mut command = program::command(Programs::find(&["kubectl"]).path("kubectl"));
    command.args(["kustomize", &format!("{}/../deploy/{dir}", env!("CARGO_MANIFEST_DIR"))]);
    let finished = program::start(&mut command, b"").finish(Duration::from_secs(60));
    assert_eq!(finished.code, Some(0), "{}", String::from_utf8_lossy(&finished.stderr));
    objects(&String::from_utf8(finished.stdout).unwrap())
}

#[test]
#[ignore = "needs helm: make test-operate"]
fn helm_gives_what_kustomize_gives() {
    let (ours, theirs) = (template(&[]), kustomize("kustomize"));
    assert_eq!(compare(&ours, &theirs), Vec::<String>::new());
    assert!(ours.len() > 30, "{:?}", ours.keys());
    // The look itself sees.
    let other = compare(&template(&["--set", "webhook.replicas=3"]), &theirs);
    assert_eq!(other, [r#""Deployment" meta-cni/meta-cni-webhook.spec.replicas: 3 and 2"#]);
}

#[test]
#[ignore = "needs helm: make test-operate"]
fn helm_values_reach_what_they_are_about() {
    let agent = |objects: &Objects| objects[r#""DaemonSet" kube-system/meta-cni"#]["spec"]["template"]["spec"].clone();
    let k3s = format!("{}/values-k3s.yaml", chart());
    let pod = agent(&template(&["--values", &k3s]));
    let (bin, conf) = ("/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d");
    assert_eq!(pod["initContainers"][0]["volumeMounts"], json!([{"name": "bin", "mountPath": bin}]));
    assert_eq!(pod["initContainers"][0]["env"][0], json!({"name": "META_CNI_BIN_DIR", "value": bin}));
    assert_eq!(pod["containers"][0]["volumeMounts"][0], json!({"name": "conf", "mountPath": conf}));
    assert_eq!(pod["volumes"][0]["hostPath"]["path"], bin);
    assert!(
        pod["containers"][0]["env"].as_array().unwrap().contains(&json!({"name": "META_CNI_CONF_DIR", "value": conf}))
    );

    let pod = agent(&template(&["--values", &format!("{}/values-microk8s.yaml", chart())]));
    let kubelet = "/var/snap/microk8s/common/var/lib/kubelet";
    let env = json!({"name": "META_CNI_KUBELET_DIR", "value": kubelet});
    assert!(pod["containers"][0]["env"].as_array().unwrap().contains(&env), "{pod}");
    for name in ["pod-resources", "device-plugins"] {
        let (path, volumes) = (format!("{kubelet}/{name}"), pod["volumes"].as_array().unwrap());
        let mount = json!({"name": name, "mountPath": path, "readOnly": true});
        assert!(pod["containers"][0]["volumeMounts"].as_array().unwrap().contains(&mount), "{pod}");
        assert!(volumes.contains(&json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})));
    }

    let set = "image.repository=r.example/m,image.pullPolicy=Always,agent.logLevel=debug,node.namespaceIsolation=true,agent.metricsAddress=";
    let objects = template(&["--set", set]);
    let pod = agent(&objects);
    assert_eq!(pod["containers"][0]["image"], format!("r.example/m:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        (&pod["initContainers"][0]["imagePullPolicy"], pod["containers"][0]["env"][3]["value"].as_str()),
        (&json!("Always"), Some(""))
    );
    assert!(
        pod["containers"][0]["env"]
            .as_array()
            .unwrap()
            .contains(&json!({"name": "META_CNI_LOG_LEVEL", "value": "debug"}))
    );
    let node = objects[r#""ConfigMap" kube-system/meta-cni"#]["data"]["node.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(node).unwrap(), json!({"namespaceIsolation": true}));

    let secured = template(&["--set", "agent.metricsTlsSecret=scraped,openshift.enabled=true"]);
    let pod = agent(&secured);
    let volume =
        json!({"name": "metrics-tls", "secret": {"secretName": "scraped", "optional": true, "defaultMode": 0o400}});
    assert!(pod["volumes"].as_array().unwrap().contains(&volume), "{pod}");
    let mount = json!({"name": "metrics-tls", "mountPath": "/etc/meta-cni-tls", "readOnly": true});
    assert!(pod["containers"][0]["volumeMounts"].as_array().unwrap().contains(&mount), "{pod}");
    assert!(pod["initContainers"][0].to_string().find("metrics").is_none(), "{pod}");
    assert!(
        secured[r#""SecurityContextConstraints" /meta-cni"#]["volumes"].as_array().unwrap().contains(&json!("secret"))
    );

    let openshift = template(&["--values", &format!("{}/values-openshift.yaml", chart())]);
    let constraints = &openshift[r#""SecurityContextConstraints" /meta-cni"#];
    let needed = agent(&openshift)["containers"][0]["securityContext"]["capabilities"]["add"].clone();
    assert_eq!(constraints["allowedCapabilities"], needed);

    let without = template(&["--set", "webhook.enabled=false"]);
    let of_kind = |kind: &str| without.keys().filter(|key| key.starts_with(&format!("{kind:?}"))).count();
    assert_eq!(
        (of_kind("ValidatingWebhookConfiguration"), of_kind("MutatingWebhookConfiguration"), of_kind("Deployment")),
        (0, 0, 1)
    );
    let janitor = &without[r#""Deployment" meta-cni/meta-cni-webhook"#]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(janitor["command"], json!(["/meta-cni-webhook", "--janitor-only"]));

    for (wrong, names) in [
        ("webhook.defaultLevel=basline", "defaultLevel"),
        ("agent.priorityclass=x", "priorityclass"),
        ("cni.binDir=opt", "binDir"),
        ("kubeletDir=kubelet", "kubeletDir"),
        ("webhook.replicas=0", "replicas"),
        ("agent.metricsAddress=unix:/tmp/m.sock", "metricsAddress"),
        ("agent.metricsTlsSecret=scraped,agent.metricsAddress=unix:/run/meta-cni/metrics.sock", "metricsTlsSecret"),
    ] {
        let (is_done, _, said) = helm_says(None, &["template", "meta-cni", &chart(), "--set", wrong]);
        assert!(!is_done && said.contains(names), "{wrong}: {said}");
    }
}

/// Schemas for kubeconform, of the API server itself.
fn schemas(plane: &ControlPlane, dir: &Path) {
    let mut all: Value = serde_json::from_str(&plane.api().text("/openapi/v2").unwrap()).unwrap();
    // OpenAPI 2 has no word for it: a number is as good.
    for name in ["util.intstr.IntOrString", "api.resource.Quantity"] {
        all["definitions"][format!("io.k8s.apimachinery.pkg.{name}")] = json!({"type": ["string", "number"]});
    }
    let definitions = all["definitions"].as_object().unwrap();
    std::fs::write(dir.join("all.json"), json!({"definitions": definitions}).to_string()).unwrap();
    for (name, definition) in definitions {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = if text("group").is_empty() {
                text("version")
            } else {
                format!("{}-{}", text("group"), text("version"))
            };
            let schema = json!({"$ref": format!("all.json#/definitions/{name}")});
            std::fs::write(dir.join(format!("{}-{group}.json", text("kind"))), schema.to_string()).unwrap();
        }
    }
}

#[test]
#[ignore = "needs helm and kubeconform: make test-operate"]
fn helm_charts_and_manifests_conform_to_the_schemas_of_the_api_server() {
    let plane = ControlPlane::start();
    plane.kubectl(["apply", "-k", &format!("{}/../deploy/crds", env!("CARGO_MANIFEST_DIR"))]);
    let dir = tempfile::tempdir().unwrap();
    schemas(&plane, dir.path());
    let location =
        format!("{}/{{{{.ResourceKind}}}}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json", dir.path().display());
    let core = format!("{}/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json", dir.path().display());
    let conforms = |text: &str| {
        let mut command = program::command(operators("kubeconform"));
        command.args(["-summary", "-schema-location", &location, "-schema-location", &core]);
        let finished = program::start(&mut command, text.as_bytes()).finish(Duration::from_secs(60));
        (finished.code, String::from_utf8_lossy(&finished.stdout).into_owned())
    };
    let rendered = helm(None, &["template", "meta-cni", &chart()]);
    let (code, said) = conforms(&rendered);
    assert!(code == Some(0) && said.contains("Invalid: 0, Errors: 0, Skipped: 0"), "{said}");
    let (code, said) = conforms(&rendered.replacen("replicas: 2", "replicas: two", 1));
    assert!(code == Some(1) && said.contains("Invalid: 1"), "the look itself sees: {said}");
    // The API server says the same, and more: no field that it does not know.
    let file = dir.path().join("rendered.yaml");
    std::fs::write(&file, &rendered).unwrap();
    plane.kubectl(["create", "namespace", "meta-cni"]);
    plane.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()]);
}

fn release(cluster: &Cluster) -> PathBuf {
    cluster.plane().kubeconfig()
}

/// A Secret with a certificate for `scraped` that is its own authority. Gives the file of the certificate.
fn make_certificate(cluster: &Cluster, dir: &Path) -> PathBuf {
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let own = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=scraped -addext subjectAltName=DNS:scraped";
    let files = ["-out", certificate.to_str().unwrap(), "-keyout", key.to_str().unwrap()];
    program::run("openssl", own.split(' ').chain(files));
    let (certificate_flag, key_flag) =
        (format!("--cert={}", certificate.display()), format!("--key={}", key.display()));
    let create = ["create", "secret", "tls", "scraped", "--namespace=kube-system", &certificate_flag, &key_flag];
    cluster.plane().kubectl(create);
    certificate
}

/// The metrics of a node, asked on it by curl.
fn metrics(node: &Node, flags: &str) {
    wait::until(&format!("metrics by {flags}"), PATIENCE, || {
        let mut command = program::command("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "5"]).args(flags.split(' '));
        let finished = node.space().within(|| program::start(&mut command, b"").finish(Duration::from_secs(20)));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let page = text(&finished.stdout);
        if page.contains(&format!("node=\"{}\"", node.name())) { Ok(()) } else { Err(page + &text(&finished.stderr)) }
    });
}

#[test]
#[ignore = "needs helm: make test-operate"]
fn helm_installs_upgrades_and_leaves_each_node_as_it_was() {
    let (mut cluster, before) = used_cluster(2);
    let (api, config) = (cluster.api(), release(&cluster));
    let image = ["--set", "image.pullPolicy=Never"];
    // The kind of definitions is there already, and somebody else's.
    let crd = format!("{}/../deploy/crds/network-attachment-definitions.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.plane().kubectl(["apply", "-f", &crd]);
    let dir = tempfile::tempdir().unwrap();
    let certificate = make_certificate(&cluster, dir.path());
    let tls = ["--set", "agent.metricsTlsSecret=scraped"];
    helm(Some(&config), &[&["install", "meta-cni", &chart()], &image[..], &tls[..]].concat());
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    for node in cluster.nodes() {
        let trust = format!("--cacert {} --resolve scraped:9464:{}", certificate.display(), node.address());
        metrics(node, &format!("{trust} https://scraped:9464/metrics"));
    }
    make_networks(&api);
    api.apply(&full_pod("full", &cluster.nodes()[0])).unwrap();
    ready(&api, "shop", "full");

    let ten = [
        "--set",
        "webhook.replicas=1,agent.logLevel=debug,node.maxAttachments=10,agent.metricsAddress=unix:/run/meta-cni/metrics.sock",
    ];
    helm(Some(&config), &[&["upgrade", "meta-cni", &chart()], &image[..], &ten[..]].concat());
    let conf = cluster.nodes()[0].file("/etc/cni/net.d/00-meta-cni.conflist");
    wait::until("configuration of the upgrade", PATIENCE * 2, || {
        let text = std::fs::read_to_string(&conf).map_err(|e| e.to_string())?;
        if text.contains("maxAttachments") { Ok(()) } else { Err(text) }
    });
    wait_for_agents(&mut cluster);
    cluster
        .nodes()
        .iter()
        .for_each(|node| metrics(node, "--unix-socket /run/meta-cni/metrics.sock http://node/metrics"));

    // A pod is in the way: the error says which one and where, and nothing of the release is gone but the agent.
    let soon = ["--set", "uninstall.timeoutSeconds=30"];
    helm(Some(&config), &[&["upgrade", "meta-cni", &chart()], &image[..], &ten[..], &soon[..]].concat());
    wait_for_agents(&mut cluster);
    let (is_done, out, err) = helm_says(Some(&config), &["uninstall", "meta-cni", "--timeout", "3m"]);
    assert!(!is_done, "{out}{err}");
    let jobs = "/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/name=meta-cni-uninstall-nodes";
    let job = api.list(jobs).remove(0)["metadata"]["name"].as_str().unwrap().to_owned();
    let said = api.text(&format!("/api/v1/namespaces/kube-system/pods/{job}/log")).unwrap();
    assert!(said.contains("not all nodes are given back: n1: ") && said.contains("shop/full"), "{said}");
    api.get("/apis/apps/v1/namespaces/meta-cni/deployments/meta-cni-webhook").unwrap();
    given_back(&cluster.nodes()[1]);

    // On again, from where it was.
    api.delete("/api/v1/namespaces/shop/pods/full").unwrap();
    gone(&api, "/api/v1/namespaces/shop/pods/full");
    helm(Some(&config), &["uninstall", "meta-cni", "--timeout", "5m"]);
    gone(&api, "/api/v1/namespaces/meta-cni");
    for (node, before) in cluster.nodes().iter().zip(&before) {
        as_before(&api, node, before);
    }
    // The kinds stay, and every object of them; of the hooks nothing does.
    assert_eq!(api.list("/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions").len(), 3);
    api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/vniclaims.meta-cni.io").unwrap();
    for path in [
        "/apis/batch/v1/namespaces/kube-system/jobs/meta-cni-uninstall",
        "/apis/apps/v1/namespaces/kube-system/daemonsets/meta-cni-uninstall",
        "/api/v1/namespaces/kube-system/serviceaccounts/meta-cni-uninstall",
        "/api/v1/namespaces/kube-system/configmaps/meta-cni-uninstall",
    ] {
        gone(&api, path);
    }
    // The kinds that stayed are the next release's, too.
    helm(Some(&config), &[&["install", "meta-cni", &chart()], &image[..]].concat());
    wait_for_agents(&mut cluster);
}
