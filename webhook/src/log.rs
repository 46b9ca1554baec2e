//! The webhook's log: lines on stderr.

use std::io::{self, Write};

use attachments::text::printable;
use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Level and format of the log.
#[derive(Clone, Debug, Args)]
#[group(id = "log")]
pub struct Options {
    /// Least level, and other levels for some modules: `info,webhook=debug`.
    #[arg(long = "log-level", env = "META_CNI_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub level: Targets,
    /// One JSON object a line, or text.
    #[arg(long = "log-format", env = "META_CNI_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Layout of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// Starts the log. A second call has no effect.
pub fn start(options: &Options) {
    let registry = tracing_subscriber::registry().with(options.level.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines).with_ansi(false);
    let _ = match options.format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    };
}

/// Escapes control characters: a line stays one line whatever it quotes.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        io::stderr().write_all(format!("{}{end}", printable(text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
