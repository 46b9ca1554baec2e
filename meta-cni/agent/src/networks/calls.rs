//! The API server's part of a step: the objects are listed, changed, and read again where somebody was faster.

use attachments::api::{AddressBlock, AddressClaim, OverlayMember, VniClaim};
use delegates::ipam::blocks::Pool;
use delegates::networks::NetworkId;
use meta_cni_kube::Selector;

use super::api::{self, Answer, Us};
use super::call::{About, Call};
use super::known::{Cache, Known, Listing};
use super::objects::{Kind, Raw};
use super::work::Trouble;
use super::{Networks, State, member, tunnel};

/// Of a list that nobody was asked for: whatever the watch tells is newer.
const NO_VERSION: &str = "";

impl Networks {
    /// Reads all objects of a network.
    pub(super) async fn list(&self, id: &NetworkId, pool: Option<&Pool>) -> Result<(), Trouble> {
        let (labels, name) = (api::labels_of(id), api::claim_of(id));
        let all = Selector { labels: Some(&labels), fields: None };
        if tunnel::pair(id).is_some() {
            // One after the other: the claim tells of most that can be wrong.
            let claim = Selector { labels: None, fields: Some(&name) };
            self.list_kind(id, claim, |known| &mut known.claims).await?;
            self.list_kind(id, all, |known| &mut known.members).await?;
        } else {
            let mut state = self.state();
            state.known.claims.listed(Listing::of_network(id), NO_VERSION);
            state.known.members.listed(Listing::of_network(id), NO_VERSION);
        }
        self.list_kind(id, all, |known| &mut known.blocks).await?;
        self.list_addresses(id, pool).await?;
        if let Some(network) = self.state().networks.get_mut(id) {
            network.memory.is_stale = false;
            network.memory.taken.clear();
        }
        Ok(())
    }

    /// Reads the claims of addresses, and what others have of the network's address space. Where the API server does not have a kind yet,
    /// nothing is claimed.
    pub(super) async fn list_addresses(&self, id: &NetworkId, pool: Option<&Pool>) -> Result<(), Trouble> {
        let labels = api::labels_of(id);
        let all = Selector { labels: Some(&labels), fields: None };
        match self.list_kind(id, all, |known| &mut known.addresses).await {
            Err(Answer::Lacking(_)) => {
                self.state().known.addresses.listed(Listing::of_network(id), NO_VERSION);
            }
            done => done?,
        }
        self.list_space(id, pool).await?;
        if let Some(network) = self.state().networks.get_mut(id) {
            network.memory.is_checked = true;
        }
        Ok(())
    }

    /// Reads the objects of one kind.
    async fn list_kind<K: Kind>(
        &self,
        id: &NetworkId,
        selector: Selector<'_>,
        of: impl Fn(&mut Known) -> &mut Cache<K>,
    ) -> Result<(), Answer> {
        let mut list = Listing::of_network(id);
        let each = |raw| list.add(raw, of(&mut self.state().known));
        let version = api::listed(&self.0.client, K::path(), K::PLURAL, selector, each).await?;
        of(&mut self.state().known).listed(list, &version);
        Ok(())
    }

    /// Calls the API server, and takes its answer for what is so.
    pub(super) async fn call(&self, id: &NetworkId, call: Call) -> Result<(), Trouble> {
        let (uid, view, space) = {
            let mut state = self.state();
            let mut space = None;
            // Until there is an answer, and if this is given up meanwhile, nobody knows what the objects are.
            if let Some(network) = state.networks.get_mut(id) {
                network.memory.is_stale = true;
                space = network.notes.as_ref().and_then(|notes| notes.space.clone());
            }
            (state.uid.clone().unwrap_or_default(), state.known.view(id), space)
        };
        let us = Us { node: &self.0.settings.node, uid: &uid, space: space.as_deref() };
        let block = match &call {
            Call::ChangeBlock { name, .. } => view.blocks.iter().find(|block| block.meta.name == *name),
            _ => None,
        };
        let answer = api::call(&self.0.client, id, &us, &call, block.map(AsRef::as_ref)).await;
        let (kind, verb) = call.what();
        self.0.metrics.networks().wrote(kind, verb, answer.outcome());
        let known = |answer: &Answer| !matches!(answer, Answer::Unanswered(_));
        let is_known = known(&answer);
        let done = match answer {
            Answer::Done(raw) => {
                let mut state = self.state();
                match raw {
                    Some(raw) => drop(state.apply(&call.about(id), *raw)),
                    None => self.gone(&mut state, id, &call),
                }
                Ok(())
            }
            Answer::Absent => {
                let mut state = self.state();
                self.gone(&mut state, id, &call);
                Ok(())
            }
            Answer::Conflict => self.read_again(id, &call).await,
            Answer::Refused(why) | Answer::Lacking(why) => {
                // A reference to a Node that was made anew, for one.
                self.state().uid = None;
                Err(why.into())
            }
            Answer::Unanswered(_) => Err(answer.into()),
        };
        if is_known && let Some(network) = self.state().networks.get_mut(id) {
            network.memory.is_stale = false;
        }
        done
    }

    /// The object that a call is about is not there.
    fn gone(&self, state: &mut State, id: &NetworkId, call: &Call) {
        match call.about(id) {
            About::Claim => state.known.claims.absent(id, id.as_str()),
            About::Member => state.known.members.absent(id, &member::name(id, &self.0.settings.node)),
            About::Block(name) => state.known.blocks.absent(id, &name),
            About::Address(name) => state.known.addresses.absent(id, &name),
        }
    }

    /// Somebody was faster: what is there now is read.
    async fn read_again(&self, id: &NetworkId, call: &Call) -> Result<(), Trouble> {
        let (client, about) = (&self.0.client, call.about(id));
        let answer = match &about {
            About::Claim => api::get::<VniClaim>(client, id.as_str()).await,
            About::Member => api::get::<OverlayMember>(client, &member::name(id, &self.0.settings.node)).await,
            About::Block(name) => api::get::<AddressBlock>(client, name).await,
            About::Address(name) => api::get::<AddressClaim>(client, name).await,
        };
        let mut state = self.state();
        match answer {
            Answer::Done(Some(raw)) => {
                let of_another = state.apply(&about, *raw).is_some_and(|network| network != id.as_str());
                match &about {
                    About::Claim if of_another => {
                        return Err(format!("VniClaim {id} is of another pair than its name: remove it").into());
                    }
                    About::Address(name) if of_another => {
                        let why = format!("AddressClaim {name} is of another network than its name: remove it");
                        return Err(why.into());
                    }
                    _ => {}
                }
                if let (Call::CreateMember(_), Some(network)) = (call, state.networks.get_mut(id)) {
                    network.memory.member_is_there = true;
                }
                // One that cannot be read is in the way all the same.
                if let (Call::CreateBlock(spec), Some(network)) = (call, state.networks.get_mut(id)) {
                    network.memory.taken.insert(spec.first);
                }
                if let (Call::CreateAddressClaim(spec), Some(network)) = (call, state.networks.get_mut(id)) {
                    network.memory.in_the_way.insert(spec.slot);
                }
                Ok(())
            }
            Answer::Done(None) | Answer::Absent | Answer::Conflict => {
                self.gone(&mut state, id, call);
                Ok(())
            }
            answer => Err(answer.into()),
        }
    }
}

impl State {
    /// An object as the API server answered it. Returns its network, if it was news.
    fn apply(&mut self, about: &About, raw: Raw) -> Option<String> {
        match about {
            About::Claim => self.known.claims.apply(raw),
            About::Member => self.known.members.apply(raw),
            About::Block(_) => self.known.blocks.apply(raw),
            About::Address(_) => self.known.addresses.apply(raw),
        }
    }
}
