//! What is counted, in Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachments::policy::spec::Mode;
use delegates::lint::Severity;

use crate::cluster::View;
use crate::facts::Facts;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// The counters. Every label has few values.
#[derive(Debug, Default)]
pub struct Metrics {
    counted: Mutex<Counted>,
    /// End of the certificate that is served; 0 while there is none.
    pub certificate_expiry: AtomicI64,
    /// Secrets that could not be used; the earlier pair is served on.
    pub certificate_failures: AtomicU64,
    /// Does every published bundle verify our certificate?
    pub bundle_in_sync: AtomicBool,
    /// Is anything injected into pods?
    pub injection: AtomicBool,
    /// Open connections.
    pub connections: AtomicU64,
    /// Definitions that cannot stand beside elder ones; 0 where another replica leads.
    pub janitor_conflicts: AtomicU64,
    /// Passes of the janitor: those that ended well, those that failed.
    janitor_passes: [AtomicU64; 2],
    /// Connections that were closed before a request came: by the reason.
    closed: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Default)]
struct Counted {
    requests: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    durations: BTreeMap<&'static str, Durations>,
    findings: BTreeMap<(String, &'static str), u64>,
    violations: BTreeMap<(String, &'static str), u64>,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, webhook: &'static str, operation: &'static str, result: &'static str, took: Duration) {
        let mut counted = self.counted();
        *counted.requests.entry((webhook, operation, result)).or_default() += 1;
        let durations = counted.durations.entry(webhook).or_default();
        let seconds = took.as_secs_f64();
        durations.count += 1;
        durations.sum += seconds;
        for (bucket, bound) in durations.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Problems were found.
    pub fn found(&self, problems: Vec<(String, Severity)>) {
        let mut counted = self.counted();
        for (rule, severity) in problems {
            let severity = match severity {
                Severity::Warn => "warn",
                Severity::Deny => "deny",
            };
            *counted.findings.entry((rule, severity)).or_default() += 1;
        }
    }

    /// Levels and policies were violated.
    pub fn violated(&self, violations: &BTreeMap<(String, Mode), u64>) {
        let mut counted = self.counted();
        for ((policy, mode), count) in violations {
            let mode = match mode {
                Mode::Enforce => "Enforce",
                Mode::Warn => "Warn",
                Mode::Audit => "Audit",
            };
            *counted.violations.entry((policy.clone(), mode)).or_default() += count;
        }
    }

    /// A connection was closed without a request.
    pub fn closed(&self, reason: &'static str) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// A pass of the janitor is over.
    pub fn janitor_passed(&self, well: bool) {
        self.janitor_passes[usize::from(!well)].fetch_add(1, Ordering::Relaxed);
    }

    /// Has one ended well?
    pub fn janitor_has_passed(&self) -> bool {
        self.janitor_passes[0].load(Ordering::Relaxed) > 0
    }

    /// The text for a scrape.
    pub fn text(&self, facts: &Facts) -> String {
        let mut text = String::new();
        let counted = self.counted();
        let mut family = Family::new(&mut text, "webhook_requests_total", "counter", "Reviews, by their outcome.");
        for ((webhook, operation, result), count) in &counted.requests {
            family.row("", &[("webhook", webhook), ("operation", operation), ("result", result)], *count);
        }
        let mut family = Family::new(&mut text, "webhook_duration_seconds", "histogram", "From request to answer.");
        for (webhook, durations) in &counted.durations {
            let bounds = BUCKETS.map(|bound| bound.to_string());
            for (bound, count) in bounds.iter().zip(durations.buckets) {
                family.row("_bucket", &[("webhook", webhook), ("le", bound)], count);
            }
            family.row("_bucket", &[("webhook", webhook), ("le", "+Inf")], durations.count);
            family.row("_sum", &[("webhook", webhook)], durations.sum);
            family.row("_count", &[("webhook", webhook)], durations.count);
        }
        let mut family = Family::new(&mut text, "webhook_findings_total", "counter", "Problems found, by their rule.");
        for ((rule, severity), count) in &counted.findings {
            family.row("", &[("rule", rule), ("severity", severity)], *count);
        }
        let help = "Violations of levels and policies, those of mode Audit too.";
        let mut family = Family::new(&mut text, "webhook_policy_violations_total", "counter", help);
        for ((policy, mode), count) in &counted.violations {
            family.row("", &[("policy", policy), ("mode", mode)], *count);
        }
        drop(counted);
        let mut one = |name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: i64| {
            Family::new(&mut text, name, kind, help).row("", labels, value);
        };
        let expiry = self.certificate_expiry.load(Ordering::Relaxed);
        one("webhook_cert_expiry_timestamp_seconds", "gauge", "End of the certificate that is served.", &[], expiry);
        let failures = i64::try_from(self.certificate_failures.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        one("webhook_cert_load_failures_total", "counter", "Secrets that could not be used.", &[], failures);
        let in_sync = i64::from(self.bundle_in_sync.load(Ordering::Relaxed));
        one("webhook_cabundle_in_sync", "gauge", "1 while every published bundle verifies it.", &[], in_sync);
        let injection = i64::from(self.injection.load(Ordering::Relaxed));
        let help = "1 while resources and node selectors are injected into pods.";
        one("webhook_injection_active", "gauge", help, &[], injection);
        let open = i64::try_from(self.connections.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        one("webhook_connections", "gauge", "Open connections.", &[], open);
        let conflicts = i64::try_from(self.janitor_conflicts.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        one("janitor_conflicts", "gauge", "Definitions that cannot stand beside elder ones.", &[], conflicts);
        let mut family = Family::new(&mut text, "janitor_passes_total", "counter", "Passes of the janitor.");
        for (result, passes) in ["done", "failed"].into_iter().zip(&self.janitor_passes) {
            family.row("", &[("result", result)], passes.load(Ordering::Relaxed));
        }
        let known = facts.known();
        let help = "1 once the cache has every object, or the API server does not have the kind.";
        let mut family = Family::new(&mut text, "cache_synced", "gauge", help);
        for cache in facts.caches() {
            family.row("", &[("cache", &cache.name())], u8::from(known.is_complete(cache)));
        }
        let mut family = Family::new(&mut text, "cache_watched", "gauge", "1 while changes arrive.");
        for cache in facts.caches() {
            family.row("", &[("cache", &cache.name())], u8::from(facts.is_watched(cache)));
        }
        let help = "Objects that are kept: of pods, those with further networks.";
        let mut family = Family::new(&mut text, "cache_objects", "gauge", help);
        for cache in facts.caches() {
            family.row("", &[("cache", &cache.name())], known.count(cache));
        }
        instances(&mut text, &known.view);
        drop(known);
        let help = "Connections closed without a request.";
        let mut family = Family::new(&mut text, "webhook_connections_closed_total", "counter", help);
        for (reason, count) in self.closed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            family.row("", &[("reason", reason)], *count);
        }
        text
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plugin types, and combinations of them, that are told apart. Who may make definitions can make up any number.
const TOLD_APART: usize = 200;

/// What Multus' admission controller exports, under its names: pods by the plugin types of their networks, by each combination of
/// types, and those with any.
fn instances(text: &mut String, view: &View) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::from([("any".to_owned(), 0)]);
    let mut count = |networks: String| {
        let has_room = counts.len() < TOLD_APART || counts.contains_key(&networks);
        *counts.entry(if has_room { networks } else { "other".to_owned() }).or_default() += 1;
    };
    for (_, pod) in view.pods() {
        let types: BTreeSet<&str> = pod
            .attached
            .iter()
            .filter_map(|attached| Some(&*view.definition(&attached.network)?.plugins().first()?.kind))
            .filter(|kind| !kind.is_empty())
            .collect();
        count("any".to_owned());
        types.iter().for_each(|kind| count((*kind).to_owned()));
        if types.len() > 1 {
            count(types.into_iter().collect::<Vec<_>>().join(","));
        }
    }
    let help = "Pods with networks, by the plugin types of these.";
    let mut family = Family::new(text, "network_attachment_definition_instances", "gauge", help);
    for (networks, count) in &counts {
        family.row("", &[("networks", networks)], *count);
    }
    let help = "1 while there are pods with networks of the type.";
    let mut family = Family::new(text, "network_attachment_definition_enabled_instance_up", "gauge", help);
    for networks in ["any", "sriov", "ib-sriov"] {
        let is_up = counts.get(networks).is_some_and(|count| *count > 0);
        family.row("", &[("networks", networks)], u8::from(is_up));
    }
}

struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &str, kind: &str, help: &str) -> Self {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { text, name: name.to_owned() }
    }

    fn row(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn pods_are_counted_by_the_types_of_their_networks_as_multus_does() {
        let facts = Facts::default();
        let metadata = |name: &str, networks: Option<&str>| {
            let annotations = networks.map(|text| [("k8s.v1.cni.cncf.io/networks".to_owned(), text.to_owned())].into());
            let (namespace, name) = (Some("shop".to_owned()), Some(name.to_owned()));
            ObjectMeta { namespace, name, annotations, ..ObjectMeta::default() }
        };
        facts.change(|known| {
            let view = &mut known.view;
            view.apply_definition(&metadata("lan", None), Some(r#"{"type":"macvlan"}"#));
            view.apply_definition(&metadata("fast", None), Some(r#"{"plugins":[{"type":"sriov"},{"type":"tuning"}]}"#));
            view.apply_pod(&metadata("a", Some("lan,lan")));
            view.apply_pod(&metadata("b", Some("lan,fast")));
            view.apply_pod(&metadata("c", Some("none")));
        });
        let text = Metrics::default().text(&facts);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("network_attachment")).collect();
        assert_eq!(
            rows,
            [
                r#"network_attachment_definition_instances{networks="any"} 3"#,
                r#"network_attachment_definition_instances{networks="macvlan"} 2"#,
                r#"network_attachment_definition_instances{networks="macvlan,sriov"} 1"#,
                r#"network_attachment_definition_instances{networks="sriov"} 1"#,
                r#"network_attachment_definition_enabled_instance_up{networks="any"} 1"#,
                r#"network_attachment_definition_enabled_instance_up{networks="sriov"} 1"#,
                r#"network_attachment_definition_enabled_instance_up{networks="ib-sriov"} 0"#,
            ]
        );
        facts.change(|known| {
            for i in 0..300 {
                let name = format!("n{i}");
                let config = format!(r#"{{"type":"made-up-{i}"}}"#);
                known.view.apply_definition(&metadata(&name, None), Some(&config));
                known.view.apply_pod(&metadata(&format!("p{i}"), Some(&name)));
            }
        });
        let text = Metrics::default().text(&facts);
        let rows = text.lines().filter(|line| line.starts_with("network_attachment_definition_instances{"));
        assert_eq!(rows.count(), TOLD_APART + 1);
    }

    #[test]
    fn the_text_is_prometheus_and_counts_what_happened() {
        let metrics = Metrics::default();
        metrics.answered("nads", "CREATE", "denied", Duration::from_millis(2));
        metrics.answered("nads", "CREATE", "denied", Duration::from_secs(9));
        metrics.found(vec![("N03".to_owned(), Severity::Deny), ("N08".to_owned(), Severity::Warn)]);
        metrics.certificate_expiry.store(77, Ordering::Relaxed);
        metrics.violated(&BTreeMap::from([(("tenant-a".to_owned(), Mode::Audit), 2)]));
        metrics.closed("handshake");
        metrics.janitor_conflicts.store(3, Ordering::Relaxed);
        metrics.janitor_passed(false);
        assert!(!metrics.janitor_has_passed());
        metrics.janitor_passed(true);
        assert!(metrics.janitor_has_passed());
        let text = metrics.text(&Facts::default());
        for line in [
            r#"webhook_requests_total{webhook="nads",operation="CREATE",result="denied"} 2"#,
            r#"webhook_duration_seconds_bucket{webhook="nads",le="0.001"} 0"#,
            r#"webhook_duration_seconds_bucket{webhook="nads",le="0.0025"} 1"#,
            r#"webhook_duration_seconds_bucket{webhook="nads",le="+Inf"} 2"#,
            r#"webhook_duration_seconds_count{webhook="nads"} 2"#,
            r#"webhook_findings_total{rule="N03",severity="deny"} 1"#,
            r#"webhook_findings_total{rule="N08",severity="warn"} 1"#,
            r#"webhook_policy_violations_total{policy="tenant-a",mode="Audit"} 2"#,
            "webhook_cert_expiry_timestamp_seconds 77",
            "webhook_cabundle_in_sync 0",
            "webhook_injection_active 0",
            r#"cache_synced{cache="network-attachment-definitions"} 0"#,
            r#"cache_synced{cache="attachmentlevels"} 0"#,
            r#"cache_objects{cache="pods"} 0"#,
            r#"cache_watched{cache="nodes"} 0"#,
            r#"webhook_connections_closed_total{reason="handshake"} 1"#,
            "janitor_conflicts 3",
            r#"janitor_passes_total{result="done"} 1"#,
            r#"janitor_passes_total{result="failed"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Every row belongs to the family above it.
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(name) => family = name.split(' ').next().unwrap(),
                None => assert!(line.starts_with("# HELP ") || line.starts_with(family), "{line}"),
            }
        }
    }
}
