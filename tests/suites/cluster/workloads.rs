//! The kinds of workloads, and what pods ask of their default network.

use std::fs;
use std::time::Duration;

use meta_cni_tests::cluster::node::IMAGE;
use meta_cni_tests::cluster::wait;
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, is_ready, status_of};

impl Bed {
    /// A Deployment of pods with these networks.
    pub fn deployment(&self, name: &str, replicas: u32, networks: &str) -> Value {
        let mut pod = self.pod(name, None);
        pod["metadata"] = json!({"labels": {"app": name}, "annotations": {NETWORKS: networks}});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": self.namespace, "name": name},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": pod["metadata"], "spec": pod["spec"]},
            },
        })
    }

    /// Pods of a Deployment or a Job that are ready and have a status, when there are `count`.
    pub fn replicas(&self, label: &str, count: usize) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/{}/pods?labelSelector={label}", self.namespace);
        wait::until(&format!("{count} pods {label}"), PATIENCE, || {
            let pods = self.api.list(&path);
            let good = pods.iter().filter(|pod| is_ready(pod) && status_of(pod).is_some()).count();
            if good == count && pods.len() == count {
                Ok(pods)
            } else {
                Err(format!("{good} of {} are ready", pods.len()))
            }
        })
    }
}

#[test]
fn a_deployment_is_scaled_up_and_down_and_keeps_its_addresses_apart() {
    let bed = Bed::new("deployment");
    bed.lan("a", 120);
    bed.lan("b", 121);
    bed.api.apply(&bed.deployment("web", 12, "a,b")).unwrap();
    let pods = bed.replicas("app=web", 12);
    let mut held: Vec<String> = pods
        .iter()
        .flat_map(|pod| {
            let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
            status_of(pod).unwrap().into_iter().map(move |entry| format!("{node} {}", entry["ips"][0]))
        })
        .collect();
    held.sort();
    let all = held.len();
    held.dedup();
    assert_eq!((held.len(), all), (36, 36), "{held:?}");
    bed.api.patch("/apis/apps/v1/namespaces/deployment/deployments/web", &json!({"spec": {"replicas": 0}})).unwrap();
    bed.replicas("app=web", 0);
    bed.clear();
}

#[test]
fn a_static_pod_gets_its_networks() {
    let bed = Bed::new("static");
    bed.lan("lan", 122);
    // kubelet reads it a moment before the agent's watch may know the definition.
    let file = bed.node("n2").file("/etc/kubernetes/manifests/web.json");
    fs::write(&file, bed.pod_with("web", None, "lan").to_string()).unwrap();
    let status = bed.status("web-n2");
    assert_eq!(status.len(), 2, "{status:?}");
    assert_eq!(status[1]["name"], "static/lan");
    fs::remove_file(&file).unwrap();
    bed.gone(&bed.path("web-n2"));
    bed.clear();
}

#[test]
fn a_pod_on_the_hosts_network_is_left_alone() {
    let bed = Bed::new("host");
    bed.lan("lan", 123);
    let mut pod = bed.pod_with("p", Some("n1"), "lan");
    pod["spec"]["hostNetwork"] = json!(true);
    bed.apply_unasked(&pod);
    let pod = bed.ready("p");
    assert_eq!(pod["status"]["podIP"], bed.node("n1").address());
    assert_eq!(status_of(&pod), None);
    bed.clear();
}

#[test]
fn a_job_ends_and_its_pods_leave_nothing() {
    let bed = Bed::new("job");
    bed.lan("lan", 124);
    let mut pod = bed.pod_with("p", None, "lan");
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["containers"][0]["command"] = json!(["ip", "link", "show", "net1"]);
    let template = json!({"metadata": {"annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "job", "name": "j"},
        "spec": {"completions": 4, "parallelism": 2, "template": template},
    });
    bed.api.apply(&job).unwrap();
    wait::until("end of the job", PATIENCE, || {
        let job = bed.api.get("/apis/batch/v1/namespaces/job/jobs/j").map_err(|e| e.to_string())?;
        if job["status"]["succeeded"] == 4 { Ok(()) } else { Err(job["status"].to_string()) }
    });
    bed.clear();
}

#[test]
fn a_host_port_leads_to_its_pod() {
    let bed = Bed::new("ports");
    bed.lan("lan", 125);
    let mut pod = bed.pod_with("web", Some("n1"), "lan");
    pod["spec"]["containers"] = json!([{
        "name": "main", "image": IMAGE, "command": ["sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp"],
        "ports": [{"containerPort": 80, "hostPort": 8080}],
    }]);
    bed.api.apply(&pod).unwrap();
    bed.status("web");
    bed.api.apply(&bed.pod("client", Some("n2"))).unwrap();
    bed.ready("client");
    let url = format!("http://{}:8080/index.html", bed.node("n1").address());
    let answer = wait::until("answer", Duration::from_secs(10), || {
        let mut kubectl = bed.cluster.plane().kubectl_command();
        let output = kubectl
            .args(["exec", "-n", "ports", "client", "--", "timeout", "2", "wget", "-qO-", &url])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    assert_eq!(answer, b"hello\n");
    bed.clear();
}

#[test]
fn bandwidth_annotations_shape_the_default_interface() {
    let bed = Bed::new("shaped");
    bed.lan("lan", 126);
    let mut pod = bed.pod_with("p", Some("n1"), "lan");
    pod["metadata"]["annotations"]["kubernetes.io/ingress-bandwidth"] = json!("10M");
    pod["metadata"]["annotations"]["kubernetes.io/egress-bandwidth"] = json!("20M");
    bed.api.apply(&pod).unwrap();
    bed.status("p");
    let shaped = bed.node("n1").space().run("tc qdisc");
    for rate in ["rate 10Mbit", "rate 20Mbit"] {
        assert!(shaped.contains(rate), "no {rate} in {shaped}");
    }
    bed.clear();
}
