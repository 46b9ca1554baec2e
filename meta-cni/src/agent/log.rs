//! The agent's log: lines on stderr.

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Least level, and other levels for some modules: `info,kube_runtime=debug`.
    #[arg(long = "log-level", env = "META_CNI_LOG_LEVEL", value_name = "LEVEL", default_value = "info", global = true)]
    pub level: Targets,
    /// One JSON object a line, or text.
    #[arg(
        long = "log-format",
        env = "META_CNI_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
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

/// Logs from now on. A second call changes nothing.
pub fn start(options: &Options) {
    let registry = tracing_subscriber::registry().with(options.level.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let _ = match options.format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    };
}
