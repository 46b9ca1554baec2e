//! The log of the agent and the webhook: lines on stderr.

use std::io::{self, Write};

use attachments::text::printable;
use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Level and format of the log.
#[derive(Clone, Debug, Args)]
#[group(id = "log")]
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

/// The levels of a log that runs. Clones are of one log.
#[derive(Clone, Debug)]
pub struct Levels {
    running: reload::Handle<Targets, Registry>,
    flag: Targets,
}

impl Levels {
    /// Sets them, as the flag does; an empty text sets those of the flag. The error says what is allowed.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let levels = if text.is_empty() {
            self.flag.clone()
        } else {
            let allowed = "want off, error, warn, info, debug or trace, and MODULE=LEVEL behind commas";
            text.parse().map_err(|error| format!("got {text:?}: {error}; {allowed}"))?
        };
        self.running.reload(levels).map_err(|error| error.to_string())
    }
}

impl std::fmt::Display for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.running.with_current(ToString::to_string).unwrap_or_default())
    }
}

/// Starts the log. A second call has no effect.
pub fn start(options: &Options) -> Levels {
    let (levels, running) = reload::Layer::new(options.level.clone());
    let registry = tracing_subscriber::registry().with(levels);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines(io::stderr())).with_ansi(false);
    let _ = match options.format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    };
    Levels { running, flag: options.level.clone() }
}

/// Escapes control characters: a line stays one line whatever it quotes, and a terminal acts on nothing in it. Each write
/// is one line with its end, as the formatter writes it. A line of JSON has JSON's escapes.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        self.0.write_all(format!("{}{end}", printable(text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn levels_change_while_the_log_runs() {
        let (_levels, running) = reload::Layer::new("info".parse().unwrap());
        let levels = Levels { running, flag: "info".parse().unwrap() };
        let now = || levels.to_string();
        levels.set("warn,meta_cni=debug").unwrap();
        assert!(now().contains("meta_cni=debug"), "{}", now());
        let refusal = levels.set("meta_cni=loud").unwrap_err();
        assert!(refusal.starts_with("got \"meta_cni=loud\"") && refusal.contains("want off, error"), "{refusal}");
        assert!(now().contains("meta_cni=debug"));
        levels.set("").unwrap();
        assert_eq!(now(), "info");
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_line_quotes_stays_in_it_in_either_layout() {
        let (text, json) = (Kept::default(), Kept::default());
        let (text_out, json_out) = (text.clone(), json.clone());
        let layer = || tracing_subscriber::fmt::layer().with_ansi(false);
        let said = || tracing::warn!(name = %"a\u{1b}[2J\nb\u{202e}", "c\u{9b}31m\nd");
        let registry = tracing_subscriber::registry;
        let lines = registry().with(layer().with_writer(move || Lines(text_out.clone())));
        tracing::subscriber::with_default(lines, said);
        let objects = registry().with(layer().json().with_writer(move || Lines(json_out.clone())));
        tracing::subscriber::with_default(objects, said);
        for kept in [text, json] {
            let bytes = kept.0.lock().unwrap().clone();
            let line = String::from_utf8(bytes).unwrap();
            let line = line.strip_suffix('\n').unwrap();
            assert_eq!(printable(line), line);
            assert!(line.contains("31m\\nd"), "{line}");
            if line.starts_with('{') {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["fields"]["name"], "a\u{1b}[2J\nb\u{202e}");
            }
        }
    }
}
