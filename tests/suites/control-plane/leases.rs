//! The agent and DHCP leases: when it starts the plugin's `renew`, and what it tells of what comes of it. The plugin is a script here;
//! the real one renews in `suites/kernel/dhcp.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::world::World;

/// What the plugin finds, try by try; the last one for ever.
const OUTCOMES: [&str; 5] = [
    r#"{"outcome":"silent","toEverybody":true,"next":1}"#,
    r#"{"outcome":"silent","toEverybody":true,"next":1}"#,
    r#"{"outcome":"lost","why":"it is over","next":1}"#,
    r#"{"outcome":"regained","next":1}"#,
    r#"{"outcome":"renewed","next":3000}"#,
];

fn install(world: &World) {
    let node = &world.node;
    let mut answers = String::new();
    for (i, outcome) in OUTCOMES.iter().enumerate() {
        let known = r#"{"network":"lan","address":"10.9.0.7/24","pod":{"namespace":"default","name":"web"},"#;
        answers.push_str(&format!("  {i}) echo '{}' ;;\n", outcome.replacen('{', known, 1)));
    }
    let last = answers.lines().last().unwrap().replacen("4)", "*)", 1);
    let dir = node.dir().display();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = renew ] || {{ echo '{{\"resumed\":[],\"released\":[],\"left\":[],\"living\":0}}'; exit; }}\n\
         tries=$(cat {dir}/tries 2>/dev/null | wc -l)\necho \"$2\" >>{dir}/tries\ncat >{dir}/stdin\n\
         case $tries in\n{answers}{last}\nesac\n"
    );
    fs::write(node.path("bin/meta-cni"), script).unwrap();
    fs::set_permissions(node.path("bin/meta-cni"), PermissionsExt::from_mode(0o755)).unwrap();
    let conf = json!({"cniVersion": "1.1.0", "name": "node-net", "plugins": [node.conf]});
    fs::write(node.path("runtime/00-meta-cni.conflist"), conf.to_string()).unwrap();
}

/// A lease that has wanted more time for a while.
fn lease(world: &World, name: &str, since: u64) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (container, ifname) = name.split_once(',').unwrap();
    let lease = json!({
        "format": 1, "network": "lan", "container": container, "ifname": ifname, "netns": "/nowhere", "link": 7,
        "mac": "02:00:00:00:00:09", "wishes": {"requested": [3, 1], "provided": []}, "broadcast": false, "state": "bound",
        "address": "10.9.0.7/24", "server": "10.9.0.1", "serverMac": "02:00:00:00:00:01",
        "renewal": 3600, "rebinding": 4000, "expiry": 7200, "boot": boot.trim(), "since": since,
    });
    fs::create_dir_all(world.node.path("state/dhcp")).unwrap();
    fs::write(world.node.path(&format!("state/dhcp/{name}")), lease.to_string()).unwrap();
}

fn tries(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.node.path("tries")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_lease_is_renewed_when_it_is_time_and_the_pod_hears_of_its_loss() {
    let mut world = World::new();
    install(&world);
    world.pod("web", "");
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    // Of an earlier clock as much as of an hour ago; and one that has time.
    lease(&world, "c1,net1", uptime.saturating_sub(3700));
    lease(&world, "c2,net1", uptime);
    let text = fs::read_to_string(world.node.path("state/dhcp/c1,net1")).unwrap();
    fs::write(world.node.path("state/dhcp/c1,net1"), text.replace(r#""renewal":3600"#, r#""renewal":1"#)).unwrap();
    world.start_agent();
    world.until("events of the lease", || {
        let events = world.events("web");
        let reasons: Vec<&str> = events.iter().map(|(reason, _)| reason.as_str()).collect();
        if reasons != ["LeaseNotRenewed", "AddressLost", "AddedInterface"] {
            return Err(format!("{events:?}"));
        }
        assert!(events[1].1.starts_with("network lan (net1): the DHCP lease of 10.9.0.7/24 is lost"), "{events:?}");
        assert_eq!(events[2].1, "Add net1 [10.9.0.7/24] from lan again");
        Ok(())
    });
    world.until("renewal in the end", || match tries(&world) {
        tries if tries.len() == OUTCOMES.len() => Ok(()),
        tries => Err(format!("{tries:?}")),
    });
    assert_eq!(tries(&world), ["c1,net1"; OUTCOMES.len()], "the other one has time");
    assert!(fs::read_to_string(world.node.path("stdin")).unwrap().contains(r#""name":"node-net""#));
    world.until("metrics", || {
        let page = world.metrics()?;
        let has = |row: &str| page.lines().any(|line| line == row);
        let rows = [("silent", 2), ("lost", 1), ("regained", 1), ("renewed", 1)]
            .map(|(outcome, times)| format!(r#"meta_cni_dhcp_renewals_total{{outcome="{outcome}"}} {times}"#));
        let missing: Vec<&String> = rows.iter().filter(|row| !has(row)).collect();
        if missing.is_empty() && has("meta_cni_dhcp_leases 2") { Ok(()) } else { Err(format!("{missing:?}")) }
    });

    // Another agent knows by the files; a lease that is gone wants nothing.
    world.kill_agent();
    fs::remove_file(world.node.path("state/dhcp/c2,net1")).unwrap();
    world.start_agent();
    world.until("a try of the next agent", || match tries(&world).len() {
        more if more > OUTCOMES.len() => Ok(()),
        _ => Err("none".to_owned()),
    });
    assert!(tries(&world).iter().all(|name| name == "c1,net1"));
}
