//! The node agent: what the plugin hears of the cluster, and what the cluster hears of the node.

use std::fs;

use meta_cni_tests::node::NETWORKS;
use meta_cni_tests::program;
use serde_json::json;

use super::world::{NODE_IP, SOON, World, ask, nad, pod};

#[test]
fn a_pod_gets_its_networks_from_the_api_server_and_its_status_and_events_back() {
    let mut world = World::new();
    world.nad("lan");
    world.start_agent();
    let web = world.pod("web", "lan");
    world.add(&web);
    assert_eq!(world.status("web").unwrap(), ["default-net 192.0.2.2", "default/lan 10.43.0.10"]);
    assert_eq!(world.requests("PATCH", "pods", "status"), 1);
    world.until("two events", || match world.events("web") {
        events if events.len() < 2 => Err(format!("{events:?}")),
        events => {
            let added = |text: &str| ("AddedInterface".to_owned(), text.to_owned());
            let want =
                [added("Add eth0 [192.0.2.2/24] from default-net"), added("Add net1 [10.43.0.10/24] from default/lan")];
            assert_eq!(events, want);
            Ok(())
        }
    });

    // DEL asks nobody: not even an agent that is there.
    world.kill_agent();
    world.node.del(&web).quiet();
    assert_eq!(world.requests("PATCH", "pods", "status"), 1);
}

#[test]
fn what_is_missing_is_named_told_as_an_event_and_found_once_it_is_there() {
    let world = World::served();
    let web = world.pod("web", "default/lan");
    let refusal = world.node.add(&web).refused(11, &["lan", "default"]);
    let words = "cannot find a network-attachment-definition (lan) in namespace (default)";
    assert_eq!(refusal.msg, words);
    world.node.add(&web).refused(11, &["lan"]);
    world.until("event of the failure", || match world.events("web").as_slice() {
        [(reason, text)] if reason == "NoNetworkFound" && text == words => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.nad("lan");
    world.add(&web);

    let gone = world.node.sandbox("gone", "u-1");
    world.node.add(&gone).refused(11, &["pod default/gone", "the API server knows no such pod"]);
    let other = world.node.sandbox("web", "00000000-0000-4000-8000-000000000001");
    let refusal = world.node.add(&other).refused(11, &["pod default/web", "K8S_POD_UID"]);
    assert!(refusal.msg.contains(&other.uid) && refusal.msg.contains(&web.uid), "{}", refusal.msg);
    assert_eq!(world.requests("PATCH", "pods", "status"), 1);
}

#[test]
fn a_pod_of_an_overlay_is_told_which_kind_is_missing_and_where_it_is() {
    let world = World::served();
    world.nad_of("red", json!({"cniVersion": "1.1.0", "type": "vxlan", "vni": 4200}));
    let pod = world.pod("web", "red");
    let words = ["network-attachment-definition default/red", "no vniclaims.meta-cni.io: apply deploy/crds"];
    world.node.add(&pod).refused(11, &words);
}

#[test]
fn a_failed_delegates_event_begins_with_network_and_cause() {
    let world = World::served();
    world.nad("lan");
    world.node.fakes.rules("one", &[meta_cni_tests::fake::Rule::on("ADD").fails(104, "no way in")]);
    let web = world.pod("web", "lan");
    world.node.add(&web).refused(104, &["no way in"]);
    world.until("event of the failure", || match world.events("web").as_slice() {
        [(reason, text)] if reason == "FailedAddingInterface" => {
            assert!(text.starts_with("network default/lan (net1): no way in"), "{text}");
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn what_was_asked_for_and_not_given_is_one_event_on_the_pod() {
    let world = World::served();
    world.nad("lan");
    let asked = json!([{"name": "lan", "ips": ["192.0.2.77"], "mac": "02:00:00:00:00:77", "bandwidth": {"ingressRate": 1000},
        "portMappings": [{"hostPort": 80, "containerPort": 80}]}]);
    let web = world.pod("web", &asked.to_string());
    world.node.add(&web).result();
    world.until("event of what is not given", || {
        let events = world.events("web");
        let told: Vec<_> = events.iter().filter(|(reason, _)| reason == "RequestIgnored").collect();
        match told[..] {
            [(_, text)]
                if ["portMappings", "bandwidth", "192.0.2.77", "02:00:00:00:00:77"]
                    .iter()
                    .all(|asked| text.contains(asked)) =>
            {
                Ok(())
            }
            _ => Err(format!("{events:?}")),
        }
    });
}

#[test]
fn a_definition_that_does_not_parse_is_an_error_of_that_definition_alone() {
    let mut world = World::new();
    // As clusters have it whose definition of the resource is older than schemas.
    let patch = json!({"spec": {"versions": [{
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    }]}});
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/network-attachment-definitions.k8s.cni.cncf.io";
    world.plane.api().patch(crd, &patch).unwrap();
    world.until("object without a schema", || {
        world.plane.api().apply(&nad("default", "broken", json!({"config": 7}))).map_err(|refusal| refusal.to_string())
    });
    world.nad("lan");
    world.start_agent();
    world.node.add(&world.pod("bad", "broken")).refused(7, &["network-attachment-definition default/broken", "7"]);
    world.add(&world.pod("good", "lan"));
    // An update that no longer parses does not leave the old one behind.
    world.plane.api().apply(&nad("default", "lan", json!({"config": {"type": "one"}}))).unwrap();
    let mut number = 0;
    world.until("refusal of the edited definition", || {
        number += 1;
        let outcome = world.node.add(&world.pod(&format!("later-{number}"), "lan"));
        if outcome.succeeded() {
            Err("it is still the old one".to_owned())
        } else {
            Ok(outcome.refused(7, &["default/lan"]))
        }
    });
}

#[test]
fn definitions_are_followed_and_an_edit_between_add_and_del_changes_nothing_for_the_pod() {
    let world = World::served();
    world.nad("lan");
    let web = world.pod("web", "lan");
    world.add(&web);
    world.nad_of("lan", json!({"cniVersion": "1.1.0", "type": "two", "fakeIps": [{"address": "10.44.0.10/24"}]}));
    let mut number = 0;
    world.until("pod with the new definition", || {
        number += 1;
        let name = format!("later-{number}");
        world.add(&world.pod(&name, "lan"));
        let status = world.status(&name)?;
        if status[1] == "default/lan 10.44.0.10" { Ok(()) } else { Err(format!("{status:?}")) }
    });
    world.plane.api().delete("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/lan").unwrap();
    world.node.fakes.take_order();
    world.node.del(&web).quiet();
    let order = world.node.fakes.take_order();
    assert!(order.iter().any(|line| line.contains("one")), "{order:?}");
    world.until("pod that misses the deleted definition", || {
        number += 1;
        let outcome = world.node.add(&world.pod(&format!("later-{number}"), "lan"));
        if outcome.succeeded() { Err("it is still there".to_owned()) } else { Ok(outcome.refused(11, &["(lan)"])) }
    });
}

#[test]
fn names_without_end_and_definitions_that_are_too_large_are_refused_at_once() {
    let world = World::served();
    let names: Vec<_> = (0..20_000).map(|number| format!("n{number}")).collect();
    let many = world.pod("many", &names.join(","));
    let asked = || world.requests("GET", "network-attachment-definitions", "");
    let before = asked();
    world.node.add(&many).refused(7, &["pod default/many", "20000", "at most 1024"]);
    assert_eq!(asked(), before, "nothing was looked up");
    let (all, _) = world.memory();
    assert!(all <= 64.0, "{all} MB");

    // As many as are looked up, none of which exists: the pods beside it go on.
    let references: Vec<_> = names[..1000].iter().map(|name| json!({"namespace": "default", "name": name})).collect();
    let twice = [&references[..], &references[..]].concat();
    let body = json!({"references": twice, "multusNamespace": "kube-system", "waitMs": 60_000});
    let question = json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": body});
    world.nad("lan");
    let beside = world.pod("beside", "lan");
    let socket = world.node.path("run/agent.sock");
    let asking = std::thread::spawn(move || ask(&socket, &question));
    world.add(&beside);
    let answer = asking.join().unwrap();
    let found = answer["body"]["definitions"].as_array().unwrap();
    assert!(found.len() == 1000 && found.iter().all(|one| one["outcome"]["state"] == "missing"), "{found:?}");
    assert_eq!(asked(), before + 1001, "each name once");

    let config = json!({"cniVersion": "1.1.0", "type": "one", "padding": "x".repeat(64 << 10)});
    let size = config.to_string().len();
    world.nad_of("large", config);
    world.node.add(&world.pod("large", "large")).refused(7, &["default/large", &format!("got {size} bytes"), "65536"]);
}

#[test]
fn a_pod_that_wants_much_is_read_when_it_is_asked_for() {
    let world = World::served();
    world.nad("lan");
    let networks = json!([{"name": "lan", "cni-args": {"note": "x".repeat(20 << 10)}}]);
    world.add(&world.pod("web", &networks.to_string()));
    assert_eq!(world.status("web").unwrap().len(), 2);
}

#[test]
fn a_static_pod_has_the_uid_of_its_copy_which_may_come_late() {
    let world = World::served();
    world.nad("lan");
    let mirror = |name: &str| {
        let object = pod(
            name,
            json!({NETWORKS: "lan", "kubernetes.io/config.source": "file", "kubernetes.io/config.mirror": "f00d"}),
        );
        world.plane.api().apply(&object).unwrap();
    };
    mirror("early");
    world.add(&world.node.sandbox("early", "f00d"));
    assert_eq!(world.status("early").unwrap().len(), 2);

    // The runtime hands over what the API server does not know yet.
    let late = world.node.sandbox("late", "f00d");
    let outcome = world.handed(&late, "lan").conf("statusWaitMs", json!(200)).run();
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    mirror("late");
    world.until("status of the copy that came late", || world.status("late"));
}

#[test]
fn a_status_never_reaches_a_later_pod_of_the_same_name() {
    let world = World::served();
    let first = world.pod("web", "");
    world.plane.api().delete("/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0").unwrap();
    let second = world.pod("web", "");
    assert_ne!(first.uid, second.uid);
    let outcome = world.handed(&first, "").conf("statusWaitMs", json!(5000)).run();
    assert!(outcome.succeeded(), "{}", outcome.stdout());
    world.until("status that is given up", || {
        let log = world.log();
        if log.contains("network-status of pod default/web is given up") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert!(world.status("web").is_err());
}

#[test]
fn the_socket_is_roots_alone_and_a_loose_directory_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::served();
    let run = world.node.path("run");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&run), mode(&run.join("agent.sock"))), (0o700, 0o600));
    assert!(world.health(&["--ready"]).unwrap_err().contains("waiting for"), "no configuration is in place");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    world.node.add(&world.pod("web", "")).refused(7, &["agentSocket", "mode 0777"]);
}

#[test]
fn another_user_gets_no_answer_even_where_the_socket_can_be_reached() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let world = World::served();
    let (run, socket) = (world.node.path("run"), world.node.path("run/agent.sock"));
    let open = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    // As somebody would have to break it first.
    open(world.node.dir());
    open(&socket);
    chown(&run, Some(NOBODY), None).unwrap();
    let mut perl = program::command("perl");
    perl.uid(NOBODY).args(["-MSocket", "-e", STRANGER]).arg(&socket);
    let finished = program::start(&mut perl, b"").finish(SOON);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "connected, 0 bytes", "{finished:?}");
    assert!(world.log().contains(&format!("dropped a connection of uid {NOBODY}")), "{}", world.log());
}

const NOBODY: u32 = 65534;

/// Asks for health and says how much came back.
const STRANGER: &str = r#"
    socket(my $agent, PF_UNIX, SOCK_STREAM, 0) or die;
    connect($agent, sockaddr_un($ARGV[0])) or die "connect: $!";
    my $json = '{"newest":1,"oldest":1,"kind":"health"}';
    $SIG{PIPE} = 'IGNORE';
    syswrite($agent, pack("N", length $json) . $json);
    printf "connected, %d bytes", sysread($agent, my $answer, 1024) || 0;
"#;

#[test]
fn frames_of_another_version_are_answered_by_the_running_agent() {
    let world = World::served();
    let file = |name: &str| {
        let path = format!("{}/../meta-cni/tests/frames/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap()
    };
    let resolve = |name: &str| {
        let mut question = file(name);
        question["body"]["pod"] = json!({"namespace": "default", "name": "web"});
        question
    };
    world.nad("lan");
    world.pod("web", "lan");
    let this = world.ask(&resolve("1/request-resolve.json"));
    assert_eq!(this, world.ask(&resolve("next/request-resolve.json")));
    assert_eq!((&this["version"], &this["kind"]), (&json!(1), &json!("resolved")), "{this}");
    let states: Vec<_> =
        this["body"]["definitions"].as_array().unwrap().iter().map(|one| &one["outcome"]["state"]).collect();
    assert_eq!(states, ["found", "missing"]);
    for name in ["next/request-unknown.json", "next/request-too-new.json"] {
        assert_eq!(world.ask(&file(name))["body"]["cause"], "unsupported", "{name}");
    }
}

#[test]
fn the_links_that_lead_to_the_node_and_to_the_api_server_are_kept() {
    let world = World::served();
    let question = json!({"newest": 1, "oldest": 1, "kind": "resolve", "body": {"multusNamespace": "kube-system", "waitMs": 1000}});
    let told = world.plane.api().get("/api").unwrap();
    let told = told["serverAddressByClientCIDRs"][0]["serverAddress"].as_str().unwrap().to_owned();
    let server = told.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
    let known = world.until("address of the API server", || {
        let known = world.ask(&question)["body"]["node"].clone();
        let is_there = known["apiServers"].as_array().is_some_and(|all| all.contains(&json!(server)));
        if is_there { Ok(known) } else { Err(format!("{known}, want {server}")) }
    });
    assert_eq!(known["internalIPs"], json!([NODE_IP]));

    for (name, line) in
        [("up0", format!("ip address add {NODE_IP}/24 dev up0")), ("up1", format!("ip route add {server} dev up1"))]
    {
        world.node.netns.run(&format!("ip link add {name} type veth peer name {name}-far"));
        world.node.netns.run(&format!("ip link set {name} up"));
        world.node.netns.run(&line);
        world.nad_of(name, json!({"cniVersion": "1.0.0", "type": "host-device", "device": name}));
    }
    for (name, why) in [
        ("up0", format!("up0 has the node's InternalIP {NODE_IP}")),
        ("up1", format!("up1 carries the node's way to the API server {server}")),
    ] {
        let pod = world.pod(&format!("takes-{name}"), name);
        world.node.add(&pod).refused(7, &[&why]);
        let handed = world.node.sandbox(&pod.name, &pod.uid);
        world.handed(&handed, name).run().refused(7, &[&why]);
    }
}
