//! `meta-cnictl`, the command line tool: what a pod would get (`explain`), what is attached and who holds which addresses (`map`,
//! `ipam`), manifests before they are applied (`lint`), what a namespace's level means (`level`).
//!
//! Arguments are as kubectl's, and so is the place: as `kubectl-meta_cni` in the path it is `kubectl meta-cni`.

mod access;
mod collect;
mod connectivity;
mod doctor;
mod explain;
mod files;
mod generate;
mod level;
mod lint;
mod map;
mod migrate;
mod program;
mod status;
mod style;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attachments::policy::Level;
use attachments::text::{printable, printable_lines};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use lint::{Source, Trial, lint};

/// Tools for people who run meta-cni.
#[derive(Debug, PartialEq, Parser)]
#[command(name = "meta-cnictl", version, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, PartialEq, Subcommand)]
enum Command {
    /// Explains what a pod would get: each network, and what would refuse it.
    ///
    /// The pods are those of the API server, or with -f those of manifests. The engine's own steps answer, up to the first that
    /// touches anything, and the webhook's own rules. On the node itself its links, ports and programs are looked at too.
    #[command(args_override_self = true, after_help = EXPLAIN_STATUS)]
    Explain(explain::ExplainOptions),
    /// Shows what is attached, by record, kernel and annotation, and every difference.
    ///
    /// Without an argument it is about this node: as root there, or in the agent's container (kubectl exec). A pod or a node is
    /// asked for by its name, from anywhere: what pods ask for against what their network-status says.
    #[command(args_override_self = true, after_help = STATUS_STATUS)]
    Status(status::StatusOptions),
    /// Examines this node: kernel, settings, directories, configurations, agent, API server, overlays, leftovers.
    ///
    /// As root on the node, or in the agent's container (kubectl exec). Nothing is changed: what has to be tried is tried in network
    /// namespaces that end with it.
    #[command(args_override_self = true, after_help = DOCTOR_STATUS)]
    Doctor(doctor::DoctorOptions),
    /// Makes a support archive of this node and of our objects, without secrets.
    ///
    /// Records, configurations, what doctor and status say, links, routes, the packet filter, the logs of our pods, versions, and our
    /// objects. Tokens, passwords and keys are taken out, Secrets are not read. Look into it before you send it.
    Collect(collect::CollectOptions),
    /// Tries a network between all nodes.
    #[command(subcommand)]
    Connectivity(connectivity::ConnectivityCommand),
    /// Checks network definitions, pods and CNI configurations before anybody applies them.
    ///
    /// It looks at NetworkAttachmentDefinitions and the network annotations of pods in manifests (YAML or JSON), and at CNI
    /// configurations (.conf, .conflist), and applies the rules of admission.
    #[command(args_override_self = true, after_help = LINT_STATUS)]
    Lint(Options),
    /// Shows what a level of a namespace refuses.
    #[command(subcommand)]
    Level(LevelCommand),
    /// Shows which pods are in which networks, on which nodes, with which addresses.
    #[command(args_override_self = true)]
    Map(map::MapOptions),
    /// Shows the pools of addresses that span nodes: their size, and who holds what.
    #[command(args_override_self = true)]
    Ipam(map::Scope),
    /// Reads the configuration of another meta plugin, and shows what becomes of it.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Prints the completions of a shell: source <(meta-cnictl completion bash).
    Completion(generate::CompletionOptions),
    /// Prints the man page, or makes one for each command in a directory.
    Man(generate::ManOptions),
}

#[derive(Debug, PartialEq, Subcommand)]
enum LevelCommand {
    /// Prints the policies that a level is made of.
    ///
    /// Without FILE nothing is opened; of the manifests in FILE the level's AttachmentLevel counts.
    Show {
        /// privileged, baseline or restricted.
        #[arg(value_parser = level)]
        level: Level,
        /// Manifests; - is stdin.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The same.
        #[arg(long, short, value_name = "FILE")]
        filename: Vec<PathBuf>,
    },
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| format!("want {}", Level::ALLOWED))
}

const EXPLAIN_STATUS: &str = "\
Exit status: 0 every pod gets what it asks for, 1 something is refused, 2 wrong usage or something that cannot be read.";

const STATUS_STATUS: &str = "\
Exit status: 0 nothing differs, 1 something differs or is still to be undone, 2 wrong usage or something that cannot be read.";

const DOCTOR_STATUS: &str = "\
Exit status: 0 the node is fit, 1 it is not, or with --strict something is to be warned of, 2 wrong usage.";

const LINT_STATUS: &str = "\
Exit status: 0 nothing is denied, 1 something is, 2 wrong usage or a file that cannot be read.";

#[derive(Debug, PartialEq, Args)]
struct Options {
    /// A warning fails as well.
    #[arg(long)]
    strict: bool,
    /// A line for each problem, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Manifests of AttachmentPolicies, AttachmentLevels and Namespaces: the files are judged by them too. May be given several times.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The level of namespaces without the label meta-cni.io/level, with --policy or without.
    #[arg(long, value_name = "LEVEL", value_parser = level, default_value_t = Level::Privileged)]
    level: Level,
    /// Files to check; - is stdin.
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same.
    #[arg(long, short, value_name = "FILE")]
    filename: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    #[value(alias = "human")]
    Text,
    Json,
}

/// What a command has to say.
#[derive(Debug)]
struct Answer {
    /// Its output. What others wrote is escaped in it where it has marks for terminals.
    text: String,
    /// Nothing is refused, and nothing differs.
    is_good: bool,
}

/// Exit codes: nothing is denied, something is denied, wrong usage or an unreadable file.
const CLEAN: u8 = 0;
const DENIED: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (output, code) = match parse(&words) {
        Ok(Arguments { command }) => serve(command),
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            (asked.to_string(), CLEAN)
        }
        Err(wrong) => {
            eprint!("{}", printable_lines(&wrong.to_string()));
            (String::new(), FAILED)
        }
    };
    let mut out = io::stdout().lock();
    // A closed stdout is a failure without a message: `| head` is usual.
    let written = out.write_all(output.as_bytes()).and_then(|()| out.flush());
    ExitCode::from(if written.is_ok() { code } else { FAILED })
}

fn serve(command: Command) -> (String, u8) {
    // The checked text may be anybody's, so control characters are escaped for the terminal.
    let safe = |(text, code): (String, u8)| (printable_lines(&text).into_owned(), code);
    match command {
        Command::Explain(options) => answer(explain::run(&options)),
        Command::Status(options) => answer(status::run(&options)),
        Command::Doctor(options) => answer(doctor::run(&options)),
        Command::Collect(options) => answer(collect::run(&options)),
        Command::Connectivity(command) => answer(connectivity::run(&command)),
        Command::Lint(options) => safe(run(&options)),
        Command::Level(LevelCommand::Show { level, files, filename }) => {
            safe(show(&[files, filename].concat(), |sources| level::show(level, sources)))
        }
        Command::Migrate(command) => answer(migrate::run(&command)),
        Command::Completion(options) => (generate::completion(&options, Arguments::command()), CLEAN),
        Command::Man(options) => {
            answer(generate::man(&options, Arguments::command()).map(|text| Answer { text, is_good: true }))
        }
        Command::Map(options) => safe(show(&options.scope.manifests(), |sources| map::draw(&options, sources))),
        Command::Ipam(scope) => safe(show(&scope.manifests(), |sources| map::pools(&scope, sources))),
    }
}

fn answer(answer: Result<Answer, String>) -> (String, u8) {
    match answer {
        Ok(Answer { text, is_good }) => {
            // Marks for terminals are ours: what others wrote was escaped when it was put in.
            let is_painted = text.contains('\u{1b}');
            let text = if is_painted { text } else { printable_lines(&text).into_owned() };
            (text, if is_good { CLEAN } else { DENIED })
        }
        Err(error) => {
            eprintln!("meta-cnictl: {}", printable(&error));
            (String::new(), FAILED)
        }
    }
}

/// The program under the name by which it was called: kubectl calls its plugins by theirs.
fn command(words: &[OsString]) -> clap::Command {
    let called = words.first().and_then(|word| Path::new(word).file_name()).unwrap_or_default();
    let command = Arguments::command();
    if called == "kubectl-meta_cni" { command.bin_name("kubectl meta-cni") } else { command }
}

fn parse(words: &[OsString]) -> Result<Arguments, clap::Error> {
    let matched = command(words).try_get_matches_from(words);
    matched.and_then(|matches| Arguments::from_arg_matches(&matches)).map_err(|mut wrong| {
        // For a wrong value clap lists the allowed ones and leaves out the usage.
        if wrong.kind() == ErrorKind::InvalidValue {
            let mut all = command(words);
            all.build();
            if let Some(command) = words.get(1).and_then(|name| all.find_subcommand_mut(name)) {
                wrong.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
            }
        }
        wrong
    })
}

/// What a command makes of files that can all be read.
fn show(files: &[PathBuf], of: impl FnOnce(&[Source]) -> Result<String, String>) -> (String, u8) {
    let (sources, unreadable) = files::sources(files);
    let shown = match unreadable.first() {
        Some((name, error)) => Err(format!("{name}: {error}")),
        None => of(&sources),
    };
    answer(shown.map(|text| Answer { text, is_good: true }))
}

fn run(options: &Options) -> (String, u8) {
    let (sources, mut unreadable) = files::sources(&[&options.files[..], &options.filename].concat());
    let (policies, missing) = files::sources(&options.policy);
    unreadable.extend(missing);
    let is_json = options.output == Format::Json;
    let report = lint(&sources, &Trial::new(options.level, &policies, &sources));
    let (denied, warned) = (report.denied(), report.warned());
    for (name, error) in &unreadable {
        eprintln!("meta-cnictl: {}", printable(&format!("{name}: {error}")));
    }
    if !is_json && denied + warned > 0 {
        eprintln!("meta-cnictl: {denied} denied, {warned} warned in {} files", report.files);
    }
    let code = match (unreadable.is_empty(), denied > 0 || options.strict && warned > 0) {
        (false, _) => FAILED,
        (true, true) => DENIED,
        (true, false) => CLEAN,
    };
    (if is_json { report.json(&unreadable) } else { report.human() }, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Command, clap::Error> {
        let words: Vec<OsString> = ["meta-cnictl"].into_iter().chain(line.split_whitespace()).map(Into::into).collect();
        parse(&words).map(|Arguments { command }| command)
    }

    fn read(line: &str) -> Result<Options, clap::Error> {
        arguments(line).map(|command| match command {
            Command::Lint(options) => options,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_level_is_shown_by_name() {
        let show = |level, files: &[&str]| {
            let files = files.iter().map(PathBuf::from).collect();
            Command::Level(LevelCommand::Show { level, files, filename: Vec::new() })
        };
        assert_eq!(arguments("level show baseline").unwrap(), show(Level::Baseline, &[]));
        assert_eq!(arguments("level show restricted a -").unwrap(), show(Level::Restricted, &["a", "-"]));
        for line in ["level show", "level show open", "level", "lint --level x a"] {
            assert!(arguments(line).unwrap_err().use_stderr(), "{line}");
        }
        assert!(arguments("level show open").unwrap_err().to_string().contains("privileged, baseline or restricted"));
    }

    #[test]
    fn options_and_files_come_in_any_order() {
        let files = ["a", "-", "--b"].map(PathBuf::from).to_vec();
        let (policy, filename, level) = (Vec::new(), Vec::new(), Level::Privileged);
        let want = Options { strict: true, output: Format::Json, policy, level, files, filename };
        assert_eq!(read("lint a --output json - --strict -- --b").unwrap(), want);
        assert_eq!(read("lint --output=human a").unwrap(), read("lint a").unwrap());
        assert_eq!(read("lint -f a -f b").unwrap().filename, ["a", "b"].map(PathBuf::from));
        assert_eq!(read("lint -o json -o human --strict --strict a").unwrap(), read("lint --strict a").unwrap());
        let judged = read("lint --policy p --level baseline --policy q a").unwrap();
        assert_eq!((judged.policy, judged.level), (vec!["p".into(), "q".into()], Level::Baseline));
        for line in ["--help", "-h", "help", "lint --help", "help lint"] {
            assert_eq!(read(line).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line}");
        }
        assert_eq!(read("--version").unwrap_err().to_string(), format!("meta-cnictl {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn kubectl_calls_it_by_its_own_name() {
        let words = ["/usr/local/bin/kubectl-meta_cni", "lint"].map(OsString::from);
        let text = parse(&words).unwrap_err().to_string();
        assert!(text.contains("Usage: kubectl meta-cni lint"), "{text}");
    }

    #[test]
    fn the_table_of_arguments_has_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn explain_is_about_pods_of_a_cluster_or_of_files() {
        assert!(arguments("explain").is_err());
        for line in
            ["explain web -n shop", "explain -f a.yaml -f b", "explain web -f a -o json --context c --kubeconfig k"]
        {
            assert!(matches!(arguments(line), Ok(Command::Explain(_))), "{line}");
        }
    }

    #[test]
    fn wrong_usage_names_the_word() {
        for (line, want) in [
            ("", "Usage: meta-cnictl <COMMAND>"),
            ("lnit", "'lnit'"),
            ("lint", "<FILE>..."),
            ("lint --json a", "'--json'"),
            ("lint --output yaml a", "'yaml' for '--output <FORMAT>'\n  [possible values: text, json]"),
            ("lint --output", "'--output <FORMAT>'"),
        ] {
            let error = read(line).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(want) && text.contains("Usage: meta-cnictl") && error.use_stderr(), "{line}: {text}");
        }
    }
}
