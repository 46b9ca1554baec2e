//! Random numbers of the kernel.

use std::fs::File;
use std::io::Read;

use attachments::names::Mac;

use crate::error::{Error, Result};

/// A locally administered unicast address.
pub(crate) fn mac() -> Result<Mac> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("read /dev/urandom"))?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(Mac(bytes))
}
