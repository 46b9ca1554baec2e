//! A migration as text and as JSON.

use std::fmt::Write;

use attachments::text::printable;
use serde_json::{Value, json};

use super::multus::{Migration, Remark};
use crate::style::{Style, Tone};

/// How one changes over. `tests/suites/cluster/migrate.rs` walks both ways with Multus's own daemon.
const OVER: &str = "  kubectl apply -k deploy/kustomize, with the keys above in the ConfigMap; the agents write 00-meta-cni.conflist, which the runtime
  reads before 00-multus.conf. New pods are attached by meta-cni. Pods that run keep their networks: their DEL has no record here and
  is done by what Multus saved in cniDir. Then delete Multus's DaemonSet, and on each node its 00-multus.conf. Keep cniDir, and
  Multus's ServiceAccount as long as a node's kubeconfig of it is used by others, until the last of those pods is gone.
";

/// How one goes back.
const BACK: &str = "  Drain each node, or what meta-cni attached of further networks is not released by Multus; uninstall as docs/install.md says
  (deploy/uninstall): 00-meta-cni.conflist goes. Then bring Multus's DaemonSet back, and uncordon. Not before: its daemon takes the
  first file that it finds for the cluster's network, and would name 00-meta-cni.conflist in 00-multus.conf.
  NetworkAttachmentDefinitions and pods stay as they are both ways.
";

/// For people.
pub fn text(migration: &Migration, style: Style) -> String {
    let Migration { files, node, primary, conflist, remarks } = migration;
    let mut out = String::new();
    let title = |out: &mut String, words: &'static str| {
        let _ = writeln!(out, "{}", style.paint(Tone::Strong, words));
    };
    title(&mut out, "Read:");
    indented(&mut out, &files.join("\n"));
    title(&mut out, "Keys for node.json in the ConfigMap kube-system/meta-cni:");
    let keys = serde_json::to_string_pretty(&Value::Object(node.clone())).unwrap_or_default();
    indented(&mut out, &keys);
    if let Some(primary) = primary {
        title(&mut out, "Environment of the DaemonSet:");
        let _ = writeln!(out, "  META_CNI_PRIMARY={}", printable(primary));
    }
    title(&mut out, "The agents then write 00-meta-cni.conflist:");
    indented(&mut out, if conflist.is_empty() { "(nothing: see what needs attention)" } else { conflist });
    title(&mut out, "What differs:");
    for Remark { key, needs_attention, text } in remarks {
        let word = if *needs_attention { style.paint(Tone::Bad, "attention") } else { "note".to_owned() };
        let key = if key.is_empty() { String::new() } else { format!("{}: ", printable(key)) };
        let _ = writeln!(out, "  {word}: {key}{}", printable(text));
    }
    let _ = writeln!(out, "  docs/multus.md lists what differs for every node.");
    title(&mut out, "Changing over:");
    out.push_str(OVER);
    title(&mut out, "And back:");
    out.push_str(BACK);
    out
}

fn indented(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {}", printable(line));
    }
}

/// For programs.
pub fn json(migration: &Migration) -> String {
    let Migration { files, node, primary, conflist, remarks } = migration;
    let remark = |one: &Remark| json!({"key": one.key, "needsAttention": one.needs_attention, "text": one.text});
    let remarks: Vec<Value> = remarks.iter().map(remark).collect();
    let all = json!({"files": files, "node": node, "primary": primary, "conflist": conflist, "remarks": remarks, "good": migration.is_good()});
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}
