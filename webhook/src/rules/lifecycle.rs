//! What becomes of objects in use: a definition is changed or deleted, a namespace leaves a policy (L01 to L03).

use std::collections::BTreeSet;

use attachments::names::NetRef;
use attachments::rule::{Rule, Severity};
use delegates::lint::Problem;
use ipnet::IpNet;
use serde_json::Value;

use super::cross::definition;
use super::{Request, contested, forbidden, in_config, pods_use};
use crate::cluster::definition::Plugin;
use crate::cluster::{Labels, Usage, View};

/// `4 running pods use`, and the first of them.
fn users(usage: &Usage) -> Option<(String, String)> {
    Some((pods_use(usage.pods().len()), usage.pods().next()?.to_string()))
}

/// L01. The pods keep what they were given; what comes next would be on another segment, and undone by another text.
pub(super) fn change(request: &Request<'_>, old: &Value, view: &View) -> Vec<Problem> {
    let (Some(before), Some(after)) = (definition(request, old), definition(request, request.object)) else {
        return Vec::new();
    };
    let Some((users, first)) = view.usage(&before.reference).and_then(users) else { return Vec::new() };
    let text = format!("{users} this network, first {first}; create a new NAD");
    let say = |path: String| contested(forbidden(Rule::ChangeInUse, path, "", &text), view);
    let (was, is) = (before.plugins(), after.plugins());
    if was.is_empty() {
        return Vec::new();
    }
    if was.len() != is.len() {
        let path = if is.is_empty() { "spec.config" } else { "spec.config.plugins" };
        return vec![say(path.to_owned())];
    }
    let changed = |(was, is): (&Plugin, &Plugin)| {
        let fields = fields(was, is).into_iter().filter(|(_, is_changed)| *is_changed);
        fields.map(|(field, _)| say(in_config(&is.at, field))).collect::<Vec<_>>()
    };
    was.iter().zip(is).flat_map(changed).collect()
}

/// The fields of which attachments are made. Those of an overlay are [`super::overlay`]'s.
fn fields(was: &Plugin, is: &Plugin) -> Vec<(&'static str, bool)> {
    let subnets = |plugin: &Plugin| plugin.subnets.iter().map(|subnet| subnet.net).collect::<BTreeSet<IpNet>>();
    let is_overlay = was.overlay.is_some() && is.overlay.is_some();
    let vlan = if &*is.kind == "vlan" { "vlanId" } else { "vlan" };
    vec![
        ("type", was.kind != is.kind),
        ("master", !is_overlay && was.master != is.master),
        ("bridge", was.bridge != is.bridge),
        ("mode", was.mode != is.mode),
        (vlan, was.vlan != is.vlan),
        ("ipam", !is_overlay && subnets(was) != subnets(is)),
    ]
}

/// L02.
pub(super) fn delete(request: &Request<'_>, view: &View) -> Vec<Problem> {
    let (Ok(namespace), Ok(name)) = (request.namespace.parse(), request.name.parse()) else { return Vec::new() };
    let Some((users, first)) = view.usage(&NetRef { namespace, name }).and_then(users) else { return Vec::new() };
    let is_terminating = view.namespace(request.namespace).is_some_and(|namespace| namespace.is_terminating);
    if view.options.deny_delete_in_use && !is_terminating {
        let text = format!("{users} it, first {first}; delete those first");
        return vec![Problem { severity: Severity::Deny, ..forbidden(Rule::DeleteInUse, "", "", text) }];
    }
    let text = format!("{users} it, first {first}; they cannot restart without it");
    vec![Problem::remark(Rule::DeleteInUse, "", text)]
}

/// L03.
pub(super) fn labels(request: &Request<'_>, old: &Value, view: &View) -> Vec<Problem> {
    let labels = |object: &Value| -> Labels {
        let all = object["metadata"]["labels"].as_object().into_iter().flatten();
        all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let count = request.name.parse().map_or(0, |namespace| view.attachments_in(&namespace));
    let (was, is) = (labels(old), labels(request.object));
    if count == 0 || was == is {
        return Vec::new();
    }
    let kept: BTreeSet<&str> = view.policies(&is).collect();
    let left = view.policies(&was).filter(|name| !kept.contains(name));
    let attachments = if count == 1 { "1 attachment stays".to_owned() } else { format!("{count} attachments stay") };
    let problem = |name: &str| {
        let text = format!("policy {name:?} no longer applies; {attachments} unrestricted");
        Problem::remark(Rule::PolicyLeft, "metadata.labels", text)
    };
    left.map(problem).collect()
}
