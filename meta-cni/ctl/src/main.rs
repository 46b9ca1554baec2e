//! `meta-cnictl`, the command line tool. `lint` checks manifests and CNI configurations before they are applied, `level` shows what a
//! namespace's level means, `map` and `ipam` what is attached and who holds which addresses.

mod level;
mod lint;
mod map;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attachments::policy::Level;
use attachments::text::{printable, printable_lines};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
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
    },
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| format!("want {}", Level::ALLOWED))
}

const LINT_STATUS: &str = "\
Exit status: 0 nothing is denied, 1 something is, 2 wrong usage or a file that cannot be read.";

#[derive(Debug, PartialEq, Args)]
struct Options {
    /// A warning fails as well.
    #[arg(long)]
    strict: bool,
    /// A line for each problem, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    output: Format,
    /// Manifests of AttachmentPolicies, AttachmentLevels and Namespaces: the files are judged by them too. May be given several times.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The level of namespaces without the label meta-cni.io/level, with --policy or without.
    #[arg(long, value_name = "LEVEL", value_parser = level, default_value_t = Level::Privileged)]
    level: Level,
    /// Files to check; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// Exit codes: nothing is denied, something is denied, wrong usage or an unreadable file.
const CLEAN: u8 = 0;
const DENIED: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (output, code) = match parse(&words) {
        Ok(Arguments { command: Command::Lint(options) }) => run(&options),
        Ok(Arguments { command: Command::Level(LevelCommand::Show { level, files }) }) => {
            show(&files, |sources| level::show(level, sources))
        }
        Ok(Arguments { command: Command::Map(options) }) => {
            show(&options.scope.files, |sources| map::draw(&options, sources))
        }
        Ok(Arguments { command: Command::Ipam(scope) }) => show(&scope.files, |sources| map::pools(&scope, sources)),
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            (asked.to_string(), CLEAN)
        }
        Err(wrong) => {
            eprint!("{}", printable_lines(&wrong.to_string()));
            (String::new(), FAILED)
        }
    };
    let mut out = io::stdout().lock();
    // A closed stdout is a failure without a message: `| head` is usual. The checked text may be anybody's, so control
    // characters are escaped for the terminal.
    let written = out.write_all(printable_lines(&output).as_bytes()).and_then(|()| out.flush());
    ExitCode::from(if written.is_ok() { code } else { FAILED })
}

fn parse(words: &[OsString]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(words).map_err(|mut wrong| {
        // For a wrong value clap lists the allowed ones and leaves out the usage.
        if wrong.kind() == ErrorKind::InvalidValue {
            let mut all = Arguments::command();
            all.build();
            if let Some(command) = words.get(1).and_then(|name| all.find_subcommand_mut(name)) {
                wrong.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
            }
        }
        wrong
    })
}

/// The files that can be read, and those that cannot, each with the reason.
fn sources(paths: &[PathBuf]) -> (Vec<Source>, Vec<(String, String)>) {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => sources.push(Source { name, text }),
            Err(error) => unreadable.push((name, error.to_string())),
        }
    }
    (sources, unreadable)
}

/// What a command makes of files that can all be read.
fn show(files: &[PathBuf], of: impl FnOnce(&[Source]) -> Result<String, String>) -> (String, u8) {
    let (sources, unreadable) = sources(files);
    let shown = match unreadable.first() {
        Some((name, error)) => Err(format!("{name}: {error}")),
        None => of(&sources),
    };
    match shown {
        Ok(text) => (text, CLEAN),
        Err(error) => {
            eprintln!("meta-cnictl: {}", printable(&error));
            (String::new(), FAILED)
        }
    }
}

fn run(options: &Options) -> (String, u8) {
    let (sources, mut unreadable) = sources(&options.files);
    let (policies, missing) = self::sources(&options.policy);
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

fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        return io::stdin().lock().read_to_string(&mut text).map(|_| text);
    }
    std::fs::read_to_string(path)
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
            Command::Level(LevelCommand::Show { level, files: files.iter().map(PathBuf::from).collect() })
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
        let want = Options { strict: true, output: Format::Json, policy: Vec::new(), level: Level::Privileged, files };
        assert_eq!(read("lint a --output json - --strict -- --b").unwrap(), want);
        assert_eq!(read("lint --output=human a").unwrap(), read("lint a").unwrap());
        assert_eq!(read("lint -o json -o human --strict --strict a").unwrap(), read("lint --strict a").unwrap());
        let judged = read("lint --policy p --level baseline --policy q a").unwrap();
        assert_eq!((judged.policy, judged.level), (vec!["p".into(), "q".into()], Level::Baseline));
        for line in ["--help", "-h", "help", "lint --help", "help lint"] {
            assert_eq!(read(line).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line}");
        }
        assert_eq!(read("--version").unwrap_err().to_string(), format!("meta-cnictl {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn wrong_usage_names_the_word() {
        for (line, want) in [
            ("", "Usage: meta-cnictl <COMMAND>"),
            ("lnit", "'lnit'"),
            ("lint", "<FILE>..."),
            ("lint --json a", "'--json'"),
            ("lint --output yaml a", "'yaml' for '--output <FORMAT>'\n  [possible values: human, json]"),
            ("lint --output", "'--output <FORMAT>'"),
        ] {
            let error = read(line).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(want) && text.contains("Usage: meta-cnictl") && error.use_stderr(), "{line}: {text}");
        }
    }
}
