//! `meta-cnictl level show`: the policies that a level is made of, as anybody could have written them.

use attachments::policy::{Facts, Level};
use meta_cni::cluster::yaml;
use serde_json::json;

use super::lint::{Source, facts_of};

/// The policies as YAML; `sources` may hold the level's AttachmentLevel.
pub fn show(level: Level, sources: &[Source]) -> Result<String, String> {
    let mut facts = Facts::default();
    for source in sources {
        facts_of(source, &mut facts)?;
    }
    let opened = facts.levels.remove(level.as_str()).unwrap_or_default();
    let policies = level.policies(&opened);
    if policies.is_empty() {
        return Ok(format!("# Level {level} has no rules.\n"));
    }
    let parts = ["definitions", "pods"];
    let mut text = String::new();
    for (part, spec) in parts.into_iter().zip(policies) {
        let metadata = json!({"name": format!("level-{level}-{part}")});
        let policy = json!({"apiVersion": "meta-cni.io/v1alpha1", "kind": "AttachmentPolicy", "metadata": metadata, "spec": spec});
        text.push_str("---\n");
        text.push_str(yaml::write(&policy).trim_end());
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use attachments::policy::spec::AttachmentPolicySpec;
    use attachments::policy::{PolicyName, compile};

    use super::*;

    #[test]
    fn what_is_shown_is_what_is_enforced() {
        let open = "apiVersion: meta-cni.io/v1alpha1\nkind: AttachmentLevel\nmetadata: {name: baseline}\nspec: {masters: [eth7]}\n";
        let open = [Source { name: "l.yaml".into(), text: open.into() }];
        for (level, sources, opened) in
            [(Level::Baseline, &[][..], false), (Level::Baseline, &open, true), (Level::Restricted, &open, false)]
        {
            let text = show(level, sources).unwrap();
            assert_eq!(text.contains("eth7"), opened, "{text}");
            let documents = meta_cni::cluster::manifest::documents(&text);
            assert_eq!(documents.len(), 2, "{text}");
            for document in documents {
                let value = meta_cni::cluster::manifest::value(document).unwrap();
                let spec: AttachmentPolicySpec = serde_json::from_value(value["spec"].clone()).unwrap();
                assert!(compile(PolicyName::Level(level), &spec).is_ok());
                assert!(value["metadata"]["name"].as_str().unwrap().starts_with(&format!("level-{level}-")));
            }
        }
        assert_eq!(show(Level::Privileged, &[]).unwrap(), "# Level privileged has no rules.\n");
        let broken = [Source { name: "l.yaml".into(), text: open[0].text.replace("[eth7]", "7") }];
        let why = show(Level::Baseline, &broken).unwrap_err();
        assert!(
            why.contains("manifest l.yaml: spec: ") && why.contains("masters") || why.contains("sequence"),
            "{why}"
        );
    }
}
