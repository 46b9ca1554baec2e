//! What delegates have in common that come behind another one in a chain: they change what that one made, take no addresses,
//! and give its result on.

use attachments::cni::result::{CniResult, Ip};
use attachments::finding::Finding;

use crate::call::{Call, Point};
use crate::error::{Error, Result};

/// The result of the plugin before (ADD), or of the whole ADD (CHECK).
pub(super) fn previous<'a>(call: &'a Call<'_>) -> Result<&'a CniResult> {
    const WANT: &str = "the result of a plugin before this one in `plugins`";
    call.prev_result.ok_or_else(|| Error::from(Finding::missing("prevResult", WANT)))
}

/// The pod's link, which the plugin before should have made.
pub(super) fn no_link(point: &Point<'_>) -> Finding {
    let allowed = "the name of a link in the pod, which a plugin before this one made";
    Finding::new("CNI_IFNAME", format_args!("{:?}", point.ifname.as_str()), allowed)
}

/// The addresses of a result that may be the pod's: on its interface, or on none that the result names.
pub(super) fn addresses_of_pod<'a>(result: &'a CniResult, point: &Point<'_>) -> impl Iterator<Item = &'a Ip> {
    result.ips.iter().filter(|ip| {
        let index = ip.interface.and_then(|index| usize::try_from(index).ok());
        let named = index.and_then(|index| result.interfaces.get(index));
        named.is_none_or(|interface| interface.name == point.ifname.as_str() && !interface.sandbox.is_empty())
    })
}
