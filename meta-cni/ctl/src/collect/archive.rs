//! A tar archive, compressed. Everything that goes in passes the redaction.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::redact;

/// The directory of everything in the archive.
const TOP: &str = "meta-cni-collect";

/// An archive in the making.
pub struct Archive<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    /// Seconds since 1970, of every file.
    time: u64,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(out: W, time: u64) -> Self {
        Self { tar: tar::Builder::new(GzEncoder::new(out, Compression::default())), time }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let bytes = redact::text(text).into_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        // Names come from directories and objects: no part of them leads elsewhere.
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
        self.tar.append_data(&mut header, format!("{TOP}/{}", parts.join("/")), bytes.as_slice())
    }

    /// Adds a value as JSON.
    pub fn json(&mut self, name: &str, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&redact::value(value)).unwrap_or_default();
        self.text(name, &text)
    }

    /// The end of it.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}
