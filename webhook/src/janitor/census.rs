//! Which stored objects break which policy: pure. Definitions and pods come one by one, and no text of theirs is kept.
//!
//! An object is judged as admission and ADD judge it, and counted once for each policy that it breaks, however many rules it
//! breaks. There is no request: rules that speak of `request` or `usage` are passed over, as at ADD.

use std::collections::HashMap;

use attachments::dialect::Dialects;
use attachments::names::ObjectName;
use attachments::policy::spec::{AppliesTo, AttachmentPolicySpec};
use attachments::policy::{CompiledPolicy, Document, Flaw, Labels, Nad, Pod, PolicyName, compile};
use attachments::selection::{NetworkSelection, Selection};

/// The policies, and what broke them so far.
pub struct Census {
    policies: Vec<Counted>,
    namespaces: HashMap<String, Labels>,
    /// Where definitions of default networks are.
    home: Option<ObjectName>,
    /// By namespace: the policies that speak of it.
    concerned: HashMap<String, Vec<usize>>,
}

/// A policy with its count.
struct Counted {
    policy: CompiledPolicy,
    applies_to: Vec<AppliesTo>,
    count: Count,
}

/// What breaks a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Objects.
    pub objects: i64,
    /// The first of them in the order of their kinds and names, and what is wrong with it.
    pub first: Option<(Object, String)>,
}

/// An object as messages name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A definition, as `namespace/name`.
    Definition(String),
    /// A pod, likewise.
    Pod(String),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Definition(name) => write!(f, "network-attachment-definition {name}"),
            Self::Pod(name) => write!(f, "pod {name}"),
        }
    }
}

/// What a policy comes to: what broke it, or what is wrong with itself.
pub type Outcome = Result<Count, Vec<Flaw>>;

/// A pod, as far as policies see it, and which of them it broke already.
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a ObjectName,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// The policies that it was counted for.
    pub counted: &'a mut Vec<usize>,
}

impl Census {
    /// Policies by name, the labels of namespaces, and where definitions of default networks are. The second part of the answer is for each
    /// policy its place, or why it cannot be compiled and counts nothing.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = (&'a str, &'a AttachmentPolicySpec)>,
        namespaces: HashMap<String, Labels>,
        home: Option<ObjectName>,
    ) -> (Self, Vec<Result<usize, Vec<Flaw>>>) {
        let mut census = Self { policies: Vec::new(), namespaces, home, concerned: HashMap::new() };
        let mut places = Vec::new();
        for (name, spec) in policies {
            places.push(compile(PolicyName::Policy(name.to_owned()), spec).map(|policy| {
                census.policies.push(Counted { policy, applies_to: spec.applies_to.clone(), count: Count::default() });
                census.policies.len() - 1
            }));
        }
        (census, places)
    }

    /// Does some policy speak of pods?
    pub fn counts_pods(&self) -> bool {
        self.policies.iter().any(|counted| counted.judges(AppliesTo::Pod))
    }

    /// Does some policy speak of the pods of a namespace?
    pub fn counts_pods_of(&mut self, namespace: &str) -> bool {
        !self.concerned(namespace, AppliesTo::Pod).is_empty()
    }

    /// Judges a definition.
    pub fn definition(&mut self, nad: &Nad<'_>) {
        let concerned = self.concerned(nad.namespace, AppliesTo::NetworkAttachmentDefinition);
        if concerned.is_empty() {
            return;
        }
        let object = Object::Definition(format!("{}/{}", nad.namespace, nad.name));
        let document = Document::of_definition(nad, None);
        for place in concerned {
            if let Some(text) = self.breach(place, &document) {
                self.count(place, object.clone(), text);
            }
        }
    }

    /// What a pod selects.
    pub fn selection(&self, namespace: &ObjectName, annotations: &Labels) -> Selection {
        let home = self.home.as_ref().unwrap_or(namespace);
        Selection::read(|key| annotations.get(key).map(String::as_str), namespace, home, &Dialects::default()).0
    }

    /// Judges what a pod asks of one network. Without a definition the network is a file of the node.
    pub fn attachment(
        &mut self,
        pod: &mut Subject<'_>,
        (element, selection): (&str, &NetworkSelection),
        nad: Option<&Nad<'_>>,
    ) {
        let mut concerned = self.concerned(pod.namespace.as_str(), AppliesTo::Pod);
        concerned.retain(|place| !pod.counted.contains(place));
        if concerned.is_empty() {
            return;
        }
        // The service account and the host's network are no metadata: rules about them are passed over.
        let told = Pod {
            namespace: pod.namespace.as_str(),
            name: Some(pod.name),
            labels: Some(pod.labels),
            service_account: None,
            host_network: false,
        };
        let document = Document::of_attachment(&told, selection, element, nad, None);
        for place in concerned {
            if let Some(text) = self.breach(place, &document) {
                pod.counted.push(place);
                self.count(place, Object::Pod(format!("{}/{}", pod.namespace, pod.name)), text);
            }
        }
    }

    /// What broke a policy, by its place.
    pub fn counted(&self, place: usize) -> Count {
        self.policies.get(place).map(|counted| counted.count.clone()).unwrap_or_default()
    }

    /// The first thing by which a document breaks a policy. A text with two readings is refused wherever a policy would read it.
    fn breach(&self, place: usize, document: &Result<Document, attachments::finding::Finding>) -> Option<String> {
        match document {
            Ok(document) => self.policies[place].policy.judge(document).first().map(ToString::to_string),
            Err(unreadable) => Some(unreadable.to_string()),
        }
    }

    fn count(&mut self, place: usize, object: Object, text: String) {
        let count = &mut self.policies[place].count;
        count.objects += 1;
        if count.first.as_ref().is_none_or(|(first, _)| object < *first) {
            count.first = Some((object, text));
        }
    }

    fn concerned(&mut self, namespace: &str, kind: AppliesTo) -> Vec<usize> {
        if !self.concerned.contains_key(namespace) {
            let nothing = Labels::new();
            let labels = self.namespaces.get(namespace).unwrap_or(&nothing);
            let all = self.policies.iter().enumerate();
            let concerned = all.filter(|(_, counted)| counted.policy.concerns(namespace, labels, &[]));
            let concerned = concerned.map(|(place, _)| place).collect();
            self.concerned.insert(namespace.to_owned(), concerned);
        }
        let all = self.concerned.get(namespace).into_iter().flatten().copied();
        all.filter(|place| self.policies[*place].judges(kind)).collect()
    }
}

impl Counted {
    fn judges(&self, kind: AppliesTo) -> bool {
        self.applies_to.is_empty() || self.applies_to.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> AttachmentPolicySpec {
        serde_json::from_value(value).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn census(policies: &[(&str, AttachmentPolicySpec)]) -> (Census, Vec<Result<usize, Vec<Flaw>>>) {
        let namespaces = HashMap::from([("shop".to_owned(), labels(&[("tenant", "a")]))]);
        let policies = policies.iter().map(|(name, spec)| (*name, spec));
        Census::new(policies, namespaces, "kube-system".parse().ok())
    }

    fn define(census: &mut Census, namespace: &str, name: &str, config: &str) {
        let nothing = Labels::new();
        let (labels, annotations) = (Some(&nothing), Some(&nothing));
        census.definition(&Nad { namespace, name, labels, annotations, config: Some(config) });
    }

    fn attach(census: &mut Census, name: &str, networks: &str, nad: Option<(&str, &str)>, counted: &mut Vec<usize>) {
        let (namespace, labels) = ("shop".parse().unwrap(), labels(&[("app", "web")]));
        let selection = census.selection(&namespace, &self::labels(&[(attachments::selection::NETWORKS, networks)]));
        let nad = nad.map(|(name, config)| Nad {
            namespace: "shop",
            name,
            labels: None,
            annotations: None,
            config: Some(config),
        });
        for (element, selected) in selection.placed_elements() {
            let mut subject = Subject { namespace: &namespace, name, labels: &labels, counted };
            census.attachment(&mut subject, (&element, selected), nad.as_ref());
        }
    }

    fn vnis() -> Value {
        json!({"name": "vnis", "select": "$.config.plugins[*].vni", "assert": {"range": {"max": 99}}, "onMissing": "Pass"})
    }

    #[test]
    fn an_object_counts_once_for_each_policy_that_it_breaks() {
        let plugins = json!({"name": "types", "select": "$.config.plugins[*].type", "assert": {"oneOf": ["macvlan"]}});
        let (mut census, _) = census(&[
            ("a", spec(json!({"rules": [vnis(), plugins], "mode": "Audit"}))),
            ("b", spec(json!({"rules": [vnis()], "namespaceSelector": {"matchLabels": {"tenant": "b"}}}))),
            ("c", spec(json!({"rules": [vnis()], "exempt": {"namespaces": ["shop"]}}))),
            ("d", spec(json!({"rules": [vnis()], "appliesTo": ["Pod"]}))),
        ]);
        define(&mut census, "shop", "red", r#"{"type":"vxlan","vni":100}"#);
        define(&mut census, "shop", "blue", r#"{"type":"vxlan","vni":200}"#);
        define(&mut census, "shop", "good", r#"{"type":"macvlan"}"#);
        let first = r#"spec.config.vni: Forbidden: 200: policy "a" rule "vnis" allows at most 99"#;
        let count = census.counted(0);
        assert_eq!(count.objects, 2);
        assert_eq!(count.first, Some((Object::Definition("shop/blue".to_owned()), first.to_owned())));
        assert_eq!([1, 2, 3].map(|place| census.counted(place)), [(); 3].map(|()| Count::default()));
        // Another namespace is not exempt.
        define(&mut census, "other", "blue", r#"{"type":"vxlan","vni":200}"#);
        assert_eq!([0, 1, 2, 3].map(|place| census.counted(place).objects), [3, 0, 1, 0]);
    }

    #[test]
    fn a_pod_counts_by_what_it_asks_for_and_by_the_definition() {
        let macs = json!({"name": "macs", "select": "$.attachment.mac", "assert": {"absent": true}});
        let apps = json!({"name": "apps", "select": "$.pod.labels.app", "assert": {"oneOf": ["db"]}});
        let of_pods = |rule: Value| spec(json!({"rules": [rule], "appliesTo": ["Pod"]}));
        let (mut census, _) = census(&[("m", of_pods(macs)), ("v", of_pods(vnis())), ("l", of_pods(apps))]);
        assert!(census.counts_pods() && census.counts_pods_of("shop"));
        let overlay = Some(("red", r#"{"type":"vxlan","vni":100}"#));
        let mut counted = Vec::new();
        let twice = r#"[{"name":"red","mac":"02:00:00:00:00:01"},{"name":"red","mac":"02:00:00:00:00:02"}]"#;
        attach(&mut census, "web", twice, overlay, &mut counted);
        attach(&mut census, "web", twice, overlay, &mut counted);
        attach(&mut census, "api", "red", Some(("red", r#"{"type":"vxlan","vni":7}"#)), &mut Vec::new());
        assert_eq!([0, 1, 2].map(|place| census.counted(place).objects), [1, 1, 2]);
        let (object, text) = census.counted(0).first.unwrap();
        assert_eq!(object.to_string(), "pod shop/web");
        assert!(text.starts_with("metadata.annotations[k8s.v1.cni.cncf.io/networks][0].mac: Forbidden: "), "{text}");
        let (object, text) = census.counted(1).first.unwrap();
        assert_eq!(object, Object::Pod("shop/web".to_owned()));
        assert!(text.contains("(shop/red spec.config.vni): Forbidden: 100"), "{text}");
        assert_eq!(census.counted(2).first.unwrap().0.to_string(), "pod shop/api");
    }

    #[test]
    fn what_has_two_readings_breaks_every_policy_that_would_read_it() {
        let (mut census, _) = census(&[("a", spec(json!({"rules": [vnis()]})))]);
        define(&mut census, "shop", "two", r#"{"type":"vxlan","vni":7,"VNI":700}"#);
        let (_, text) = census.counted(0).first.unwrap();
        assert!(text.starts_with("spec.config"), "{text}");
    }

    #[test]
    fn a_rule_about_requests_counts_nothing_and_a_broken_policy_says_why() {
        let quota = json!({"name": "quota", "select": "$.usage.nadsInNamespace", "assert": {"range": {"max": 0}}});
        let flawed = json!({"name": "open", "select": "$.a", "assert": {"matches": "("}});
        let (mut census, places) =
            census(&[("flawed", spec(json!({"rules": [flawed]}))), ("quota", spec(json!({"rules": [quota]})))]);
        define(&mut census, "shop", "lan", r#"{"type":"macvlan"}"#);
        let Err(flaws) = &places[0] else { panic!("compiled") };
        assert!(flaws[0].to_string().starts_with("spec.rules[0].assert.matches: Invalid value: "), "{}", flaws[0]);
        assert_eq!(places[1], Ok(0));
        assert_eq!(census.counted(0), Count::default());
    }
}
