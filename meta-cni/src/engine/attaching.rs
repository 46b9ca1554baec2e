//! Runs the chains of attachments in order: those of an ADD, those that a hot-plug adds to a set, or one that a repair makes anew.

use std::cell::Cell;
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::builtin::Attached;
use delegates::call::Node;
use delegates::host::Host;
use delegates::ipam::Leased;
use delegates::sandbox::Sandbox;

use super::chain::ValidChain;
use super::record::{Intent, RecordedAttachment, Saved};
use super::run::Run;
use super::store::RecordFile;
use super::{devinfo, saved_states};
use crate::fault::{Fault, Result};

/// How far it got.
#[derive(Debug, Default)]
pub struct Progress {
    /// The attachments that are in place. Route arbitration edits their results.
    pub attached: Vec<Attached>,
    /// How many plugins of the next chain may have done something.
    pub ran: usize,
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
    /// Attaches one after the other, and stops at the first failure.
    pub fn attach(&self, record: &mut RecordFile, sandbox: &mut Sandbox, progress: &mut Progress) -> Result<()> {
        let Self { run, intent, first, default, chains, node, kept } = self;
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
            devinfo::prepare(attachment)?;
            let began = Instant::now();
            let attached = chain.add(&mut host, sandbox, &mut progress.ran);
            run.notes.ran(attachment, began, &attached);
            let attached = attached?;
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
