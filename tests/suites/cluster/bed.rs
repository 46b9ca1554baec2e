//! The cluster that the cases share, and what each of them does with it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::{Api, Cluster, node, wait};
use serde_json::{Value, json};

/// What a pod may take on a busy machine; kubelet tries a failed one again after 10 to 20 seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A case's turn on the cluster, with a namespace of its own.
pub struct Bed {
    pub cluster: MutexGuard<'static, Cluster>,
    pub namespace: String,
    pub api: Api,
    before: Vec<BTreeSet<String>>,
}

impl Bed {
    /// Waits for the turn; the first starts the cluster.
    pub fn new(namespace: &str) -> Self {
        static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| Mutex::new(Cluster::start(3)));
        // A case that failed holds nobody up.
        let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.check().unwrap();
        let api = cluster.api();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        api.apply(&object).unwrap();
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        wait::until("service account", PATIENCE, || api.get(&account).map_err(|e| e.to_string()));
        let before = cluster.nodes().iter().map(node::Node::traces).collect();
        Self { cluster, namespace: namespace.to_owned(), api, before }
    }

    /// A pod on a node, `n1` and up, or where the scheduler wants it.
    pub fn pod(&self, name: &str, node: Option<&str>) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": self.namespace, "name": name, "annotations": {}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": node::IMAGE}]},
        });
        if let Some(node) = node {
            // Not nodeName: the scheduler has its part in it.
            pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        pod
    }

    /// Waits until a pod is ready, and gives it.
    pub fn ready(&self, name: &str) -> Value {
        let path = format!("/api/v1/namespaces/{}/pods/{name}", self.namespace);
        wait::until(&format!("pod {name} that is ready"), PATIENCE, || {
            let pod = self.api.get(&path).map_err(|e| e.to_string())?;
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { Ok(pod) } else { Err(format!("{}; {}", pod["status"], self.events(name))) }
        })
    }

    /// Messages of the events of an object, joined.
    pub fn events(&self, name: &str) -> String {
        let path = format!("/api/v1/namespaces/{}/events?fieldSelector=involvedObject.name={name}", self.namespace);
        let events = self.api.list(&path);
        events.iter().filter_map(|event| event["message"].as_str()).collect::<Vec<_>>().join("\n")
    }

    /// Runs a program in a pod; what it printed.
    #[track_caller]
    pub fn exec(&self, pod: &str, line: &str) -> String {
        let start = ["exec", "-n", &self.namespace, pod, "--"];
        self.cluster.plane().kubectl(start.into_iter().chain(line.split(' ')))
    }

    /// Deletes the namespace and waits until all of it is gone, from the API and from every node.
    pub fn clear(&self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.api.delete(&path).unwrap();
        wait::until("end of the namespace", PATIENCE, || match self.api.get(&path) {
            Err(refusal) if refusal.code == 404 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        self.assert_clean();
    }

    /// Every node is as it was before the case.
    pub fn assert_clean(&self) {
        let began = Instant::now();
        for (node, before) in self.cluster.nodes().iter().zip(&self.before) {
            wait::until(&format!("clean {}", node.name()), PATIENCE.saturating_sub(began.elapsed()), || {
                let left: Vec<_> = node.traces().difference(before).cloned().collect();
                if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
            });
        }
    }
}
