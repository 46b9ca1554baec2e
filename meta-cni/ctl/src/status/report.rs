//! A status as text and as JSON.

use std::fmt::Write;

use attachments::text::printable;
use meta_cni::engine::inspect::{Inspected, InspectedAttachment, State};
use serde_json::{Value, json};

use super::pods::Pod;
use super::{Recorded, Status};
use crate::style::{Style, Tone};

/// For people.
pub fn text(status: &Status, style: Style) -> String {
    let mut out = String::new();
    for Recorded { record, differences } in &status.records {
        let tone = if differences.is_empty() { Tone::Good } else { Tone::Bad };
        let state = style.paint(tone, record.state.as_str());
        let _ =
            writeln!(out, "{}  {state}  container {}  {}", pod_of(record), printable(&record.container), since(record));
        for one in &record.attachments {
            let Shown { network, interface, ips, mac } = shown(one);
            let undone = if one.is_undone { "  (undone)" } else { "" };
            let words = [interface, ips.join(" "), mac].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
            let _ = writeln!(out, "  {}  {}{undone}", printable(&network), printable(&words.join("  ")));
        }
        told(&mut out, differences, style);
    }
    if status.records.is_empty() && status.pods.is_empty() {
        out.push_str("nothing is attached\n");
    }
    for Pod { name, node, phase, status, differences, .. } in &status.pods {
        let _ = writeln!(out, "{}  {}  {}", printable(name), printable(phase), printable(node));
        for entry in entries(status.as_deref()) {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let ips = entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
            let words = [text("interface"), ips.join(" "), text("mac")];
            let words = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
            let _ = writeln!(out, "  {}  {}", printable(&text("name")), printable(&words.join("  ")));
        }
        told(&mut out, differences, style);
    }
    for note in &status.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    out
}

fn told(out: &mut String, differences: &[String], style: Style) {
    for difference in differences {
        let _ = writeln!(out, "  {}: {}", style.paint(Tone::Bad, "differs"), printable(difference));
    }
}

fn entries(status: Option<&str>) -> Vec<Value> {
    status.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn pod_of(record: &Inspected) -> String {
    record.pod.as_ref().map_or_else(|| "(no pod)".to_owned(), ToString::to_string)
}

/// How long ago it was written last, in the largest unit.
fn since(record: &Inspected) -> String {
    let seconds = record.idle.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    match record.state {
        State::Done => format!("for {count} {unit}"),
        _ => format!("since {count} {unit}"),
    }
}

struct Shown {
    network: String,
    interface: String,
    ips: Vec<String>,
    mac: String,
}

/// What the result of an attachment says of the pod's side.
fn shown(one: &InspectedAttachment) -> Shown {
    let read = |key: &str| -> Vec<Value> {
        let raw = one.result.as_ref().and_then(|result| result.get(key));
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    };
    let inside = read("interfaces")
        .into_iter()
        .find(|interface| interface["sandbox"].as_str().is_some_and(|path| !path.is_empty()));
    Shown {
        network: one.attachment.source.to_string(),
        interface: one.attachment.ifname.to_string(),
        ips: read("ips").iter().filter_map(|ip| ip["address"].as_str().map(str::to_owned)).collect(),
        mac: inside.and_then(|interface| interface["mac"].as_str().map(str::to_owned)).unwrap_or_default(),
    }
}

/// For programs.
pub fn json(status: &Status) -> String {
    let record = |Recorded { record, differences }: &Recorded| {
        let networks: Vec<Value> = record
            .attachments
            .iter()
            .map(|one| (one, shown(one)))
            .map(|(one, Shown { network, interface, ips, mac })| {
                json!({"network": network, "interface": interface, "ips": ips, "mac": mac, "undone": one.is_undone})
            })
            .collect();
        json!({
            "file": record.file, "pod": record.pod.as_ref().map(ToString::to_string), "container": record.container,
            "netns": record.netns, "state": record.state.as_str(), "seconds": record.idle.as_secs(),
            "networks": networks, "differences": differences,
        })
    };
    let pod = |pod: &Pod| json!({"pod": pod.name, "node": pod.node, "phase": pod.phase, "networkStatus": entries(pod.status.as_deref()), "differences": pod.differences});
    let all = json!({
        "records": status.records.iter().map(record).collect::<Vec<_>>(),
        "pods": status.pods.iter().map(pod).collect::<Vec<_>>(),
        "notes": status.notes, "good": status.is_good(),
    });
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}
