//! Explanations as text and as JSON.

use std::fmt::Write;

use attachments::selection::NETWORKS;
use attachments::text::printable;
use delegates::lint::{Rule, Severity};
use serde_json::{Value, json};

use super::Explanation;
use super::describe::Described;
use crate::style::{Style, Tone};

/// The same for people.
pub fn text(explanations: &[Explanation], style: Style) -> String {
    let parts: Vec<String> = explanations.iter().map(|one| pod(one, style)).collect();
    parts.join("\n")
}

fn pod(one: &Explanation, style: Style) -> String {
    let mut out = String::new();
    let verdict =
        if one.is_refused() { style.paint(Tone::Bad, "refused") } else { style.paint(Tone::Good, "admitted") };
    let _ = writeln!(out, "pod {}: {verdict}", one.pod);
    let _ = writeln!(out, "  node: {}", printable(&one.node));
    for network in &one.networks {
        described(&mut out, network);
    }
    for refusal in &one.refusals {
        let at = refusal.element.as_deref().map(|element| format!("{}: ", short(element))).unwrap_or_default();
        let (word, message) = (style.paint(Tone::Bad, "refused at ADD"), printable(&refusal.message));
        let _ = writeln!(out, "  {word} (code {}): {at}{message}", refusal.code);
    }
    for (object, problem) in &one.admission {
        let word = match problem.severity {
            Severity::Deny => style.paint(Tone::Bad, "refused at admission"),
            Severity::Warn => style.paint(Tone::Warning, "warned at admission"),
        };
        let _ = writeln!(out, "  {word}: {}: {}", printable(object), printable(&short(&problem.to_string())));
    }
    let warning = style.paint(Tone::Warning, "warning");
    for text in &one.warnings {
        let _ = writeln!(out, "  {warning}: {}", printable(text));
    }
    for text in &one.unmet {
        let _ = writeln!(out, "  {}: {}", style.paint(Tone::Warning, "not given"), printable(text));
    }
    for text in &one.notes {
        let _ = writeln!(out, "  note: {}", printable(text));
    }
    out
}

fn short(text: &str) -> String {
    text.replace(&format!("metadata.annotations[{NETWORKS}]"), "nets")
}

fn described(out: &mut String, network: &Described) {
    let Described {
        interface,
        network: name,
        from,
        requested_by,
        plugins,
        addresses,
        mac,
        mtu,
        default_routes,
        routes,
        rules,
        capabilities,
    } = network;
    let by = requested_by.as_deref().map(|element| format!(", by {}", short(element))).unwrap_or_default();
    let _ = writeln!(out, "  {}  {}  ({from}{by})", printable(interface), printable(name));
    let mut line = |title: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "    {title:<13} {}", printable(&text));
        }
    };
    let served = |built_in: bool| if built_in { "built in" } else { "program" };
    let chain: Vec<String> = plugins.iter().map(|one| format!("{} ({})", one.kind, served(one.built_in))).collect();
    line("plugins", chain.join(", "));
    let ipam = if addresses.ipam.is_empty() { "none" } else { &addresses.ipam };
    let mut words = vec![format!("{ipam} {}", addresses.of.join(", ")).trim().to_owned()];
    if !addresses.requested.is_empty() {
        words.push(format!("asked for: {}", addresses.requested.join(", ")));
    }
    words.extend(addresses.without_ipv6.then(|| "IPv6 is off".to_owned()));
    words.extend(addresses.set.iter().map(|set| format!("a member of AddressSet {set}")));
    words.extend(addresses.claim.iter().map(|claim| format!("IPAMClaim {claim}")));
    words.extend(addresses.free.map(|free| format!("{free} free")));
    line("addresses", words.join("; "));
    line("MAC", mac.clone());
    line("MTU", mtu.map(|mtu| mtu.to_string()).unwrap_or_default());
    line("default route", default_routes.join(", "));
    line("routes", routes.join(", "));
    line("rules", rules.join(", "));
    let capabilities: Vec<String> = capabilities
        .iter()
        .map(|one| format!("{}{}", one.name, if one.given { "" } else { " (no plugin declares it)" }))
        .collect();
    line("capabilities", capabilities.join(", "));
}

/// The same for programs.
pub fn json(explanations: &[Explanation]) -> String {
    let pods: Vec<Value> = explanations.iter().map(of).collect();
    serde_json::to_string_pretty(&json!({ "pods": pods })).unwrap_or_default() + "\n"
}

fn of(one: &Explanation) -> Value {
    let refusals: Vec<Value> =
        one.refusals.iter().map(|r| json!({"element": r.element, "code": r.code, "message": r.message})).collect();
    let admission: Vec<Value> = one
        .admission
        .iter()
        .map(|(object, problem)| {
            json!({
                "object": object, "field": problem.path, "rule": problem.rule.map(Rule::id),
                "severity": problem.severity, "message": problem.message(),
            })
        })
        .collect();
    json!({
        "pod": one.pod, "node": one.node, "refused": one.is_refused(), "networks": one.networks, "refusals": refusals,
        "admission": admission, "warnings": one.warnings, "unmet": one.unmet, "notes": one.notes,
    })
}
