//! Random numbers of the kernel.

use attachments::names::Mac;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result};

/// A locally administered unicast address.
pub(crate) fn mac() -> Result<Mac> {
    let mut bytes = [0; 6];
    // Up to 256 bytes come whole (getrandom(2)).
    getrandom(&mut bytes[..], GetRandomFlags::empty()).map_err(|errno| Error::io("get random bytes")(errno.into()))?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(Mac(bytes))
}
