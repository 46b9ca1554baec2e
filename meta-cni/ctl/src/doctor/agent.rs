//! The agent of this node: does it answer, is it ready, and is it of our version?

use std::time::Duration;

use meta_cni::cluster::Agent;
use meta_cni::cluster::wire::Health;

use super::finding::{Finding, Severity};
use super::{Place, on_host};

/// Asks it.
pub fn examine(place: &Place, findings: &mut Vec<Finding>) {
    let answer = Agent::new(&on_host(&place.socket)).health(Duration::from_secs(2));
    judge(answer.map_err(|fault| fault.to_string()), findings);
}

fn judge(answer: Result<Health, String>, findings: &mut Vec<Finding>) {
    let Health { node, program, blockers, .. } = match answer {
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
            pods_known: true,
            definitions_known: true,
            blockers: blockers.iter().map(|one| (*one).to_owned()).collect(),
        };
        let ids = |answer| {
            let mut findings = Vec::new();
            judge(answer, &mut findings);
            findings.iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Ok(health(env!("CARGO_PKG_VERSION"), &[]))), Vec::<&str>::new());
        assert_eq!(ids(Ok(health("0.0.1", &["a", "b"]))), ["D41", "D41", "D42"]);
        assert_eq!(ids(Err("x".into())), ["D40"]);
    }
}
