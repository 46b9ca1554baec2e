//! The keys of a node's configuration, in whatever case they are written.

use std::borrow::Cow;

use attachments::cni::object::Object;
use attachments::cni::spelling::{Known, OF_LIST, OF_PLUGIN, OF_RUNTIME};
use attachments::finding::Finding;

/// The keys of a node's configuration. Those of Multus that have no effect are not among them.
static KEYS: Known<'static> = Known {
    keys: &[
        &OF_LIST,
        &OF_PLUGIN,
        &OF_RUNTIME,
        &[
            "delegates",
            "clusterNetwork",
            "defaultNetworks",
            "auxiliaryCNIChainName",
            "systemNamespaces",
            "multusNamespace",
            "confDir",
            "binDir",
            "namespaceIsolation",
            "globalNamespaces",
            "readinessindicatorfile",
            "cluster",
            "agentSocket",
            "statusWaitMs",
            "stateDir",
            "cniDir",
            "builtin",
            "timeoutSeconds",
            "abandonAfterSeconds",
            "dadWaitMs",
            "pathRoots",
            "programs",
            "sharedLinks",
            "shareDefaultBridge",
            "reservedPorts",
            "maxAttachments",
            "maxChain",
            "level",
            "mergeIPs",
            "normalPriority",
            "whereabouts",
            "strict",
            "hotplug",
            "repair",
            "dialects",
            "danm",
            "genie",
            "runtimeConfDir",
        ],
    ],
    inside: &[("cluster", &CLUSTER), ("danm", &DANM), ("genie", &GENIE)],
    only: false,
};
static CLUSTER: Known<'static> = Known::of(&[&["directory"]]);
static DANM: Known<'static> = Known::of(&[&["namingScheme"]]);
static GENIE: Known<'static> = Known::of(&[&["defaultPlugin", "loadPrefixes"]]);

/// A node's configuration with its keys as [`NodeConf`](super::NodeConf) reads them: Multus, and the runtime, take them in any case. Two
/// spellings of one key are refused.
pub fn spelled(conf: Object) -> Result<Object, Finding> {
    match KEYS.read(&conf)? {
        Cow::Owned(spelled) => Ok(spelled),
        Cow::Borrowed(_) => Ok(conf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_any_case_and_once() {
        let conf = |text: &str| spelled(Object::parse(text.as_bytes()).unwrap());
        let text =
            r#"{"readinessIndicatorFile":"/f","Delegates":[{"NAME":"d","Type":"x"}],"Cluster":{"Directory":"/d"}}"#;
        assert_eq!(
            conf(text).unwrap().to_json(),
            r#"{"readinessindicatorfile":"/f","delegates":[{"NAME":"d","Type":"x"}],"cluster":{"directory":"/d"}}"#
        );
        let refusal = conf(r#"{"strict":true,"Strict":false}"#).unwrap_err().to_string();
        assert!(refusal.starts_with(r#"Strict: got "Strict" beside "strict""#), "{refusal}");
    }

    /// The table of docs/configuration.md is the keys that are read.
    #[test]
    fn the_documented_keys_are_the_known_ones() {
        let page = include_str!("../../../docs/configuration.md");
        let table = page.split("\n## Keys\n").nth(1).unwrap().split("\n### ").next().unwrap();
        let cells = table.lines().filter(|line| line.starts_with("| [")).filter_map(|line| line.split('|').nth(1));
        let documented: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(documented.len() > 25, "{documented:?}");
        for key in &documented {
            assert_eq!(KEYS.meant(&key.to_uppercase()), Some(*key));
        }
        let own = KEYS.keys.last().unwrap();
        assert!(own.iter().all(|key| documented.contains(key)), "{own:?}");
    }
}
