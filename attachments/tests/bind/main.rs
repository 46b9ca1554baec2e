//! Binding as its callers see it: a node's configuration and a pod's annotations in, attachments or one refusal out.

#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod changes;
mod devices;
mod networks;
mod requests;
mod tenants;

use std::collections::BTreeMap;

use attachments::bind::{
    Allocation, Attachment, BindError, BindRequest, Bound, BuiltIn, Changes, ConfFile, Growth, Lookups, MOST_BYTES,
    Network, Rules, bind,
};
use attachments::cni::conf::{NetworkConf, PluginConf};
use attachments::cni::object::Object;
use attachments::cni::result::{CniResult, Interface, Ip};
use attachments::cni::spelling::Known;
use attachments::cni::version::Version;
use attachments::definition::Definition;
use attachments::dialect::files::NodeFiles;
use attachments::dialect::objects::Objects;
use attachments::names::{NetRef, PodRef};
use attachments::selection::{NETWORKS, NetworkSelection, Selection, SelectionTarget, parse, parse_default};

fn conf(text: &str) -> NetworkConf {
    NetworkConf::parse(text.as_bytes()).unwrap()
}

fn reference(text: &str) -> NetRef {
    let (namespace, name) = text.split_once('/').unwrap();
    NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
}

const fn built_in(kind: &'static str, path_keys: &'static [&'static str]) -> BuiltIn {
    BuiltIn { kind, path_keys, is_on: true }
}

const BUILT_IN: [BuiltIn; 5] = [
    built_in("macvlan", &[]),
    built_in("tuning", &["dataDir"]),
    built_in("flannel", &["subnetFile", "dataDir"]),
    built_in("bridge", &[]),
    built_in("host-local", &["dataDir", "resolvConf"]),
];

/// A node with an inline default network, and a pod `pods/p` without annotations.
struct Scene {
    rules: Rules,
    delegates: Vec<Network>,
    default_networks: Vec<Network>,
    auxiliary: Option<NetworkConf>,
    args: Vec<(String, String)>,
    runtime_config: Option<Object>,
    selection: Selection,
    definitions: BTreeMap<NetRef, Definition>,
    files: Vec<ConfFile>,
    devices: Allocation,
    /// What a running pod has, and which elements are new.
    growth: Option<(Vec<Attachment>, Vec<usize>)>,
    dirs: Vec<String>,
    objects: Objects,
}

impl Scene {
    fn new() -> Self {
        let delegate =
            r#"{"cniVersion":"1.0.0","name":"cluster","type":"bridge","capabilities":{"portMappings":true}}"#;
        Self {
            rules: Rules {
                namespace_isolation: false,
                global_namespaces: vec!["default".into()],
                multus_namespace: "kube-system".parse().unwrap(),
                system_namespaces: vec!["kube-system".into()],
                strict: false,
                path_roots: vec!["/var/lib/cni".into(), "/run/cni/".into()],
                built_in: BUILT_IN.to_vec(),
                programs: None,
                max_attachments: 64,
                danm_links: false,
                max_chain: 16,
            },
            delegates: vec![Network::Conf(conf(delegate))],
            default_networks: Vec::new(),
            auxiliary: None,
            args: [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "p")].map(|(k, v)| (k.into(), v.into())).into(),
            runtime_config: None,
            selection: Selection::default(),
            definitions: BTreeMap::new(),
            files: Vec::new(),
            devices: Allocation::Untold,
            growth: None,
            dirs: vec!["/etc/cni/net.d".into()],
            objects: Objects::new(),
        }
    }

    fn wants(mut self, annotation: &str) -> Self {
        self.selection.networks = parse(NETWORKS, annotation, &"pods".parse().unwrap()).unwrap();
        self
    }

    fn default_network(mut self, annotation: &str) -> Self {
        self.selection.default_network = Some(parse_default(annotation, &self.rules.multus_namespace).unwrap());
        self
    }

    fn defines(mut self, name: &str, config: &str) -> Self {
        let reference = reference(name);
        let definition = Definition { reference: reference.clone(), config: Some(config.into()), resource_name: None };
        self.definitions.insert(reference, definition);
        self
    }

    fn with_resource(mut self, name: &str, resource: &str) -> Self {
        self.definitions.get_mut(&reference(name)).unwrap().resource_name = Some(resource.into());
        self
    }

    fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push(ConfFile { name: name.into(), conf: NetworkConf::parse(text.as_bytes()) });
        self
    }

    fn request<T>(&self, then: impl FnOnce(&BindRequest<'_>) -> T) -> T {
        let pod = PodRef { namespace: "pods".parse().unwrap(), name: "p".parse().unwrap(), uid: None };
        then(&BindRequest {
            pod: &pod,
            container: &"c1".parse().unwrap(),
            ifname: &"eth0".parse().unwrap(),
            args: &self.args,
            runtime_config: self.runtime_config.as_ref(),
            delegates: &self.delegates,
            default_networks: &self.default_networks,
            selection: &self.selection,
            auxiliary: self.auxiliary.as_ref(),
            rules: &self.rules,
            growth: self.growth.as_ref().map(|(held, added)| Growth { held, added }),
        })
    }

    fn bind(&self) -> Result<Bound, BindError> {
        let lookups = Lookups {
            definitions: &self.definitions,
            files: &self.files,
            devices: &self.devices,
            node_files: NodeFiles { files: &self.files, dirs: &self.dirs },
            objects: &self.objects,
        };
        // A reader of the key `vlanId` and of the argument `ips`.
        static ARGUMENTS: Known<'static> = Known::of(&[&["ips"]]);
        static ARGS: Known<'static> = Known { keys: &[&["cni"]], inside: &[("cni", &ARGUMENTS)], only: false };
        static READER: Known<'static> = Known { keys: &[&["vlanId", "args"]], inside: &[("args", &ARGS)], only: false };
        let spell = |plugin: &mut PluginConf| {
            plugin.object = READER.read(&plugin.object)?.into_owned();
            Ok(())
        };
        self.request(|request| bind(request, &lookups, &spell))
    }

    fn bound(&self) -> Vec<Attachment> {
        self.bind().unwrap().attachments
    }

    fn refusal(&self) -> String {
        self.bind().unwrap_err().to_string()
    }
}

fn names(attachments: &[Attachment]) -> Vec<String> {
    attachments.iter().map(|a| format!("{} {} {}", a.source, a.network, a.ifname)).collect()
}

const PLAIN: &str = r#"{"cniVersion":"1.0.0","type":"macvlan"}"#;
