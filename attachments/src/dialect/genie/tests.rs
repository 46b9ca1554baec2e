use super::*;

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

fn pod(genie: &Genie, annotations: &[(&str, &'static str)]) -> Result<Option<PodList>, String> {
    let annotation = |key: &str| annotations.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
    genie.read_pod(annotation, &"shop".parse().unwrap()).map_err(|finding| finding.to_string())
}

/// `target interface` of each element.
fn elements(list: &PodList) -> Vec<String> {
    let each = |one: &NetworkSelection| format!("{} {}", one.target, one.interface.as_ref().unwrap());
    list.elements.iter().map(each).collect()
}

fn cni(text: &'static str) -> Result<Vec<String>, String> {
    pod(&Genie::default(), &[(CNI, text)]).map(|list| elements(&list.unwrap()))
}

/// The lists of CNI-Genie's end-to-end and unit tests.
#[test]
fn lists_read_as_in_their_own_tests() {
    for name in ["calico", "romana", "weave", "bridge", "macvlan", "sriov", "canal"] {
        assert_eq!(cni(name).unwrap(), [format!("{name} eth0")]);
    }
    for (text, want) in [
        ("flannel,weave", &["flannel eth0", "weave eth1"][..]),
        ("weave,bridge", &["weave eth0", "bridge eth1"]),
        ("flannel,flannel", &["flannel eth0", "flannel eth1"]),
        ("flannel,weave,flannel", &["flannel eth0", "weave eth1", "flannel eth2"]),
        ("flannel, weave, abc, flannel", &["flannel eth0", "weave eth1", "abc eth2", "flannel eth3"]),
        ("flannel,weave@eth4,flannel@eth3", &["flannel eth0", "weave eth4", "flannel eth3"]),
        ("flannel,weave@eth4,flannel@eth5, flannel", &["flannel eth0", "weave eth4", "flannel eth5", "flannel eth1"]),
        ("a@eth1,b", &["a eth1", "b eth0"]),
        (" a @ eth0 @junk, b@", &["a eth0", "b eth1"]),
    ] {
        assert_eq!(cni(text).unwrap(), want, "{text}");
    }
}

#[test]
fn what_is_no_list_is_refused_with_its_place() {
    for (text, said) in [
        ("a@eth1,b@eth1", r#"cni[1]: got eth1, want an interface that no other entry asks for"#),
        ("a@eth1", "cni: got eth1, want an entry that is eth0: the runtime needs one"),
        ("a,,b", r#"cni[1]: got "", want "#),
        ("a,../b", r#"cni[1]: got "../b", want "#),
        ("a,b@sixteen-bytes-xx", r#"cni[1]: got "sixteen-bytes-xx", want an interface name"#),
        ("genie", r#"cni[0]: got "genie", want the name of a network: this is a meta plugin"#),
        ("a,meta-cni", r#"cni[1]: got "meta-cni", want the name of a network: this is a meta plugin"#),
    ] {
        let refusal = cni(text).unwrap_err();
        assert!(refusal.starts_with(said), "{text}: {refusal}");
    }
}

#[test]
fn a_blank_list_means_logical_networks_or_the_least_busy_one() {
    let read = |annotations: &[(&str, &'static str)]| pod(&Genie::default(), annotations).map(Option::unwrap);
    for blank in ["", " "] {
        let list = read(&[(CNI, blank), (NETWORKS, "net1@eth0, net2:eth4,net3")]).unwrap();
        let want = ["Logicalnetwork shop/net1 eth0", "Logicalnetwork shop/net2 eth4", "Logicalnetwork shop/net3 eth1"];
        assert_eq!((list.key, elements(&list)), (NETWORKS, want.map(str::to_owned).into()));
        for open in [read(&[(CNI, blank)]).unwrap(), read(&[(CNI, blank), (NETWORKS, " ")]).unwrap()] {
            assert!(open.is_open && open.elements.is_empty());
        }
    }
    let refusal = read(&[(CNI, ""), (NETWORKS, "net_1")]).unwrap_err();
    assert!(refusal.starts_with(r#"networks[0]: got "net_1", want DNS-1123"#), "{refusal}");
    assert_eq!(read(&[(CNI, "a"), (NETWORKS, "net1")]).unwrap().key, CNI, "read only beside a blank list");
}

#[test]
fn a_pod_without_the_annotation_gets_the_nodes_list() {
    assert_eq!(pod(&Genie::default(), &[(NETWORKS, "net1")]), Ok(None));
    let genie = Genie::read(&object(r#"{"genie":{"defaultPlugin":"a,b@eth7"}}"#)).unwrap();
    let list = pod(&genie, &[("build", "two")]).unwrap().unwrap();
    assert_eq!(
        (list.key, list.is_nodes_own, elements(&list)),
        (DEFAULT_PLUGIN, true, vec!["a eth0".into(), "b eth7".into()])
    );
    assert!(!pod(&genie, &[(CNI, "c")]).unwrap().unwrap().is_nodes_own);
}

#[test]
fn settings_are_read_and_refused_by_name() {
    let read = |text: &str| Genie::read(&object(text)).map_err(|finding| finding.to_string());
    assert_eq!(read("{}").unwrap(), Genie::default());
    let classes = read(r#"{"genie":{"loadPrefixes":[{"plugin":"ovs","prefixes":["ovs","vnet"]}]}}"#).unwrap();
    assert_eq!(classes.load_prefixes.len(), 1);
    for (text, said) in [
        (r#"{"genie":{"defaultPlugin":"a,"}}"#, "genie.defaultPlugin[1]: got"),
        (r#"{"genie":{"defaultPlugin":"a@eth1"}}"#, "genie.defaultPlugin: got eth1"),
        (r#"{"genie":{"defaultPlugin":1}}"#, "genie.defaultPlugin: got 1"),
        (r#"{"genie":{"loadPrefixes":{}}}"#, "genie.loadPrefixes: got"),
        (r#"{"genie":{"loadPrefixes":[{"plugin":"a/b","prefixes":["x"]}]}}"#, "genie.loadPrefixes[0].plugin: got"),
        (r#"{"genie":{"loadPrefixes":[{"plugin":"a","prefixes":[]}]}}"#, "genie.loadPrefixes[0].prefixes: missing"),
        (
            r#"{"genie":{"loadPrefixes":[{"plugin":"a","prefixes":["x",""]}]}}"#,
            "genie.loadPrefixes[0].prefixes: missing",
        ),
    ] {
        let refusal = read(text).unwrap_err();
        assert!(refusal.starts_with(said), "{text}: {refusal}");
    }
}

#[test]
fn the_least_busy_network_is_chosen_and_a_tie_goes_by_the_list() {
    let genie = Genie::default();
    let count =
        |links: &[(&str, u64)]| links.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect::<Vec<_>>();
    let chosen = |before: &[(&str, u64)], after: &[(&str, u64)]| {
        genie.least_loaded(&count(before), &count(after)).map(|name| name.to_string())
    };
    let before = [("eth0", 0), ("flannel.1", 1000), ("cali1", 10), ("cali2", 10), ("weave", 500)];
    let after = [("eth0", 9), ("flannel.1", 1300), ("cali1", 110), ("cali2", 210), ("weave", 700)];
    assert_eq!(chosen(&before, &after).as_deref(), Some("weave"), "300, 100 + 200, 200");
    assert_eq!(chosen(&before, &before).as_deref(), Some("flannel"), "a tie");
    assert_eq!(chosen(&[], &[("weave", 0), ("cali1", 0)]).as_deref(), Some("calico"), "only those with links");
    assert_eq!(
        chosen(&[("weave", 900), ("cali1", 0)], &[("weave", 50), ("cali1", 60)]).as_deref(),
        Some("weave"),
        "made anew"
    );
    assert_eq!(chosen(&[], &[("eth0", 1), ("lo", 2)]), None);
}

/// The samples of CNI-Genie, and what its admission refuses.
#[test]
fn a_logical_network_is_a_file_with_another_subnet() {
    let network = |logical: &str, physical: Option<&str>| {
        let logical = Logical::read(&object(logical)).map_err(|finding| finding.to_string())?;
        let physical = physical.map(|text| Physical::read(&object(text)).unwrap());
        let Network { plugin, subnet } = network(&logical, physical.as_ref()).map_err(|finding| finding.to_string())?;
        Ok::<_, String>(format!("{plugin} {}", subnet.unwrap_or_default()))
    };
    let dedicated =
        Some(r#"{"refer_nic":"eth1","sharedStatus":{"plugin":"weave","subnet":"10.32.0.0/16","dedicatedNet":true}}"#);
    let shared = Some(r#"{"sharedStaus":{"plugin":"weave","dedicatedNet":false}}"#);
    for (logical, physical, want) in [
        (r#"{"plugin":"weave","sub_subnet":"10.32.20.0/24"}"#, None, "weave 10.32.20.0/24"),
        (r#"{"plugin":"weave"}"#, None, "weave "),
        (r#"{"physicalNet":"p","plugin":"other"}"#, dedicated, "weave 10.32.0.0/16"),
        (r#"{"physicalNet":"p","sub_subnet":"10.32.7.0/24"}"#, dedicated, "weave 10.32.7.0/24"),
        (r#"{"physicalNet":"p","sub_subnet":"10.9.0.0/24","plugin":"flannel"}"#, shared, "flannel 10.9.0.0/24"),
        (r#"{"physicalNet":"p","sub_subnet":"10.9.0.0/24"}"#, shared, "weave 10.9.0.0/24"),
    ] {
        assert_eq!(network(logical, physical).unwrap(), want, "{logical}");
    }
    for (logical, physical, said) in [
        ("{}", None, "plugin: missing"),
        (r#"{"physicalNet":"p"}"#, Some("{}"), "plugin: missing"),
        (r#"{"physicalNet":"p","plugin":"a"}"#, Some("{}"), "sub_subnet: missing"),
        (
            r#"{"physicalNet":"p"}"#,
            Some(r#"{"sharedStatus":{"dedicatedNet":true}}"#),
            "physicalNet: missing, want a Physicalnetwork with a plugin",
        ),
        (
            r#"{"physicalNet":"p","sub_subnet":"10.33.0.0/24"}"#,
            dedicated,
            "sub_subnet: got 10.33.0.0/24, want a subnet of its physicalNet's 10.32.0.0/16",
        ),
        (r#"{"plugin":"a","sub_subnet":"10.0.0.0"}"#, None, "sub_subnet: got"),
        (r#"{"plugin":"a/b"}"#, None, "plugin: got"),
    ] {
        let refusal = network(logical, physical).unwrap_err();
        assert!(refusal.starts_with(said), "{logical}: {refusal}");
    }
}

#[test]
fn only_the_subnet_of_the_first_plugin_is_replaced() {
    let conf = NetworkConf::parse(
        br#"{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"a","ipam":{"type":"host-local","subnet":"1.0.0.0/8","big":1.50}},{"type":"b"}]}"#,
    )
    .unwrap();
    let changed = with_subnet(&conf, Some("10.1.0.0/24")).unwrap();
    assert_eq!(
        changed.plugins[0].object.to_json(),
        r#"{"type":"a","ipam":{"type":"host-local","subnet":"10.1.0.0/24","big":1.50}}"#
    );
    assert_eq!((changed.plugins[1].clone(), changed.name.clone()), (conf.plugins[1].clone(), conf.name.clone()));
    assert_eq!(with_subnet(&conf, None).unwrap(), conf);
    let bare = NetworkConf::parse(br#"{"name":"n","type":"a"}"#).unwrap();
    let changed = with_subnet(&bare, Some("10.1.0.0/24")).unwrap();
    assert_eq!(changed.plugins[0].object.to_json(), r#"{"name":"n","type":"a","ipam":{"subnet":"10.1.0.0/24"}}"#);
}

#[test]
fn preferences_are_as_genie_writes_them() {
    let two = [("eth0", "10.244.1.5".parse().ok()), ("eth1", "10.32.0.4".parse().ok())];
    assert_eq!(
        preferences(&two),
        r#"{"multi_entry":2,"ips":{"ip1":{"ip":"10.244.1.5","interface":"eth0"},"ip2":{"ip":"10.32.0.4","interface":"eth1"}}}"#
    );
    assert_eq!(
        preferences(&[("eth0", "10.244.1.5".parse().ok()), ("eth1", None)]),
        r#"{"multi_entry":2,"ips":{"ip1":{"ip":"10.244.1.5","interface":"eth0"},"ip2":{"interface":"eth1"}}}"#
    );
}

#[test]
fn objects_are_judged_as_their_admission_did() {
    let judged = |kind, spec: &str, physical: Option<&str>| {
        let (errors, warnings) = judge(kind, &object(spec), physical.map(object).as_ref());
        [errors, warnings].map(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let good = judged(Kind::Logicalnetwork, r#"{"plugin":"weave","sub_subnet":"10.32.20.0/24"}"#, None);
    assert_eq!(good, ["", ""]);
    assert_eq!(judged(Kind::Logicalnetwork, r#"{"physicalNet":"unknown"}"#, None), ["", ""]);
    let [errors, _] = judged(Kind::Logicalnetwork, r#"{"physicalNet":"p","plugin":"a"}"#, Some("{}"));
    assert!(errors.starts_with("spec.sub_subnet: missing"), "{errors}");
    let [errors, warnings] =
        judged(Kind::Physicalnetwork, r#"{"refer_nic":"eth1","sharedStatus":{"dedicatedNet":true}}"#, None);
    assert!(errors.starts_with("spec.sharedStatus.plugin: missing"), "{errors}");
    assert_eq!(warnings, "spec.refer_nic: got eth1, want nothing: it has no effect");
}
