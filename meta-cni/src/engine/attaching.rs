//! Runs the chains of attachments in order: those of an ADD, those that a hot-plug adds to a set, or one that a repair makes anew.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Instant;

use attachments::bind::{Attachment, TranslatedFrom};
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::builtin::Attached;
use delegates::call::Node;
use delegates::host::Host;
use delegates::ipam::Leased;
use delegates::sandbox::Sandbox;

use super::chain::Chain;
use super::record::{Intent, RecordedAttachment, Saved};
use super::run::Run;
use super::store::RecordFile;
use super::valid_chain::ValidChain;
use super::{devinfo, saved_states};
use crate::fault::{Fault, Result};

/// How far it got.
#[derive(Debug, Default)]
pub struct Progress {
    /// The attachments that are in place. Route arbitration edits their results.
    pub attached: Vec<Attached>,
    /// How many plugins of the next chain may have done something.
    pub ran: usize,
    /// The attachments of whose programs any may have done something: those that run at the same time.
    pub at_once: BTreeSet<usize>,
    /// What the pod asked for and results do not show, one sentence each.
    pub unmet: Vec<String>,
}

/// What is attached, and with what.
pub struct Attaching<'a> {
    /// The call.
    pub run: &'a Run<'a>,
    /// The whole set.
    pub intent: &'a Intent,
    /// Index of the first attachment that is attached; those before it are in place.
    pub first: usize,
    /// The result of the default network, where that is in place.
    pub default: Option<&'a CniResult>,
    /// The chains of the attachments from the first on.
    pub chains: &'a [ValidChain<'a>],
    /// The node.
    pub node: &'a Node<'a>,
    /// The addresses that a repair keeps.
    pub kept: Option<Leased>,
}

impl Attaching<'_> {
    /// Attaches one after the other, and stops at the first failure. What may run at the same time has run before.
    pub fn attach(&self, record: &mut RecordFile, sandbox: &mut Sandbox, progress: &mut Progress) -> Result<()> {
        let Self { run, intent, first, default, chains, node, kept } = self;
        let mut early = self.attach_at_once(progress)?;
        let current = Cell::new(0);
        let staying = record.record.saved.iter().map(|one| one.state.clone()).collect();
        let mut journal = |state: &Object| record.save(Saved { attachment: current.get(), state: state.clone() });
        let others = saved_states::Others { run, own: &intent.key };
        let mut host = Host::with_journal((*node).clone(), &mut journal).beside(&others).sparing(staying);
        if let Some(kept) = kept {
            host = host.keeping(kept.clone());
        }
        if let Some(default) = default {
            host.note_default(default);
        }
        for ((i, attachment), chain) in intent.attachments.iter().enumerate().skip(*first).zip(*chains) {
            current.set(i);
            progress.ran = 0;
            let attached = match early.remove(&i) {
                Some(attached) => attached,
                None => {
                    devinfo::prepare(attachment)?;
                    let began = Instant::now();
                    let attached = chain.add(&mut host, sandbox, &mut progress.ran);
                    run.notes.ran(attachment, began, &attached);
                    attached?
                }
            };
            chain.chain().route(sandbox, &attached.result)?;
            if attachment.is_default && !attachment.is_tenants {
                host.note_default(&attached.result);
            }
            for unheard in attachment.unmet(&attached.result) {
                if run.conf.strict {
                    return Err(Fault::Unsupported(unheard));
                }
                progress.unmet.push(unheard);
            }
            progress.attached.push(attached);
        }
        Ok(())
    }

    /// The chains of programs in a list whose dialect has them run at the same time. All of them end before any failure is told, and
    /// every failure is.
    fn attach_at_once(&self, progress: &mut Progress) -> Result<BTreeMap<usize, Attached>> {
        let Self { run, intent, first, chains, node, .. } = self;
        let attachments = intent.attachments.iter().enumerate().skip(*first).zip(*chains);
        let is_at_once =
            |attachment: &Attachment| attachment.translated.as_ref().is_some_and(TranslatedFrom::is_at_once);
        let at_once: Vec<(usize, &Attachment, Chain<'_>)> = attachments
            .filter(|((_, attachment), chain)| is_at_once(attachment) && chain.is_of_programs())
            .map(|((i, attachment), chain)| (i, attachment, *chain.chain()))
            .collect();
        if at_once.len() < 2 {
            return Ok(BTreeMap::new());
        }
        for (i, attachment, _) in &at_once {
            devinfo::prepare(attachment)?;
            progress.at_once.insert(*i);
        }
        let began = Instant::now();
        let ended: Vec<Result<Attached>> = thread::scope(|scope| {
            let started: Vec<_> =
                at_once.iter().map(|(_, _, chain)| scope.spawn(|| chain.add_programs(node))).collect();
            let died = || Fault::Bug("a thread ended without an answer".to_owned());
            started.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(died()))).collect()
        });
        let (mut early, mut faults) = (BTreeMap::new(), Vec::new());
        for ((i, attachment, _), attached) in at_once.into_iter().zip(ended) {
            run.notes.ran(attachment, began, &attached);
            match attached {
                Ok(attached) => drop(early.insert(i, attached)),
                Err(fault) => faults.push(fault),
            }
        }
        Fault::several(faults).map(|()| early)
    }
}

/// What the record keeps of an attachment that is in place. `displaced` is its result before others took its default routes.
pub fn recorded(one: &Attached, displaced: Option<&CniResult>) -> Result<RecordedAttachment> {
    let displaced = displaced.filter(|before| **before != one.result);
    Ok(RecordedAttachment {
        result: one.result.encode(Version::NEWEST)?,
        links: one.links.clone(),
        displaced: displaced.map(|before| before.encode(Version::NEWEST)).transpose()?,
    })
}
