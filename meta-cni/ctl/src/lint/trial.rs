//! `--policy`: definitions and pods in the files are judged by levels and policies in other files, as they would be at ADD. There is neither a
//! user nor a count of what exists, so rules about `request` and `usage` are passed over; labels, which ADD does not know, count.

use std::collections::BTreeMap;
use std::path::Path;

use attachments::dialect::Dialects;
use attachments::dialect::objects::Kind as Foreign;
use attachments::names::ObjectName;
use attachments::policy::spec::Mode;
use attachments::policy::{
    self, CompiledPolicy, Document, Facts, Flaw, Kind as Broken, Labels, Level, Nad, Pod, PolicyName, Violation,
    compile,
};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS, Selection};
use delegates::lint::{Kind, Problem, Severity};
use meta_cni::cluster::manifest;
use serde_json::Value;

use super::objects::{TEMPLATES, foreign_kind};
use super::{LintedProblem, Source, is_conf};

/// Levels and policies, and the definitions that pods in the files may name.
#[derive(Debug, Default)]
pub struct Trial {
    facts: Facts,
    level: Level,
    /// Definitions of the files by namespace and name, with their text.
    definitions: BTreeMap<(String, String), Value>,
    /// `spec` of the Physicalnetworks of the files, by namespace and name.
    physical: BTreeMap<(String, String), Value>,
    flaws: Vec<LintedProblem>,
}

/// Takes the levels and policies of a file of manifests.
pub fn facts_of(source: &Source, facts: &mut Facts) -> Result<(), String> {
    for document in manifest::documents(&source.text) {
        manifest::policies(document, Path::new(&source.name), facts).map_err(|fault| fault.to_string())?;
    }
    Ok(())
}

impl Trial {
    /// By these files of policies. Policies and namespaces among what is checked count too.
    pub fn new(level: Level, policies: &[Source], sources: &[Source]) -> Self {
        let mut trial = Self { level, ..Self::default() };
        for source in policies.iter().chain(sources.iter().filter(|source| !is_conf(source))) {
            let mut facts = Facts::default();
            let read = facts_of(source, &mut facts);
            // What is no manifest at all is said by whoever checks the file.
            if let Err(why) = read.or_else(|why| {
                if why.contains("spec: ") || policies.iter().any(|p| p.name == source.name) { Err(why) } else { Ok(()) }
            }) {
                trial.flaw(source, None, Problem::unruled(Kind::Invalid, "", "", why));
            }
            for (name, spec) in &facts.policies {
                let flaws = compile(PolicyName::Policy(name.clone()), spec).err().unwrap_or_default();
                for Flaw { rule, path, value, text } in flaws {
                    trial.flaw(
                        source,
                        Some(name),
                        Problem { rule, value, ..Problem::unruled(Kind::Invalid, path, "", text) },
                    );
                }
            }
            trial.take(facts);
        }
        for source in sources.iter().filter(|source| !is_conf(source)) {
            let documents = manifest::documents(&source.text);
            documents
                .into_iter()
                .filter_map(|document| manifest::value(document).ok())
                .for_each(|value| trial.define(&value));
        }
        trial
    }

    fn take(&mut self, facts: Facts) {
        let policy::Facts { namespaces, policies, levels } = facts;
        self.facts.namespaces.extend(namespaces);
        self.facts.levels.extend(levels);
        for (name, mut spec) in policies {
            // Whoever tries a policy wants to see what it would count.
            if spec.mode == Mode::Audit {
                spec.mode = Mode::Warn;
            }
            if compile(PolicyName::Policy(name.clone()), &spec).is_ok() {
                self.facts.policies.insert(name, spec);
            }
        }
    }

    fn flaw(&mut self, source: &Source, object: Option<&String>, problem: Problem) {
        self.flaws.push(LintedProblem { file: source.name.clone(), object: object.cloned(), problem });
    }

    /// Takes a definition that pods may name.
    pub fn define(&mut self, object: &Value) {
        let kind = object["kind"].as_str().unwrap_or_default();
        if let Some(items) = object["items"].as_array().filter(|_| kind.ends_with("List")) {
            items.iter().for_each(|item| self.define(item));
        } else if kind == "NetworkAttachmentDefinition" {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.definitions.insert((namespace_of(object), name.to_owned()), object.clone());
        } else if foreign_kind(object) == Some(Foreign::Physicalnetwork) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.physical.insert((namespace_of(object), name.to_owned()), object["spec"].clone());
        }
    }

    /// `spec` of a Physicalnetwork in the namespace of an object, if the files have it.
    pub fn physical(&self, object: &Value, name: &str) -> Option<&Value> {
        self.physical.get(&(namespace_of(object), name.to_owned()))
    }

    /// What is wrong with the policies themselves.
    pub fn flaws(&self) -> &[LintedProblem] {
        &self.flaws
    }

    /// What levels and policies say of one object.
    pub fn judge(&self, object: &Value) -> Vec<Problem> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let namespace = namespace_of(object);
        let template = TEMPLATES.iter().find(|(known, _)| *known == kind).map(|(_, template)| *template);
        if kind != "NetworkAttachmentDefinition" && kind != "Pod" && template.is_none() {
            return Vec::new();
        }
        let policies = match self.facts.policies(&namespace, self.level) {
            Ok(policies) if policies.is_empty() => return Vec::new(),
            Ok(policies) => policies,
            Err(error) => return vec![Problem::unruled(Kind::Invalid, "", "", error.to_string())],
        };
        match template {
            None if kind == "Pod" => self.pod(object, &namespace, &policies),
            None => of_definition(object, &namespace, &policies),
            Some(template) => {
                let at = template.trim_start_matches('/').replace('/', ".");
                let pod = object.pointer(template).map(|pod| self.pod(pod, &namespace, &policies));
                pod.into_iter().flatten().map(|problem| problem.under(&at)).collect()
            }
        }
    }

    fn pod(&self, object: &Value, namespace: &str, policies: &[CompiledPolicy]) -> Vec<Problem> {
        let Ok(home) = namespace.parse::<ObjectName>() else { return Vec::new() };
        let (labels, spec) = (labels(object, "labels"), &object["spec"]);
        let text = |key: &str| object["metadata"]["annotations"][key].as_str();
        // What cannot be read is said by the rules of admission.
        let (selection, _) = Selection::read(text, &home, &home, &Dialects::default());
        let pod = Pod {
            namespace,
            name: object["metadata"]["name"].as_str(),
            labels: Some(&labels),
            service_account: Some(spec["serviceAccountName"].as_str().unwrap_or("default")),
            host_network: spec["hostNetwork"].as_bool().unwrap_or_default(),
        };
        let default =
            selection.default_network.iter().map(|one| (format!("metadata.annotations[{DEFAULT_NETWORK}]"), one));
        let networks = selection.networks.iter().enumerate();
        let networks = networks.map(|(i, one)| (format!("metadata.annotations[{NETWORKS}][{i}]"), one));
        let mut problems = Vec::new();
        for (element, one) in default.chain(networks) {
            let reference = one.target.definition().map(|net| (net.namespace.to_string(), net.name.to_string()));
            let known = reference.as_ref().and_then(|reference| self.definitions.get(reference));
            let about = known.map(About::of);
            let nad = reference.as_ref().map(|(namespace, name)| match &about {
                Some(about) => about.nad(namespace, name),
                None => Nad { namespace, name, labels: None, annotations: None, config: None },
            });
            // A configuration with two readings is said of the definition.
            if let Ok(document) = Document::of_attachment(&pod, one, &element, nad.as_ref(), None) {
                problems.extend(judged(policies, &document));
            }
        }
        problems
    }
}

/// What a definition says beside its name.
struct About<'a> {
    labels: Labels,
    annotations: Labels,
    config: Option<&'a str>,
}

impl<'a> About<'a> {
    fn of(object: &'a Value) -> Self {
        let config = object["spec"]["config"].as_str();
        Self { labels: labels(object, "labels"), annotations: labels(object, "annotations"), config }
    }

    fn nad<'b>(&'b self, namespace: &'b str, name: &'b str) -> Nad<'b> {
        let (labels, annotations) = (Some(&self.labels), Some(&self.annotations));
        Nad { namespace, name, labels, annotations, config: Some(self.config.unwrap_or_default()) }
    }
}

fn of_definition(object: &Value, namespace: &str, policies: &[CompiledPolicy]) -> Vec<Problem> {
    let about = About::of(object);
    let nad = about.nad(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
    match Document::of_definition(&nad, None) {
        Ok(document) => judged(policies, &document),
        // Most of it is said by the rules of admission, yet not all.
        Err(finding) => {
            vec![Problem::unruled(Kind::Invalid, finding.path, finding.value, format!("must be {}", finding.allowed))]
        }
    }
}

fn judged(policies: &[CompiledPolicy], document: &Document) -> Vec<Problem> {
    policies.iter().flat_map(|policy| policy.judge(document)).map(problem).collect()
}

fn problem(violation: Violation) -> Problem {
    let text = violation.text();
    let Violation { path, kind, value, mode, .. } = violation;
    let kind = match kind {
        Broken::Forbidden => Kind::Forbidden,
        Broken::Required => Kind::Required,
        Broken::TooMany => Kind::TooMany,
        Broken::Invalid => Kind::Invalid,
        Broken::Duplicate => Kind::Duplicate,
    };
    let severity = if mode == Mode::Enforce { Severity::Deny } else { Severity::Warn };
    Problem { severity, ..Problem::unruled(kind, path, value, text) }
}

fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned()
}

fn labels(object: &Value, key: &str) -> Labels {
    let entries = object["metadata"][key].as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::lint;

    const POLICIES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {tenant: a, meta-cni.io/level: baseline}}
---
apiVersion: meta-cni.io/v1alpha1
kind: AttachmentPolicy
metadata: {name: tenant-a}
spec:
  namespaceSelector: {matchLabels: {tenant: a}}
  rules:
  - name: mtu
    select: "$.config.plugins[*].mtu"
    assert: {range: {max: 1450}}
    onMissing: Pass
  - name: apps
    select: "$.pod.labels.app"
    assert: {oneOf: [web]}
  - {name: quota, select: "$.usage.nadsInNamespace", assert: {range: {max: 1}}}
---
apiVersion: meta-cni.io/v1alpha1
kind: AttachmentPolicy
metadata: {name: counted}
spec: {mode: Audit, rules: [{name: macs, select: $.attachment.mac, assert: {absent: true}}]}
"#;

    const FILES: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: lan, namespace: shop}
spec: {config: '{"cniVersion":"1.0.0","type":"ptp","mtu":9000,"ipam":{"type":"static","addresses":[{"address":"10.1.0.2/24"}]}}'}
---
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: db}, annotations: {k8s.v1.cni.cncf.io/networks: 'lan'}}}}
---
kind: Pod
metadata: {name: one, namespace: shop, labels: {app: web}, annotations: {k8s.v1.cni.cncf.io/networks: '[{"name":"far","namespace":"infra","mac":"02:00:00:00:00:01"}]'}}
"#;

    fn said(policies: &str, files: &str) -> Vec<String> {
        let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
        let (policies, files) = ([source("p.yaml", policies)], [source("f.yaml", files)]);
        let report = lint(&files, &Trial::new(Level::Privileged, &policies, &files));
        report.human().lines().map(str::to_owned).collect()
    }

    #[test]
    fn policies_are_tried_on_files() {
        assert_eq!(
            said(POLICIES, FILES),
            [
                r#"f.yaml: shop/lan: cfg.mtu: Forbidden: 9000: policy "tenant-a" rule "mtu" allows at most 1450"#,
                r#"f.yaml: shop/web: spec.template.nets[0] (shop/lan spec.config.mtu): Forbidden: 9000: policy "tenant-a" rule "mtu" allows at most 1450"#,
                r#"f.yaml: shop/web: spec.template.metadata.labels.app: Forbidden: "db": policy "tenant-a" rule "apps" allows "web""#,
                r#"f.yaml: shop/one: nets[0].namespace: Forbidden: "infra": level "baseline" rule "namespaces" allows none: another namespace's definitions need to be shared"#,
                r#"f.yaml: shop/one: warning: nets[0].mac: Forbidden: "02:00:00:00:00:01": policy "counted" rule "macs" allows none"#,
            ]
        );
        assert_eq!(said("", FILES), Vec::<String>::new(), "without policies they are in order");
        // Among the files they count as well.
        assert_eq!(said("", &format!("{POLICIES}---{FILES}")).len(), 5);
    }

    /// Those of docs/policy.md, and what the page says of them.
    #[test]
    fn the_three_tenants_have_policies_that_hold() {
        let tenants = include_str!("../../../../examples/policies.yaml");
        let nad = |namespace: &str, config: &str| {
            format!(
                "kind: NetworkAttachmentDefinition\nmetadata: {{name: ran, namespace: {namespace}}}\nspec: {{config: '{config}'}}\n"
            )
        };
        let by_rules = |namespace: &str, config: &str| {
            let said = said(tenants, &nad(namespace, config)).into_iter();
            said.filter(|line| line.contains(" rule \"")).collect::<Vec<_>>()
        };
        let overlay = r#"{"cniVersion":"1.0.0","type":"vxlan","vni":4200,"peers":["10.0.0.7"]}"#;
        let said = by_rules("radio", overlay);
        let page = include_str!("../../../../docs/policy.md");
        for line in &said {
            assert!(page.contains(&line.replace("f.yaml: ", "radio.yaml: ")), "{line}");
        }
        assert_eq!(said.len(), 2, "{said:?}");
        let own = r#"{"cniVersion":"1.0.0","type":"vlan","master":"bond1","vlanId":305,"ipam":{"type":"whereabouts","range":"10.64.0.0/16"}}"#;
        assert_eq!(by_rules("radio", own), Vec::<String>::new());
        assert_eq!(by_rules("radio", &own.replace("305", "310").replace("10.64", "10.1")).len(), 2);
        assert_eq!(by_rules("lab", overlay), Vec::<String>::new());
        assert_eq!(by_rules("lab", &own.replace("1.0.0", "0.4.0")).len(), 2, "production, and a warning");
        assert_eq!(by_rules("shop", own).len(), 1);
    }

    #[test]
    fn what_is_wrong_with_policies_is_said() {
        let policy = |rule: &str| format!("kind: AttachmentPolicy\nmetadata: {{name: p}}\nspec: {{rules: [{rule}]}}\n");
        assert_eq!(
            said(&policy(r#"{name: r, select: "$..a..b", assert: {matches: "("}}"#), ""),
            [
                r#"p.yaml: p: spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed [A01]"#,
                r#"p.yaml: p: spec.rules[0].assert.matches: Invalid value: "(": found open group without closing ')' [A02]"#,
            ]
        );
        let said = said(&policy("{name: r, select: $.a, assert: {oneOf: 7}}"), "");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("p.yaml: Invalid value: manifest p.yaml: spec: "), "{said:?}");
        let level = "kind: Namespace\nmetadata: {name: shop, labels: {meta-cni.io/level: open}}\n";
        let refused = super::tests::said(level, FILES);
        assert!(
            refused.iter().all(|line| line.contains(r#"metadata.labels[meta-cni.io/level]: got "open""#)),
            "{refused:?}"
        );
        assert_eq!(refused.len(), 3);
    }
}
