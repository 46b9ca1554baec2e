//! Calls of the plugin in the agent's metrics and log: the plugin reports them itself, and waits for nobody.

use std::fs;

use meta_cni_tests::fake::Rule;
use serde_json::json;

use super::world::World;

/// Waits for rows of the page.
#[track_caller]
fn has(world: &World, rows: &[&str]) {
    world.until("rows of metrics", || {
        let page = world.metrics()?;
        match rows.iter().find(|row| !page.lines().any(|line| line.starts_with(**row))) {
            Some(row) => Err(format!("want {row}\n{page}")),
            None => Ok(()),
        }
    });
}

#[test]
fn calls_are_counted_by_verb_network_delegate_and_code_and_logged_with_their_pod() {
    let mut world = World::new();
    world.nad("lan");
    world.nad_of("broken", json!({"cniVersion": "1.1.0", "type": "two"}));
    world.start_agent();
    world.node.fakes.rules("two", &[Rule::on("ADD").fails(104, "no way in")]);
    let (web, gone) = (world.pod("web", "lan"), world.pod("gone", "lan,broken"));
    world.add(&web);
    world.node.add(&gone).refused(104, &["no way in"]);
    has(
        &world,
        &[
            r#"meta_cni_calls_total{verb="ADD",code="0"} 1"#,
            r#"meta_cni_calls_total{verb="ADD",code="104"} 1"#,
            r#"meta_cni_call_duration_seconds_count{verb="ADD"} 2"#,
            r#"meta_cni_attachment_calls_total{verb="ADD",network="default/lan",delegate="one",code="0"} 2"#,
            r#"meta_cni_attachment_calls_total{verb="ADD",network="default/broken",delegate="two",code="104"} 1"#,
            r#"meta_cni_attach_duration_seconds_count{delegate="one"} 2"#,
            r#"meta_cni_attachments{network="default/lan",delegate="one"} 1"#,
            r#"meta_cni_attachments{network="default-net",delegate="main"} 1"#,
            r#"meta_cni_undos_unfinished{state="pending"} 0"#,
            r#"meta_cni_status_lag_seconds_count 1"#,
            r#"meta_cni_api_requests_total{method="PATCH",code="200"} 1"#,
            r#"meta_cni_api_request_duration_seconds_count{method="PATCH"} 1"#,
            r#"meta_cni_cache_age_seconds{collection="pods"} 0"#,
            r#"meta_cni_definitions_cached 2"#,
        ],
    );
    let log = world.log();
    let line = log.lines().find(|line| line.contains("no way in") && line.contains("verb=ADD")).expect(&log);
    for word in ["pod=default/gone", &format!("sandbox={}", gone.container), "default/broken", "code=104"] {
        assert!(line.contains(word), "{word}: {line}");
    }

    // What is done while the agent is away is counted when it is back, once.
    world.kill_agent();
    world.node.del(&web).quiet();
    world.start_agent();
    has(
        &world,
        &[
            r#"meta_cni_calls_total{verb="DEL",code="0"} 1"#,
            r#"meta_cni_attachment_calls_total{verb="DEL",network="default/lan",delegate="one",code="0"} 1"#,
        ],
    );
    assert!(!world.metrics().unwrap().contains("meta_cni_attachments{"));
    world.until("end of the reports", || {
        let left = ["calls", "calls.taken"].map(|file| fs::metadata(world.node.path(&format!("state/{file}"))));
        if left.iter().all(Result::is_err) { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
