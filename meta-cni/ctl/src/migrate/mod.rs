//! `meta-cnictl migrate`: what becomes of a node's configuration of Multus, and of the pods and objects of other systems. Files are read,
//! nothing is written.

mod danm;
mod default_route;
mod genie;
mod keys;
mod knitter;
mod manifests;
mod multus;
mod report;

use std::fmt::Write;
use std::path::PathBuf;

use attachments::names::ObjectName;
use attachments::text::printable;
use clap::{Args, Subcommand};
use meta_cni::cluster::yaml;
use serde_json::Value;

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
    /// Reads manifests and node files of CNI-Genie, and prints the same pods and networks in NPWG's words.
    ///
    /// Standard output has nothing but objects for `kubectl apply`, with notes as comments; what is none of Genie's is among them as it
    /// was. Standard error has a line for each thing that cannot be moved.
    #[command(args_override_self = true, after_help = MOVED)]
    Genie(GenieOptions),
    /// Reads bodies and answers of Knitter's REST API and manifests, and prints networks, groups, quotas and pods as objects of today.
    ///
    /// Standard output has nothing but objects for `kubectl apply`, with notes as comments; what is none of Knitter's is among them as it
    /// was. Standard error has a line for each thing that cannot be moved.
    #[command(args_override_self = true, after_help = MOVED)]
    Knitter(KnitterOptions),
    /// Reads manifests and node files of DANM, and prints the same pods and networks in NPWG's words, with the claims of addresses that are in use.
    ///
    /// Standard output has nothing but objects for `kubectl apply`, with notes as comments; what is none of DANM's is among them as it was.
    /// Standard error has a line for each thing that cannot be moved.
    #[command(args_override_self = true, after_help = MOVED)]
    Danm(DanmOptions),
}

const MOVED: &str = "\
Exit status: 0 everything is moved, 1 something is not, 2 wrong usage or a file that cannot be read.";

/// Which files of CNI-Genie.
#[derive(Debug, PartialEq, Args)]
pub struct GenieOptions {
    /// Where the definitions of node files go.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "kube-system", value_parser = object_name)]
    namespace: ObjectName,
    /// Manifests (YAML or JSON, lists too), and files of a node (.conf, .conflist); - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was Knitter's.
#[derive(Debug, PartialEq, Args)]
pub struct KnitterOptions {
    /// Whose networks and groups the bodies are: a tenant's name is that of its namespace.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default", value_parser = object_name)]
    tenant: ObjectName,
    /// The administrator's namespace, as in `knitter.adminNamespace`.
    #[arg(long, value_name = "NAMESPACE", default_value = "admin", value_parser = object_name)]
    admin_namespace: ObjectName,
    /// The network that stands for the nodes' own default network, as in `knitter.defaultNetwork`.
    #[arg(long, value_name = "NAME")]
    default_network: Option<String>,
    /// Bodies and answers (JSON), and manifests (YAML or JSON, lists too); - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Which files of DANM.
#[derive(Debug, PartialEq, Args)]
pub struct DanmOptions {
    /// Where the definitions of ClusterNetworks go.
    #[arg(long, value_name = "NAMESPACE", default_value = "default", value_parser = object_name)]
    shared_namespace: ObjectName,
    /// Manifests (YAML or JSON, lists too), and files of a node (.conf, .conflist); - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    text.parse().map_err(|_| format!("want {}", ObjectName::ALLOWED))
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
    match command {
        MigrateCommand::Multus(options) => of_multus(options),
        MigrateCommand::Genie(options) => moved(&options.files, |texts| genie::migrate(texts, &options.namespace)),
        MigrateCommand::Knitter(options) => {
            let place = knitter::Place {
                tenant: options.tenant.clone(),
                admin: options.admin_namespace.clone(),
                default_network: options.default_network.clone(),
            };
            moved(&options.files, |texts| knitter::migrate(texts, &place))
        }
        MigrateCommand::Danm(options) => moved(&options.files, |texts| danm::migrate(texts, &options.shared_namespace)),
    }
}

/// The files by name and text. The first that cannot be read is an error.
fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, String> {
    let (sources, unreadable) = files::sources(paths);
    match unreadable.first() {
        Some((name, error)) => Err(format!("{name}: {error}")),
        None => Ok(sources.into_iter().map(|source| (source.name, source.text)).collect()),
    }
}

/// Moves files by the reader of one of the systems.
fn moved(
    files: &[PathBuf],
    migrate: impl Fn(&[(String, String)]) -> Result<manifests::Migration, String>,
) -> Result<Answer, String> {
    let manifests::Migration { objects, left, skipped } = migrate(&texts(files)?)?;
    for line in &skipped {
        eprintln!("meta-cnictl: left out: {}", printable(line));
    }
    for line in &left {
        eprintln!("meta-cnictl: not moved: {}", printable(line));
    }
    Ok(Answer { text: objects_text(&objects), is_good: left.is_empty() })
}

/// Objects for `kubectl apply`, their notes as comments above them.
fn objects_text(objects: &[(Vec<String>, Value)]) -> String {
    let mut out = String::new();
    for (notes, object) in objects {
        out.push_str("---\n");
        for note in notes {
            let _ = writeln!(out, "# {}", printable(note));
        }
        out.push_str(&yaml::write(object));
    }
    out
}

fn of_multus(options: &MigrateOptions) -> Result<Answer, String> {
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
    let migration = multus::migrate(&texts(&paths)?)?;
    let text = match options.output {
        Format::Text => report::text(&migration, Style::of_stdout()),
        Format::Json => report::json(&migration),
    };
    Ok(Answer { text, is_good: migration.is_good() })
}
