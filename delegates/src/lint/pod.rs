//! A pod's annotations: the parser that ADD uses says what is wrong.

use std::collections::BTreeSet;

use attachments::dialect::Dialects;
use attachments::finding::{Finding, shortened};
use attachments::names::ObjectName;
use attachments::rule::{Rule, Severity};
use attachments::selection::{self, DEFAULT_NETWORK, LONGEST, NETWORKS, Selection};
use serde::de::IgnoredAny;

use super::document::{self, Node, quoted};
use super::nearest::nearest;
use super::problem::{Kind, Problem};
use super::{judge, keys};

/// What is wrong with the annotations by which a pod of `namespace` chooses its networks, by paths of the object.
/// `annotation` gives the text of an annotation.
pub fn annotations<'a>(namespace: &ObjectName, annotation: impl Fn(&str) -> Option<&'a str>) -> Vec<Problem> {
    annotations_within(MOST, &Dialects::default(), namespace, annotation)
}

/// The same where the nodes let a pod have another number of networks (`maxAttachments`), and where dialects are on.
pub fn annotations_within<'a>(
    most: usize,
    dialects: &Dialects,
    namespace: &ObjectName,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Vec<Problem> {
    // In which namespace the node looks for the default network is not known here, and of no matter.
    let (selection, findings) = Selection::read(&annotation, namespace, namespace, dialects);
    let mut problems = Vec::new();
    for name in [NETWORKS, DEFAULT_NETWORK] {
        let finding = findings.iter().find(|finding| finding.path.starts_with(name)).cloned();
        match annotation(name) {
            Some(_) if name == NETWORKS && selection.networks.len() > most => {
                let text = format!("must have at most {most}");
                problems.push(Problem::of(
                    Rule::TooManyNetworks,
                    Kind::TooMany,
                    path_of(name),
                    selection.networks.len(),
                    text,
                ));
            }
            Some(text) => problems.extend(all(name, text, finding)),
            None => {}
        }
    }
    problems.extend(of_dialects(dialects, &selection, most, &findings));
    problems
}

/// What is wrong with the annotations of dialects: what their readers say, and a list that is too long.
fn of_dialects(dialects: &Dialects, selection: &Selection, most: usize, findings: &[Finding]) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Two dialects may read one annotation.
    let keys: BTreeSet<&str> = dialects.on().flat_map(|dialect| dialect.reads().iter().copied()).collect();
    for key in keys {
        let is_at = |finding: &&Finding| {
            finding.path.strip_prefix(key).is_some_and(|inside| inside.is_empty() || inside.starts_with(['[', '.']))
        };
        if let Some(finding) = findings.iter().find(is_at) {
            let path = finding.path.replacen(key, &path_of(key), 1);
            problems.push(judge::problem(Finding { path, ..finding.clone() }, &Node::Null));
        }
    }
    let count = selection.elements().count();
    if let Some(list) = selection.translated.as_ref().filter(|_| count > most) {
        let text = format!("must have at most {most}");
        problems.push(Problem::of(Rule::TooManyNetworks, Kind::TooMany, path_of(list.key), count, text));
    }
    problems
}

/// What the parser says, and how keys are written. Of two spellings of one key the latter speaks.
fn all(annotation: &str, text: &str, finding: Option<Finding>) -> Vec<Problem> {
    let slips = selection::slips(&format!("metadata.annotations[{annotation}]"), text);
    let mut problems: Vec<Problem> = slips.into_iter().filter_map(keys::slip).collect();
    if let Some(problem) = problem(annotation, text, finding)
        && !problems.iter().any(|said| said.severity == Severity::Deny && said.path == problem.path)
    {
        problems.push(problem);
    }
    problems.extend(unread_keys(annotation, text));
    problems
}

/// Keys that are ignored.
fn unread_keys(annotation: &str, text: &str) -> Vec<Problem> {
    let at = |i, key: &str| format!("{}[{i}].{}", path_of(annotation), shortened(key, Finding::SHOWN));
    let mut unread = selection::unread_keys(text);
    let more = unread.len().saturating_sub(UNREAD);
    unread.truncate(UNREAD);
    let mut problems: Vec<Problem> = unread
        .iter()
        .map(|(i, key)| {
            let text = match nearest(key, &selection::ELEMENT_KEYS) {
                Some(meant) => format!("unknown key, did you mean {}?", quoted(meant)),
                None => "unknown key, which nobody reads".to_owned(),
            };
            Problem::remark(Rule::ElementKey, at(*i, key), text)
        })
        .collect();
    if more > 0 {
        problems.push(Problem::remark(Rule::ElementKey, path_of(annotation), format!("and {more} more unknown keys")));
    }
    problems
}

/// Unknown keys that are told one by one.
const UNREAD: usize = 16;

/// Networks of a pod, where a node says nothing else (`maxAttachments`).
const MOST: usize = 64;

fn path_of(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}

fn problem(annotation: &str, text: &str, finding: Option<Finding>) -> Option<Problem> {
    let finding = finding?;
    let at = path_of(annotation);
    if text.len() > LONGEST {
        let allowed = format!("must be at most {LONGEST} bytes");
        return Some(Problem::of(Rule::AnnotationSize, Kind::TooLong, at, text.len(), allowed));
    }
    if selection::is_json(text)
        && let Err(error) = serde_json::from_str::<IgnoredAny>(text)
    {
        return Some(document::syntax(Rule::AnnotationJson, text, &error).under(&at));
    }
    let inside = finding.path.strip_prefix(annotation).unwrap_or_default();
    let path = format!("{at}{inside}");
    Some(judge::problem(Finding { path, ..finding }, &Node::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> String {
        let problems = annotations(&"shop".parse().unwrap(), |key| (key == NETWORKS).then_some(text));
        let texts: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
        texts.join("; ").replace("metadata.annotations[k8s.v1.cni.cncf.io/networks]", "nets")
    }

    #[test]
    fn sizes_are_refused_before_anything_else() {
        let many = |count| vec!["a"; count].join(",");
        assert_eq!(nets(&many(MOST)), "");
        assert_eq!(nets(&many(MOST + 1)), "nets: Too many: 65: must have at most 64 [P25]");
        let long = "[".repeat(LONGEST + 1);
        assert_eq!(nets(&long), "nets: Too long: 262145: must be at most 262144 bytes [P33]");
    }

    #[test]
    fn each_field_has_its_rule() {
        for (text, want) in [
            ("a,b/c@net1", ""),
            (r#"[{"name":"a"}]"#, ""),
            (
                r#"[{"name":"net1" "ips":[]}]"#,
                r#"nets: Invalid value: line 1 column 17 near "[{\"name\":\"net1\" \"ips\":[]}]": not valid JSON, expected "," or "}" [P01]"#,
            ),
            ("[null]", "nets[0]: Invalid value: null: must be a JSON object [P02]"),
            (
                "a/b/c",
                r#"nets[0]: Invalid value: "a/b/c": must be a reference of the form [namespace/]name[@interface] [P03]"#,
            ),
            (
                "[{}]",
                "nets[0].name: Required value: DNS-1123 labels: lower-case letters, digits and '-', at most 63 characters each, joined by '.' [P05]",
            ),
            (
                r#"[{"name":"a","interface":"verylonginterface"}]"#,
                r#"nets[0].interface: Too long: "verylonginterface": must be at most 15 characters [P10]"#,
            ),
            (
                r#"[{"name":"a","mac":"x"}]"#,
                r#"nets[0].mac: Invalid value: "x": must be a MAC address of six bytes, as 02:00:5e:10:00:01 [P13]"#,
            ),
            (
                r#"[{"name":"a","ips":["10.9.0.300"]}]"#,
                r#"nets[0].ips[0]: Invalid value: "10.9.0.300": must be an IPv4 or IPv6 address, with or without a prefix length [P16]"#,
            ),
        ] {
            assert_eq!(nets(text), want, "{text}");
        }
        let odd = r#"[{"Name":"a","IPs":["10.9.0.3"]}]"#;
        assert_eq!(
            nets(odd),
            r#"nets[0].Name: read as "name", write it so [N05]; nets[0].IPs: read as "ips", write it so [N05]"#
        );
        assert_eq!(
            nets(r#"[{"name":"a","NAME":"b"}]"#),
            r#"nets[0].NAME: Duplicate value: "NAME": stands beside "name", keep one, spelled "name" [N05]"#
        );
        let default = annotations(&"shop".parse().unwrap(), |key| (key == DEFAULT_NETWORK).then_some("a,b"));
        assert_eq!(default.len(), 1);
    }
}
