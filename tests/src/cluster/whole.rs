//! A control plane with its controllers, and nodes.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::Api;
use super::control_plane::{ControlPlane, Settings};
use super::node::Node;
use super::place::{Place, remove};
use super::programs::{CONTROL_PLANE, NODES, Programs};
use super::service::Service;
use super::space::Life;
use super::{image, place, progress, wait};
use crate::{peers, program};

const START: Duration = Duration::from_secs(180);

/// All of Kubernetes. Everything is gone when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they go: nothing is to be missed by those that watch it.
    controller_manager: Service,
    scheduler: Service,
    nodes: Vec<Node>,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts a cluster with this many nodes, `n1` and up, whose default network is the reference bridge.
    pub fn start(nodes: u8) -> Self {
        Self::start_with(nodes, Settings::default())
    }

    /// Starts a cluster; the settings' names of nodes are set here.
    pub fn start_with(nodes: u8, mut settings: Settings) -> Self {
        let programs = Programs::find(&[CONTROL_PLANE, NODES].concat());
        peers::dir();
        settings.nodes = (1..=nodes).map(Node::name_of).collect();
        let lasting = settings.lasting;
        let place = Arc::new(settings.name.as_deref().map_or_else(Place::fresh, Place::named));
        let (plane, mut nodes) = thread::scope(|scope| {
            progress(&format!("cluster {}: nodes {}", place.name(), settings.nodes.join(", ")));
            let archive = scope.spawn(|| image::make(&place.path("")));
            let booting: Vec<_> = (1..=nodes)
                .map(|number| {
                    let life = if lasting { Life::Own(place.lock()) } else { Life::Ours };
                    let (place, programs) = (&place, &programs);
                    scope.spawn(move || Node::boot(number, place, programs, life))
                })
                .collect();
            let plane = ControlPlane::start_in(Arc::clone(&place), settings, programs.clone());
            let nodes: Vec<Node> = booting.into_iter().map(|node| node.join().unwrap()).collect();
            let archive = archive.join().unwrap();
            nodes.iter().for_each(|node| node.import(&archive));
            (plane, nodes)
        });
        let service = |name: &str, flags: &[String]| plane.controller(name, flags);
        let pki = |file: &str| plane.place().path("pki").join(file).display().to_string();
        let controller_manager = service(
            "kube-controller-manager",
            &[
                "--use-service-account-credentials=true".to_owned(),
                format!("--root-ca-file={}", pki("apiserver.crt")),
                format!("--service-account-private-key-file={}", pki("sa.key")),
                "--allocate-node-cidrs=false".to_owned(),
            ],
        );
        let scheduler = service("kube-scheduler", &[]);
        let count = u8::try_from(nodes.len()).unwrap();
        for node in &mut nodes {
            // The subnet is ours to say: routes between the nodes were made for it.
            let spec = json!({"podCIDR": node.pod_subnet(), "podCIDRs": [node.pod_subnet()]});
            let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}, "spec": spec});
            plane.api().post("/api/v1/nodes", &object).unwrap();
            node.wire(&plane, count);
            node.join(&plane);
        }
        let mut cluster = Self { controller_manager, scheduler, nodes, plane };
        cluster.wait_until_ready();
        progress(&format!("cluster {}: ready", cluster.plane.place().name()));
        cluster
    }

    /// Waits until every node takes pods and the namespace `default` has its service account.
    pub fn wait_until_ready(&mut self) {
        let api = self.plane.api();
        wait::until("cluster that is ready", START, || {
            self.check()?;
            for node in &self.nodes {
                let object = api.get(&format!("/api/v1/nodes/{}", node.name())).map_err(|e| e.to_string())?;
                takes_pods(&object, &node.boot_id()).map_err(|why| format!("{}: {why}", node.name()))?;
            }
            api.get("/api/v1/namespaces/default/serviceaccounts/default").map(drop).map_err(|e| e.to_string())
        });
    }

    /// Ok while all programs run; else how one ended and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.controller_manager.check()?;
        self.scheduler.check()?;
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    /// The control plane.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The control plane, to be stopped, slowed or cut off.
    pub fn plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.plane
    }

    /// A client with the administrator's rights that bad weather between the nodes and the API server does not touch.
    pub fn api(&self) -> Api {
        self.plane.api()
    }

    /// The nodes, `n1` first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node, to have its programs killed.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// Switches a node off and on again: every program, container and link is gone, the disks stay, the boot id is another.
    pub fn reboot(&mut self, index: usize) {
        let count = u8::try_from(self.nodes.len()).unwrap();
        self.nodes[index].reboot(&self.plane, count);
        self.wait_until_ready();
    }

    /// Brings an image to every node.
    pub fn import(&self, archive: &Path) {
        self.nodes.iter().for_each(|node| node.import(archive));
    }

    /// Leaves it running when this process ends; for a cluster that was started to last.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

fn takes_pods(node: &Value, boot_id: &str) -> Result<(), String> {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.clone().find(|condition| condition["type"] == "Ready");
    match ready {
        _ if node["status"]["nodeInfo"]["bootID"] != boot_id => {
            Err("kubelet of this boot did not report yet".to_owned())
        }
        Some(ready) if ready["status"] != "True" => Err(ready["message"].to_string()),
        None => Err("no condition Ready".to_owned()),
        Some(_) if node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty()) => {
            Err(format!("tainted: {}", node["spec"]["taints"]))
        }
        Some(_) => Ok(()),
    }
}

/// Takes down a cluster that was left running, or what is left of one. False when there was none.
pub fn take_down(name: &str) -> bool {
    let dir = place::base().join(name);
    if !dir.exists() {
        return false;
    }
    for holder in place::holders(&dir) {
        holder.end();
    }
    remove(&dir, name);
    let left = dir.exists();
    assert!(
        !left,
        "{} is still there; who uses it? {}",
        dir.display(),
        program::run("ls", ["-A", dir.to_str().unwrap()])
    );
    true
}
