//! `blocks`: addresses of one pool for all nodes. A node owns runs of slots and gives them out by itself.

mod pool;

use attachments::cni::object::Object;

pub use self::pool::Pool;
use super::{Validated, section};

/// `ipam.type`.
pub const TYPE: &str = "blocks";

/// The pool that a plugin's configuration names; `None` where its addresses come from elsewhere.
pub fn pool_of(conf: &Object) -> Validated<Option<Pool>> {
    let ipam = section(conf).map_err(|finding| vec![finding])?;
    if ipam.text("type").ok().flatten().is_none_or(|kind| kind != TYPE) {
        return Ok(None);
    }
    Pool::read(&ipam, conf.flag("isGateway").unwrap_or_default()).map(Some)
}
