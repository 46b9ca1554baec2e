//! Default networks that cannot be had where the tests run: each product's documented configuration, and the shape of its result where that
//! is documented, played by fakes. Nothing here is the product; docs/compatibility.md calls each a fixture.

use std::fs;

use meta_cni_tests::fake::Rule;
use meta_cni_tests::node::Node;
use serde_json::{Value, json};

/// What a product documents.
struct Contract {
    product: &'static str,
    /// Where configuration and result are documented.
    #[expect(dead_code, reason = "for who reads the table")]
    source: &'static str,
    /// Name of its file, as its installation writes it.
    file: &'static str,
    configuration: &'static str,
    /// Its programs, in the order of the chain. portmap and bandwidth run in process.
    programs: &'static [&'static str],
    /// What its first program answers to ADD; empty where only the specification says.
    result: &'static str,
    /// Does it speak CHECK (CNI 0.4.0), and want it?
    is_checked: bool,
}

const CONTRACTS: [Contract; 12] = [
    Contract {
        product: "Calico",
        source: "projectcalico/calico, manifests/calico.yaml, cni-plugin/pkg/plugin",
        file: "10-calico.conflist",
        configuration: r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[
            {"type":"calico","log_level":"info","datastore_type":"kubernetes","nodename":"n1","mtu":0,"ipam":{"type":"calico-ipam"},
             "policy":{"type":"k8s"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},
            {"type":"portmap","snat":true,"capabilities":{"portMappings":true}},
            {"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#,
        programs: &["calico"],
        result: r#"{"cniVersion":"0.3.1","interfaces":[{"name":"cali0123456789a"}],"ips":[{"version":"4","address":"10.244.7.5/32"}],"dns":{}}"#,
        is_checked: false,
    },
    Contract {
        product: "Canal",
        source: "projectcalico/calico, manifests/canal.yaml",
        file: "10-canal.conflist",
        configuration: r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[
            {"type":"calico","log_level":"info","datastore_type":"kubernetes","nodename":"n1","mtu":1450,
             "ipam":{"type":"host-local","subnet":"usePodCidr"},"policy":{"type":"k8s"},
             "kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},
            {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#,
        programs: &["calico"],
        result: r#"{"cniVersion":"0.3.1","interfaces":[{"name":"cali0123456789a"}],"ips":[{"version":"4","address":"10.244.7.6/32"}],"dns":{}}"#,
        is_checked: false,
    },
    Contract {
        product: "Antrea",
        source: "antrea-io/antrea, build/yamls/antrea.yml",
        file: "10-antrea.conflist",
        configuration: r#"{"cniVersion":"0.3.0","name":"antrea","plugins":[{"type":"antrea","ipam":{"type":"host-local"}},
            {"type":"portmap","capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#,
        programs: &["antrea"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "OVN-Kubernetes",
        source: "ovn-org/ovn-kubernetes, go-controller/pkg/config (WriteCNIConfig)",
        file: "10-ovn-kubernetes.conf",
        configuration: r#"{"cniVersion":"0.4.0","name":"ovn-kubernetes","type":"ovn-k8s-cni-overlay","ipam":{},"dns":{},"logLevel":"4",
            "logFile":"/var/log/ovn-kubernetes/ovn-k8s-cni-overlay.log","logfile-maxsize":100,"logfile-maxbackups":5,"logfile-maxage":5}"#,
        programs: &["ovn-k8s-cni-overlay"],
        result: "",
        is_checked: true,
    },
    Contract {
        product: "Kube-OVN",
        source: "kubeovn/kube-ovn, docs: reference/setup-options (CNI config)",
        file: "01-kube-ovn.conflist",
        configuration: r#"{"name":"kube-ovn","cniVersion":"0.3.1","plugins":[
            {"type":"kube-ovn","server_socket":"/run/openvswitch/kube-ovn-daemon.sock"},
            {"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        programs: &["kube-ovn"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "Weave Net",
        source: "weaveworks/weave, prog/weave-kube/launch.sh",
        file: "10-weave.conflist",
        configuration: r#"{"cniVersion":"0.3.0","name":"weave","plugins":[{"name":"weave","type":"weave-net","hairpinMode":true},
            {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#,
        programs: &["weave-net"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "Azure CNI",
        source: "Azure/azure-container-networking, cni/azure-linux.conflist",
        file: "10-azure.conflist",
        configuration: r#"{"cniVersion":"0.3.0","name":"azure","plugins":[
            {"type":"azure-vnet","mode":"transparent","ipsToRouteViaHost":["169.254.20.10"],"ipam":{"type":"azure-vnet-ipam"}},
            {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#,
        programs: &["azure-vnet"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "AWS VPC CNI",
        source: "aws/amazon-vpc-cni-k8s, misc/10-aws.conflist, cmd/routed-eni-cni-plugin; its result as its egress plugin's tests quote it",
        file: "10-aws.conflist",
        configuration: r#"{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[
            {"name":"aws-cni","type":"aws-cni","vethPrefix":"eni","mtu":"9001","podSGEnforcingMode":"strict",
             "pluginLogFile":"/var/log/aws-routed-eni/plugin.log","pluginLogLevel":"DEBUG",
             "capabilities":{"io.kubernetes.cri.pod-annotations":true}},
            {"name":"egress-cni","type":"egress-cni","mtu":"9001","enabled":"false","randomizeSNAT":"prng","nodeIP":"",
             "ipam":{"type":"host-local","ranges":[[{"subnet":"fd00::ac:00/118"}]],"routes":[{"dst":"::/0"}],"dataDir":"/run/cni/v4pd/egress-v6-ipam"},
             "pluginLogFile":"/var/log/aws-routed-eni/egress-v6-plugin.log","pluginLogLevel":"DEBUG"},
            {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#,
        programs: &["aws-cni", "egress-cni"],
        result: r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eni36e5b0ee702"},{"name":"eth0","sandbox":"/var/run/netns/cni-266298c1"},
            {"name":"dummy36e5b0ee702","mac":"0","sandbox":"0"}],"ips":[{"version":"4","interface":1,"address":"192.168.13.226/32"}],"dns":{}}"#,
        is_checked: false,
    },
    Contract {
        product: "Contrail",
        source: "tungstenfabric/tf-container-builder, containers/kubernetes/cni-init; Juniper/contrail-operator, templates (ContrailCNIConfig)",
        file: "10-contrail.conf",
        configuration: r#"{"cniVersion":"0.3.1","contrail":{"vrouter-ip":"127.0.0.1","vrouter-port":9091,"config-dir":"/var/lib/contrail/ports/vm",
            "poll-timeout":5,"poll-retries":5,"log-file":"/var/log/contrail/cni/opencontrail.log","log-level":"4",
            "cnisocket-path":"/var/run/contrail/cni.socket"},"name":"contrail-k8s-cni","type":"contrail-k8s-cni"}"#,
        programs: &["contrail-k8s-cni"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "Cisco ACI",
        source: "noironetworks/aci-containers, docker/launch-hostagent.sh",
        file: "01-opflex-cni.conf",
        configuration: r#"{"cniVersion":"0.3.1","supportedVersions":["0.3.0","0.3.1","0.4.0"],"name":"k8s-pod-network","type":"opflex-agent-cni",
            "wait-for-network":true,"wait-for-network-duration":210,"ipam":{"type":"opflex-agent-cni-ipam"}}"#,
        programs: &["opflex-agent-cni"],
        result: "",
        is_checked: false,
    },
    Contract {
        product: "Contiv",
        source: "contiv/netplugin, mgmtfn/k8splugin (contiv.conf)",
        file: "1-contiv.conf",
        configuration: r#"{"cniVersion":"0.1.0","name":"contiv-net","type":"contivk8s.bin"}"#,
        programs: &["contivk8s.bin"],
        result: r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.244.7.9/24","gateway":"10.244.7.1"}}"#,
        is_checked: false,
    },
    Contract {
        product: "k-vswitch",
        source: "k-vswitch/k-vswitch, cmd/k-vswitchd/main.go (installCNIConf)",
        file: "10-k-vswitch.conf",
        configuration: r#"{"name":"k-vswitch-cni","type":"k-vswitch-cni","bridge":"k-vswitch0","isGateway":true,"isDefaultGateway":true,
            "ipam":{"type":"host-local","subnet":"10.244.7.0/24"}}"#,
        programs: &["k-vswitch-cni"],
        result: "",
        is_checked: false,
    },
];

impl Contract {
    fn value(&self) -> Value {
        serde_json::from_str(self.configuration).unwrap_or_else(|e| panic!("{}: {e}", self.product))
    }

    /// The configuration of one of its programs, as the product wrote it.
    fn plugin(&self, program: &str) -> Value {
        let conf = self.value();
        let plugins = conf["plugins"].as_array().cloned().unwrap_or_else(|| vec![conf]);
        plugins.into_iter().find(|plugin| plugin["type"] == program).unwrap()
    }

    /// A node whose default network it is, by its own file.
    fn node(&self) -> Node {
        let mut node = Node::new();
        let conf = node.conf.as_object_mut().unwrap();
        conf.remove("delegates");
        fs::write(node.path("conf").join(self.file), self.configuration).unwrap();
        node.conf["clusterNetwork"] = json!(node.text(&format!("conf/{}", self.file)));
        for program in self.programs {
            node.fakes.install(program);
        }
        if !self.result.is_empty() {
            node.fakes.rules(self.programs[0], &[Rule::on("ADD").prints(self.result)]);
        }
        node.nad("extra", json!({"cniVersion": "1.0.0", "type": "one", "fakeIps": [{"address": "10.9.0.2/24"}]}));
        node
    }

    fn lines(&self, verb: &str) -> Vec<String> {
        self.programs.iter().map(|program| format!("{verb} {program} eth0")).collect()
    }
}

/// Everything that the product wrote stands in what its program was given.
fn keeps(given: &Value, wrote: &Value, product: &str) {
    for (key, value) in wrote.as_object().unwrap() {
        // The list's name and version are every plugin's; capabilities become runtimeConfig.
        if !["name", "cniVersion", "capabilities"].contains(&key.as_str()) {
            assert_eq!(&given[key], value, "{product}: {key}");
        }
    }
}

#[test]
fn every_default_network_is_called_as_its_file_says_in_every_verb() {
    for contract in &CONTRACTS {
        let (node, product) = (contract.node(), contract.product);
        let pod = node.pod("web", "extra");
        let result = node.add(&pod).result();
        assert_eq!(
            node.fakes.take_order(),
            [contract.lines("ADD"), vec!["ADD one net1".to_owned()]].concat(),
            "{product}"
        );
        node.check(&pod, &result).quiet();
        let checks = if contract.is_checked { contract.lines("CHECK") } else { Vec::new() };
        assert_eq!(node.fakes.take_order(), [checks, vec!["CHECK one net1".to_owned()]].concat(), "{product}");
        node.bare_call("STATUS").run().quiet();
        node.fakes.take_order();
        node.del(&pod).quiet();
        let dels: Vec<String> = contract.lines("DEL").into_iter().rev().collect();
        assert_eq!(node.fakes.take_order(), [vec!["DEL one net1".to_owned()], dels].concat(), "{product}");
        node.assert_clean();
    }
}

#[test]
fn every_key_of_a_product_reaches_its_program_at_add_and_at_del() {
    for contract in &CONTRACTS {
        let (node, product) = (contract.node(), contract.product);
        let (pod, conf) = (node.pod("web", "extra"), contract.value());
        node.add(&pod).result();
        // The file is another by the time of the DEL: what counts is what ADD was told.
        fs::write(node.path("conf").join(contract.file), r#"{"cniVersion":"1.0.0","name":"other","type":"two"}"#)
            .unwrap();
        node.del(&pod).quiet();
        for call in node.fakes.calls().iter().filter(|call| call.var("CNI_IFNAME") == "eth0") {
            let given = call.conf();
            keeps(&given, &contract.plugin(&call.plugin), product);
            assert_eq!(given["name"], conf["name"], "{product}");
            let version = conf["cniVersion"].as_str().unwrap_or("0.1.0");
            assert_eq!(given["cniVersion"].as_str().unwrap_or("0.1.0"), version, "{product}");
            assert!(call.var("CNI_ARGS").contains("K8S_POD_NAME=web"), "{product}: {}", call.var("CNI_ARGS"));
        }
        assert_eq!(node.fakes.calls_of("DEL").len(), contract.programs.len() + 1, "{product}");
    }
}

#[test]
fn the_result_of_a_product_is_the_pods_and_its_status_is_the_default_entry() {
    for contract in CONTRACTS.iter().filter(|contract| !contract.result.is_empty()) {
        let (node, product) = (contract.node(), contract.product);
        let pod = node.pod("web", "extra");
        let result = node.add(&pod).result();
        let told: Value = serde_json::from_str(contract.result).unwrap();
        let address = told["ips"][0]["address"].as_str().or_else(|| told["ip4"]["ip"].as_str()).unwrap();
        assert_eq!(
            result["ips"].as_array().unwrap().len(),
            1,
            "{product}: an address of a further network is none of the pod's"
        );
        assert_eq!(result["ips"][0]["address"], address, "{product}");
        for (number, interface) in told["interfaces"].as_array().into_iter().flatten().enumerate() {
            assert_eq!(result["interfaces"][number]["name"], interface["name"], "{product}");
        }
        let status = node.status(&pod);
        assert_eq!(status[0]["name"], contract.value()["name"], "{product}");
        assert_eq!(status[0]["ips"], json!([address.split('/').next().unwrap()]), "{product}");
        assert_eq!(status[0]["default"], true, "{product}");
        assert_ne!(status[1]["default"], true, "{product}");
        node.del(&pod).quiet();
    }
}

#[test]
fn an_error_of_a_product_is_kept_and_nothing_else_is_attached() {
    for contract in &CONTRACTS {
        let (node, product) = (contract.node(), contract.product);
        node.fakes.rules(contract.programs[0], &[Rule::on("ADD").fails(11, "the agent of this node does not answer")]);
        let (pod, network) = (node.pod("web", "extra"), contract.value()["name"].as_str().unwrap().to_owned());
        node.add(&pod).refused(11, &["the agent of this node does not answer", &network]);
        assert_eq!(node.fakes.calls_of("ADD").len(), 1, "{product}");
        node.del(&pod).quiet();
        node.assert_clean();
    }
}
