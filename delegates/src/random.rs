//! Random numbers of the kernel.

use attachments::names::Mac;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result};

/// Any number.
pub(crate) fn number() -> Result<u32> {
    bytes().map(u32::from_ne_bytes)
}

/// A locally administered unicast address.
pub(crate) fn mac() -> Result<Mac> {
    let mut bytes = bytes::<6>()?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(Mac(bytes))
}

fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole (getrandom(2)).
    getrandom(&mut bytes[..], GetRandomFlags::empty()).map_err(|errno| Error::io("get random bytes")(errno.into()))?;
    Ok(bytes)
}
