//! Plugins of further networks that cannot be had where the tests run: each project's documented configuration, played by a fake of that name.
//! Nothing here is the product; docs/compatibility.md calls each a fixture.

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// What a project documents.
struct Contract {
    product: &'static str,
    /// Where the configuration is documented.
    #[expect(dead_code, reason = "for who reads the table")]
    source: &'static str,
    /// Name of its program.
    program: &'static str,
    /// The definition's text.
    configuration: &'static str,
    /// What a pod asks of it by the annotation, and what of it the program gets, in `runtimeConfig`.
    asked: &'static str,
    /// Does its CNI version have CHECK?
    is_checked: bool,
}

const CONTRACTS: [Contract; 3] = [
    Contract {
        product: "SR-IOV CNI",
        source: "k8snetworkplumbingwg/sriov-cni, docs/configuration-reference.md",
        program: "sriov",
        configuration: r#"{"cniVersion":"0.3.1","name":"sriov-advanced","type":"sriov","vlan":1000,"vlanQoS":4,"vlanProto":"802.1ad",
            "spoofchk":"on","trust":"on","link_state":"enable","min_tx_rate":100,"max_tx_rate":200,"logLevel":"debug",
            "logFile":"/var/log/sriov.log","capabilities":{"mac":true,"ips":true},
            "ipam":{"type":"host-local","subnet":"10.56.217.0/24","routes":[{"dst":"0.0.0.0/0"}],"gateway":"10.56.217.1"}}"#,
        asked: r#"{"mac":"ca:fe:c0:ff:ee:00","ips":["10.56.217.7/24"]}"#,
        is_checked: false,
    },
    Contract {
        product: "bond CNI",
        source: "k8snetworkplumbingwg/bond-cni, README.md",
        program: "bond",
        configuration: r#"{"cniVersion":"0.3.1","name":"bond-net1","type":"bond","ifname":"net1","mode":"active-backup","failOverMac":1,
            "linksInContainer":true,"miimon":"100","mtu":1500,"links":[{"name":"net2"},{"name":"net3"}],
            "ipam":{"type":"host-local","subnet":"10.56.217.0/24","routes":[{"dst":"0.0.0.0/0"}],"gateway":"10.56.217.1"}}"#,
        asked: "{}",
        is_checked: false,
    },
    Contract {
        product: "OVS CNI",
        source: "k8snetworkplumbingwg/ovs-cni, docs/cni-plugin.md",
        program: "ovs",
        configuration: r#"{"cniVersion":"0.4.0","name":"mynet","type":"ovs","bridge":"mynet0","vlan":100,"mtu":1450,
            "trunk":[{"id":42},{"minID":1000,"maxID":1010}],"ofport_request":9,"interface_type":"system",
            "configuration_path":"/etc/cni/net.d/ovs.d/ovs.conf","socket_file":"unix:/var/run/openvswitch/db.sock",
            "link_state_check_retries":5,"link_state_check_interval":1000,"capabilities":{"mac":true}}"#,
        asked: r#"{"mac":"ca:fe:c0:ff:ee:01"}"#,
        is_checked: true,
    },
];

impl Contract {
    fn value(&self) -> Value {
        serde_json::from_str(self.configuration).unwrap_or_else(|e| panic!("{}: {e}", self.product))
    }

    fn asked(&self) -> Value {
        serde_json::from_str(self.asked).unwrap()
    }

    /// A node with a definition of it, and whose own types are the program's to make. A virtual function would be a device of the pod's.
    fn node(&self) -> Node {
        let mut node = Node::new();
        node.conf["builtin"] = json!([]);
        // What a tenant's text may name.
        node.conf["pathRoots"] = json!(["/var/log", "/etc/cni/net.d"]);
        node.fakes.install(self.program);
        node.nad_text("default", "further", self.configuration);
        node
    }

    fn pod(&self, node: &Node) -> meta_cni_tests::node::Pod {
        let mut element = self.asked();
        element["name"] = json!("further");
        node.pod("web", &json!([element]).to_string())
    }

    fn line(&self, verb: &str) -> String {
        format!("{verb} {} net1", self.program)
    }
}

#[test]
fn every_key_of_a_further_networks_plugin_reaches_it_in_every_verb() {
    for contract in &CONTRACTS {
        let (node, product) = (contract.node(), contract.product);
        let pod = contract.pod(&node);
        let result = node.add(&pod).result();
        node.check(&pod, &result).quiet();
        // The definition is another by the time of the DEL: what counts is what ADD was told.
        node.nad("further", json!({"cniVersion": "1.0.0", "type": "one"}));
        node.del(&pod).quiet();
        let calls: Vec<_> = node.fakes.calls().into_iter().filter(|call| call.plugin == contract.program).collect();
        let lines: Vec<String> = calls.iter().map(|call| call.line()).collect();
        let checks = if contract.is_checked { vec![contract.line("CHECK")] } else { Vec::new() };
        assert_eq!(lines, [vec![contract.line("ADD")], checks, vec![contract.line("DEL")]].concat(), "{product}");
        for call in &calls {
            let given = call.conf();
            for (key, value) in contract.value().as_object().unwrap() {
                if key != "capabilities" {
                    assert_eq!(&given[key], value, "{product}: {key} at {}", call.line());
                }
            }
            for (key, value) in contract.asked().as_object().unwrap() {
                assert_eq!(&given["runtimeConfig"][key], value, "{product}: {key} at {}", call.line());
            }
            assert_eq!(call.netns, node.netns.inode(), "{product}: a plugin works from the node");
            assert!(call.var("CNI_ARGS").contains("K8S_POD_NAME=web"), "{product}: {}", call.var("CNI_ARGS"));
        }
        assert!(
            calls.last().unwrap().conf()["prevResult"].is_object() == contract.is_checked,
            "{product}: DEL has the result since 0.4.0"
        );
        node.assert_clean();
    }
}

#[test]
fn what_a_further_networks_plugin_answers_is_in_the_status_and_its_error_undoes_the_rest() {
    for contract in &CONTRACTS {
        let (node, product) = (contract.node(), contract.product);
        let version = contract.value()["cniVersion"].clone();
        let answer = json!({
            "cniVersion": version, "interfaces": [{"name": "net1", "mac": "ca:fe:c0:ff:ee:00", "sandbox": "/var/run/netns/x"}],
            "ips": [{"version": "4", "interface": 0, "address": "10.56.217.7/24"}], "dns": {},
        });
        node.fakes.rules(
            contract.program,
            &[Rule::on("ADD").times(1).answers(&answer), Rule::on("ADD").fails(999, "no device is left")],
        );
        let pod = contract.pod(&node);
        node.add(&pod).result();
        let status = node.status(&pod);
        assert_eq!(status[1]["interface"], "net1", "{product}");
        assert_eq!(status[1]["ips"], json!(["10.56.217.7"]), "{product}");
        assert_eq!(status[1]["mac"], "ca:fe:c0:ff:ee:00", "{product}");
        node.del(&pod).quiet();
        node.fakes.take_order();
        node.add(&pod).refused(999, &["no device is left", "default/further"]);
        let order = node.fakes.take_order();
        assert_eq!(
            order.iter().filter(|line| line.starts_with("DEL")).count(),
            2,
            "{product}: both are undone: {order:?}"
        );
        node.assert_clean();
    }
}
