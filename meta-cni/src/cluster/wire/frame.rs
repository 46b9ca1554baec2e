//! A frame's bytes: the length, then the JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::{LIMIT, WireError};

/// The length that a frame begins with.
pub fn length(bytes: [u8; 4]) -> Result<usize, WireError> {
    let length = u32::from_be_bytes(bytes) as usize;
    if length <= LIMIT { Ok(length) } else { Err(WireError::Length(length)) }
}

/// A frame around its JSON.
pub fn frame(json: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut frame = Frame::begin();
    // The only failure is a frame that is too long, which `end` reports.
    let _ = frame.write_all(json);
    frame.end()
}

/// A frame around a value, serialised into the frame: a long text is not copied twice.
pub(super) fn write(value: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let mut frame = Frame::begin();
    match serde_json::to_writer(&mut frame, value) {
        Err(e) if !e.is_io() => Err(e.into()),
        _ => frame.end(),
    }
}

/// A frame that is being written. It never takes more memory than the longest frame.
struct Frame {
    bytes: Vec<u8>,
    excess: usize,
}

impl Frame {
    fn begin() -> Self {
        Self { bytes: vec![0; 4], excess: 0 }
    }

    fn end(mut self) -> Result<Vec<u8>, WireError> {
        let json = self.bytes.len() - 4 + self.excess;
        let length = u32::try_from(json).ok().filter(|_| self.excess == 0).ok_or(WireError::Length(json))?;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        Ok(self.bytes)
    }
}

impl io::Write for Frame {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        if self.bytes.len() - 4 + json.len() > LIMIT {
            self.excess = json.len();
            return Err(io::Error::other("a frame that is too long"));
        }
        self.bytes.extend_from_slice(json);
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
