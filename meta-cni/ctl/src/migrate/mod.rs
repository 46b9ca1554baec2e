//! `meta-cnictl migrate multus`: what becomes of a node's configuration of Multus. Files are read, nothing is written.

mod keys;
mod multus;
mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::style::Style;
use crate::{Answer, Format, files};

/// From what.
#[derive(Debug, PartialEq, Subcommand)]
pub enum MigrateCommand {
    /// Reads what Multus has on a node, and shows the same for meta-cni, with every difference.
    ///
    /// The keys go into the ConfigMap; the agent writes the conflist that is shown. Pods that run keep their networks.
    #[command(args_override_self = true, after_help = STATUS)]
    Multus(MigrateOptions),
}

const STATUS: &str = "\
Exit status: 0 nothing needs attention, 1 something does, 2 wrong usage, or no configuration of Multus.";

/// Which files.
#[derive(Debug, PartialEq, Args)]
pub struct MigrateOptions {
    /// Multus's configuration (.conf, .conflist), its daemon-config.json, or directories with them. Without it /etc/cni/net.d and its
    /// directory multus.d.
    #[arg(long, short, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Text, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Answers.
pub fn run(command: &MigrateCommand) -> Result<Answer, String> {
    let MigrateCommand::Multus(options) = command;
    let usual = ["/etc/cni/net.d", "/etc/cni/net.d/multus.d"].map(PathBuf::from);
    let named = if options.filename.is_empty() {
        usual.into_iter().filter(|dir| dir.is_dir()).collect()
    } else {
        options.filename.clone()
    };
    let mut paths = Vec::new();
    for path in &named {
        match path.is_dir() {
            true => paths.extend(files::listed(path, &["conf", "conflist", "json"])?),
            false => paths.push(path.clone()),
        }
    }
    let (sources, unreadable) = files::sources(&paths);
    if let Some((name, error)) = unreadable.first() {
        return Err(format!("{name}: {error}"));
    }
    let texts: Vec<(String, String)> = sources.into_iter().map(|source| (source.name, source.text)).collect();
    let migration = multus::migrate(&texts)?;
    let text = match options.output {
        Format::Text => report::text(&migration, Style::of_stdout()),
        Format::Json => report::json(&migration),
    };
    Ok(Answer { text, is_good: migration.is_good() })
}
