//! The agent of this node: does it answer, is it ready, and is it of our version?

use std::time::Duration;

use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use attachments::meta_plugins::is_ours;
use meta_cni::cluster::Agent;
use meta_cni::cluster::wire::Health;
use meta_cni::conf_dir;
use meta_cni::node::spelled;

use super::finding::{Finding, Severity};
use super::{Place, on_host};

/// Asks it.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    let answer = Agent::new(&on_host(&place.socket)).health(Duration::from_secs(2));
    judge(answer.map_err(|fault| fault.to_string()), &nodes_dialects(place), findings);
}

/// The dialects in the node's configuration.
fn nodes_dialects(place: &Place) -> Vec<String> {
    let files =
        conf_dir::paths(&on_host(&place.cni_conf_dir)).into_iter().filter_map(|path| conf_dir::read(&path).ok());
    let ours = files.flat_map(|conf| conf.plugins).find(|plugin| is_ours(plugin.kind.as_str()));
    let read = |conf: Object| spelled(conf).and_then(|conf| Dialects::read(&conf)).ok();
    let dialects = ours.and_then(|plugin| read(plugin.object)).unwrap_or_default();
    dialects.on().map(|one| one.to_string()).collect()
}

fn judge(answer: Result<Health, String>, nodes: &[String], findings: &mut Vec<Finding>) {
    let Health { node, program, blockers, dialects, .. } = match answer {
        Ok(health) => health,
        Err(why) => {
            let advice = "kubectl -n kube-system logs daemonset/meta-cni: pods that ask for networks wait until it answers, DEL needs no agent";
            findings.push(Finding::new("D40", Severity::Error, format!("the agent does not answer: {why}"), advice));
            return;
        }
    };
    for blocker in blockers {
        let found = format!("the agent of {node} waits for {blocker}");
        findings.push(Finding::new(
            "D41",
            Severity::Error,
            found,
            "docs/install.md, Is it there?, says what each of these means",
        ));
    }
    if dialects != nodes {
        let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        findings.push(Finding::new(
            "D46",
            Severity::Warning,
            format!("dialects of this node: {}; of its agent: {}", list(nodes), list(&dialects)),
            "kubectl -n kube-system rollout restart daemonset/meta-cni: the agent reads the list when it starts",
        ));
    }
    let own = env!("CARGO_PKG_VERSION");
    if program != own {
        let found = format!("the agent is {program}, and this tool is {own}");
        findings.push(Finding::new(
            "D42",
            Severity::Warning,
            found,
            "let the rollout end: versions may be one apart, and no more",
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_nodes_dialects_are_those_of_the_file_that_the_runtime_reads() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(dir.path());
        assert_eq!(nodes_dialects(&place), Vec::<String>::new());
        fs::create_dir(&place.cni_conf_dir).unwrap();
        let write = |file: &str, conf: &str| fs::write(place.cni_conf_dir.join(file), conf).unwrap();
        write("10-other.conf", r#"{"cniVersion":"1.0.0","name":"o","type":"bridge","dialects":["knitter"]}"#);
        let ours = r#"{"type":"meta-cni","Dialects":["danm","genie"]}"#;
        write("00-meta-cni.conflist", &format!(r#"{{"cniVersion":"1.0.0","name":"node","plugins":[{ours}]}}"#));
        let mut told = nodes_dialects(&place);
        told.sort();
        assert_eq!(told, ["danm", "genie"]);
    }

    #[test]
    fn an_agent_that_is_away_waits_or_is_another_version() {
        let health = |program: &str, blockers: &[&str]| Health {
            node: "n1".into(),
            program: program.into(),
            dialects: Vec::new(),
            pods_known: true,
            definitions_known: true,
            blockers: blockers.iter().map(|one| (*one).to_owned()).collect(),
        };
        let ids = |answer| {
            let mut findings = Vec::new();
            judge(answer, &[], &mut findings);
            findings.iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Ok(health(env!("CARGO_PKG_VERSION"), &[]))), Vec::<&str>::new());
        assert_eq!(ids(Ok(health("0.0.1", &["a", "b"]))), ["D41", "D41", "D42"]);
        assert_eq!(ids(Err("x".into())), ["D40"]);
        let speaks = Health { dialects: vec!["genie".into()], ..health(env!("CARGO_PKG_VERSION"), &[]) };
        assert_eq!(ids(Ok(speaks)), ["D46"]);
    }
}
