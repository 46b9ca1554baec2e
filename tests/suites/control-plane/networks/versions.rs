//! An agent that is one version older than the kinds, another node's agent, or the one that wrote its files: what it does not know stays
//! where it is, and changes nothing of what it does.

use std::fs;

use delegates::networks::NetworkId;
use serde_json::{Value, json};

use super::stage::{Stage, path};

fn id() -> NetworkId {
    NetworkId::overlay(4789, 4200)
}

/// Gives the `spec` of a kind a field that this version does not know.
fn extend(stage: &Stage, plural: &str) {
    let api = stage.world.plane.api();
    let kind = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.meta-cni.io");
    let mut versions = api.get(&kind).unwrap()["spec"]["versions"].clone();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["later"] = json!({"type": "string"});
    api.patch(&kind, &json!({"spec": {"versions": versions}})).unwrap();
}

/// Writes the field into an object, once the API server takes it.
fn write_later(stage: &Stage, plural: &str, name: &str) {
    let object = format!("{}/{name}", path(plural));
    stage.until("a", "field of a later version", || {
        let now = stage.world.plane.api().patch(&object, &json!({"spec": {"later": "kept"}}));
        let now = now.map_err(|refusal| refusal.to_string())?;
        if now["spec"]["later"] == "kept" { Ok(()) } else { Err(now.to_string()) }
    });
}

#[test]
fn fields_of_a_later_version_stay_in_objects_that_an_older_agent_changes() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.start_all();
    // Two blocks, of 7 addresses each.
    let ipam = json!({"type": "blocks", "subnet": "10.42.0.0/28", "blockSize": 8});
    stage.define("red", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4200, "ipam": ipam}));
    stage.join("a", "red");
    stage.join("b", "red");
    let (member, claim) = (format!("{}.a", id()), id().to_string());
    let blocks = stage.names("addressblocks");
    assert_eq!(blocks.len(), 2);
    let all = [
        ("overlaymembers", &member),
        ("vniclaims", &claim),
        ("addressblocks", &blocks[0]),
        ("addressblocks", &blocks[1]),
    ];
    ["overlaymembers", "vniclaims", "addressblocks"].iter().for_each(|plural| extend(&stage, plural));
    all.iter().for_each(|(plural, name)| write_later(&stage, plural, name));
    // Half of the other node's block becomes this one's, by changes of both; the member is put right.
    for number in 0..10 {
        stage.take("a", &id(), &format!("c{number}")).unwrap();
    }
    let object = format!("{}/{member}", path("overlaymembers"));
    stage.world.plane.api().patch(&object, &json!({"spec": {"mtu": 1300}})).unwrap();
    stage.until("a", "member as it was", || match &stage.object("overlaymembers", &member)["spec"]["mtu"] {
        mtu if *mtu == 1450 => Ok(()),
        mtu => Err(mtu.to_string()),
    });
    for (plural, name) in all {
        assert_eq!(stage.object(plural, name)["spec"]["later"], "kept", "{plural} {name}");
    }
    let runs = |name: &String| stage.object("addressblocks", name)["spec"]["runs"].as_array().unwrap().len();
    assert!(blocks.iter().map(runs).max() > Some(1), "no block was changed");
}

#[test]
fn files_of_a_later_version_are_read_and_the_node_stays_where_it_was() {
    let mut stage = Stage::new(&["a"]);
    stage.start_all();
    stage.overlay("red", 4200, "10.42.0.0/24");
    stage.join("a", "red");
    stage.take("a", &id(), "c1").unwrap();
    let (before, blocks) = (stage.file("a", &id()).unwrap(), stage.names("addressblocks"));
    stage.kill("a");
    for name in ["network.json", "agent.json"] {
        let file = id().dir(&stage.state_dir("a")).join(name);
        let mut text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        text["later"] = json!({"of": ["another", "version"]});
        fs::write(&file, text.to_string()).unwrap();
    }
    // Also while nobody can be asked.
    stage.world.plane.kill_api();
    stage.start("a");
    stage.join("a", "red");
    assert_eq!(stage.file("a", &id()).unwrap(), before);
    stage.world.plane.start_api();
    stage.take("a", &id(), "c2").unwrap();
    assert_eq!(stage.names("addressblocks"), blocks);
}
