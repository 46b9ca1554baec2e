//! The cluster that the cases share, and what each of them does with it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::api::path_of;
pub use meta_cni_tests::cluster::installation::*;
use meta_cni_tests::cluster::node::Traces;
pub use meta_cni_tests::cluster::pods::*;
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

/// What was on the nodes before the installation.
pub struct Earlier {
    /// Traces of each node before any pod.
    pub bare: Vec<Traces>,
}

/// A case's turn on the cluster, with a namespace of its own.
pub struct Bed {
    pub cluster: MutexGuard<'static, Cluster>,
    pub namespace: String,
    pub api: Api,
    before: Vec<Traces>,
}

static CLUSTER: OnceLock<(Mutex<Cluster>, Earlier)> = OnceLock::new();

/// A cluster with a pod `old` on every node, in namespace `earlier`, from before the installation.
fn installed() -> (Mutex<Cluster>, Earlier) {
    let mut cluster = Cluster::start(3);
    let api = cluster.api();
    let bare = cluster.nodes().iter().map(Node::traces).collect();
    namespace(&api, "earlier");
    for node in cluster.nodes() {
        api.apply(&pod("earlier", &format!("old-{}", node.name()), Some(node.name()))).unwrap();
    }
    for node in cluster.nodes() {
        ready(&api, "earlier", &format!("old-{}", node.name()));
    }
    cluster.import(&image());
    install(&cluster);
    pin_webhook(&cluster);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    (Mutex::new(cluster), Earlier { bare })
}

/// Keeps the webhook's pods on a node that no case reboots: a pod that comes anew has other traces on its node than before, and
/// cases compare those.
pub fn pin_webhook(cluster: &Cluster) {
    let pinned = json!({"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "n1"}}}}});
    cluster.api().patch(WEBHOOK, &pinned).unwrap();
}

/// The kinds of a registration with the API server; each has one of the webhook's name.
const REGISTRATIONS: [&str; 2] = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"];

fn registration(kind: &str) -> String {
    format!("/apis/admissionregistration.k8s.io/v1/{kind}/meta-cni-webhook")
}

/// Nobody is asked any more before an object is stored. Returns when the API server has heard of it.
pub fn take_webhook_away(bed: &Bed) {
    for kind in REGISTRATIONS {
        bed.api.delete(&registration(kind)).unwrap();
    }
    let bad = bed.definition("away", "{}");
    wait::until("API server that asks nobody", PATIENCE, || bed.api.apply(&bad).map_err(|refusal| refusal.to_string()));
    bed.api.delete(&path_of(&bad)).unwrap();
}

/// The webhook is asked again. Returns when it answers.
pub fn restore_webhook(bed: &Bed) {
    install(&bed.cluster);
    let bad = bed.definition("back", "{}");
    wait::until("webhook that answers", PATIENCE, || match bed.api.apply(&bad) {
        Err(refusal) if refusal.code == 422 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    bed.api.delete(&path_of(&bad)).unwrap();
}

impl Bed {
    /// Waits for the turn; the first starts the cluster and installs.
    pub fn new(name: &str) -> Self {
        let (cluster, _) = CLUSTER.get_or_init(installed);
        // A case that failed holds nobody up.
        let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.plane_mut().mend_api();
        cluster.plane_mut().delay_api(Duration::ZERO);
        cluster.check().unwrap();
        let api = cluster.api();
        // What failed cases left goes first, or it would move under this one.
        let left = api.list(&format!("/api/v1/namespaces?labelSelector={CASE},{CASE}!=earlier"));
        for path in
            left.iter().map(|object| format!("/api/v1/namespaces/{}", object["metadata"]["name"].as_str().unwrap()))
        {
            api.delete(&path).unwrap();
            gone(&api, &path);
        }
        namespace(&api, name);
        let before = cluster.nodes().iter().map(Node::traces).collect();
        Self { cluster, namespace: name.to_owned(), api, before }
    }

    /// What was before the installation.
    pub fn earlier(&self) -> &'static Earlier {
        &CLUSTER.get().unwrap().1
    }

    /// A definition in the case's namespace.
    pub fn nad(&self, name: &str, config: &Value) {
        self.nad_in(&self.namespace, name, config);
    }

    /// A definition as an object, of the case's namespace.
    fn definition(&self, name: &str, config: &str) -> Value {
        definition(&self.namespace, name, config)
    }

    /// A definition in another namespace.
    pub fn nad_in(&self, namespace: &str, name: &str, config: &Value) {
        let object = definition(namespace, name, &config.to_string());
        // A replica whose node has just died is found out by the API server's next try.
        wait::until("definition that is stored", PATIENCE, || match self.api.apply(&object) {
            Err(refusal) if refusal.message.contains("failed calling webhook") => Err(refusal.to_string()),
            answer => Ok(answer.unwrap()),
        });
    }

    /// A definition of a bridge of its own with addresses of each node's own: 10.<number>.0.0/24.
    pub fn lan(&self, name: &str, number: u8) {
        self.nad(name, &lan(number));
    }

    /// A pod without further networks; see [`Self::pod_with`].
    pub fn pod(&self, name: &str, node: Option<&str>) -> Value {
        pod(&self.namespace, name, node)
    }

    /// A pod that asks for networks.
    pub fn pod_with(&self, name: &str, node: Option<&str>, networks: &str) -> Value {
        let mut pod = self.pod(name, node);
        pod["metadata"]["annotations"][NETWORKS] = json!(networks);
        pod
    }

    /// Makes a pod that the webhook would refuse: its namespace opts out of being asked about pods. What the node makes of it is what
    /// the case is about.
    pub fn apply_unasked(&self, pod: &Value) {
        let labels = json!({"metadata": {"labels": {"meta-cni.io/admission": "disabled"}}});
        self.api.patch(&format!("/api/v1/namespaces/{}", self.namespace), &labels).unwrap();
        // The API server hears of the label a moment later.
        wait::until("pod that nobody is asked about", PATIENCE, || match self.api.apply(pod) {
            Err(refusal) if refusal.message.contains("admission webhook") => Err(refusal.to_string()),
            answer => Ok(answer.unwrap()),
        });
    }

    /// Path of a pod.
    pub fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{name}", self.namespace)
    }

    /// Waits until a pod is ready, and gives it.
    pub fn ready(&self, name: &str) -> Value {
        ready(&self.api, &self.namespace, name)
    }

    /// Waits until a pod is ready and has its `network-status`, and gives that.
    pub fn status(&self, name: &str) -> Vec<Value> {
        status(&self.api, &self.namespace, name)
    }

    /// Waits for an event of an object, by a part of its text, and gives all.
    pub fn event(&self, name: &str, part: &str) -> String {
        wait::until(&format!("event {part:?}"), PATIENCE, || {
            let events = events(&self.api, &self.namespace, name);
            if events.contains(part) { Ok(events) } else { Err(events) }
        })
    }

    /// Runs a program in a pod; what it printed.
    #[track_caller]
    pub fn exec(&self, pod: &str, line: &str) -> String {
        exec(&self.cluster, &self.namespace, pod, line)
    }

    /// Deletes a pod and waits until it is gone from the API.
    pub fn delete(&self, name: &str) {
        self.api.delete(&self.path(name)).unwrap();
        self.gone(&self.path(name));
    }

    /// Waits until an object is gone.
    pub fn gone(&self, path: &str) {
        gone(&self.api, path);
    }

    /// The node of a name, `n1` and up.
    pub fn node(&self, name: &str) -> &Node {
        self.cluster.nodes().iter().find(|node| node.name() == name).unwrap()
    }

    /// SIGKILL to the agent of a node.
    pub fn kill_agent(&self, node: &str) {
        self.node(node).space().run("busybox killall -9 meta-cnid");
    }

    /// Deletes the namespace and waits until all of it is gone, from the API and from every node.
    pub fn clear(self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.api.delete(&path).unwrap();
        self.gone(&path);
        self.assert_clean();
    }

    /// Every node is as it was before the case.
    pub fn assert_clean(&self) {
        until_clean(&self.cluster, &self.before);
    }
}

/// Waits until every node has nothing that it had not before.
pub fn until_clean(cluster: &Cluster, before: &[Traces]) {
    let began = Instant::now();
    for (node, before) in cluster.nodes().iter().zip(before) {
        wait::until(&format!("clean {}", node.name()), PATIENCE.saturating_sub(began.elapsed()), || {
            let left: Vec<_> = node.traces().difference(before).cloned().collect();
            if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
        });
    }
}
