//! Claims of VNIs, and membership.

use std::thread;
use std::time::Duration;

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::stage::{Stage, address, path, resolve};
use crate::world::shipped;

fn id() -> NetworkId {
    NetworkId::overlay(4789, 4200)
}

#[test]
fn two_nodes_join_with_one_claim_and_each_is_told_of_the_other() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    // Both at once: one claim, two members, two blocks.
    let sockets = ["a", "b"].map(|node| stage.dir(node).join("run/agent.sock"));
    let answers: Vec<Value> = thread::scope(|scope| {
        let asked = sockets.each_ref().map(|socket| scope.spawn(|| resolve(socket, "red", 10_000)));
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer["kind"] == "resolved"), "{answers:?}\n{}", stage.log("a"));
    assert_eq!(stage.names("vniclaims"), ["4789-4200"]);
    assert_eq!(stage.names("overlaymembers"), ["4789-4200.a", "4789-4200.b"]);
    assert_eq!(stage.names("addressblocks").len(), 2);
    let definition = stage
        .world
        .plane
        .api()
        .get("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/red")
        .unwrap();
    let claim = stage.object("vniclaims", "4789-4200");
    let owner = json!({"namespace": "default", "name": "red", "uid": definition["metadata"]["uid"]});
    assert_eq!((&claim["spec"]["owner"], &claim["spec"]["mtu"]), (&owner, &json!(1450)));
    let node = stage.world.plane.api().get("/api/v1/nodes/a").unwrap();
    let reference = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": node["metadata"]["uid"]}]);
    assert_eq!(stage.object("overlaymembers", "4789-4200.a")["metadata"]["ownerReferences"], reference);

    for (node, other, number) in [("a", "b", 1), ("b", "a", 0)] {
        let member = stage.until(node, "other member", || {
            let overlay = stage.file(node, &id()).and_then(|file| file.overlay).ok_or("no membership")?;
            assert_eq!(overlay.mtu, 1450);
            let member = overlay.members.into_iter().next().ok_or("nobody")?;
            if member.slots.is_empty() { Err("no slots".to_owned()) } else { Ok(member) }
        });
        assert_eq!((member.node.as_str(), member.vtep.to_string()), (other, address(number)));
        assert_eq!(member.slots[0].count, 64);
    }
    // A second pod costs no call: the API server may be gone.
    stage.world.plane.kill_api();
    stage.join("a", "red");
    stage.world.plane.start_api();
}

#[test]
fn another_definition_with_the_pair_is_refused_and_told_the_owner_until_it_is_shared() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.join("a", "red");
    stage.overlay("blue", 4200, "10.42.0.0/16");
    for node in ["a", "b"] {
        let refusal = stage.refused(node, "blue");
        for word in ["default/blue", "vni: got 4200", "UDP port 4789", "default/red owns it", "sharedWith"] {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    }
    // It never comes to a file.
    assert_eq!(stage.file("b", &id()), None);
    let shared = json!({
        "cniVersion": "1.1.0", "type": "vxlan", "vni": 4200, "sharedWith": ["default/blue"],
        "ipam": {"type": "blocks", "subnet": "10.42.0.0/16"},
    });
    stage.define("red", shared);
    for node in ["a", "b"] {
        stage.until(node, "shared network", || {
            let answer = stage.resolve(node, "blue");
            if answer["kind"] == "resolved" { Ok(()) } else { Err(answer.to_string()) }
        });
    }
    // Not any more.
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.until("b", "refusal", || {
        let answer = stage.resolve("b", "blue");
        if answer["kind"] == "refused" { Ok(()) } else { Err(answer.to_string()) }
    });
}

#[test]
fn a_definition_with_the_vni_of_a_danm_network_is_told_whether_that_is_there() {
    let mut stage = Stage::new(&["a"]);
    let plane = &stage.world.plane;
    // For the webhook's part of the rights.
    plane.kubectl(["create", "namespace", "meta-cni"]);
    for file in ["crds", "rbac"] {
        plane.kubectl(["apply", "-f", &shipped(&format!("dialects/danm/{file}.yaml"))]);
    }
    for group in ["danm.k8s.io", "danm.io"] {
        let crd = format!("crd/danmnets.{group}");
        plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
    }
    let api = plane.api();
    let metadata = json!({"namespace": "default", "name": "internal"});
    let spec = json!({"NetworkID": "internal", "Options": {"host_device": "under", "vxlan": 4200}});
    let network = json!({"apiVersion": "danm.io/v1", "kind": "DanmNet", "metadata": metadata, "spec": spec});
    let uid = api.apply(&network).unwrap()["metadata"]["uid"].take();
    let owner = json!({"namespace": "default", "name": "internal.danmnet", "uid": uid});
    let metadata = json!({"name": "4789-4200", "labels": {"meta-cni.io/network": "4789-4200"}});
    let spec = json!({"vni": 4200, "port": 4789, "owner": owner});
    api.apply(&json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "VniClaim", "metadata": metadata, "spec": spec}))
        .unwrap();
    stage.start_all();
    stage.overlay("blue", 4200, "10.42.0.0/16");
    let refusal = stage.refused("a", "blue");
    assert!(refusal.contains("default/internal.danmnet owns it"), "{refusal}");
    api.delete("/apis/danm.io/v1/namespaces/default/danmnets/internal").unwrap();
    stage.until("a", "refusal that says so", || match stage.refused("a", "blue") {
        refusal if refusal.contains("default/internal.danmnet owned it and is gone") => Ok(()),
        refusal => Err(refusal),
    });
}

#[test]
fn an_overlay_that_the_underlay_cannot_carry_and_a_vni_of_another_link_are_refused() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    let big = json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 7, "mtu": 8950});
    stage.define("big", big);
    let refusal = stage.refused("a", "big");
    for word in ["mtu: got 8950", "at most 1450", "under (MTU 1500)", "node a"] {
        assert!(refusal.contains(word), "{word}: {refusal}");
    }
    stage.world.plane.space().run("ip link add flannel.1 type vxlan id 1 dstport 8472 dev under");
    stage.define("flat", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 1, "port": 8472}));
    let refusal = stage.refused("a", "flat");
    assert!(refusal.contains("vni: got 1") && refusal.contains("flannel.1"), "{refusal}");
    assert_eq!((stage.names("vniclaims").len(), stage.names("overlaymembers").len()), (0, 0));
    // The first one pins what the others must carry.
    stage.define("lan", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 9}));
    stage.join("a", "lan");
    stage.world.plane.space().run("ip link set under mtu 1400");
    let refusal = stage.refused("b", "lan");
    for word in ["mtu: got 1450", "at most 1350", "VniClaim 4789-9 pins 1450", "node b"] {
        assert!(refusal.contains(word), "{word}: {refusal}");
    }
    assert_eq!(stage.names("overlaymembers"), ["4789-9.a"]);
    // The pod was told; whoever looks after the node is told too, once.
    stage.refused("b", "lan");
    let told = stage.until("b", "event of the Node", || match stage.node_events("UnderlayMTUTooSmall") {
        told if told.iter().any(|one| one.contains("4789-9 has MTU 1450")) => Ok(told),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(told.iter().filter(|one| one.contains("4789-9")).count(), 1, "{told:?}");
}

#[test]
fn a_node_leaves_after_the_grace_and_comes_back() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.grace = 2;
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.join("a", "red");
    stage.take("a", &id(), "c1").unwrap();
    stage.join("b", "red");
    stage.until("b", "end of an unused membership", || match stage.names("overlaymembers").as_slice() {
        [one] if one == "4789-4200.a" && stage.names("addressblocks").len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(stage.file("b", &id()).is_none());
    assert!(!id().dir(&stage.state_dir("b")).join("agent.json").exists());
    stage.until("a", "news of it", || match stage.file("a", &id()).and_then(|file| file.overlay) {
        Some(overlay) if overlay.members.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // One that has a pod stays, also over a restart that finds the API server away.
    stage.kill("a");
    stage.world.plane.kill_api();
    stage.start("a");
    stage.join("a", "red");
    stage.world.plane.start_api();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(stage.names("overlaymembers"), ["4789-4200.a"]);
    stage.give_back("a", &id(), "c1");
    stage.until("a", "end of everything but the claim", || {
        let left = [stage.names("overlaymembers"), stage.names("addressblocks")].concat();
        if left.is_empty() && stage.file("a", &id()).is_none() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!(stage.names("vniclaims"), ["4789-4200"]);
    stage.join("b", "red");
}

#[test]
fn what_goes_with_a_deleted_node_is_made_again_in_the_name_of_the_next_one() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/24");
    for node in ["a", "b"] {
        stage.join(node, "red");
        stage.take(node, &id(), "c1").unwrap();
    }
    let block = stage
        .names("addressblocks")
        .into_iter()
        .find(|name| stage.object("addressblocks", name)["spec"]["runs"][0]["node"] == "a");
    let block = block.unwrap();
    let api = stage.world.plane.api();
    api.delete("/api/v1/nodes/a").unwrap();
    let node = api.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})).unwrap();
    // As the garbage collector does.
    stage.delete("overlaymembers", "4789-4200.a");
    stage.delete("addressblocks", &block);
    for (plural, name) in [("overlaymembers", "4789-4200.a"), ("addressblocks", block.as_str())] {
        stage.until("a", "object of the next Node", || {
            let object = stage.world.plane.api().get(&format!("{}/{name}", path(plural))).map_err(|e| e.to_string())?;
            let uid = &object["metadata"]["ownerReferences"][0]["uid"];
            if *uid == node["metadata"]["uid"] { Ok(()) } else { Err(object.to_string()) }
        });
    }
    assert!(stage.held("a", &id()).len() == 1 && stage.slots("a", &id()) > 0);
}

#[test]
fn without_the_kinds_a_need_is_refused_by_name_and_everything_else_goes_on() {
    let mut stage = Stage::without_kinds(&["a"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/16");
    stage.define("plain", json!({"cniVersion": "1.1.0", "type": "one"}));
    let lacks = |stage: &Stage, plural: &str| {
        let refusal = stage.refused("a", "red");
        let want = format!("the API server has no {plural}.meta-cni.io: apply deploy/crds");
        assert!(refusal.contains("default/red") && refusal.contains(&want), "{refusal}");
    };
    lacks(&stage, "vniclaims");
    stage.join("a", "plain");
    stage.install_kinds_but("overlaymembers");
    lacks(&stage, "overlaymembers");
    stage.install_kinds();
    stage.world.plane.kubectl(["delete", "crd", "addressblocks.meta-cni.io"]);
    lacks(&stage, "addressblocks");
    stage.install_kinds();
    stage.join("a", "red");
}

#[test]
fn an_agent_that_is_killed_anywhere_on_its_way_in_ends_where_one_that_lives_does() {
    let mut stage = Stage::new(&["a"]);
    stage.grace = 2;
    stage.overlay("red", 4200, "10.42.0.0/24");
    for round in 0..8_u64 {
        stage.start("a");
        let socket = stage.dir("a").join("run/agent.sock");
        thread::scope(|scope| {
            scope.spawn(|| {
                // The answer may never come.
                let _ = std::panic::catch_unwind(|| resolve(&socket, "red", 5000));
            });
            thread::sleep(Duration::from_millis(10 + 25 * round));
            stage.kill("a");
        });
    }
    stage.start("a");
    stage.until("a", "end of everything but the claim", || {
        let left = [stage.names("overlaymembers"), stage.names("addressblocks")].concat();
        let dir = id().dir(&stage.state_dir("a")).join("agent.json").exists();
        if left.is_empty() && !dir { Ok(()) } else { Err(format!("{left:?}, notes: {dir}")) }
    });
    stage.join("a", "red");
    assert_eq!(stage.names("addressblocks").len(), 1);
}
