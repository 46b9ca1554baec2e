//! Neighbours that misbehave: one that goes while pods run, one that takes our file again and again, one that rewrites its own during ADDs,
//! and one that hangs or dies in the middle of an ADD. Pods are told why, nothing is left, and nobody has to lend a hand.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use meta_cni_tests::cluster::neighbours::results::Subject;
use meta_cni_tests::cluster::neighbours::{cilium, flannel, kube_router};
use meta_cni_tests::cluster::pods::PATIENCE;
use meta_cni_tests::cluster::{Node, wait};
use nix::sys::signal::Signal;

use crate::scene::{Product, Scene, THREE, TUNNEL};

const OURS: &str = "/etc/cni/net.d/00-meta-cni.conflist";

#[test]
fn flannel_is_uninstalled_while_pods_run() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "flannel, uninstalled while pods run; somebody removes our file every second",
            programs: &["flannel", "flannel's plugin", "coredns"],
            tried_as: "a fault",
            to_set: "nothing",
        },
        install: |cluster| flannel::install(cluster, flannel::Backend::Vxlan),
        start: |node| vec![flannel::start(node)],
        own: &["ip -d link show flannel.1"],
        has_host_ports: true,
        near: TUNNEL,
    });
    scene.pods_with_three_networks();
    our_file_is_removed_every_second(&mut scene);

    scene.end_product();
    for node in scene.cluster.nodes() {
        for file in ["/etc/cni/net.d/10-flannel.conflist", "/opt/cni/bin/flannel", flannel::SUBNET_FILE] {
            fs::remove_file(node.file(file)).unwrap();
        }
        node.space().run("ip link delete flannel.1");
    }
    // What a pod has of it is undone without it.
    scene.delete("new-n1");
    scene.held("uninstalled: pods are deleted without it");
    scene.ask_for("waits", "n1", THREE, false);
    let api = &scene.api;
    wait::until("reason on the Node", PATIENCE, || {
        let node = api.get("/api/v1/nodes/n1").map_err(|refusal| refusal.to_string())?;
        let said = node["status"]["conditions"].to_string();
        if said.contains("10-flannel.conflist") { Ok(()) } else { Err(said) }
    });
    scene.held("the Node is not ready and names the missing file");
    scene.daemons = flannel::install(&scene.cluster, flannel::Backend::Vxlan);
    scene.ready("waits");
    scene.serves("waits", "new-n2");
    scene.delete("waits");
    scene.make("new-n1", "n1", THREE, true);
    scene.held("installed again: pods come");
    scene.goes();
}

fn our_file_is_removed_every_second(scene: &mut Scene) {
    let node = scene.node("n1");
    for _ in 0..8 {
        let _ = fs::remove_file(node.file(OURS));
        thread::sleep(Duration::from_secs(1));
    }
    scene.node_event("n1", "ConfigurationTaken", "another program removed, renamed or changed it");
    wait::until("our file", PATIENCE, || fs::metadata(node.file(OURS)).map(drop).map_err(|e| e.to_string()));
    scene.agents_are_ready();
    scene.make("again", "n1", THREE, false);
    scene.serves("again", "new-n2");
    scene.delete("again");
    scene.held("our file removed every second: an event of the Node, and it comes back");
}

#[test]
fn kube_router_rewrites_its_file_during_adds() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "kube-router, which rewrites its file in place during ADDs and starts anew",
            programs: &["kube-router", "coredns"],
            tried_as: "a fault",
            to_set: "nothing",
        },
        install: kube_router::install,
        start: |node| vec![kube_router::start(node)],
        own: &["ip -4 route show proto 17"],
        has_host_ports: false,
        near: TUNNEL,
    });
    scene.pods_with_three_networks();
    let (file, is_over) = (scene.node("n1").file(kube_router::CONFLIST), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let whole = fs::read(&file).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                // In place: who reads meanwhile finds nothing, then a half.
                for part in [0, whole.len() / 2, whole.len()] {
                    fs::write(&file, &whole[..part]).unwrap();
                    thread::sleep(Duration::from_millis(if part == whole.len() { 150 } else { 50 }));
                }
            }
        });
        for number in 0..6 {
            scene.ask_for(&format!("many{number}"), "n1", THREE, false);
        }
        (0..6).for_each(|number| scene.ready(&format!("many{number}")));
        is_over.store(true, Ordering::Relaxed);
    });
    for number in 0..6 {
        let name = format!("many{number}");
        wait::until(&format!("eth0 and three networks of {name}"), PATIENCE, || match scene.addresses(&name) {
            all if all.len() == 4 => Ok(()),
            few => Err(format!("{few:?}")),
        });
        scene.serves(&name, "new-n2");
        scene.delete(&name);
    }
    scene.held("pods made meanwhile have all their networks");
    scene.both_restart_in_both_orders();
    scene.goes();
}

#[test]
fn cilium_hangs_and_dies_in_the_middle_of_an_add() {
    let mut scene = Scene::new(Product {
        subject: Subject {
            product: "Cilium, whose agent hangs, and dies, in the middle of an ADD",
            programs: &["cilium", "coredns"],
            tried_as: "a fault",
            to_set: "`cni.exclusive=false`",
        },
        install: |cluster| cilium::install(cluster, cilium::Mode::Native, false),
        start: |node| vec![cilium::start(node)],
        own: &["ip -d link show cilium_host"],
        has_host_ports: false,
        near: TUNNEL,
    });
    scene.pods_with_three_networks();

    scene.signal_product(Signal::SIGSTOP);
    scene.ask_for("hangs", "n1", THREE, false);
    scene.event("hangs", "cilium");
    scene.held("an agent that hangs: an event of the pod names it");
    scene.signal_product(Signal::SIGCONT);
    scene.ready("hangs");
    scene.serves("hangs", "new-n2");
    scene.delete("hangs");

    scene.signal_product(Signal::SIGSTOP);
    scene.ask_for("dies", "n1", THREE, false);
    in_the_middle(scene.node("n1"));
    scene.end_product();
    scene.event("dies", "cilium");
    scene.held("an agent that dies: so does the event of that pod");
    scene.start_product();
    scene.ready("dies");
    scene.serves("dies", "new-n2");
    scene.delete("dies");
    scene.held("it comes back: both pods come, nothing is left of their first attempts");
    scene.goes();
}

/// Waits until Cilium's plugin runs.
fn in_the_middle(node: &Node) {
    wait::until("call of cilium-cni", PATIENCE, || {
        let processes = fs::read_dir(node.file("/proc")).unwrap().flatten();
        let mut commands = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        match commands.any(|command| String::from_utf8_lossy(&command).starts_with("/opt/cni/bin/cilium-cni")) {
            true => Ok(()),
            false => Err("none runs".to_owned()),
        }
    });
}
