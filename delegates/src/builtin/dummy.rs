//! `dummy`: a link of the pod that leads nowhere and holds addresses.

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::Finding;

use super::conf_reader::ConfReader;
use super::{Attached, compare, hardware, stacked};
use crate::apply::{Host, Sandbox};
use crate::call::{Call, Point};
use crate::error::Result as Outcome;
use crate::nl::link::{NewKind, NewLink};

/// Nothing but addresses can be configured.
pub(super) fn validate(conf: &Object) -> Result<(), Vec<Finding>> {
    let mut reader = ConfReader::of(conf);
    reader.addresses();
    reader.finish(())
}

/// ADD.
pub(super) fn attach(
    host: &mut Host<'_>,
    sandbox: &mut Sandbox,
    point: &Point<'_>,
    leased: Option<CniResult>,
) -> Outcome<Attached> {
    let link =
        NewLink { mac: Some(hardware::random()?), group: point.group, ..NewLink::new(point.ifname, NewKind::Dummy) };
    stacked::attach(host, sandbox, point, true, &link, leased.unwrap_or_default())
}

/// CHECK.
pub(super) fn check(sandbox: &mut Sandbox, call: &Call<'_>, point: &Point<'_>) -> Outcome<()> {
    let expected = compare::expected(call)?;
    let link = compare::pod_link(sandbox, point, expected, Some("dummy"))?;
    compare::is_up(&link)?;
    compare::addressing(sandbox, &link, expected)
}

/// STATUS.
pub(super) fn status(host: &mut Host<'_>) -> Outcome<()> {
    stacked::probe(host.netlink()?, NewKind::Dummy)
}
