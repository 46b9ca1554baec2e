//! Configurations of a node's programs.

use serde_json::{Value, json};

use super::IMAGE;

/// Port of containerd's metrics, on the node's loopback.
pub(super) const METRICS_PORT: u16 = 1338;

/// containerd 2.4. AppArmor and lower OOM scores need rights that root of a container lacks; native needs no overlayfs
/// below it, which a container may refuse.
pub(super) fn containerd() -> String {
    format!(
        r#"version = 3
[metrics]
address = "127.0.0.1:{METRICS_PORT}"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{IMAGE}"
"#
    )
}

/// The default network before anything is installed: the reference bridge with what hostPort and bandwidth need.
pub(super) fn bridge(subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]}},
            {"type": "portmap", "backend": "nftables", "snat": true, "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ]
    })
}

/// kubelet for a machine that it does not own: no control groups but one below `cgroup`, no eviction, no garbage
/// collection of images.
pub(super) fn kubelet(cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        // Logs and exec through the API server, without certificates for it.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "staticPodPath": "/etc/kubernetes/manifests",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [], "failSwapOn": false, "localStorageCapacityIsolation": false, "oomScoreAdj": 0,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        // Without it every pod has an event about it. The tier `neighbours` has a server there.
        "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local", "resolvConf": "", "maxPods": 250, "kubeAPIQPS": 200, "kubeAPIBurst": 400,
        "fileCheckFrequency": "1s",
    })
}

/// Flags of kubelet.
pub(super) fn kubelet_flags(name: &str, address: &str) -> Vec<String> {
    vec![
        "--config=/etc/kubernetes/kubelet.json".to_owned(),
        "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig".to_owned(),
        format!("--hostname-override={name}"),
        format!("--node-ip={address}"),
    ]
}

/// Flags of kube-proxy. The limit of tracked connections is the machine's.
pub(super) fn kube_proxy_flags(name: &str) -> Vec<String> {
    vec![
        "--kubeconfig=/etc/kubernetes/proxy.kubeconfig".to_owned(),
        format!("--hostname-override={name}"),
        "--proxy-mode=nftables".to_owned(),
        "--conntrack-max-per-core=0".to_owned(),
        "--cluster-cidr=10.244.0.0/16".to_owned(),
        "--oom-score-adj=0".to_owned(),
    ]
}
