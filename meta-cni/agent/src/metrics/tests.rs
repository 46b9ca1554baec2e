//! The page, as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meta_cni::call_log::{AttachmentReport, CallReport};
use meta_cni_kube::Exchange;

use super::*;

/// Rows of a family.
fn rows<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    let is_of = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let mut rows: Vec<&str> = text.lines().filter(is_of).collect();
    rows.sort_unstable();
    rows
}

fn gauges(members: Option<u64>, pool: Option<u64>) -> Gauges {
    Gauges { members, entries: 65 * members.unwrap_or_default(), pool, slots: 64, used: 3 }
}

fn of_networks(networks: BTreeMap<String, Gauges>) -> Snapshot {
    Snapshot { networks, ..Snapshot::default() }
}

fn attachment(network: &str, delegate: &str, code: u32, micros: u64) -> AttachmentReport {
    AttachmentReport { network: network.to_owned(), delegate: delegate.to_owned(), code, micros }
}

fn call(verb: &str, code: u32, attachments: Vec<AttachmentReport>) -> CallReport {
    CallReport { verb: verb.to_owned(), code, micros: 7312, attachments, ..CallReport::default() }
}

/// Something of everything.
fn busy() -> (Metrics, Snapshot) {
    let metrics = Metrics::of("n1");
    let networks = metrics.networks();
    networks.healed("4789-7", Heal::Entries);
    networks.healed("4789-7", Heal::Entries);
    networks.healed("4789-7", Heal::Device);
    networks.join_failed("shop.lan", "later");
    networks.wrote("addressblocks", "create", "done");
    networks.converged(Duration::from_millis(30));
    networks.obstructed("4789-7", 2);
    metrics.calls.ended(&call(
        "ADD",
        0,
        vec![attachment("pods", "bridge", 0, 900), attachment("shop/lan", "vxlan", 0, 1200)],
    ));
    metrics.calls.ended(&call(
        "ADD",
        7,
        vec![attachment("pods", "bridge", 0, 900), attachment("shop/lan", "vxlan", 7, 80)],
    ));
    metrics.calls.ended(&call("DEL", 0, vec![attachment("shop/lan", "vxlan", 0, 0)]));
    metrics.calls.leftovers(3);
    metrics.agent.hot_plugged("done", Duration::from_millis(120));
    metrics.agent.differing("network", 2);
    metrics.agent.repaired("done");
    let exchange = |method, is_watch, status| Exchange { method, is_watch, status, took: Duration::from_millis(4) };
    metrics.agent.exchanged(&exchange(http::Method::PATCH, false, Some(http::StatusCode::OK)));
    metrics.agent.exchanged(&exchange(http::Method::GET, true, None));
    metrics.agent.event_dropped();
    metrics.devices.asked(DeviceSource::PodResources, Duration::from_millis(1));
    metrics.leases.held(6);
    metrics.leases.tried("renewed");
    metrics.agent.status_written(Duration::from_millis(3));
    let networks = [("4789-7".to_owned(), gauges(Some(2), None)), ("shop.lan".to_owned(), gauges(None, Some(254)))];
    let snapshot = Snapshot {
        networks: networks.into(),
        attachments: [(("shop/lan".to_owned(), "vxlan".to_owned()), 12)].into(),
        pending: 1,
        abandoned: 2,
        definitions: (4, 4096),
        statuses_waiting: 5,
        unheard: [("pods", 0.0), ("network-attachment-definitions", 12.5)].into(),
    };
    (metrics, snapshot)
}

#[test]
fn what_happens_is_told_by_network_verb_delegate_and_code() {
    let (metrics, snapshot) = busy();
    let text = metrics.text(&snapshot);
    for row in [
        r#"meta_cni_network_members{network="4789-7"} 2"#,
        r#"meta_cni_network_pool_slots{network="shop.lan"} 254"#,
        r#"meta_cni_network_obstacles{network="4789-7"} 2"#,
        r#"meta_cni_network_heals_total{network="4789-7",what="device"} 1"#,
        r#"meta_cni_network_heals_total{network="4789-7",what="entries"} 2"#,
        r#"meta_cni_network_joins_failed_total{network="shop.lan",cause="later"} 1"#,
        r#"meta_cni_api_writes_total{kind="addressblocks",verb="create",outcome="done"} 1"#,
        r#"meta_cni_network_convergence_seconds_bucket{le="0.025"} 0"#,
        r#"meta_cni_network_convergence_seconds_bucket{le="0.05"} 1"#,
        "meta_cni_network_convergence_seconds_count 1",
        "meta_cni_dhcp_leases 6",
        r#"meta_cni_dhcp_renewals_total{outcome="renewed"} 1"#,
        r#"meta_cni_calls_total{verb="ADD",code="0"} 1"#,
        r#"meta_cni_calls_total{verb="ADD",code="7"} 1"#,
        r#"meta_cni_call_duration_seconds_count{verb="ADD"} 2"#,
        r#"meta_cni_call_duration_seconds_bucket{verb="ADD",le="0.005"} 0"#,
        r#"meta_cni_call_duration_seconds_bucket{verb="ADD",le="0.01"} 2"#,
        r#"meta_cni_attachment_calls_total{verb="ADD",network="shop/lan",delegate="vxlan",code="7"} 1"#,
        r#"meta_cni_attachment_calls_total{verb="ADD",network="pods",delegate="bridge",code="0"} 2"#,
        r#"meta_cni_attachment_calls_total{verb="DEL",network="shop/lan",delegate="vxlan",code="0"} 1"#,
        r#"meta_cni_attach_duration_seconds_count{delegate="vxlan"} 2"#,
        r#"meta_cni_attachments{network="shop/lan",delegate="vxlan"} 12"#,
        r#"meta_cni_undos_unfinished{state="abandoned"} 2"#,
        "meta_cni_leftovers 3",
        r#"meta_cni_api_requests_total{method="GET",code="none"} 1"#,
        r#"meta_cni_api_request_duration_seconds_count{method="PATCH"} 1"#,
        "meta_cni_events_dropped_total 1",
        "meta_cni_status_lag_seconds_count 1",
        "meta_cni_statuses_waiting 5",
        "meta_cni_definitions_cached_bytes 4096",
        r#"meta_cni_cache_age_seconds{collection="network-attachment-definitions"} 12.5"#,
    ] {
        assert!(text.lines().any(|line| line == row), "{row}\n{text}");
    }
    assert!(!text.contains(r#"duration_seconds_count{method="GET"}"#), "a watch takes as long as it likes");
    metrics.networks().left("4789-7");
    let text = metrics.text(&Snapshot::default());
    assert!(!text.contains("4789-7") && rows(&text, "meta_cni_attachments").is_empty(), "{text}");
}

#[test]
fn beyond_a_thousand_networks_are_told_as_one() {
    let metrics = Metrics::of("n1");
    let networks: BTreeMap<String, Gauges> =
        (0..1500).map(|number| (format!("shop.lan-{number:04}"), gauges(None, Some(10)))).collect();
    networks.keys().for_each(|name| metrics.networks().join_failed(name, "later"));
    let text = metrics.text(&of_networks(networks));
    for family in ["meta_cni_network_pool_slots", "meta_cni_network_joins_failed_total"] {
        assert_eq!(rows(&text, family).len(), 1001, "{family}");
    }
    assert!(text.contains(r#"meta_cni_network_pool_slots{network="other"} 5000"#));
    assert!(text.contains(r#"meta_cni_network_joins_failed_total{network="other",cause="later"} 500"#));
    // One goes, and the next one has its place. What was refused is remembered.
    metrics.networks().left("shop.lan-0003");
    assert!(metrics.text(&Snapshot::default()).contains(r#"joins_failed_total{network="shop.lan-0003""#));
    let text = metrics.text(&of_networks([("shop.new".to_owned(), gauges(None, Some(1)))].into()));
    assert_eq!(rows(&text, "meta_cni_network_pool_slots"), [r#"meta_cni_network_pool_slots{network="shop.new"} 1"#]);
    let many: Vec<AttachmentReport> = (0..300).map(|n| attachment("a/b", &format!("type-{n}"), 0, 1)).collect();
    metrics.calls.ended(&call("ADD", 0, many));
    let text = metrics.text(&Snapshot::default());
    assert_eq!(rows(&text, "meta_cni_attach_duration_seconds_count").len(), 65, "{text}");
}

#[test]
fn label_values_are_escaped_as_the_format_says() {
    let metrics = Metrics::of("n\"1\\\n");
    let info = format!(r#"meta_cni_agent_info{{version="{}",node="n\"1\\\n"}} 1"#, env!("CARGO_PKG_VERSION"));
    assert!(metrics.text(&Snapshot::default()).lines().any(|line| line == info));
}

#[test]
fn a_watch_that_is_not_heard_ages() {
    let (watches, began) = (Watches::default(), std::time::Instant::now());
    let pods = watches.of("pods");
    pods.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(watches.look(began + Duration::from_secs(60))["pods"], 0.0);
    pods.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(watches.look(began + Duration::from_secs(90))["pods"], 30.0);
}

#[test]
fn the_kernel_tells_of_this_process() {
    let text = Metrics::of("n1").text(&Snapshot::default());
    let value = |name: &str| rows(&text, name)[0].rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(value("process_resident_memory_bytes") > 1e5 && value("process_open_fds") >= 3.0, "{text}");
    assert!(value("process_start_time_seconds") > 1.5e9 && value("process_cpu_seconds_total") >= 0.0, "{text}");
}

#[test]
fn the_page_of_the_documentation_has_every_family_and_no_other() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?.to_owned();
        Some((name, cells.next()?.to_owned()))
    };
    let documented: BTreeMap<String, String> = page.lines().filter_map(row).collect();
    let (metrics, snapshot) = busy();
    let text = metrics.text(&snapshot);
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let told: BTreeMap<String, String> = told.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    assert_eq!(documented, told);
}

/// Alerts and dashboard name series that exist.
#[test]
fn alerts_and_dashboard_ask_for_families_that_are_told() {
    let (metrics, snapshot) = busy();
    let text = metrics.text(&snapshot);
    let mut series: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    // What people are told to look at is named without the part of a histogram.
    series.extend(text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()));
    series.remove("#");
    for file in ["alerts.yaml", "dashboard.json"] {
        let path = format!("{}/../../deploy/monitoring/{file}", env!("CARGO_MANIFEST_DIR"));
        let asked = std::fs::read_to_string(&path).unwrap();
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let names: BTreeSet<&str> =
            asked.split(word).filter(|word| word.starts_with("meta_cni_") || word.starts_with("process_")).collect();
        assert!(names.len() > 5, "{file}");
        for name in names {
            assert!(series.contains(name), "{file}: {name}");
        }
    }
}
