use super::*;

fn kept(port: u16, bridge: &str, members: &[&str]) -> Kept {
    let members = members.iter().map(|member| member.parse().unwrap()).collect();
    Kept { port, bridge: bridge.to_owned(), underlay: Some("eth1".to_owned()), members }
}

#[test]
fn a_port_is_guarded_only_while_every_device_on_it_has_known_members() {
    assert_eq!(wanted(&Survey { kept: Vec::new(), others: [4789].into() }), None);
    let two = vec![kept(4789, "bx7", &["192.0.2.2", "2001:db8::2"]), kept(8472, "b7p8472", &["192.0.2.3"])];
    let [ports, v4, v6, underlays, bridges, bridged] =
        wanted(&Survey { kept: two.clone(), others: BTreeSet::new() }).unwrap();
    assert_eq!(ports, [vec![0x12, 0xb5], vec![0x21, 0x18]].into());
    assert_eq!(v4, [vec![0x12, 0xb5, 0, 0, 192, 0, 2, 2], vec![0x21, 0x18, 0, 0, 192, 0, 2, 3]].into());
    assert_eq!((v6.len(), v6.first().map(Vec::len)), (1, Some(20)));
    assert_eq!(underlays, [b"eth1\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()].into());
    assert_eq!((bridges.len(), bridged.len(), bridged.first().map(Vec::len)), (2, 2, Some(32)));
    // Flannel is on 8472 too: its packets are not ours to judge, but our pods stay in their overlay.
    let [ports, v4, _, _, bridges, _] = wanted(&Survey { kept: two, others: [8472].into() }).unwrap();
    assert_eq!((ports.len(), v4.len(), bridges.len()), (1, 1, 2));
}
