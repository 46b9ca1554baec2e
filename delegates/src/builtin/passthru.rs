//! `passthru`: makes nothing. It is the result that chained plugins need before them, where no interface is wanted.

use attachments::cni::object::Object;

use super::Attached;
use super::delegate::{Context, Delegate, Reading};
use crate::call::Call;
use crate::error::Result;
use crate::host::Host;
use crate::ipam::Leased;

/// The delegate.
pub(super) struct Passthru;

impl Delegate for Passthru {
    const TYPE: &'static str = "passthru";
    const KEYS: &'static [&'static str] = &[];
    const TAKES_ADDRESSES: bool = false;

    type Config = ();

    fn read(_conf: &Object) -> Reading<()> {
        Ok(())
    }

    /// The result of the plugin before, or an empty one.
    fn add((): &(), cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        Ok(Attached::nothing(cx.call.prev_result.cloned().unwrap_or_default()))
    }

    fn check((): &(), _cx: Context<'_, '_>) -> Result<()> {
        Ok(())
    }

    fn status((): &(), _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        Ok(())
    }
}
