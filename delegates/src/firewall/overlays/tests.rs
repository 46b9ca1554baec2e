use super::*;

fn kept(port: u16, bridge: &str, members: &[&str]) -> Kept {
    let members = members.iter().map(|member| member.parse().unwrap()).collect();
    let (underlay, routing) = (Some("eth1".to_owned()), Routing::default());
    Kept { port, bridge: bridge.to_owned(), device: bridge.replace('b', "v"), underlay, members, routing }
}

#[test]
fn a_port_is_guarded_only_while_every_device_on_it_has_known_members() {
    assert_eq!(wanted(&Survey { kept: Vec::new(), others: [4789].into() }), None);
    let two = vec![kept(4789, "bx7", &["192.0.2.2", "2001:db8::2"]), kept(8472, "b7p8472", &["192.0.2.3"])];
    let [ports, v4, v6, underlays, closed, routers, bridges, bridged] =
        wanted(&Survey { kept: two.clone(), others: BTreeSet::new() }).unwrap();
    assert_eq!(ports, [vec![0x12, 0xb5], vec![0x21, 0x18]].into());
    assert_eq!(v4, [vec![0x12, 0xb5, 0, 0, 192, 0, 2, 2], vec![0x21, 0x18, 0, 0, 192, 0, 2, 3]].into());
    assert_eq!((v6.len(), v6.first().map(Vec::len)), (1, Some(20)));
    assert_eq!(underlays, [b"eth1\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()].into());
    assert_eq!((bridges.len(), bridged.len(), bridged.first().map(Vec::len)), (2, 2, Some(32)));
    // Flannel is on 8472 too: its packets are not ours to judge, but our pods stay in their overlay.
    assert_eq!((closed.len(), routers.len()), (2, 0));
    let [ports, v4, _, _, _, _, bridges, _] = wanted(&Survey { kept: two, others: [8472].into() }).unwrap();
    assert_eq!((ports.len(), v4.len(), bridges.len()), (1, 1, 2));
}

#[test]
fn what_a_node_routes_of_an_overlay_decides_where_its_packets_may_go() {
    let of = |routing: Routing| {
        let kept = Kept { routing, ..kept(4789, "bx7", &["192.0.2.2"]) };
        let values = wanted(&Survey { kept: vec![kept], others: BTreeSet::new() }).unwrap();
        let texts = |set: &BTreeSet<Vec<u8>>| -> Vec<String> {
            let text = |bytes: &Vec<u8>| {
                let names =
                    bytes.chunks(IFNAMSIZ).map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
                names.collect::<Vec<_>>().join(">")
            };
            set.iter().map(text).collect()
        };
        let [_, _, _, _, closed, routers, bridges, bridged] = values;
        [closed, routers, bridges, bridged].map(|set| texts(&set).join(" "))
    };
    assert_eq!(of(Routing::default()), ["bx7", "", "bx7", "bx7>bx7"]);
    let l3 = Routing { l3: true, ..Routing::default() };
    assert_eq!(of(l3.clone()), ["bx7 vx7", "", "bx7 vx7", "bx7>bx7 bx7>vx7 vx7>bx7"]);
    let direct = of(Routing { direct: true, ..l3 });
    assert_eq!(direct[3], "bx7>bx7 bx7>eth1 bx7>vx7 eth1>bx7 vx7>bx7");
    let gateway = Routing { gateway: true, ..Routing::default() };
    assert_eq!(of(gateway.clone()), ["", "bx7", "bx7", "bx7>bx7"]);
    assert_eq!(of(Routing { open: true, ..gateway }), ["", "bx7", "", "bx7>bx7"]);
}
