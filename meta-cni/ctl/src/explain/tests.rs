//! Explanations of manifests as values: what is printed is the golden file.

use std::fs;

use super::*;
use crate::Format;

const FILES: &str = include_str!("golden/shop.yaml");
const NODE: &str = r#"{"cniVersion":"1.1.0","name":"node","type":"meta-cni",
    "delegates":[{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap","capabilities":{"portMappings":true}}]}]}"#;

fn options(dir: &std::path::Path, files: &str, pods: &[&str], output: Format) -> ExplainOptions {
    let (manifests, node) = (dir.join("shop.yaml"), dir.join("node.conf"));
    fs::write(&manifests, files).unwrap();
    fs::write(&node, NODE).unwrap();
    ExplainOptions {
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        namespace: None,
        filename: vec![dir.to_owned()],
        node_conf: Some(node),
        output,
        api: Api::default(),
    }
}

fn said(pods: &[&str]) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let mut answer = run(&options(dir.path(), FILES, pods, Format::Text)).unwrap();
    answer.text = answer.text.replace(&dir.path().display().to_string(), "DIR");
    answer
}

#[test]
fn what_a_pod_would_get_and_what_refuses_it() {
    let answer = said(&[]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain/golden/shop.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &answer.text).unwrap();
    }
    assert_eq!(answer.text, fs::read_to_string(path).unwrap());
    assert!(!answer.is_good);
}

#[test]
fn a_pod_that_gets_everything_is_all_right() {
    let answer = said(&["web"]);
    assert!(answer.is_good, "{}", answer.text);
    assert!(!answer.text.contains("refused") && answer.text.starts_with("pod shop/web: admitted\n"), "{}", answer.text);
}

#[test]
fn programs_get_ids_and_fields() {
    let dir = tempfile::tempdir().unwrap();
    let answer = run(&options(dir.path(), FILES, &["worst"], Format::Json)).unwrap();
    let read: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    let pod = &read["pods"][0];
    assert_eq!((&pod["pod"], &pod["refused"]), (&"shop/worst".into(), &true.into()));
    let admission = pod["admission"].as_array().unwrap();
    assert!(admission.iter().any(|one| one["rule"] == "X01" && one["field"] == "spec.config.vni"), "{admission:?}");
    assert!(pod["refusals"].as_array().unwrap().iter().any(|one| one["code"] == 11), "{pod}");
    assert_eq!(pod["networks"][0]["plugins"][0]["builtIn"], true);
}

#[test]
fn what_cannot_be_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let said = |files: &str, pods: &[&str]| run(&options(dir.path(), files, pods, Format::Text)).unwrap_err();
    assert!(said("kind: [", &[]).contains("shop.yaml: document 1: not a manifest"));
    assert_eq!(
        said("kind: Namespace\nmetadata: {name: a}\n", &[]),
        "the files have no pod, and no workload that has pods"
    );
    assert_eq!(said(FILES, &["nobody"]), "pod nobody: the files have no such pod");
    let mut missing = options(dir.path(), FILES, &[], Format::Text);
    missing.node_conf = Some("/nonexistent".into());
    assert!(run(&missing).unwrap_err().starts_with("/nonexistent: "));
}

#[test]
fn an_object_that_differs_in_its_two_groups_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let network = |group: &str, cidr: &str| {
        format!(
            "---\napiVersion: {group}/v1\nkind: DanmNet\nmetadata: {{namespace: shop, name: internal}}\nspec: {{NetworkID: int, NetworkType: macvlan, Options: {{host_device: eth1, cidr: {cidr}}}}}\n"
        )
    };
    let pod = r#"apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, annotations: {danm.io/interfaces: '[{"network":"internal","ip":"dynamic"}]'}}
"#;
    let said = |second: &str| {
        let files = [pod, &network("danm.k8s.io", "10.0.0.0/24"), &network("danm.io", second)].concat();
        let asked = options(dir.path(), &files, &["web"], Format::Text);
        let node = NODE.replacen('{', r#"{"dialects":["danm"],"#, 1);
        fs::write(asked.node_conf.as_ref().unwrap(), node).unwrap();
        run(&asked).unwrap()
    };
    let alike = said("10.0.0.0/24");
    assert!(alike.is_good, "{}", alike.text);
    let differs = said("10.9.0.0/24");
    let words =
        "DanmNet shop/internal is in the groups danm.k8s.io and danm.io, and the two differ: delete one of them";
    assert!(!differs.is_good && differs.text.contains(words), "{}", differs.text);
}

#[test]
fn a_node_that_is_not_known_has_a_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut unknown = options(dir.path(), FILES, &["web"], Format::Text);
    let away = r#"{"plugins":[{"type":"meta-cni","clusterNetwork":"/nonexistent/10.conflist"}]}"#;
    fs::write(unknown.node_conf.as_ref().unwrap(), away).unwrap();
    let text = run(&unknown).unwrap().text;
    assert!(
        text.contains("eth0  default-network  (the node's own default network, which is not known here)"),
        "{text}"
    );
    assert!(text.contains("addresses     unknown") && !text.contains("(program)"), "{text}");
    unknown.node_conf = None;
    assert!(run(&unknown).is_ok());
}
