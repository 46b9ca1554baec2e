//! MultiNetworkPolicies (M01 to M06): what their enforcer would pass over in silence.

use attachments::names::{NetRef, ObjectName};
use attachments::rule::Rule;
use delegates::lint::{Kind, Problem};
use ipnet::IpNet;
use serde_json::Value;

use super::{Request, annotation, forbidden, quoted};
use crate::cluster::View;

/// The annotation that says for which networks a policy is.
const POLICY_FOR: &str = "k8s.v1.cni.cncf.io/policy-for";

/// Judges a policy.
pub(super) fn judge(request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    let mut problems = networks(request, object, view);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(&object["spec"][rules]) {
            for (j, one) in list(&rule[peers]) {
                peer(one, &format!("spec.{rules}[{i}].{peers}[{j}]"), &mut problems);
            }
            for (j, one) in list(&rule["ports"]) {
                port(one, &format!("spec.{rules}[{i}].ports[{j}]"), &mut problems);
            }
        }
    }
    problems
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// M01, M02.
fn networks(request: &Request<'_>, object: &Value, view: &View) -> Vec<Problem> {
    let at = format!("metadata.annotations[{POLICY_FOR}]");
    let text = annotation(object, POLICY_FOR).unwrap_or_default();
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return vec![Problem::of(Rule::PolicyFor, Kind::Required, at, "", "comma-separated list of networks")];
    }
    let say = |text: String| Problem::remark(Rule::PolicyNetwork, at.as_str(), text);
    let check = |name: &&str| {
        let (namespace, short) = name.split_once('/').unwrap_or((request.namespace, name));
        let (Ok(namespace), Ok(short)) = (namespace.parse::<ObjectName>(), short.parse::<ObjectName>()) else {
            return Some(say(format!("{} is no name of a network, so nothing is filtered for it", quoted(name))));
        };
        let reference = NetRef { namespace, name: short };
        let named = quoted(&reference);
        let Some(definition) = view.definition(&reference) else {
            return Some(say(format!("{named} is not there, so nothing is filtered for it yet")));
        };
        let kind = definition.plugins().first().map(|plugin| &*plugin.kind)?;
        let enforced = &view.options.enforced_types;
        let is_filtered = enforced.is_empty() || enforced.iter().any(|known| known == kind);
        (!is_filtered).then(|| say(format!("{named} uses plugin {}, which the enforcer does not filter", quoted(kind))))
    };
    names.iter().filter_map(check).collect()
}

/// M03, M04.
fn peer(peer: &Value, at: &str, problems: &mut Vec<Problem>) {
    let block = &peer["ipBlock"];
    if block.is_null() {
        return;
    }
    for selector in ["podSelector", "namespaceSelector"] {
        if !peer[selector].is_null() {
            let text = format!("ipBlock cannot be combined with {selector}");
            problems.push(forbidden(Rule::PolicyPeer, at, "", text));
        }
    }
    let mut say = |field: String, value: &str, text: String| {
        let path = format!("{at}.ipBlock.{field}");
        problems.push(Problem::of(Rule::PolicyCidr, Kind::Invalid, path, quoted(value), text));
    };
    const CIDR: &str = "must be CIDR, for example \"10.9.0.0/24\"";
    let cidr = block["cidr"].as_str().unwrap_or_default();
    let outer = cidr.parse::<IpNet>().ok();
    if outer.is_none() {
        say("cidr".to_owned(), cidr, CIDR.to_owned());
    }
    for (i, except) in list(&block["except"]) {
        let text = except.as_str().unwrap_or_default();
        match (text.parse::<IpNet>(), outer) {
            (Err(_), _) => say(format!("except[{i}]"), text, CIDR.to_owned()),
            (Ok(inner), Some(outer)) if !outer.contains(&inner) => {
                say(format!("except[{i}]"), text, format!("must be inside {outer}"));
            }
            _ => {}
        }
    }
}

/// M05, M06.
fn port(one: &Value, at: &str, problems: &mut Vec<Problem>) {
    if let Some(protocol) = one["protocol"].as_str().filter(|name| !["TCP", "UDP", "SCTP"].contains(name)) {
        let text = "supported values: \"TCP\", \"UDP\", \"SCTP\"";
        let path = format!("{at}.protocol");
        problems.push(Problem::of(Rule::PolicyProtocol, Kind::Unsupported, path, quoted(protocol), text));
    }
    let Some(end) = one["endPort"].as_i64() else { return };
    let text = match &one["port"] {
        Value::Null => "needs a port".to_owned(),
        Value::Number(port) if port.as_i64().is_some_and(|port| port <= end) => return,
        Value::Number(port) => format!("must be at least port {port}"),
        _ => "needs a port by number, not by name".to_owned(),
    };
    problems.push(Problem::of(Rule::PolicyPort, Kind::Invalid, format!("{at}.endPort"), end, text));
}
