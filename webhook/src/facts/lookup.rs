//! What is missing is waited for, and then asked for once, before anything is refused because of it: one file with a definition and its pod
//! must apply, and a watch is a moment behind.

use std::pin::pin;
use std::time::Duration;

use attachments::dialect::objects::ForeignRef;
use attachments::names::NetRef;
use attachments::policy::Level;
use meta_cni_kube::Read;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Facts;
use super::cache::Cache;
use super::known::{Known, Lent};
use super::object::{Meta, Object};
use crate::review::Missing;

/// How long watches are waited for.
const WAIT: Duration = Duration::from_millis(500);
/// How long the API server is waited for. With [`WAIT`] twice of it is less than the shortest time of a request.
const ANSWER: Duration = Duration::from_millis(700);
/// Reviews that wait at once. One more asks without having waited.
pub(super) const WAITING: usize = 64;
/// The most objects that one look asks for. Because of what is beyond nothing is refused.
const MOST: usize = 64;

/// What a look brought.
#[derive(Debug, Default)]
pub struct Looked {
    /// Objects that the API server has. A namespace that it does not have is one without labels.
    pub found: Vec<(Cache, Object)>,
    /// What it did not say.
    pub unanswered: Missing,
    /// Why.
    pub why: Option<String>,
}

/// One object that is missing.
#[derive(Clone, Debug)]
enum One {
    Definition(NetRef),
    Text(NetRef),
    Namespace(String),
    Level(Level),
    /// In this group and version.
    Foreign(ForeignRef, &'static str),
}

impl Facts {
    /// Waits until watches have brought what is missing, or for too long.
    pub async fn wait_for(&self, missing: &Missing) {
        let Ok(_place) = self.waiting.try_acquire() else { return };
        let deadline = Instant::now() + WAIT;
        loop {
            let mut heard = pin!(self.heard.notified());
            // What comes between the look and the wait is heard, too.
            heard.as_mut().enable();
            if missing.may_come(&self.known()).is_empty() || timeout_at(deadline, heard).await.is_err() {
                return;
            }
        }
    }

    /// Asks the API server for what is not known by now, all at once.
    pub async fn look_for(&self, missing: &Missing) -> Looked {
        let mut looked = Looked::default();
        let mut asked = JoinSet::new();
        let deadline = Instant::now() + ANSWER;
        let ones = missing.not_in(&self.known());
        for one in ones {
            let Some(reader) = self.reader.clone().filter(|_| asked.len() < MOST) else {
                looked.take(one, Read::Unanswered("there are too many to ask for".to_owned()));
                continue;
            };
            asked.spawn(async move {
                let (collection, name) = one.place();
                let read = reader.object(&collection, &name, deadline).await;
                (one, read)
            });
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok((one, read)) = answered {
                looked.take(one, read);
            }
        }
        if let Some(why) = &looked.why {
            tracing::warn!(
                "the API server could not be asked for what the caches lack, and nothing is refused for it: {why}"
            );
        }
        looked
    }

    /// Asks what is known together with what was found.
    pub fn with<T>(&self, found: &[(Cache, Object)], ask: impl FnOnce(&Known) -> T) -> T {
        if found.is_empty() {
            return ask(&self.known());
        }
        let mut known = self.known_mut();
        let lent = found.iter().filter_map(|(cache, object)| known.lend(*cache, object.clone())).collect();
        let loan = Loan { known: &mut known, lent };
        ask(loan.known)
    }
}

/// What was lent is taken back whatever happens meanwhile.
struct Loan<'a> {
    known: &'a mut Known,
    lent: Vec<Lent>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.known.take_back(std::mem::take(&mut self.lent));
    }
}

impl Missing {
    /// What watches may still bring: a text that is not kept is none of it.
    fn may_come(&self, known: &Known) -> Vec<One> {
        let mut ones = self.not_in(known);
        ones.retain(|one| !matches!(one, One::Text(_)));
        ones
    }

    fn not_in(&self, known: &Known) -> Vec<One> {
        let Self { definitions, texts, namespaces, levels, foreign } = self;
        let namespaces = namespaces.iter().filter(|name| known.view.namespace(name).is_none()).cloned();
        let levels = levels.iter().filter(|level| !known.policies.knows_level(**level)).copied();
        let texts = texts.iter().filter(|reference| known.texts.get(reference).is_none()).cloned();
        let definitions = definitions.iter().filter(|reference| known.view.definition(reference).is_none()).cloned();
        let foreign = foreign.iter().filter(|reference| !known.view.foreign().has(reference));
        let foreign =
            foreign.flat_map(|one| one.kind.api_versions().iter().map(|version| One::Foreign(one.clone(), version)));
        let first = namespaces.map(One::Namespace).chain(levels.map(One::Level)).chain(foreign);
        first.chain(definitions.map(One::Definition)).chain(texts.map(One::Text)).collect()
    }

    fn insert(&mut self, one: One) {
        match one {
            One::Definition(reference) => _ = self.definitions.insert(reference),
            One::Text(reference) => _ = self.texts.insert(reference),
            One::Namespace(name) => _ = self.namespaces.insert(name),
            One::Level(level) => _ = self.levels.insert(level),
            One::Foreign(reference, _) => _ = self.foreign.insert(reference),
        }
    }
}

impl One {
    /// Its collection, and its name there.
    fn place(&self) -> (String, String) {
        match self {
            Self::Definition(NetRef { namespace, name }) | Self::Text(NetRef { namespace, name }) => {
                (Cache::Definitions.path_in(namespace.as_str()), name.to_string())
            }
            Self::Namespace(name) => (Cache::Namespaces.path(), name.clone()),
            Self::Level(level) => (Cache::Levels.path(), level.to_string()),
            Self::Foreign(one, version) => {
                (Cache::Foreign(one.kind, version).path_in(one.namespace()), one.name.to_string())
            }
        }
    }

    fn cache(&self) -> Cache {
        match self {
            Self::Definition(_) | Self::Text(_) => Cache::Definitions,
            Self::Namespace(_) => Cache::Namespaces,
            Self::Level(_) => Cache::Levels,
            Self::Foreign(reference, version) => Cache::Foreign(reference.kind, version),
        }
    }
}

impl Looked {
    fn take(&mut self, one: One, read: Read) {
        let read = match read {
            Read::Found(json) => serde_json::from_slice::<Object>(&json).map(Some).map_err(|e| e.to_string()),
            Read::Absent => Ok(None),
            Read::Unanswered(why) => Err(why),
        };
        match (read, one) {
            (Ok(Some(object)), one) => self.found.push((one.cache(), object)),
            (Ok(None), One::Namespace(name)) => {
                let metadata = Meta { name, ..Meta::default() };
                self.found.push((Cache::Namespaces, Object { metadata, ..Object::default() }));
            }
            (Ok(None), _) => {}
            (Err(why), one) => {
                self.unanswered.insert(one);
                self.why.get_or_insert(why);
            }
        }
    }
}
