//! The program for people. `lint` looks at manifests and CNI configurations before anybody applies them.

mod lint;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use attachments::text::{printable, printable_lines};
use lint::{Source, lint};

const USAGE: &str = "\
Usage: meta-cnictl lint [--strict] [--output human|json] FILE...

Checks NetworkAttachmentDefinitions and the network annotations of pods in manifests (YAML or JSON), and CNI
configurations (.conf, .conflist), by the rules of admission. FILE may be - for stdin.

  --strict         a warning fails as well
  --output FORMAT  human (a line for each problem, the default) or json

Exit status: 0 nothing is denied, 1 something is, 2 wrong usage or a file that cannot be read.
";

/// Nothing is denied, something is, and what kept us from looking.
const CLEAN: u8 = 0;
const DENIED: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let (output, code) = match Command::read(&arguments) {
        Ok(Command::Help) => (USAGE.to_owned(), CLEAN),
        Ok(Command::Version) => (format!("meta-cnictl {}\n", env!("CARGO_PKG_VERSION")), CLEAN),
        Ok(Command::Lint(options)) => run(&options),
        Err(wrong) => {
            eprint!("meta-cnictl: {wrong}\n\n{USAGE}");
            (String::new(), FAILED)
        }
    };
    let mut out = io::stdout().lock();
    // An answer that nobody reads is a failure, but no reason for a message: `| head` is usual.
    // What is checked is a stranger's: a terminal shows it and does not act on it.
    let written = out.write_all(printable_lines(&output).as_bytes()).and_then(|()| out.flush());
    ExitCode::from(if written.is_ok() { code } else { FAILED })
}

#[derive(Debug, PartialEq)]
enum Command {
    Help,
    Version,
    Lint(Options),
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    strict: bool,
    json: bool,
    files: Vec<String>,
}

impl Command {
    fn read(arguments: &[String]) -> Result<Self, String> {
        match arguments.first().map(String::as_str) {
            Some("lint") => {}
            Some("help" | "--help" | "-h") => return Ok(Self::Help),
            Some("--version" | "-V") => return Ok(Self::Version),
            Some(other) => return Err(format!("got {other:?}, want the command lint")),
            None => return Err("want a command: lint".to_owned()),
        }
        let mut options = Options::default();
        let mut rest = arguments[1..].iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--strict" => options.strict = true,
                "--help" | "-h" => return Ok(Self::Help),
                "--output" | "-o" => options.json = is_json(rest.next().map_or("", String::as_str))?,
                "--" => options.files.extend(rest.by_ref().cloned()),
                flag if flag.starts_with("--output=") => options.json = is_json(&flag["--output=".len()..])?,
                flag if flag.starts_with('-') && flag != "-" => {
                    return Err(format!("got {flag:?}, want --strict or --output"));
                }
                _ => options.files.push(argument.clone()),
            }
        }
        if options.files.is_empty() { Err("want at least one FILE".to_owned()) } else { Ok(Self::Lint(options)) }
    }
}

fn is_json(format: &str) -> Result<bool, String> {
    match format {
        "json" => Ok(true),
        "human" => Ok(false),
        other => Err(format!("--output: got {other:?}, want human or json")),
    }
}

fn run(options: &Options) -> (String, u8) {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for name in &options.files {
        match read(name) {
            Ok(text) => sources.push(Source { name: name.clone(), text }),
            Err(error) => unreadable.push((name.clone(), error.to_string())),
        }
    }
    let report = lint(&sources);
    let (denied, warned) = (report.denied(), report.warned());
    for (name, error) in &unreadable {
        eprintln!("meta-cnictl: {}", printable(&format!("{name}: {error}")));
    }
    if !options.json && denied + warned > 0 {
        eprintln!("meta-cnictl: {denied} denied, {warned} warned in {} files", report.files);
    }
    let code = match (unreadable.is_empty(), denied > 0 || options.strict && warned > 0) {
        (false, _) => FAILED,
        (true, true) => DENIED,
        (true, false) => CLEAN,
    };
    (if options.json { report.json(&unreadable) } else { report.human() }, code)
}

fn read(name: &str) -> io::Result<String> {
    if name == "-" {
        let mut text = String::new();
        return io::stdin().lock().read_to_string(&mut text).map(|_| text);
    }
    std::fs::read_to_string(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::read(&words)
    }

    #[test]
    fn options_and_files_come_in_any_order() {
        let files = vec!["a".to_owned(), "-".to_owned(), "--b".to_owned()];
        let want = Command::Lint(Options { strict: true, json: true, files });
        assert_eq!(read("lint a --output json - --strict -- --b"), Ok(want));
        assert_eq!(read("lint --output=human a"), read("lint a"));
        assert_eq!(read("--help"), Ok(Command::Help));
    }

    #[test]
    fn wrong_usage_names_the_word() {
        for (line, want) in [
            ("", "want a command"),
            ("lnit", "got \"lnit\""),
            ("lint", "want at least one FILE"),
            ("lint --json a", "got \"--json\""),
            ("lint --output yaml a", "got \"yaml\", want human or json"),
            ("lint --output", "got \"\""),
        ] {
            assert!(read(line).unwrap_err().contains(want), "{line}");
        }
    }
}
