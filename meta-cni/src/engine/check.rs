//! CHECK over every stored attachment (A12): each is compared with the result of its ADD.

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::host::Host;
use delegates::sandbox::Sandbox;

use super::chain::Chain;
use super::lock::SandboxLock;
use super::record::{Record, Saved};
use super::run::Run;
use crate::fault::{Fault, Result};
use crate::request::Target;

/// Fails with the first difference between the result of the ADD and the kernel.
pub fn check(run: &Run<'_>, target: &Target) -> Result<()> {
    if run.conf.disable_check {
        return Ok(());
    }
    let lock = SandboxLock::acquire(&run.store.locks(), &target.container, run.deadline)?;
    let found = run.store.find(&run.key(target))?;
    let record = found.filter(|found| found.is_settled()).map(|found| found.record);
    if record.as_ref().is_some_and(|record| record.damaged) {
        return Err(Fault::Io(format!("the record of sandbox {} is damaged; want a DEL", target.container)));
    }
    // What a hot-plug has not finished is neither there nor gone.
    let in_place = record.as_ref().map(Record::in_place).unwrap_or_default();
    let told = record.and_then(|record| Some((record.intent?, record.done?, record.saved)));
    let Some((intent, done, saved)) = told else {
        return Err(Fault::Unknown(format!(
            "CNI_CONTAINERID: got {} with CNI_IFNAME {}, which is not attached; want an ADD first",
            target.container, target.ifname
        )));
    };
    let node = intent.node(&run.undo_context(run.deadline, &lock));
    let mut sandbox = Sandbox::open(&target.netns, &node).map_err(|e| Fault::Netns(e.to_string()))?;
    let mut host = Host::new(node);
    for (i, (attachment, entry)) in intent.attachments.iter().zip(&done.attached).enumerate() {
        if !in_place.contains(&i) {
            continue;
        }
        // One old or disabled attachment must not hide the state of the others.
        if attachment.disable_check || !attachment.version.has_check() {
            continue;
        }
        let result = CniResult::from_object(entry.result.clone(), Version::NEWEST)?;
        let states = Saved::of(&saved, i);
        let chain = Chain::new(&intent, attachment, &target.netns).with_saved(Some(&states));
        chain.check(&mut host, &mut sandbox, &result)?;
    }
    Ok(())
}
