//! `passthru`: makes nothing. It is the result that chained plugins need before them, where no interface is wanted.

use attachments::cni::result::CniResult;

use super::Attached;
use crate::call::Call;

/// ADD: the result of the plugin before, or an empty one.
pub(super) fn attach(call: &Call<'_>) -> Attached {
    let result: CniResult = call.prev_result.cloned().unwrap_or_default();
    Attached { result, links: Vec::new() }
}
