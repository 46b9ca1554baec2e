use futures::future::join_all;
use meta_cni_kube::testing::{Server, answer, later};
use serde_json::json;

use super::super::pod_cache::Pod;
use super::super::watch::SeenMeta;
use super::*;

fn net(name: &str) -> NetRef {
    NetRef { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
}

/// What the watch says of a version of a definition.
fn seen(name: &str, revision: &str) -> Seen {
    let (namespace, name, resource_version) = ("n".to_owned(), name.to_owned(), revision.to_owned());
    Seen { metadata: SeenMeta { namespace, name, resource_version, ..SeenMeta::default() } }
}

fn found(config: &str) -> Outcome {
    Outcome::Found { config: Some(config.to_owned()), resource_name: None }
}

struct World {
    server: Server,
    state: tempfile::TempDir,
    revision: Arc<Mutex<String>>,
    pods: SharedPodCache,
}

impl World {
    /// An API server whose definitions have a version of our choice, which is also their text. `none` does not exist, and
    /// with the version `away` none can be had.
    async fn new() -> Self {
        let revision = Arc::new(Mutex::new("1".to_owned()));
        let served = Arc::clone(&revision);
        let server = Server::start(move |path| {
            let revision = served.lock().unwrap().clone();
            match path.rsplit('/').next().unwrap() {
                _ if revision == "away" => answer("503 Service Unavailable", "etcd is away"),
                "none" => answer("404 Not Found", "404 page not found"),
                "large" => {
                    let spec = json!({"config": "x".repeat(70_000)});
                    answer("200 OK", &json!({"metadata": {"resourceVersion": revision}, "spec": spec}).to_string())
                }
                _ => {
                    let spec = json!({"config": revision});
                    answer("200 OK", &json!({"metadata": {"resourceVersion": revision}, "spec": spec}).to_string())
                }
            }
        })
        .await;
        Self { server, state: tempfile::tempdir().unwrap(), revision, pods: SharedPodCache::default() }
    }

    fn agent(&self) -> Definitions {
        Definitions::open(
            Reader::new(self.server.client.clone()),
            self.state.path(),
            self.pods.clone(),
            Dialects::default(),
        )
    }

    fn set(&self, revision: &str) {
        revision.clone_into(&mut self.revision.lock().unwrap());
    }

    fn has_file(&self, name: &str) -> bool {
        self.state.path().join("definitions/n").join(name).exists()
    }

    /// A pod of this node that wants a definition.
    fn pod(&self, name: &str, networks: &str) -> PodName {
        let pod = PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() };
        let selection = [(attachments::selection::NETWORKS.to_owned(), networks.to_owned())].into();
        self.pods.lock().apply(pod.clone(), Pod { selection: Some(selection), ..Pod::default() });
        pod
    }
}

async fn known(definitions: &Definitions, name: &str) -> Outcome {
    Arc::unwrap_or_clone(definitions.know(&net(name), false, later()).await.outcome.unwrap())
}

#[tokio::test]
async fn a_definition_is_read_once_however_many_ask_and_again_when_the_watch_tells() {
    let world = World::new().await;
    let definitions = world.agent();
    world.server.close();
    let reference = net("lan");
    let asking = join_all((0..50).map(|_| definitions.know(&reference, false, later())));
    let opening = async {
        while world.server.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.server.open();
    };
    let (facts, ()) = tokio::join!(asking, opening);
    assert!(facts.iter().all(|fact| fact.outcome.as_deref() == Some(&found("1"))));
    assert_eq!((world.server.asked(), world.has_file("lan")), (1, true));

    definitions.heard(Event::Applied(seen("lan", "1")));
    assert_eq!((known(&definitions, "lan").await, world.server.asked()), (found("1"), 1));
    world.set("2");
    definitions.heard(Event::Applied(seen("lan", "2")));
    assert!(!world.has_file("lan"), "what is out of date does not come back with another agent");
    assert_eq!((known(&definitions, "lan").await, world.server.asked()), (found("2"), 2));
    definitions.heard(Event::Deleted(seen("lan", "3")));
    assert!(!world.has_file("lan"));
}

#[tokio::test]
async fn what_is_known_to_be_out_of_date_is_not_served_and_what_a_former_agent_left_is() {
    let world = World::new().await;
    let definitions = world.agent();
    known(&definitions, "lan").await;
    world.set("away");
    assert_eq!(known(&definitions, "lan").await, found("1"), "the last version that is known");
    let next = world.agent();
    assert_eq!(known(&next, "lan").await, found("1"), "no list has come, and nobody can be asked");
    assert!(matches!(known(&next, "wan").await, Outcome::Unreachable { .. }));
    for agent in [&definitions, &next] {
        agent.heard(Event::Begin);
        agent.heard(Event::Listed(seen("lan", "2")));
        agent.heard(Event::End);
        assert!(
            matches!(known(agent, "lan").await, Outcome::Unreachable { reason } if reason.contains("etcd is away"))
        );
    }
    assert!(matches!(known(&world.agent(), "lan").await, Outcome::Unreachable { .. }), "nor by the next one");
}

#[tokio::test]
async fn that_an_optional_one_is_missing_is_asked_once_and_a_wanted_one_each_time() {
    let world = World::new().await;
    let definitions = world.agent();
    definitions.heard(Event::Begin);
    definitions.heard(Event::End);
    for asked in [1, 1, 2, 3] {
        let fact = definitions.know(&net("none"), asked == 1, later()).await;
        assert_eq!((fact.outcome.as_deref(), world.server.asked()), (Some(&Outcome::Missing), asked));
    }
    definitions.heard(Event::Applied(seen("none", "1")));
    definitions.know(&net("none"), true, later()).await;
    assert_eq!(world.server.asked(), 4, "it may be there now");
}

#[tokio::test]
async fn what_pods_of_this_node_name_is_read_before_it_is_asked_for_and_so_is_a_new_version() {
    let world = World::new().await;
    let definitions = world.agent();
    let pod = world.pod("web", "lan,large,none");
    definitions.expect(&pod);
    let until = async |asked: usize| {
        while world.server.asked() < asked || !world.has_file("lan") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = definitions.run() => {}
        () = until(3) => {}
    }
    assert_eq!((known(&definitions, "lan").await, world.server.asked()), (found("1"), 3));
    let too_large = Outcome::TooLarge { size: 70_000, limit: 65_536 };
    assert_eq!((known(&definitions, "large").await, world.has_file("large")), (too_large, false));
    world.set("2");
    definitions.heard(Event::Applied(seen("lan", "2")));
    tokio::select! {
        () = definitions.run() => {}
        () = until(world.server.asked() + 1) => {}
    }
    world.set("away");
    assert_eq!(known(&definitions, "lan").await, found("2"));
}

#[tokio::test]
async fn the_agents_own_question_is_answered_later_and_told_of() {
    let world = World::new().await;
    let definitions = world.agent();
    assert_eq!(definitions.config_of("n", "lan"), None);
    tokio::select! {
        () = definitions.run() => {}
        () = definitions.awaited() => {}
    }
    assert_eq!(definitions.config_of("n", "lan").as_deref(), Some("1"));
    definitions.heard(Event::Begin);
    definitions.heard(Event::Listed(seen("lan", "1")));
    definitions.heard(Event::End);
    definitions.awaited().await;
    let asked = world.server.asked();
    for _ in 0..3 {
        assert_eq!(definitions.config_of("n", "none"), None);
        let read = async {
            while world.server.asked() == asked || definitions.state().cache.look(&net("none")) != Known::Absent {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = definitions.run() => {}
            () = read => {}
        }
    }
    assert_eq!(world.server.asked(), asked + 1, "what is missing is asked for once");
    assert_eq!(definitions.config_of("n", "lan").as_deref(), Some("1"));
    definitions.heard(Event::Applied(seen("lan", "2")));
    definitions.awaited().await;
}
