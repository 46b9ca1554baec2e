//! Pods land on nodes that can serve their networks, by a switch of agent and webhook.

use meta_cni_tests::cluster::{Cluster, wait};
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::bed::{
    PATIENCE, definition, deploy, events, image, install, namespace, pod, ready, wait_for_agents, wait_for_webhook,
};

const NAMESPACE: &str = "scheduling";
const SWITCH: &str = "META_CNI_NODE_LABELS=true";

fn asks(name: &str, network: &str) -> Value {
    let mut pod = pod(NAMESPACE, name, None);
    pod["metadata"]["annotations"][NETWORKS] = json!(network);
    pod
}

fn macvlan(master: &str) -> String {
    json!({
        "cniVersion": "1.1.0", "type": "macvlan", "master": master, "ipam": {"type": "host-local", "subnet": "10.150.0.0/24"},
    })
    .to_string()
}

#[test]
fn a_pod_lands_where_the_master_of_its_network_is() {
    let mut cluster = Cluster::start(2);
    let api = cluster.api();
    namespace(&api, NAMESPACE);
    cluster.nodes()[1].space().run("ip tuntap add dev lab0 mode tap");
    cluster.import(&image());
    install(&cluster);
    let plane = cluster.plane();
    for file in ["rbac", "policy"] {
        plane.kubectl(["apply", "-f", &deploy(&format!("node-labels/{file}.yaml"))]);
    }
    plane.kubectl(["set", "env", "--namespace=kube-system", "daemonset/meta-cni", "--containers=agent", SWITCH]);
    plane.kubectl(["set", "env", "--namespace=meta-cni", "deployment/meta-cni-webhook", SWITCH]);
    wait_for_agents(&mut cluster);
    wait_for_webhook(&cluster);
    let labels = |node: &str| {
        let node = api.get(&format!("/api/v1/nodes/{node}")).map_err(|e| e.to_string())?;
        Ok::<_, String>(node["metadata"]["labels"].clone())
    };
    wait::until("labels of both nodes", PATIENCE, || {
        let (first, second) = (labels("n1")?, labels("n2")?);
        let have = |labels: &Value, key: &str| labels[format!("meta-cni.io/{key}")] == "true";
        let is_so = have(&second, "link-lab0")
            && !have(&first, "link-lab0")
            && [&first, &second]
                .into_iter()
                .all(|labels| have(labels, "driver-macvlan") && !have(labels, "driver-vlan"));
        if is_so { Ok(()) } else { Err(format!("{first}\n{second}")) }
    });

    for (name, master) in [("lab", "lab0"), ("lost", "lab9")] {
        api.apply(&definition(NAMESPACE, name, &macvlan(master))).unwrap();
    }
    for name in ["a", "b", "c"] {
        api.apply(&asks(name, "lab")).unwrap();
    }
    for name in ["a", "b", "c"] {
        let pod = ready(&api, NAMESPACE, name);
        assert_eq!(pod["spec"]["nodeName"], "n2", "{name}");
        assert_eq!(pod["spec"]["nodeSelector"]["meta-cni.io/link-lab0"], "true");
    }
    // No node has it: the scheduler says so, and no node is asked to attach what it cannot.
    api.apply(&asks("nowhere", "lost")).unwrap();
    wait::until("word of the scheduler", PATIENCE, || {
        let events = events(&api, NAMESPACE, "nowhere");
        if events.contains("didn't match Pod's node affinity/selector") { Ok(()) } else { Err(events) }
    });
    cluster.nodes()[0].space().run("ip tuntap add dev lab9 mode tap");
    let pod = ready(&api, NAMESPACE, "nowhere");
    assert_eq!(pod["spec"]["nodeName"], "n1", "the node that has it now");
}
