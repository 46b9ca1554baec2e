//! `network.json` of each network that this node is in: the agent is its one writer, and tells of each change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachments::cni::object::Object;
use delegates::networks::state::{FILE, NetworkState};
use delegates::networks::{DIR, NetworkId};
use meta_cni::node;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// What a file with keys of the node's configuration says, if it is that whereabouts' configuration is read as one of blocks. A file
/// that cannot be read makes no conflist either.
pub fn whereabouts(config: &Path) -> Option<Whereabouts> {
    let conf = node::spelled(Object::parse(&fs::read(config).ok()?).ok()?).ok()?;
    if !node::reads_whereabouts(&conf).ok()? {
        return None;
    }
    let roots: Option<Vec<PathBuf>> = conf.decode("pathRoots", "a list of paths").ok()?;
    Some(Whereabouts {
        path_roots: roots.unwrap_or_else(|| node::PATH_ROOTS.map(PathBuf::from).into()),
        takes_over: conf.text("whereabouts").ok()?.as_deref() == Some(node::TAKE_OVER),
    })
}

/// How the node reads whereabouts' configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// `pathRoots`.
    pub path_roots: Vec<PathBuf>,
    /// What whereabouts gave before stays with those who have it.
    pub takes_over: bool,
}

/// The networks whose file is there, each with a number that grows with every change of the file. A network that is not among them is
/// one that the node is not in.
pub type Versions = BTreeMap<NetworkId, u64>;

/// The files of this node.
#[derive(Debug)]
pub struct Files {
    state_dir: PathBuf,
    states: BTreeMap<NetworkId, Arc<NetworkState>>,
    next: u64,
    versions: watch::Sender<Versions>,
}

impl Files {
    /// Reads the files that an earlier agent left. One that cannot be read is logged and left alone: it is written anew when the
    /// network is needed.
    pub fn open(state_dir: &Path) -> Self {
        let mut states = BTreeMap::new();
        for id in networks(state_dir) {
            match NetworkState::read(state_dir, &id) {
                Ok(Some(state)) => {
                    states.insert(id, Arc::new(state));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("network {id}: {error}"),
            }
        }
        let versions = states.keys().map(|id| (id.clone(), 0)).collect();
        Self { state_dir: state_dir.to_owned(), states, next: 1, versions: watch::Sender::new(versions) }
    }

    /// What changes.
    pub fn changes(&self) -> watch::Receiver<Versions> {
        self.versions.subscribe()
    }

    /// What the file says; `None` when there is none.
    pub fn get(&self, id: &NetworkId) -> Option<Arc<NetworkState>> {
        self.states.get(id).cloned()
    }

    /// Replaces the file, unless it says the same. True when it was written.
    pub fn write(&mut self, id: &NetworkId, state: NetworkState) -> Result<bool> {
        if self.states.get(id).is_some_and(|is| **is == state) {
            return Ok(false);
        }
        state.write(&self.state_dir, id).map_err(|error| Error::Io(error.to_string()))?;
        self.states.insert(id.clone(), Arc::new(state));
        let version = self.next;
        self.next += 1;
        self.versions.send_modify(|versions| {
            versions.insert(id.clone(), version);
        });
        Ok(true)
    }

    /// Removes the file.
    pub fn remove(&mut self, id: &NetworkId) -> Result<()> {
        NetworkState::remove(&self.state_dir, id).map_err(|error| Error::Io(error.to_string()))?;
        if self.states.remove(id).is_some() {
            self.versions.send_modify(|versions| {
                versions.remove(id);
            });
        }
        Ok(())
    }
}

/// The networks that have a directory.
pub fn networks(state_dir: &Path) -> Vec<NetworkId> {
    let entries = fs::read_dir(state_dir.join(DIR)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_name = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
    };
    names.filter(is_name).filter_map(|name| serde_json::from_value(name.into()).ok()).collect()
}

/// Where the file of a network is.
pub fn path(state_dir: &Path, id: &NetworkId) -> PathBuf {
    id.dir(state_dir).join(FILE)
}

#[cfg(test)]
mod tests {
    use attachments::names::NetRef;
    use delegates::ipam::blocks::whereabouts;
    use delegates::networks::needs_of;
    use delegates::networks::state::FORMAT;

    use super::*;

    fn state(node: &str) -> NetworkState {
        NetworkState { format: FORMAT, node: node.to_owned(), overlay: None, pool: None }
    }

    #[test]
    fn the_nodes_configuration_says_whether_whereabouts_is_read_as_blocks_and_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.json");
        assert_eq!(whereabouts(&config), None);
        let blocks = |path_roots: Vec<PathBuf>| Some(Whereabouts { path_roots, takes_over: false });
        let default = blocks(node::PATH_ROOTS.map(PathBuf::from).to_vec());
        let takes_over = default.clone().map(|blocks| Whereabouts { takes_over: true, ..blocks });
        for (text, want) in [
            ("", None),
            ("{}", None),
            (r#"{"whereabouts":"external"}"#, None),
            (r#"{"whereabouts":"never"}"#, None),
            (r#"{"Whereabouts":"blocks"}"#, default),
            (r#"{"whereabouts":"take-over"}"#, takes_over),
            (r#"{"whereabouts":"blocks","pathRoots":["/x"]}"#, blocks(vec!["/x".into()])),
            (r#"{"whereabouts":"blocks","pathRoots":7}"#, None),
        ] {
            fs::write(&config, text).unwrap();
            assert_eq!(whereabouts(&config), want, "{text}");
        }
        // Then the agent knows the network by the name that the plugin gives it, whatever the definition is called.
        let lan = r#"{"plugins":[{"type":"macvlan","ipam":{"TYPE":"whereabouts","Range":"10.9.0.0/24"}}]}"#;
        let reference = |name: &str| NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
        let files = whereabouts::Files { root: dir.path(), path_roots: &[] };
        for name in ["lan", "other"] {
            let needs = needs_of(lan, &reference(name), Some(&files));
            assert_eq!(needs.iter().map(|need| need.id.as_str()).collect::<Vec<_>>(), ["whereabouts-10-9-0-0-24"]);
            assert!(needs[0].pool.is_some() && needs_of(lan, &reference(name), None).is_empty());
        }
    }

    #[test]
    fn each_change_is_told_once_and_what_was_there_is_known_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let id = NetworkId::overlay(4789, 7);
        let mut files = Files::open(dir.path());
        let mut changes = files.changes();
        assert!(files.write(&id, state("n1")).unwrap());
        let first = changes.borrow_and_update()[&id];
        assert!(!files.write(&id, state("n1")).unwrap());
        assert!(!changes.has_changed().unwrap());
        assert!(files.write(&id, state("n2")).unwrap());
        assert!(changes.borrow_and_update()[&id] > first);

        fs::create_dir_all(dir.path().join(DIR).join(".hidden")).unwrap();
        fs::create_dir_all(dir.path().join(DIR).join("4789-8")).unwrap();
        fs::write(path(dir.path(), &NetworkId::overlay(4789, 8)), "nonsense").unwrap();
        let mut files = Files::open(dir.path());
        assert_eq!(files.get(&id).unwrap().node, "n2");
        let changes = files.changes();
        assert_eq!(changes.borrow().keys().collect::<Vec<_>>(), [&id]);
        files.remove(&id).unwrap();
        assert!(changes.borrow().is_empty() && files.get(&id).is_none() && !path(dir.path(), &id).exists());
    }
}
