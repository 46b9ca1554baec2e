//! The levels of namespaces, as ordinary policies: `meta-cnictl level show` prints them.
//!
//! A namespace says its level by a label, as for Pod Security. A definition is judged by the level of its own namespace, a pod's request by
//! that of the pod's. `privileged` has no rules. `baseline` admits links of one's own, and what an administrator opened in the level's
//! AttachmentLevel. `restricted` admits the definitions of the administrator's namespaces, and no others.

use std::fmt;
use std::str::FromStr;

use super::document::Labels;
use super::spec::{AppliesTo, Assert, AttachmentLevelSpec, AttachmentPolicySpec, OnMissing, PolicyRule, Range, Scalar};
use crate::aliases::stands_for;
use crate::finding::Finding;

/// The label of a namespace that says its level.
pub const LEVEL: &str = "meta-cni.io/level";

/// A level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// As with Multus.
    #[default]
    Privileged,
    /// Links of one's own, and what was opened.
    Baseline,
    /// The administrator's networks only.
    Restricted,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Privileged, Self::Baseline, Self::Restricted];
    /// What [`FromStr`] accepts, in words.
    pub const ALLOWED: &'static str = "privileged, baseline or restricted";

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    /// The level of a namespace by its label, or the default where the namespace has none.
    pub fn of_namespace(name: &str, labels: &Labels, default: Self) -> Result<Self, Finding> {
        let under = |e: Finding| e.under(&format!("namespace {name}: metadata.labels[{LEVEL}]"));
        labels.get(LEVEL).map_or(Ok(default), |text| text.parse().map_err(under))
    }

    /// Its policies: about the definitions of a namespace, and about its pods. `open` is its AttachmentLevel.
    pub fn policies(self, open: &AttachmentLevelSpec) -> Vec<AttachmentPolicySpec> {
        let of =
            |kind, rules| AttachmentPolicySpec { applies_to: vec![kind], rules, ..AttachmentPolicySpec::default() };
        let (definitions, pods) = match self {
            Self::Privileged => return Vec::new(),
            Self::Baseline => (baseline_definitions(open), baseline_pods(open)),
            Self::Restricted => (restricted_definitions(), restricted_pods(open)),
        };
        vec![of(AppliesTo::NetworkAttachmentDefinition, definitions), of(AppliesTo::Pod, pods)]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Finding;

    fn from_str(text: &str) -> Result<Self, Finding> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| Finding::new("", format_args!("{text:?}"), Self::ALLOWED))
    }
}

/// Types that make links of the pod's own, or change those.
const OWN_TYPES: [&str; 17] = [
    "bandwidth",
    "bond",
    "bridge",
    "dummy",
    "host-device",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "route-override",
    "sbr",
    "tap",
    "tuning",
    "vlan",
    "vrf",
    "vxlan",
];
/// IPAM types that are built in.
const OWN_IPAM: [&str; 4] = ["blocks", "dhcp", "host-local", "static"];

fn baseline_definitions(open: &AttachmentLevelSpec) -> Vec<PolicyRule> {
    let is = |kinds: &[&str], more: &str| {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("@.type == '{kind}'")).collect();
        match more {
            "" => format!("$.config.plugins[?{}]", kinds.join(" || ")),
            more => format!("$.config.plugins[?({}) && {more}]", kinds.join(" || ")),
        }
    };
    let named = open.types.iter().map(|kind| stands_for(kind).to_owned()).collect();
    let (types, ipam) = (words(&OWN_TYPES, &[&named, &open.programs]), words(&OWN_IPAM, &[&open.programs]));
    let (masters, bridges) = (words(&[], &[&open.masters]), words(&[], &[&open.bridges]));
    let range = |range: &super::spec::VniRange| Range { min: Some(range.min.into()), max: Some(range.max.into()) };
    let vnis: Vec<Range> = open.vni_ranges.iter().map(range).collect();
    let mut rules = vec![
        rule("configuration", "$.config.plugins[*]", Assert { min_count: Some(1), ..Assert::default() })
            .saying("an empty spec.config stands for a file of the node"),
        rule("types", "$.config.plugins[*].type", one_of(types)),
        rule("ipam-types", "$.config.plugins[*].ipam.type", one_of(ipam)).passing(),
        // A link of the pod's own (linkInContainer) is nobody else's.
        rule("masters", "$.master", one_of(masters.clone()))
            .each(is(&["macvlan", "ipvlan", "vlan"], "@.linkInContainer != true"))
            .saying("without master it is the link of the node's default route"),
        rule("modes", "$.mode", Assert { not_one_of: Some(vec!["passthru".into()]), ..Assert::default() })
            .each(is(&["macvlan"], ""))
            .passing(),
        rule("bridges", "$.bridge", one_of(bridges)).each(is(&["bridge"], "")).saying("without bridge it is cni0"),
        rule("vnis", "$.vni", Assert { ranges: Some(vnis.clone()), ..Assert::default() })
            .each(is(&["vxlan"], ""))
            .passing(),
        // DANM calls it `vxlan`.
        rule("master-vnis", "$['masterVxlan','vxlan']", Assert { ranges: Some(vnis), ..Assert::default() })
            .each(is(&["macvlan", "ipvlan"], ""))
            .passing(),
        rule("underlays", "$.underlay", one_of(masters)).each(is(&["vxlan"], "")).passing(),
        rule("peers", "$['peers','group']", absent())
            .each(is(&["vxlan"], ""))
            .saying("who is in an overlay is the cluster's affair"),
        rule("sysctls", "$['sysctl']", absent()).each(is(&["tuning"], "")),
        rule("sysctl-arguments", "$.config.plugins[*].args.cni.sysctl", absent()),
        rule("paths", "$.config.plugins[*]..['dataDir','resolvConf','kernelpath','subnetFile']", absent()),
    ];
    if !open.types.iter().any(|kind| kind == "host-device") {
        rules.push(
            rule("devices", "$['device','hwaddr','pciBusID']", absent())
                .each(is(&["host-device"], ""))
                .saying("a device comes from a device plugin, by the annotation k8s.v1.cni.cncf.io/resourceName"),
        );
    }
    if !open.types.iter().any(|kind| kind == "bond") {
        rules.push(
            rule("links", "$['links']", absent())
                .each(is(&["bond"], "@.linksInContainer != true"))
                .saying("without linksInContainer the links are the node's"),
        );
    }
    rules
}

fn baseline_pods(open: &AttachmentLevelSpec) -> Vec<PolicyRule> {
    let mut rules = vec![
        rule("definitions", "$.nad.name", Assert { min_count: Some(1), ..Assert::default() })
            .saying("a file of the node is the administrator's"),
        rule("namespaces", "$.namespace", one_of(words(&[], &[&open.shared_namespaces])))
            .each("$[?@.own == false]".to_owned())
            .saying("another namespace's definitions need to be shared"),
    ];
    rules.extend(any_pods());
    rules
}

fn restricted_definitions() -> Vec<PolicyRule> {
    vec![
        rule("definitions", "$.nad.name", absent())
            .saying("only networks of the administrator's namespaces are attached"),
    ]
}

fn restricted_pods(open: &AttachmentLevelSpec) -> Vec<PolicyRule> {
    let shared = one_of(words(&[], &[&open.shared_namespaces]));
    let mut rules = vec![
        rule("namespaces", "$.nad.namespace", shared)
            .saying("only networks of the administrator's namespaces are attached"),
    ];
    rules.extend(any_pods());
    rules
}

/// What no pod below `privileged` asks for.
fn any_pods() -> [PolicyRule; 3] {
    [
        rule("host-ports", "$.attachment.portMappings", absent()),
        rule("devices", "$.attachment.deviceID", absent()),
        rule("sysctls", "$.attachment['cni-args'].sysctl", absent()),
    ]
}

fn rule(name: &str, select: &str, assert: Assert) -> PolicyRule {
    let (name, select) = (name.to_owned(), select.to_owned());
    PolicyRule { name, for_each: None, select, assert, on_missing: None, message: None }
}

impl PolicyRule {
    fn each(self, path: String) -> Self {
        Self { for_each: Some(path), ..self }
    }

    fn passing(self) -> Self {
        Self { on_missing: Some(OnMissing::Pass), ..self }
    }

    fn saying(self, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..self }
    }
}

fn one_of(values: Vec<Scalar>) -> Assert {
    Assert { one_of: Some(values), ..Assert::default() }
}

fn absent() -> Assert {
    Assert { absent: Some(true), ..Assert::default() }
}

fn words(own: &[&str], opened: &[&Vec<String>]) -> Vec<Scalar> {
    let mut words: Vec<&str> = own.to_vec();
    words.extend(opened.iter().flat_map(|list| list.iter().map(String::as_str)));
    words.sort_unstable();
    words.dedup();
    words.into_iter().map(Scalar::from).collect()
}
