//! The keys of Multus and of its daemon, and what becomes of each.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, and means the same.
    Kept,
    /// It is kept, and what it does differs as the sentence says.
    Differs(&'static str),
    /// It is left out: the sentence says what stands for it.
    Replaced(&'static str),
    /// It is left out, and somebody should look at it.
    Lost(&'static str),
    /// The runtime's, or of every CNI configuration: nothing to say.
    Plain,
}

/// Every key, by the part of Multus that reads it first.
pub const KEYS: [(&str, Fate); 41] = [
    ("type", Fate::Plain),
    ("cniVersion", Fate::Plain),
    ("cniVersions", Fate::Plain),
    ("plugins", Fate::Plain),
    ("runtimeConfig", Fate::Plain),
    ("prevResult", Fate::Plain),
    ("ipam", Fate::Plain),
    ("dns", Fate::Plain),
    (
        "name",
        Fate::Replaced(
            "the node's network is called meta-cni whatever its default network is; network-status has the default network's own name as before",
        ),
    ),
    ("delegates", Fate::Kept),
    ("clusterNetwork", Fate::Kept),
    ("defaultNetworks", Fate::Kept),
    ("systemNamespaces", Fate::Kept),
    ("multusNamespace", Fate::Kept),
    ("confDir", Fate::Kept),
    ("binDir", Fate::Kept),
    ("capabilities", Fate::Kept),
    (
        "cniDir",
        Fate::Differs(
            "only read: pods that Multus attached are detached by what it saved there. Keep the directory until they are gone",
        ),
    ),
    ("namespaceIsolation", Fate::Differs("it holds for the default-network annotation and for files of the node too")),
    ("globalNamespaces", Fate::Kept),
    (
        "readinessindicatorfile",
        Fate::Differs("looked at once and not waited for: a missing file is code 11, and the runtime tries again"),
    ),
    (
        "auxiliaryCNIChainName",
        Fate::Differs("a file of the chain that cannot be read fails the pod, with code 7, and is not passed over"),
    ),
    ("kubeconfig", Fate::Replaced("the agent asks the API server by its service account; the plugin never does")),
    ("logFile", Fate::Replaced("the plugin's log is the runtime's, the agent's is kubectl logs")),
    ("logLevel", Fate::Replaced("META_CNI_LOG_LEVEL of the DaemonSet")),
    ("logToStderr", Fate::Replaced("always so")),
    ("logOptions", Fate::Replaced("nothing is rotated: the runtime and the kubelet do that")),
    ("retryDeleteOnError", Fate::Replaced("always so: what a DEL could not undo stays recorded and is tried again")),
    ("socketDir", Fate::Replaced("META_CNI_SOCKET of the DaemonSet, /run/meta-cni/agent.sock")),
    ("daemonSocketDir", Fate::Replaced("META_CNI_SOCKET of the DaemonSet, /run/meta-cni/agent.sock")),
    ("chrootDir", Fate::Replaced("the plugin runs in the host's mount namespace: nothing is chrooted")),
    ("connectionLimit", Fate::Replaced("the agent's memory is bounded whatever is asked at once")),
    (
        "metricsPort",
        Fate::Replaced("META_CNI_METRICS_ADDRESS of the DaemonSet, port 9464: docs/metrics.md has the series"),
    ),
    ("enablePprof", Fate::Lost("there is no profiler to ask")),
    (
        "perNodeCertificate",
        Fate::Replaced("the agent's token names its node, and policy.yaml holds it to that node's objects"),
    ),
    ("cniConfigDir", Fate::Replaced("META_CNI_CONF_DIR of the DaemonSet; docs/install.md, Other paths")),
    ("multusAutoconfigDir", Fate::Replaced("META_CNI_CONF_DIR of the DaemonSet; docs/install.md, Other paths")),
    ("multusMasterCNI", Fate::Replaced("META_CNI_PRIMARY of the DaemonSet")),
    ("multusConfigFile", Fate::Replaced("the ConfigMap; a file that it names is to be given here with -f")),
    (
        "overrideNetworkName",
        Fate::Lost(
            "the node's network is always called meta-cni: a name that follows the default network's loses the records when that is renamed",
        ),
    ),
    (
        "forceCNIVersion",
        Fate::Lost("the default network's own file is never changed: it is called in the version that it has"),
    ),
];

/// What becomes of a key, in whatever case it is written, with its usual spelling.
pub fn fate(key: &str) -> Option<(&'static str, Fate)> {
    KEYS.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).copied()
}
