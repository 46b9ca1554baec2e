//! Reconciles the runtime's directory: reads it, plans, and writes our conflist. It never removes the conflist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachments::cni::object::Object;
use attachments::dialect::DIALECTS;
use attachments::finding::Finding;
use ipnet::IpNet;
use meta_cni::{conf_dir, node};

use super::default::{Definitions, configured};
use super::plan::{Asked, Choice, Seen, ahead, choose};
use super::pod_cidr;
use super::rewrite_backoff::{FIRST_PAUSE, RewriteBackoff};
use crate::durable_file::place;
use meta_cni::render::{Parts, capabilities, conflist, names_default};

/// The key that tells the plugin of the runtime's directory.
const RUNTIME_CONF_DIR: &str = "runtimeConfDir";
/// A directory that changed less than this ago may be incomplete.
const SETTLE: Duration = Duration::from_secs(3);

/// What to keep in place.
#[derive(Clone, Debug)]
pub struct Task {
    /// The runtime's directory.
    pub dir: PathBuf,
    /// Name of our file in it.
    pub file: String,
    /// File name or network name of the default network.
    pub primary: Option<String>,
    /// A JSON file with the administrator's keys.
    pub config: Option<PathBuf>,
    /// The agent's socket.
    pub socket: PathBuf,
    /// `stateDir`.
    pub state_dir: PathBuf,
}

/// Keeps our conflist in place.
#[derive(Debug)]
pub struct ConflistReconciler {
    task: Task,
    kept: Option<String>,
    chosen: bool,
    seen: Vec<Seen>,
    changed: Instant,
    written: Option<String>,
    rewrites: RewriteBackoff,
    logged: Vec<String>,
}

/// The outcome of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Why pods may not get what they ask for: empty when our file is the first one and right.
    pub blockers: Vec<String>,
    /// When to look again without an event.
    pub again: Option<Duration>,
    /// Another program took our file, which is back by now: what to say of it on the Node.
    pub taken: Option<String>,
}

impl ConflistReconciler {
    /// Starts with the default network that our file names: the choice survives the agent.
    pub fn new(task: Task, now: Instant) -> Self {
        let kept = fs::read(task.dir.join(&task.file)).ok().and_then(|bytes| former_choice(&bytes, &task.dir));
        let (seen, logged) = (Vec::new(), Vec::new());
        Self {
            task,
            kept,
            chosen: false,
            seen,
            changed: now,
            written: None,
            rewrites: RewriteBackoff::default(),
            logged,
        }
    }

    /// Looks at the directory once, and writes our file if it is not right. Logs what is new.
    pub fn look(&mut self, now: Instant, definitions: Definitions<'_>, pod_cidrs: &[IpNet]) -> Look {
        let seen = see(&self.task.dir);
        // Changes of our own file are no reason to wait.
        let others = |seen: &[Seen]| seen.iter().filter(|f| f.file != self.task.file).cloned().collect::<Vec<_>>();
        if others(&seen) != others(&self.seen) {
            self.changed = now;
        }
        self.seen = seen;
        let mut look = Look { blockers: Vec::new(), again: None, taken: None };
        let mut notes = Vec::new();
        match self.wanted(now, definitions, pod_cidrs, &mut notes) {
            Ok(text) => self.keep(&text, now, &mut look),
            Err(why) => look.blockers.push(why),
        }
        let left = SETTLE.saturating_sub(now.duration_since(self.changed));
        if !left.is_zero() {
            look.again = Some(look.again.map_or(left, |again| again.min(left)));
        }
        for file in ahead(&self.seen, &self.task.file) {
            look.blockers.push(format!(
                "the first place for {}: the runtime uses {file}, and pods get no further networks; remove that, or give ours \
                 an earlier name (--conf-file)",
                self.task.file
            ));
        }
        self.log_changes(notes, &look.blockers);
        look
    }

    /// The text of our file, or the blocker.
    fn wanted(
        &mut self,
        now: Instant,
        definitions: Definitions<'_>,
        pod_cidrs: &[IpNet],
        notes: &mut Vec<String>,
    ) -> Result<String, String> {
        let mut config = self.config().map_err(|finding| format!("a valid configuration: {finding}"))?;
        if self.task.primary.as_deref() == Some(pod_cidr::NAME) && !names_default(&config) {
            config.set("delegates", &[pod_cidr::network(pod_cidrs)?]);
        }
        let refused = |finding: Finding| format!("a valid configuration: {finding}");
        let (primary, mut capabilities) = if names_default(&config) {
            let declared = configured(&config, definitions).map_err(refused)?;
            if declared.is_none() {
                notes.push(
                    "the agent cannot read the default network that the configuration names: list what it declares under \
                     `capabilities`, or hostPort and bandwidth do not reach it"
                        .to_owned(),
                );
            }
            (None, declared.unwrap_or_default())
        } else {
            let settled = now.duration_since(self.changed) >= SETTLE;
            let asked = Asked {
                primary: self.task.primary.as_deref(),
                kept: self.kept.as_deref(),
                ours: &self.task.file,
                settled,
            };
            match choose(&self.seen, &asked) {
                Choice::Waits(what) => return Err(what),
                Choice::Chosen(file, why) => {
                    if !self.chosen || self.kept.as_ref() != Some(&file.file) {
                        notes.push(format!("the default network is {}: {why}", file.file));
                    }
                    let declared = file.conf.as_ref().map(capabilities).unwrap_or_default();
                    let name = file.file.clone();
                    let path = self.task.dir.join(&name);
                    (self.kept, self.chosen) = (Some(name), true);
                    (Some(path), declared)
                }
            }
        };
        if config.get(DIALECTS).is_some() {
            capabilities.extend(self.capabilities_of_all());
            if self.task.dir != Path::new(node::RUNTIME_CONF_DIR) && config.get(RUNTIME_CONF_DIR).is_none() {
                config.set(RUNTIME_CONF_DIR, &self.task.dir);
            }
        }
        let (socket, state_dir) = (&self.task.socket, &self.task.state_dir);
        conflist(&Parts { config: &config, primary, capabilities, socket, state_dir }).map_err(refused)
    }

    /// The capabilities of every network of the directory: a dialect's list may name each of them as the pod's default network, and the
    /// runtime hands over what our file declares.
    fn capabilities_of_all(&self) -> BTreeSet<String> {
        let others = self.seen.iter().filter(|file| file.file != self.task.file);
        others.filter_map(|file| file.conf.as_ref().ok()).flat_map(capabilities).collect()
    }

    fn config(&self) -> Result<Object, Finding> {
        let Some(path) = &self.task.config else { return Ok(Object::new()) };
        let shown = path.display().to_string();
        match fs::read(path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(Object::new()),
            Ok(bytes) => Object::parse(&bytes)
                .map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), "one JSON object"))
                .and_then(node::spelled)
                .map_err(|finding| finding.under(&shown)),
            Err(e) => Err(Finding::new(shown, format_args!("an unreadable file ({e})"), "a JSON file")),
        }
    }

    /// Writes the text if the file differs, and ever more rarely if another program keeps changing it.
    fn keep(&mut self, text: &str, now: Instant, look: &mut Look) {
        let path = self.task.dir.join(&self.task.file);
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            self.written = Some(text.to_owned());
            return;
        }
        let taken = self.written.as_deref() == Some(text);
        if taken {
            let pause = self.rewrites.pause(now);
            if !pause.is_zero() {
                let times = self.rewrites.count() + 1;
                look.blockers.push(format!("{} to be left alone: {} {times} times", self.task.file, self.taker()));
                look.again = Some(pause);
                return;
            }
            self.rewrites.add(now);
            let text = format!(
                "{}: {}; it is put back, each time a little later, and pods that start meanwhile have their default network \
                 alone",
                path.display(),
                self.taker()
            );
            tracing::warn!("{text}");
            look.taken = Some(text);
        }
        match place(&path, text.as_bytes(), 0o644) {
            Ok(_) => {
                tracing::info!(path = %path.display(), "written");
                self.written = Some(text.to_owned());
            }
            Err(fault) => {
                look.blockers.push(format!("the configuration to be written: {fault}"));
                look.again = Some(FIRST_PAUSE);
            }
        }
    }

    /// Who took our file, and what to set.
    fn taker(&self) -> &'static str {
        // What Cilium takes away it keeps beside, under this name.
        if self.task.dir.join(format!("{}.cilium_bak", self.task.file)).exists() {
            "Cilium renamed it (set cni.exclusive=false in its values)"
        } else {
            "another program removed, renamed or changed it (a network product that wants the directory for itself is to be told not to)"
        }
    }

    fn log_changes(&mut self, notes: Vec<String>, blockers: &[String]) {
        let mut logged = notes;
        for note in logged.iter().filter(|note| !self.logged.contains(note)) {
            tracing::info!("{note}");
        }
        for blocker in blockers.iter().filter(|blocker| !self.logged.contains(blocker)) {
            tracing::warn!("not ready, waiting for: {blocker}");
        }
        logged.extend(blockers.iter().cloned());
        self.logged = logged;
    }
}

/// The default network's file that our conflist names, if it is in the directory.
fn former_choice(bytes: &[u8], dir: &Path) -> Option<String> {
    let list = Object::parse(bytes).ok()?;
    let plugin = list.objects("plugins").ok()?.into_iter().next()?;
    let path = PathBuf::from(plugin.text("clusterNetwork").ok()??);
    (path.parent() == Some(dir)).then(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))?
}

fn see(dir: &Path) -> Vec<Seen> {
    let each = |path: PathBuf| Seen {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        conf: conf_dir::read(&path),
    };
    conf_dir::paths(dir).into_iter().filter(|path| !path.is_dir()).map(each).collect()
}

#[cfg(test)]
mod tests {
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
        assert!(
            text.contains(r#""bridge""#) && text.contains("10.8.1.0/24") && text.contains("fd00:8:1::/64"),
            "{text}"
        );
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
            look.blockers[0]
                .starts_with("the first place for 00-meta-cni.conflist: the runtime uses 00-calico.conflist"),
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
        fs::write(node.dir.path().join("node.txt"), r#"{"dialects": ["knitter"]}"#).unwrap();
        assert!(node.look(Duration::ZERO).blockers[0].contains("dialects[0]: got \"knitter\""));
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
}
