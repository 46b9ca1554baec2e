//! `meta-cnictl lint`: the rules of admission on files, before anything is applied.
//!
//! Files hold manifests (definitions, pods, workloads whose pods have annotations; YAML or JSON, several documents,
//! lists) or CNI configurations. [`lint`] is pure: text in, [`LintReport`] out.

mod objects;
mod report;
mod trial;

use std::path::Path;

use delegates::lint::{self as rules, Kind, Origin, Problem};
use meta_cni::cluster::manifest;

pub use objects::TEMPLATES;
pub use report::{LintReport, LintedProblem};
pub use trial::{Trial, facts_of};

/// A file to check.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path as given; `-` is stdin.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Checks every file and reports everything that is wrong, by the rules of admission and by the policies of a trial.
pub fn lint(sources: &[Source], trial: &Trial) -> LintReport {
    let mut report = LintReport { files: sources.len(), remarks: Vec::new() };
    for source in sources {
        let mut say = |object: Option<&str>, problem: Problem| {
            let object = object.map(str::to_owned);
            report.remarks.push(LintedProblem { file: source.name.clone(), object, problem });
        };
        match is_conf(source) {
            true => rules::config(&source.text, Origin::File).into_iter().for_each(|problem| say(None, problem)),
            false => manifests(&source.text, trial, &mut say),
        }
    }
    report.remarks.splice(0..0, trial.flaws().iter().cloned());
    report
}

/// Is it a CNI configuration? The name decides, or for `.json` and stdin the text.
fn is_conf(source: &Source) -> bool {
    match Path::new(&source.name).extension().and_then(|ext| ext.to_str()) {
        Some("conf" | "conflist") => true,
        Some("yaml" | "yml") => false,
        // This also works for a text that does not parse.
        _ => source.text.trim_start().starts_with('{') && !source.text.contains("\"kind\""),
    }
}

fn manifests(text: &str, trial: &Trial, say: &mut impl FnMut(Option<&str>, Problem)) {
    let documents = manifest::documents(text);
    for (i, document) in documents.iter().enumerate() {
        match manifest::value(document) {
            Ok(value) => objects::check(&value, trial, say),
            Err(why) => {
                let which = if documents.len() > 1 { format!("document {}: ", i + 1) } else { String::new() };
                say(None, Problem::unruled(Kind::Invalid, "", "", format!("{which}not a manifest, {why}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use attachments::policy::Level;

    use super::*;

    const NAD: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: lan}\n";

    fn human(name: &str, text: &str) -> String {
        lint(&[Source { name: name.to_owned(), text: text.to_owned() }], &Trial::default()).human()
    }

    #[test]
    fn a_definition_is_named_with_its_file_and_field() {
        let spec = r#"spec: {config: '{"cniVersion":"1.0.0","plugins":[{"type":"vxlan","vni":0}]}'}"#;
        assert_eq!(
            human("nets.yaml", &format!("{NAD}{spec}\n")),
            "nets.yaml: default/lan: cfg.plugins[0].vni: Invalid value: 0: must be an integer from 1 to 16777215 [X01]\n"
        );
    }

    #[test]
    fn a_definition_without_a_vni_is_one_that_the_webhook_completes() {
        let conf = r#"{"cniVersion":"1.0.0","name":"a","type":"vxlan"}"#;
        let text = "Required value: an integer from 1 to 16777215; the webhook draws one when a definition without it is applied [X01]";
        let definition = human("n.yaml", &format!("{NAD}spec: {{config: '{conf}'}}\n"));
        assert_eq!(definition, format!("n.yaml: default/lan: warning: cfg.vni: {text}\n"));
        // Nobody completes a file of the node.
        assert_eq!(human("a.conf", conf), format!("a.conf: vni: {text}\n"));
    }

    #[test]
    fn every_document_list_item_and_template_is_looked_at() {
        let text = format!(
            "{NAD}spec: {{config: '[]'}}\n---\nkind: ConfigMap\ndata: {{a: b}}\n---\n# nothing\n---\nkind: List\nitems:\n\
             - kind: Pod\n  metadata: {{name: p, namespace: shop, annotations: {{k8s.v1.cni.cncf.io/networks: 'a/b/c'}}}}\n\
             - kind: Deployment\n  metadata: {{name: d}}\n  spec: {{template: {{metadata: {{annotations: {{k8s.v1.cni.cncf.io/networks: '[{{}}]'}}}}}}}}\n\
             - kind: CronJob\n  metadata: {{name: c, annotations: {{k8s.v1.cni.cncf.io/networks: lan}}}}\n  spec: {{jobTemplate: {{spec: {{template: {{metadata: {{}}}}}}}}}}\n"
        );
        let said = human("-", &text);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert_eq!(lines[0], "-: default/lan: cfg: Invalid value: array: must be a JSON object [N03]");
        assert!(lines[1].starts_with(r#"-: shop/p: nets[0]: Invalid value: "a/b/c""#), "{said}");
        assert!(lines[2].starts_with("-: default/d: spec.template.nets[0].name: Required value"), "{said}");
        assert_eq!(
            lines[3],
            "-: default/c: warning: nets: ignored here, move it to spec.jobTemplate.spec.template.metadata.annotations [P30]"
        );
    }

    #[test]
    fn ports_of_knitter_are_read_as_a_node_reads_them() {
        let said = |annotations: &str| {
            human("p.yaml", &format!("kind: Pod\nmetadata: {{name: p, namespace: shop, annotations: {annotations}}}\n"))
        };
        let at = "metadata.annotations[networks].ports[0]";
        assert_eq!(
            said(r#"{networks: '{"ports":[{"attach_to_network":""}]}'}"#),
            format!("p.yaml: shop/p: {at}.attach_to_network: Required value: the name of a network\n")
        );
        let fast = said(
            r#"{networks: '{"ports":[{"attach_to_network":"lan","attributes":{"nic_name":"eth0","accelerate":"true"}}]}'}"#,
        );
        assert!(
            fast.starts_with(&format!(
                "p.yaml: shop/p: warning: {at}.attributes.accelerate: Invalid value: \"true\": must be a plain port"
            )),
            "{fast}"
        );
        for fine in [
            r#"{networks: ''}"#,
            r#"{networks: 'net1,net2', cni: ''}"#,
            r#"{networks: '{', k8s.v1.cni.cncf.io/networks: lan}"#,
        ] {
            assert_eq!(said(fine), "", "{fine}");
        }
    }

    #[test]
    fn objects_of_genie_are_looked_at_with_what_they_need() {
        let of = |kind: &str, name: &str, spec: &str| {
            format!(
                "---\napiVersion: alpha.network.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            )
        };
        let text = of("Logicalnetwork", "good", "{plugin: weave, sub_subnet: 10.32.20.0/24}")
            + &of("LogicalNetwork", "outside", "{physicalNet: phys, sub_subnet: 10.9.0.0/24}")
            + &of(
                "Physicalnetwork",
                "phys",
                "{refer_nic: eth1, sharedStatus: {plugin: weave, subnet: 10.32.0.0/16, dedicatedNet: true}}",
            )
            + &of("Logicalnetwork", "bare", "{}")
            + "---\napiVersion: example.com/v1\nkind: Logicalnetwork\nmetadata: {name: other}\nspec: {}\n";
        let sources = [Source { name: "g.yaml".to_owned(), text }];
        assert_eq!(
            lint(&sources, &Trial::new(Level::Privileged, &[], &sources)).human(),
            "g.yaml: default/outside: spec.sub_subnet: Invalid value: \"10.9.0.0/24\": must be a subnet of its physicalNet's 10.32.0.0/16\n\
             g.yaml: default/phys: warning: spec.refer_nic: Invalid value: \"eth1\": has no effect\n\
             g.yaml: default/bare: spec.plugin: Required value: the name of a network's file\n"
        );
    }

    #[test]
    fn networks_of_danm_are_looked_at_in_both_groups() {
        let of = |version: &str, kind: &str, spec: &str| {
            format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: net}}\nspec: {spec}\n")
        };
        let text =
            of("danm.k8s.io/v1", "DanmNet", "{NetworkID: good, Options: {host_device: eth1, cidr: 10.0.0.0/24}}")
                + &of(
                    "danm.io/v1",
                    "ClusterNetwork",
                    "{NetworkID: abcdeftgasdf, Options: {host_device: eth1, vlan: 5, cidr: 10.0.0.0/7}}",
                )
                + &of("danm.k8s.io/v1", "TenantNetwork", "{AllowedTenants: [a]}")
                + &of("example.com/v1", "DanmNet", "{}");
        assert_eq!(
            human("d.yaml", &text),
            "d.yaml: net: spec.NetworkID: Invalid value: \"abcdeftgasdf\": must be at most 10 characters with vlan or vxlan: links of the nodes have the name\n\
             d.yaml: net: spec.Options.cidr: Invalid value: \"10.0.0.0/7\": must be a subnet of IPv4, of a prefix of 9 or more\n\
             d.yaml: default/net: spec.NetworkID: Required value: a name\n\
             d.yaml: default/net: spec.AllowedTenants: Invalid value: \"a\": must be nothing: it is for ClusterNetworks\n"
        );
    }

    #[test]
    fn what_danm_gives_to_tenants_is_looked_at() {
        let config = "apiVersion: danm.io/v1\nkind: TenantConfig\nmetadata: {name: t}\nhostDevices: [{name: ens3, vniType: vlan}]\n";
        let said = human("t.yaml", config);
        assert!(said.contains(": hostDevices[0].vniRange: Required value: identifiers and ranges"), "{said}");
    }

    #[test]
    fn configurations_are_told_by_name_or_looks() {
        let conf = r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#;
        let want = |name: &str| format!("{name}: plugins: Required value: must list at least one plugin [N12]\n");
        for name in ["10-a.conflist", "10-a.conf", "a.json", "-"] {
            assert_eq!(human(name, conf), want(name));
        }
        let nad = serde_json::json!({"kind": "NetworkAttachmentDefinition", "metadata": {"name": "n", "namespace": "s"},
            "spec": {"config": "{"}});
        assert!(human("a.json", &nad.to_string()).starts_with("a.json: s/n: cfg: Invalid value: line 1 column 1 near"));
    }

    #[test]
    fn what_is_no_manifest_is_said_and_the_rest_is_still_read() {
        let text = format!("{NAD}spec: {{config: 7}}\n---\na: [\n---\n{NAD}spec: x\n---\n{NAD}");
        let said = human("a.yaml", &text);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert_eq!(lines[0], "a.yaml: default/lan: cfg: Invalid value: 7: must be a string that holds JSON [N19]");
        assert!(lines[1].starts_with("a.yaml: Invalid value: document 2: not a manifest, "), "{said}");
        assert_eq!(lines[2], "a.yaml: default/lan: spec: Invalid value: \"x\": must be an object [N19]");
        assert!(lines[3].starts_with("a.yaml: default/lan: warning: cfg: Required value"), "{said}");
    }

    #[test]
    fn json_output_has_every_part() {
        let spec = r#"spec: {config: '{"type":"vxlan","vni":0}'}"#;
        let report = lint(&[Source { name: "n.yaml".into(), text: format!("{NAD}{spec}\n") }], &Trial::default());
        let json: serde_json::Value = serde_json::from_str(&report.json(&[])).unwrap();
        assert_eq!((&json["files"], &json["denied"], &json["warned"]), (&1.into(), &1.into(), &1.into()));
        assert_eq!(
            json["findings"][1],
            serde_json::json!({"file": "n.yaml", "object": "default/lan", "field": "spec.config.vni", "rule": "X01",
                "severity": "deny", "message": "Invalid value: 0: must be an integer from 1 to 16777215 [X01]"})
        );
    }
}
