//! The agent of this node: does it answer, is it ready, and is it of our version?

use std::time::Duration;

use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use attachments::meta_plugins::is_ours;
use meta_cni::cluster::Agent;
use meta_cni::cluster::wire::Health;
use meta_cni::conf_dir;

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
    let read = |conf: &Object| Dialects::read(conf).map(|dialects| dialects.on().map(|one| one.to_string()).collect());
    ours.and_then(|plugin| read(&plugin.object).ok()).unwrap_or_default()
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
    use super::*;

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
