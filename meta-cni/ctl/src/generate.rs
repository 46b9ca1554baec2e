//! Shell completions and man pages, from the one table of arguments.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Which completions.
#[derive(Debug, PartialEq, Args)]
pub struct CompletionOptions {
    /// The shell.
    #[arg(value_enum)]
    shell: ShellName,
}

/// Where man pages go.
#[derive(Debug, PartialEq, Args)]
pub struct ManOptions {
    /// The directory that gets one page for each command; it is made. Without it the page of all is printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The completions of a shell.
pub fn completion(options: &CompletionOptions, mut command: clap::Command) -> String {
    let shell = match options.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut bytes = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The man page of the program, or all pages as files.
pub fn man(options: &ManOptions, command: clap::Command) -> Result<String, String> {
    let pages = pages(command).map_err(|e| e.to_string())?;
    let Some(dir) = &options.dir else { return Ok(pages.into_iter().next().map(|(_, page)| page).unwrap_or_default()) };
    let failed = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let mut made = String::new();
    for (name, page) in pages {
        let path = dir.join(format!("{name}.1"));
        fs::write(&path, page).map_err(|e| failed(&path, e))?;
        made.push_str(&format!("{}\n", path.display()));
    }
    Ok(made)
}

/// The pages by name, the program's own first.
fn pages(mut command: clap::Command) -> io::Result<Vec<(String, String)>> {
    fn all(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) -> io::Result<()> {
        let mut page = Vec::new();
        Man::new(command.clone()).title(name.to_uppercase()).section("1").render(&mut page)?;
        pages.push((name.to_owned(), String::from_utf8_lossy(&page).into_owned()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            all(below, &format!("{name}-{}", below.get_name()), pages)?;
        }
        Ok(())
    }
    command.build();
    let mut made = Vec::new();
    let name = command.get_name().to_owned();
    all(&command, &name, &mut made)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> clap::Command {
        crate::command(&["meta-cnictl".into()])
    }

    #[test]
    fn completions_know_every_command_and_flag() {
        for shell in [ShellName::Bash, ShellName::Zsh, ShellName::Fish] {
            let text = completion(&CompletionOptions { shell }, commands());
            for word in ["explain", "doctor", "migrate", "node-conf", "state-dir"] {
                assert!(text.contains(word), "{shell:?}: {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let made = man(&ManOptions { dir: Some(dir.path().join("man1")) }, commands()).unwrap();
        for name in ["meta-cnictl", "meta-cnictl-explain", "meta-cnictl-migrate-multus", "meta-cnictl-level-show"] {
            assert!(made.contains(&format!("/{name}.1\n")), "{name} in {made}");
        }
        let page = fs::read_to_string(dir.path().join("man1/meta-cnictl-explain.1")).unwrap();
        assert!(page.contains(".TH META"), "{page}");
        assert!(page.contains("node\\-conf") && page.contains("Exit status"), "{page}");
    }
}
