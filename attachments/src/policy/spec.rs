//! AttachmentPolicy and AttachmentLevel as they are written. Plain types: with the feature `api` they are API objects too.

use std::collections::BTreeMap;

#[cfg(feature = "api")]
use kube::{CustomResource, KubeSchema};
#[cfg(feature = "api")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of an AttachmentPolicy: what attachments in some namespaces must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(CustomResource, KubeSchema))]
#[cfg_attr(
    feature = "api",
    kube(
        group = "meta-cni.io",
        version = "v1alpha1",
        kind = "AttachmentPolicy",
        plural = "attachmentpolicies",
        shortname = "attpol",
        status = "AttachmentPolicyStatus",
        doc = "Restricts what the network definitions and pods of some namespaces may ask for.",
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
        printcolumn(name = "Violations", type_ = "integer", json_path = ".status.violations"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentPolicySpec {
    /// The namespaces whose definitions and pods are judged, by their labels. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// What is judged. Absent: both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 2)))]
    pub applies_to: Vec<AppliesTo>,
    /// What follows from a violation. Absent: Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// Who is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<Exempt>,
    /// The rules; each of them must hold.
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 64)))]
    #[cfg_attr(
        feature = "api",
        schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))
    )]
    pub rules: Vec<PolicyRule>,
}

/// What a policy judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
pub enum AppliesTo {
    /// Definitions, each in its own namespace.
    NetworkAttachmentDefinition,
    /// What a pod asks for, network by network.
    Pod,
}

/// What follows from a violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
pub enum Mode {
    /// It is refused, at admission and at ADD.
    #[default]
    Enforce,
    /// It is a warning.
    Warn,
    /// It is counted in the policy's status.
    Audit,
}

/// Labels that a namespace must have, as Kubernetes' label selectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "api", schemars(schema_with = "schema::labels"))]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 16)))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(KubeSchema))]
#[cfg_attr(
    feature = "api",
    x_kube(
        validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("In and NotIn need values, Exists and DoesNotExist have none")
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// The label's key.
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 317)))]
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// The values for In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(max = 63))))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
pub enum LabelOperator {
    /// Its value is one of these.
    In,
    /// It is absent, or its value is none of these.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

/// Who is not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Exempt {
    /// Groups of users. They count at admission only: at ADD there is no user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 32), inner(length(min = 1, max = 253))))]
    pub groups: Vec<String>,
    /// Namespaces by name, at admission and at ADD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 63))))]
    pub namespaces: Vec<String>,
}

/// One rule: a path selects, an operator asserts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(KubeSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// Its name in messages.
    #[cfg_attr(
        feature = "api",
        schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub name: String,
    /// A JSONPath: the rule is judged once for each node that it selects, with the node as the root of `select`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 512), regex(pattern = r"^\$")))]
    #[cfg_attr(
        feature = "api",
        x_kube(validation = Rule::new("size(self.split('..')) <= 2").message("at most one \"..\" is allowed"))
    )]
    pub for_each: Option<String>,
    /// A JSONPath: the nodes about which the operator asserts.
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 512), regex(pattern = r"^\$")))]
    #[cfg_attr(
        feature = "api",
        x_kube(validation = Rule::new("size(self.split('..')) <= 2").message("at most one \"..\" is allowed"))
    )]
    pub select: String,
    /// What must be so.
    pub assert: Assert,
    /// What follows where nothing is selected. Absent: Fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
    /// A sentence for those who break the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 256)))]
    pub message: Option<String>,
}

/// What follows where an operator about values has nothing to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
pub enum OnMissing {
    /// The rule holds.
    Pass,
    /// The rule is broken.
    Fail,
}

/// The operator: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(KubeSchema))]
#[cfg_attr(
    feature = "api",
    x_kube(
        validation = Rule::new("[has(self.oneOf), has(self.notOneOf), has(self.range), has(self.ranges), has(self.matches), has(self.within), has(self.maxCount), has(self.minCount), has(self.absent), has(self.unique)].filter(there, there).size() == 1").message("exactly one operator is allowed")
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Assert {
    /// Every node is one of these. A number never equals its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(max = 256)))]
    pub one_of: Option<Vec<Scalar>>,
    /// No node is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 256)))]
    pub not_one_of: Option<Vec<Scalar>>,
    /// Every node is a number within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Every node is a number within one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(max = 64)))]
    pub ranges: Option<Vec<Range>>,
    /// Every node is a text that this regular expression describes from its first character to its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(min = 1, max = 512)))]
    pub matches: Option<String>,
    /// Every node is an address or a subnet within one of these subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "api",
        schemars(length(min = 1, max = 64), inner(length(max = 43), regex(pattern = r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$")))
    )]
    pub within: Option<Vec<String>>,
    /// At most so many nodes are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(range(min = 0, max = 65536)))]
    pub max_count: Option<u32>,
    /// At least so many nodes are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(range(min = 1, max = 65536)))]
    pub min_count: Option<u32>,
    /// `true`: nothing is selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", x_kube(validation = Rule::new("self").message("must be true")))]
    pub absent: Option<bool>,
    /// `true`: no two nodes are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", x_kube(validation = Rule::new("self").message("must be true")))]
    pub unique: Option<bool>,
}

/// Numbers from `min` to `max`, both included; one of them may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(KubeSchema))]
#[cfg_attr(
    feature = "api",
    x_kube(
        validation = Rule::new("has(self.min) || has(self.max)").message("min, max or both are required"),
        validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max").message("min must not be above max")
    )
)]
pub struct Range {
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// A number or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// An integer.
    Number(i64),
    /// A text.
    Text(String),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// `status` of an AttachmentPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AttachmentPolicyStatus {
    /// `metadata.generation` of what the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Compiled`: every path and expression of the policy can be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 8)))]
    pub conditions: Vec<PolicyCondition>,
    /// Violations of objects that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<i64>,
}

/// A condition of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// Its name.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "api", schemars(length(max = 63)))]
    pub kind: String,
    /// True, False or Unknown.
    #[cfg_attr(feature = "api", schemars(length(max = 7)))]
    pub status: String,
    /// Why, in one word.
    #[serde(default)]
    #[cfg_attr(feature = "api", schemars(length(max = 63)))]
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    #[cfg_attr(feature = "api", schemars(length(max = 1024)))]
    pub message: String,
    /// When `status` changed, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schemars(length(max = 35)))]
    pub last_transition_time: Option<String>,
}

/// `spec` of an AttachmentLevel: what an administrator opens to the namespaces of a level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(CustomResource, KubeSchema))]
#[cfg_attr(
    feature = "api",
    kube(
        group = "meta-cni.io",
        version = "v1alpha1",
        kind = "AttachmentLevel",
        plural = "attachmentlevels",
        shortname = "attlvl",
        doc = "What an administrator opens to the namespaces of a level. The object's name is the level's.",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        validation = Rule::new("self.metadata.name in ['baseline', 'restricted']").message("metadata.name must be baseline or restricted: level privileged has nothing to open")
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentLevelSpec {
    /// Plugin types that are built in and that the level does not admit by itself: `host-device`, `bond` of links of the node, `flannel`, `passthru`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 255))))]
    pub types: Vec<String>,
    /// Links of the node that macvlan, ipvlan and vlan may stand on, and that may be a vxlan's underlay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 43))))]
    pub masters: Vec<String>,
    /// Bridges that a bridge may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 15))))]
    pub bridges: Vec<String>,
    /// VNIs of overlays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64)))]
    pub vni_ranges: Vec<VniRange>,
    /// Plugin and IPAM types that are programs of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 255))))]
    pub programs: Vec<String>,
    /// Namespaces of administrators: pods of the level may name the definitions there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "api", schemars(length(max = 64), inner(length(min = 1, max = 63))))]
    pub shared_namespaces: Vec<String>,
}

/// VNIs from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(KubeSchema))]
#[cfg_attr(feature = "api", x_kube(validation = Rule::new("self.min <= self.max").message("min must not be above max")))]
pub struct VniRange {
    /// The first.
    #[cfg_attr(feature = "api", schemars(range(min = 1, max = 16_777_215)))]
    pub min: u32,
    /// The last.
    #[cfg_attr(feature = "api", schemars(range(min = 1, max = 16_777_215)))]
    pub max: u32,
}

#[cfg(feature = "api")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::Scalar;

    pub fn labels(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}})
    }

    impl JsonSchema for Scalar {
        fn schema_name() -> Cow<'static, str> {
            "Scalar".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 253})
        }
    }
}
