//! Claims, members and the MTU of several nodes.

use super::*;

#[test]
fn two_nodes_that_claim_a_pair_at_once_have_one_claim() {
    let ask = overlay("");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    world.hear("a");
    world.hear("b");
    for node in ["a", "b"] {
        world.run(node, Some(ask.clone())).unwrap();
    }
    assert_eq!(world.server.claim.as_ref().unwrap().spec.owner.uid, "uid-red");
    world.hear("a");
    world.run("a", None).unwrap();
    let members = world.nodes["a"].file.as_ref().unwrap().overlay.as_ref().unwrap().members.clone();
    assert_eq!(members.len(), 1);
    assert_ne!(members[0].mac, world.nodes["a"].file.as_ref().unwrap().overlay.as_ref().unwrap().mac);
    let other = Ask { reference: reference("blue"), ..ask };
    let refusal = world.run("b", Some(other)).unwrap_err();
    assert!(refusal.contains("shop/blue") && refusal.contains("shop/red owns it"), "{refusal}");
}

#[test]
fn what_is_left_half_way_is_given_back_and_an_overlay_is_left_whole() {
    let ask = overlay(r#","ipam":{"type":"blocks","subnet":"10.0.0.0/24"}"#);
    for kill in 0..14 {
        let mut world = World::new(&ask.need.id, &["a"]);
        let _ = world.steps("a", Some(ask.clone()), kill);
        world.restart("a");
        world.nodes.get_mut("a").unwrap().is_idle = true;
        world.run("a", None).unwrap();
        let (server, node) = (&world.server, &world.nodes["a"]);
        assert!(server.members.is_empty() && server.blocks.is_empty(), "killed behind step {kill}");
        assert!(node.file.is_none() && node.notes.is_none(), "killed behind step {kill}");
        // And once more.
        world.nodes.get_mut("a").unwrap().is_idle = false;
        world.run("a", Some(ask.clone())).unwrap();
        assert_eq!((world.server.members.len(), world.server.blocks.len()), (1, 1));
    }
}

#[test]
fn a_node_that_carries_less_does_not_join_and_an_mtu_changes_while_nobody_is_in() {
    let ask = overlay("");
    let mut world = World::new(&ask.need.id, &["a", "b"]);
    world.run("a", Some(ask.clone())).unwrap();
    world.nodes.get_mut("b").unwrap().mtu = 1350;
    let refusal = world.run("b", Some(ask.clone())).unwrap_err();
    assert!(refusal.contains("mtu: got 1450, want at most 1350") && refusal.contains("pins 1450"), "{refusal}");
    let smaller = overlay(r#","mtu":1300"#);
    let refusal = world.run("a", Some(smaller.clone())).unwrap_err();
    assert!(refusal.contains("mtu: got 1300, want 1450"), "{refusal}");
    world.nodes.get_mut("a").unwrap().is_idle = true;
    world.run("a", None).unwrap();
    world.restart("b");
    world.run("b", Some(smaller)).unwrap();
    assert_eq!(world.server.claim.as_ref().unwrap().spec.mtu, Some(1300));
    assert_eq!(world.nodes["b"].file.as_ref().unwrap().overlay.as_ref().unwrap().mtu, 1300);
}

#[test]
fn a_node_stays_in_the_mode_in_which_it_joined_and_gets_a_gateway_when_one_is_asked_for() {
    let pool = r#","ipam":{"type":"blocks","subnet":"10.0.0.0/24"}"#;
    let ask = overlay(&format!(r#"{pool},"mode":"l3""#));
    let mut world = World::new(&ask.need.id, &["n1"]);
    let routing = |world: &World| world.nodes["n1"].file.as_ref().unwrap().overlay.as_ref().unwrap().routing.clone();
    world.run("n1", Some(ask)).unwrap();
    assert!(routing(&world).l3);
    world.run("n1", None).unwrap();
    assert!(routing(&world).l3, "a look without an ADD changes nothing");
    // The plugin tells the pod that the mode is another one.
    world.run("n1", Some(overlay(pool))).unwrap();
    assert!(routing(&world).l3);

    let ask = overlay(pool);
    let mut world = World::new(&ask.need.id, &["n1"]);
    world.run("n1", Some(ask)).unwrap();
    assert!(!routing(&world).gateway);
    world.run("n1", Some(overlay(&format!(r#"{pool},"isGateway":true"#)))).unwrap();
    let with = routing(&world);
    assert_eq!((with.gateway, with.gateways), (true, vec!["10.0.0.1/24".parse().unwrap()]));
    world.run("n1", Some(overlay(pool))).unwrap();
    assert!(routing(&world).gateway, "pods that have the gateway keep it");
}
