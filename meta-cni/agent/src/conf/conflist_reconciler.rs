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
mod tests;
