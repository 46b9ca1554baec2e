use super::super::rewrite_backoff::QUIET;
use super::*;

const OURS: &str = "00-meta-cni.conflist";
const FLANNEL: &str = r#"{"cniVersion":"0.3.1","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const CALICO: &str =
    r#"{"cniVersion":"0.3.1","name":"pods","plugins":[{"type":"calico","capabilities":{"bandwidth":true}}]}"#;

struct Node {
    dir: tempfile::TempDir,
    reconciler: ConflistReconciler,
    now: Instant,
}

impl Node {
    fn new() -> Self {
        let (dir, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let reconciler = ConflistReconciler::new(task(dir.path()), now);
        Self { dir, reconciler, now }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    fn ours(&self) -> String {
        fs::read_to_string(self.dir.path().join(OURS)).unwrap_or_default()
    }

    fn look(&mut self, after: Duration) -> Look {
        self.look_with(after, &[])
    }

    fn look_with(&mut self, after: Duration, pod_cidrs: &[&str]) -> Look {
        let pod_cidrs: Vec<IpNet> = pod_cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        self.now += after;
        self.reconciler.look(self.now, &|_, _| None, &pod_cidrs)
    }

    /// Until nothing is to be waited for.
    fn settle(&mut self) -> Look {
        self.look(Duration::ZERO);
        self.look(SETTLE)
    }
}

fn task(dir: &Path) -> Task {
    Task {
        dir: dir.to_owned(),
        file: OURS.to_owned(),
        primary: None,
        config: None,
        socket: "/run/meta-cni/agent.sock".into(),
        state_dir: "/var/lib/meta-cni".into(),
    }
}

#[test]
fn a_default_network_that_comes_late_is_waited_for() {
    let mut node = Node::new();
    let look = node.settle();
    assert_eq!((look.blockers, look.again), (vec!["the default network's configuration".to_owned()], None));
    node.write("10-flannel.conflist", FLANNEL);
    let look = node.look(Duration::ZERO);
    assert!(look.blockers[0].contains("to settle before 10-flannel"), "{look:?}");
    assert_eq!(look.again, Some(SETTLE));
    assert_eq!(node.ours(), "");
    assert!(node.look(SETTLE).blockers.is_empty());
    assert!(node.ours().contains("/10-flannel.conflist\"") && node.ours().contains("\"portMappings\":true"));
}

#[test]
fn a_choice_outlives_the_agent_and_an_earlier_candidate() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.settle();
    node.write("05-calico.conflist", CALICO);
    node.reconciler = ConflistReconciler::new(task(node.dir.path()), node.now);
    assert!(node.look(Duration::ZERO).blockers.is_empty());
    assert!(node.ours().contains("10-flannel.conflist"));
    node.remove("10-flannel.conflist");
    assert!(node.look(Duration::ZERO).blockers[0].contains("to settle before 05-calico.conflist"));
    assert!(node.ours().contains("10-flannel.conflist"), "kept while nothing better is known");
    node.look(SETTLE);
    assert!(node.ours().contains("05-calico.conflist") && node.ours().contains("bandwidth"));
}

#[test]
fn a_default_network_that_cannot_be_read_keeps_the_last_good_list() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.settle();
    let good = node.ours();
    node.write("10-flannel.conflist", "{");
    let look = node.look(Duration::ZERO);
    assert!(look.blockers[0].starts_with("a usable default network, it was chosen before: 10-flannel"), "{look:?}");
    assert_eq!(node.ours(), good);
    node.write("10-flannel.conflist", &FLANNEL.replace("portMappings", "bandwidth"));
    assert!(node.look(Duration::ZERO).blockers.is_empty(), "a new content of the same file needs no waiting");
    assert!(node.ours().contains("bandwidth"));
}

#[test]
fn what_another_program_takes_is_put_back_at_once_and_then_ever_later() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.settle();
    let good = node.ours();
    node.remove(OURS);
    let look = node.look(Duration::ZERO);
    assert!(look.blockers.is_empty());
    let told = look.taken.unwrap();
    assert!(told.contains("00-meta-cni.conflist: another program removed") && !told.contains("Cilium"), "{told}");
    assert_eq!(node.ours(), good);
    assert_eq!(node.look(Duration::ZERO).taken, None);
    node.write(OURS, "{}");
    let look = node.look(Duration::ZERO);
    assert_eq!((look.blockers.len(), look.again, look.taken), (1, Some(FIRST_PAUSE), None));
    assert_eq!(node.ours(), "{}");
    assert!(node.look(FIRST_PAUSE).blockers.is_empty());
    assert_eq!(node.ours(), good);
    node.remove(OURS);
    assert_eq!(node.look(Duration::ZERO).again, Some(FIRST_PAUSE * 2));
    node.look(QUIET);
    node.remove(OURS);
    node.look(QUIET);
    assert_eq!(node.ours(), good);
}

#[test]
fn cilium_is_named_with_what_to_set() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.settle();
    let renames = |node: &Node| {
        fs::rename(node.dir.path().join(OURS), node.dir.path().join(format!("{OURS}.cilium_bak"))).unwrap();
    };
    renames(&node);
    let told = node.look(Duration::ZERO).taken.unwrap();
    assert!(told.contains("Cilium renamed it (set cni.exclusive=false in its values)"), "{told}");
    renames(&node);
    let blockers = node.look(Duration::ZERO).blockers;
    assert!(blockers[0].contains("to be left alone: Cilium renamed it (set cni.exclusive=false"), "{blockers:?}");
}

#[test]
fn bytes_that_are_right_are_not_written_again() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.settle();
    let written = |node: &Node| fs::metadata(node.dir.path().join(OURS)).unwrap().modified().unwrap();
    let before = written(&node);
    node.reconciler = ConflistReconciler::new(task(node.dir.path()), node.now);
    node.settle();
    assert_eq!(written(&node), before);
}

#[test]
fn the_nodes_own_ranges_are_the_default_network_where_that_is_asked_for() {
    let mut node = Node::new();
    node.reconciler.task.primary = Some("podcidr".to_owned());
    node.write("10-flannel.conflist", FLANNEL);
    let look = node.settle();
    assert!(look.blockers[0].starts_with("the Node's podCIDRs"), "{look:?}");
    assert_eq!(node.ours(), "");
    assert!(node.look_with(Duration::ZERO, &["10.8.1.0/24", "fd00:8:1::/64"]).blockers.is_empty());
    let ours = Object::parse(node.ours().as_bytes()).unwrap();
    let plugin = &ours.objects("plugins").unwrap()[0];
    assert_eq!(plugin.get("clusterNetwork").map(|value| value.get()), None);
    let text = plugin.get("delegates").unwrap().get();
    assert!(text.contains(r#""bridge""#) && text.contains("10.8.1.0/24") && text.contains("fd00:8:1::/64"), "{text}");
    assert!(node.ours().contains("portMappings") && node.ours().contains("bandwidth"));
    // The Node is away for a moment: what is there stays.
    let good = node.ours();
    assert!(!node.look(Duration::ZERO).blockers.is_empty());
    assert_eq!(node.ours(), good);
}

#[test]
fn a_file_ahead_of_ours_is_told_loudly() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    node.write("00-calico.conflist", CALICO);
    let look = node.settle();
    assert!(
        look.blockers[0].starts_with("the first place for 00-meta-cni.conflist: the runtime uses 00-calico.conflist"),
        "{look:?}"
    );
}

#[test]
fn keys_of_the_administrator_are_read_anew_and_a_wrong_one_changes_nothing() {
    let mut node = Node::new();
    let config = node.dir.path().join("node.txt");
    node.reconciler.task.config = Some(config.clone());
    node.write("10-flannel.conflist", FLANNEL);
    assert!(node.settle().blockers[0].contains("node.txt: got an unreadable file"));
    fs::write(&config, r#"{"timeoutSeconds": 30}"#).unwrap();
    assert!(node.look(Duration::ZERO).blockers.is_empty());
    let good = node.ours();
    for wrong in [r#"{"timeoutSeconds": 0}"#, "{"] {
        fs::write(&config, wrong).unwrap();
        assert!(node.look(Duration::ZERO).blockers[0].contains("a valid configuration: "));
        assert_eq!(node.ours(), good);
    }
    fs::write(&config, r#"{"clusterNetwork": "somewhere"}"#).unwrap();
    assert!(node.look(Duration::ZERO).blockers.is_empty());
    assert!(node.ours().contains(r#""clusterNetwork": "somewhere""#));
}

#[test]
fn with_a_dialect_the_runtime_hands_over_what_any_network_takes() {
    let mut node = Node::new();
    node.reconciler.task.config = Some(node.dir.path().join("node.txt"));
    node.write("10-flannel.conflist", FLANNEL);
    node.write("20-calico.conflist", CALICO);
    fs::write(node.dir.path().join("node.txt"), "{}").unwrap();
    node.settle();
    assert!(!node.ours().contains("bandwidth") && !node.ours().contains("runtimeConfDir"));
    fs::write(node.dir.path().join("node.txt"), r#"{"dialects": ["genie"]}"#).unwrap();
    assert!(node.look(Duration::ZERO).blockers.is_empty());
    let dir = format!(r#""runtimeConfDir": {:?}"#, node.dir.path());
    assert!(node.ours().contains("bandwidth") && node.ours().contains(&dir), "{}", node.ours());
    fs::write(node.dir.path().join("node.txt"), r#"{"dialects": ["multus"]}"#).unwrap();
    assert!(node.look(Duration::ZERO).blockers[0].contains("dialects[0]: got \"multus\""));
}

#[test]
fn a_directory_that_is_missing_is_said_with_its_name() {
    let mut node = Node::new();
    node.reconciler.task.dir = node.dir.path().join("none");
    node.reconciler.task.config = Some(node.dir.path().join("node.txt"));
    fs::write(node.dir.path().join("node.txt"), format!(r#"{{"delegates":[{FLANNEL}]}}"#)).unwrap();
    let look = node.look(Duration::ZERO);
    assert!(look.blockers[0].contains("none/00-meta-cni.conflist"), "{look:?}");
    assert!(look.again.is_some());
}
