//! The node's configuration, from the conflist that the runtime reads (docs/configuration.md).

mod keys;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use attachments::finding::{Allowed, Finding};
use attachments::names::{NetworkName, ObjectName, PluginType};
use attachments::policy::Level;
use delegates::reserved::Reserved;
use serde_json::Value;

pub use keys::spelled;

/// Key of `runtimeConfig` in which containerd and CRI-O pass the pod's annotations.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// `multusNamespace` where it is absent.
pub const MULTUS_NAMESPACE: &str = "kube-system";
/// `confDir` where it is absent.
pub const CONF_DIR: &str = "/etc/cni/multus/net.d";
/// `runtimeConfDir` where it is absent.
pub const RUNTIME_CONF_DIR: &str = "/etc/cni/net.d";

/// `pathRoots` where it is absent: the usual directories of plugins and IPAM programs.
pub const PATH_ROOTS: [&str; 5] =
    ["/var/lib/cni", "/run/cni", "/sys/devices", "/etc/cni/net.d/whereabouts.d", "/var/log"];

/// The value of `whereabouts` that is `blocks`, and keeps what whereabouts gave before for those who have it.
pub const TAKE_OVER: &str = "take-over";

/// The configuration of a node. Keys have Multus's names and meanings where they exist.
#[derive(Debug)]
pub struct NodeConf {
    /// `name`: the node network; part of every record's key.
    pub network: NetworkName,
    /// `delegates`, or `clusterNetwork` alone; the first is the default network.
    pub delegates: Vec<Declared>,
    /// `defaultNetworks`: further networks of every pod outside `systemNamespaces`.
    pub default_networks: Vec<Declared>,
    /// `systemNamespaces`: pods there get no further networks.
    pub system_namespaces: Vec<String>,
    /// `auxiliaryCNIChainName`: a chain of files, attached last.
    pub auxiliary: Option<Auxiliary>,
    /// `multusNamespace`: home of definitions that the node configuration and the default-network annotation name.
    pub multus_namespace: ObjectName,
    /// `confDir`: configurations on disk.
    pub conf_dir: PathBuf,
    /// `cniDir`: where Multus kept its results, for pods that it attached.
    pub cni_dir: PathBuf,
    /// `binDir`, then CNI_PATH.
    pub plugin_dirs: Vec<PathBuf>,
    /// `namespaceIsolation`.
    pub namespace_isolation: bool,
    /// `globalNamespaces`, split and trimmed.
    pub global_namespaces: Vec<String>,
    /// `readinessindicatorfile`.
    pub readiness_file: Option<PathBuf>,
    /// The source of facts about pods and definitions.
    pub cluster: ClusterConf,
    /// `stateDir`.
    pub state_dir: PathBuf,
    /// `builtin`: the types that run in process; absent means all that we have.
    pub builtin: Option<Vec<PluginType>>,
    /// `timeoutSeconds`: how long one call may take.
    pub timeout: Duration,
    /// `statusWaitMs`: how long an ADD waits for the API server to take its status.
    pub status_wait: Duration,
    /// `dadWaitMs`: how long an ADD waits for the detection of duplicate IPv6 addresses.
    pub dad_wait: Duration,
    /// `pathRoots`: directories that paths in definitions may lie under.
    pub path_roots: Vec<PathBuf>,
    /// `sharedLinks`, `shareDefaultBridge`, `reservedPorts`: what the node keeps from definitions.
    pub reserved: Reserved,
    /// `programs`: the types of external plugins that definitions may use; absent means all of `binDir`.
    pub programs: Option<Vec<PluginType>>,
    /// `maxAttachments`: further networks that a pod may have.
    pub max_attachments: usize,
    /// `maxChain`: plugins that a configuration may list.
    pub max_chain: usize,
    /// `level`: the level of a namespace without the label [`attachments::policy::LEVEL`].
    pub level: Level,
    /// `abandonAfterSeconds`: how long the DELs of a damaged record, or of one whose programs are gone, fail before the record is given up.
    pub abandon_after: Duration,
    /// `mergeIPs`: addresses of further networks in the merged result.
    pub merge_ips: bool,
    /// `normalPriority`: ADD and DEL have the priority of the runtime, and no higher one.
    pub normal_priority: bool,
    /// `whereabouts`: an `ipam` section of that type is read as one of blocks.
    pub whereabouts_as_blocks: bool,
    /// `hotplug`: an edit of a running pod's annotation attaches and detaches networks.
    pub hotplug: bool,
    /// `repair`: an attachment of a running pod that is not as recorded is made anew.
    pub repair: bool,
    /// `dialects`, and the settings of each: other systems' annotations and objects.
    pub dialects: Dialects,
    /// `runtimeConfDir`: the runtime's configurations, among which dialects find theirs behind `confDir`.
    pub runtime_conf_dir: PathBuf,
    /// `strict`: follows the specification where Multus is lenient.
    pub strict: bool,
    /// `disableGC`: GC succeeds without doing anything.
    pub disable_gc: bool,
    /// `disableCheck`: CHECK succeeds without doing anything.
    pub disable_check: bool,
    /// `runtimeConfig` of this call, for the default network only (R35).
    pub runtime_config: Object,
}

/// The source of facts about pods and definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterConf {
    /// `cluster.directory`: ordinary manifests.
    Directory(PathBuf),
    /// `agentSocket`: the node agent.
    Agent(PathBuf),
}

/// A network that the node configuration gives to every pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Declared {
    /// Given inline in `delegates`.
    Inline(NetworkConf),
    /// Named: a definition of `multusNamespace`, else a configuration in `confDir`.
    Named(NetworkName),
    /// A file, or a directory whose first file is taken.
    Path(PathBuf),
}

/// A chain whose plugins are files in a directory of its name, beside the configuration of the default network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auxiliary {
    /// Name of the network, and of the directory.
    pub name: NetworkName,
    /// `clusterNetwork`: a file, or a directory of files.
    pub beside: PathBuf,
}

impl NodeConf {
    /// Reads the node configuration, whose keys are [`spelled`]. `network` is its name, `path_variable` CNI_PATH, split.
    pub fn read(conf: &Object, network: &NetworkName, path_variable: &[PathBuf]) -> Result<Self, Finding> {
        let (delegates, default_networks) = read_networks(conf)?;
        let mut plugin_dirs = vec![path(conf, "binDir")?.unwrap_or_else(|| "/opt/cni/bin".into())];
        plugin_dirs.extend(path_variable.iter().cloned());
        let global = conf.text("globalNamespaces")?.unwrap_or_else(|| "default".to_owned());
        let auxiliary = read_auxiliary(conf, &delegates)?;
        let multus_namespace = conf.parsed("multusNamespace", ObjectName::ALLOWED)?;
        let timeout: u64 = positive(conf, "timeoutSeconds", 60, 3600)?;
        Ok(Self {
            network: network.clone(),
            delegates,
            default_networks,
            auxiliary,
            system_namespaces: strings(conf, "systemNamespaces")?.unwrap_or_else(|| vec!["kube-system".to_owned()]),
            multus_namespace: match multus_namespace {
                Some(namespace) => namespace,
                None => MULTUS_NAMESPACE.parse()?,
            },
            conf_dir: path(conf, "confDir")?.unwrap_or_else(|| CONF_DIR.into()),
            cni_dir: path(conf, "cniDir")?.unwrap_or_else(|| "/var/lib/cni/multus".into()),
            plugin_dirs,
            namespace_isolation: conf.flag("namespaceIsolation")?,
            global_namespaces: global.split(',').map(|ns| ns.trim().to_owned()).filter(|ns| !ns.is_empty()).collect(),
            readiness_file: path(conf, "readinessindicatorfile")?,
            cluster: read_cluster(conf)?,
            state_dir: path(conf, "stateDir")?.unwrap_or_else(|| "/var/lib/meta-cni".into()),
            builtin: plugin_types(conf, "builtin")?,
            timeout: Duration::from_secs(timeout),
            status_wait: Duration::from_millis(up_to(conf, "statusWaitMs", 20, 60_000)?),
            dad_wait: Duration::from_millis(up_to(conf, "dadWaitMs", 5000, 60_000)?),
            path_roots: match strings(conf, "pathRoots")? {
                Some(roots) => absolute("pathRoots", roots)?,
                None => PATH_ROOTS.map(PathBuf::from).into(),
            },
            reserved: read_reserved(conf)?,
            programs: plugin_types(conf, "programs")?,
            max_attachments: count(conf, "maxAttachments", 64)?,
            max_chain: count(conf, "maxChain", 16)?,
            level: conf.parsed("level", Level::ALLOWED)?.unwrap_or_default(),
            abandon_after: Duration::from_secs(up_to(conf, "abandonAfterSeconds", 300, 7 * 86_400)?),
            merge_ips: conf.flag("mergeIPs")?,
            normal_priority: conf.flag("normalPriority")?,
            whereabouts_as_blocks: reads_whereabouts(conf)?,
            hotplug: is_hot_pluggable(conf)?,
            repair: is_repairing(conf)?,
            dialects: Dialects::read(conf)?,
            runtime_conf_dir: path(conf, "runtimeConfDir")?.unwrap_or_else(|| RUNTIME_CONF_DIR.into()),
            strict: conf.flag("strict")?,
            disable_gc: conf.flag("disableGC")?,
            disable_check: conf.flag("disableCheck")?,
            runtime_config: conf.object("runtimeConfig")?.unwrap_or_default(),
        })
    }
}

/// `hotplug`: on where it is absent.
pub fn is_hot_pluggable(conf: &Object) -> Result<bool, Finding> {
    Ok(conf.decode("hotplug", "true or false")?.unwrap_or(true))
}

/// `repair`: off where it is absent.
pub fn is_repairing(conf: &Object) -> Result<bool, Finding> {
    conf.flag("repair")
}

/// `whereabouts`: who gives the addresses of an `ipam` section of that type. True for blocks, false for the program. Which addresses the
/// program gave before is the agent's business ([`TAKE_OVER`]).
pub fn reads_whereabouts(conf: &Object) -> Result<bool, Finding> {
    match conf.text("whereabouts")?.as_deref() {
        None | Some("" | "external") => Ok(false),
        Some("blocks" | TAKE_OVER) => Ok(true),
        Some(other) => {
            let allowed = "\"external\", \"blocks\" or \"take-over\"";
            Err(Finding::new("whereabouts", format_args!("{other:?}"), allowed))
        }
    }
}

/// `delegates`, or `clusterNetwork` with `defaultNetworks`; one of the two is required.
fn read_networks(conf: &Object) -> Result<(Vec<Declared>, Vec<Declared>), Finding> {
    if let Some(name) = conf.text("clusterNetwork")?.filter(|name| !name.is_empty()) {
        let default_networks = strings(conf, "defaultNetworks")?.unwrap_or_default();
        let each = |(i, name): (usize, String)| declared(&name, &format!("defaultNetworks[{i}]"));
        let default_networks = default_networks.into_iter().enumerate().map(each).collect::<Result<_, _>>()?;
        return Ok((vec![declared(&name, "clusterNetwork")?], default_networks));
    }
    let mut delegates = Vec::new();
    for (i, delegate) in conf.objects("delegates")?.into_iter().enumerate() {
        let network = inline(delegate).map_err(|e| e.under(&format!("delegates[{i}]")))?;
        delegates.push(Declared::Inline(network));
    }
    if delegates.is_empty() {
        return Err(Finding::missing("delegates", "at least one delegate, or `clusterNetwork`"));
    }
    Ok((delegates, Vec::new()))
}

fn read_auxiliary(conf: &Object, delegates: &[Declared]) -> Result<Option<Auxiliary>, Finding> {
    const KEY: &str = "auxiliaryCNIChainName";
    let Some(name) = conf.parsed::<NetworkName>(KEY, NetworkName::ALLOWED)? else { return Ok(None) };
    match delegates {
        [Declared::Path(path)] => Ok(Some(Auxiliary { name, beside: path.clone() })),
        _ => Err(Finding::new(KEY, name, Allowed::requires("clusterNetwork", "a path"))),
    }
}

fn declared(name: &str, key: &str) -> Result<Declared, Finding> {
    if name.starts_with('/') {
        return Ok(Declared::Path(name.into()));
    }
    if name.contains('/') {
        return Err(Finding::new(
            key,
            format_args!("{name:?}"),
            "the name of a network (it is looked for in multusNamespace, then in confDir), or an absolute path",
        ));
    }
    name.parse().map(Declared::Named).map_err(|e: Finding| e.under(key))
}

fn inline(delegate: Object) -> Result<NetworkConf, Finding> {
    let network = NetworkConf::from_object(delegate)?;
    network.require_plugins()?;
    if network.name.is_none() {
        return Err(Finding::missing("name", NetworkName::ALLOWED));
    }
    Ok(network)
}

fn read_cluster(conf: &Object) -> Result<ClusterConf, Finding> {
    if let Some(cluster) = conf.object("cluster")? {
        let directory = path(&cluster, "directory").map_err(|e| e.under("cluster"))?;
        return directory
            .map(ClusterConf::Directory)
            .ok_or_else(|| Finding::missing("cluster.directory", "an absolute path"));
    }
    Ok(ClusterConf::Agent(path(conf, "agentSocket")?.unwrap_or_else(|| "/run/meta-cni/agent.sock".into())))
}

fn plugin_types(conf: &Object, key: &str) -> Result<Option<Vec<PluginType>>, Finding> {
    let Some(names) = strings(conf, key)? else { return Ok(None) };
    let each = |(i, name): (usize, String)| name.parse::<PluginType>().map_err(|e| e.under(&format!("{key}[{i}]")));
    names.into_iter().enumerate().map(each).collect::<Result<Vec<_>, _>>().map(Some)
}

fn read_reserved(conf: &Object) -> Result<Reserved, Finding> {
    let ports = conf.decode::<Vec<Value>>("reservedPorts", "a list of ports and ranges of ports")?;
    let each = |(i, port): (usize, &Value)| port_range(port).map_err(|e| e.under(&format!("reservedPorts[{i}]")));
    Ok(Reserved {
        node_addresses: Vec::new(),
        api_servers: Vec::new(),
        shared_links: strings(conf, "sharedLinks")?.unwrap_or_default(),
        share_default_bridge: conf.flag("shareDefaultBridge")?,
        default_bridges: Vec::new(),
        ports: match ports {
            Some(ports) => ports.iter().enumerate().map(each).collect::<Result<_, _>>()?,
            // The kubelet's API, kube-proxy's health check, and the range of node ports.
            None => vec![10250..=10250, 10256..=10256, 30000..=32767],
        },
    })
}

/// `10250` or `"30000-32767"`.
fn port_range(value: &Value) -> Result<RangeInclusive<u16>, Finding> {
    let refuse = || Finding::new("", value, "a port from 1 to 65535, or two as \"30000-32767\"");
    let (first, last) = match value {
        Value::Number(port) => (port.to_string(), port.to_string()),
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (first.to_owned(), last.to_owned())
        }
        _ => return Err(refuse()),
    };
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(refuse()),
    }
}

/// A limit on how many of something there may be.
fn count(conf: &Object, key: &str, default: u64) -> Result<usize, Finding> {
    positive(conf, key, default, 4096).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// An absolute path; an empty string counts as absent.
fn path(conf: &Object, key: &str) -> Result<Option<PathBuf>, Finding> {
    const ALLOWED: &str = "an absolute path";
    let Some(text) = conf.decode::<String>(key, ALLOWED)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(Some(text.into()));
    }
    Err(Finding::new(key, format_args!("{text:?}"), ALLOWED))
}

fn absolute(key: &str, paths: Vec<String>) -> Result<Vec<PathBuf>, Finding> {
    match paths.iter().position(|path| !path.starts_with('/')) {
        Some(i) => Err(Finding::new(format!("{key}[{i}]"), format_args!("{:?}", paths[i]), "an absolute path")),
        None => Ok(paths.into_iter().map(PathBuf::from).collect()),
    }
}

fn strings(conf: &Object, key: &str) -> Result<Option<Vec<String>>, Finding> {
    conf.decode(key, "a list of strings")
}

/// An integer from 1 to `max`; absent is `default`.
fn positive(conf: &Object, key: &str, default: u64, max: u64) -> Result<u64, Finding> {
    let allowed = Allowed::Integer(1, max);
    let value = conf.decode::<u64>(key, allowed.clone())?.unwrap_or(default);
    if (1..=max).contains(&value) { Ok(value) } else { Err(Finding::new(key, value, allowed)) }
}

/// An integer from 0 to `max`; absent is `default`.
fn up_to(conf: &Object, key: &str, default: u64, max: u64) -> Result<u64, Finding> {
    let allowed = Allowed::Integer(0, max);
    let value = conf.decode::<u64>(key, allowed.clone())?.unwrap_or(default);
    if value <= max { Ok(value) } else { Err(Finding::new(key, value, allowed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<NodeConf, Finding> {
        let conf = Object::parse(format!(r#"{{"name":"node","cniVersion":"1.1.0",{keys}}}"#).as_bytes()).unwrap();
        NodeConf::read(&conf, &"node".parse().unwrap(), &["/path".into()])
    }

    const DELEGATE: &str = r#""delegates":[{"name":"d","type":"bridge"}]"#;

    #[test]
    fn defaults_are_those_of_the_field() {
        let conf = read(DELEGATE).unwrap();
        assert_eq!(conf.plugin_dirs, [PathBuf::from("/opt/cni/bin"), "/path".into()]);
        assert_eq!(conf.global_namespaces, ["default"]);
        assert_eq!(conf.multus_namespace.as_str(), "kube-system");
        assert_eq!(conf.cluster, ClusterConf::Agent("/run/meta-cni/agent.sock".into()));
        assert_eq!(conf.timeout, Duration::from_secs(60));
        assert_eq!((conf.status_wait, conf.dad_wait), (Duration::from_millis(20), Duration::from_secs(5)));
        assert_eq!(read(&format!(r#"{DELEGATE},"dadWaitMs":0"#)).unwrap().dad_wait, Duration::ZERO);
        assert_eq!((conf.abandon_after, conf.level), (Duration::from_secs(300), Level::Privileged));
        assert_eq!((conf.max_attachments, conf.max_chain, conf.programs), (64, 16, None));
        assert_eq!(conf.reserved.ports, [10250..=10250, 10256..=10256, 30000..=32767]);
        assert!(conf.path_roots.contains(&"/etc/cni/net.d/whereabouts.d".into()), "where whereabouts has its own");
    }

    #[test]
    fn ports_are_numbers_or_ranges() {
        let conf = read(&format!(r#"{DELEGATE},"reservedPorts":[22,"80-90","443"]"#)).unwrap();
        assert_eq!(conf.reserved.ports, [22..=22, 80..=90, 443..=443]);
    }

    #[test]
    fn networks_are_inline_named_or_paths() {
        let conf = read(r#""clusterNetwork":"/etc/x.conflist","defaultNetworks":["a","/b/c"]"#).unwrap();
        assert_eq!(conf.delegates, [Declared::Path("/etc/x.conflist".into())]);
        assert_eq!(conf.default_networks, [Declared::Named("a".parse().unwrap()), Declared::Path("/b/c".into())]);
    }

    #[test]
    fn refusals_name_the_key() {
        for (keys, path) in [
            ("\"delegates\":[]", "delegates"),
            ("\"delegates\":[{\"type\":\"x\"}]", "delegates[0].name"),
            ("\"delegates\":[{\"name\":\"x\"}]", "delegates[0].plugins"),
            ("\"delegates\":[{\"name\":\"x\",\"type\":\"a/b\"}]", "delegates[0].type"),
            ("\"clusterNetwork\":\"a b\"", "clusterNetwork"),
            ("\"clusterNetwork\":\"a/b\"", "clusterNetwork"),
            ("\"clusterNetwork\":\"/a\",\"defaultNetworks\":[\"a/b\"]", "defaultNetworks[0]"),
            ("\"clusterNetwork\":\"a\",\"auxiliaryCNIChainName\":\"chain\"", "auxiliaryCNIChainName"),
            ("\"clusterNetwork\":\"/a\",\"auxiliaryCNIChainName\":\"../b\"", "auxiliaryCNIChainName"),
        ] {
            assert_eq!(read(keys).unwrap_err().path, path, "{keys}");
        }
        for (key, path) in [
            (r#""auxiliaryCNIChainName":"chain""#, "auxiliaryCNIChainName"),
            (r#""timeoutSeconds":0"#, "timeoutSeconds"),
            (r#""statusWaitMs":60001"#, "statusWaitMs"),
            (r#""statusWaitMs":-1"#, "statusWaitMs"),
            (r#""dadWaitMs":-1"#, "dadWaitMs"),
            (r#""dadWaitMs":"5000""#, "dadWaitMs"),
            (r#""dadWaitMs":1.5"#, "dadWaitMs"),
            (r#""dadWaitMs":60001"#, "dadWaitMs"),
            (r#""stateDir":"relative""#, "stateDir"),
            (r#""cluster":{}"#, "cluster.directory"),
            (r#""builtin":["../x"]"#, "builtin[0]"),
            (r#""strict":"yes""#, "strict"),
            (r#""pathRoots":["/a","b"]"#, "pathRoots[1]"),
            (r#""reservedPorts":[80,"90-80"]"#, "reservedPorts[1]"),
            (r#""reservedPorts":[0]"#, "reservedPorts[0]"),
            (r#""reservedPorts":"80""#, "reservedPorts"),
            (r#""sharedLinks":[7]"#, "sharedLinks"),
            (r#""shareDefaultBridge":1"#, "shareDefaultBridge"),
            (r#""programs":["../x"]"#, "programs[0]"),
            (r#""maxAttachments":0"#, "maxAttachments"),
            (r#""maxChain":5000"#, "maxChain"),
            (r#""level":"Baseline""#, "level"),
            (r#""level":1"#, "level"),
            (r#""systemNamespaces":"x""#, "systemNamespaces"),
            (r#""dialects":["genie","x"]"#, "dialects[1]"),
            (r#""dialects":["genie"],"genie":{"defaultPlugin":"a,"}"#, "genie.defaultPlugin[1]"),
            (r#""runtimeConfDir":"net.d""#, "runtimeConfDir"),
        ] {
            assert_eq!(read(&format!("{DELEGATE},{key}")).unwrap_err().path, path, "{key}");
        }
    }
}
