//! One call of the plugin under test, as a runtime makes it, and what came back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::netns::Netns;
use crate::program::{self, Finished, Running};

/// Longest time that any call may take; tests of deadlines set `timeoutSeconds` far below.
const LIMIT: Duration = Duration::from_secs(60);

/// The plugin under test: `META_CNI_BIN`, or the build beside the running test.
pub fn plugin() -> PathBuf {
    std::env::var_os("META_CNI_BIN").map_or_else(|| program::built("meta-cni"), PathBuf::from)
}

/// A call in the making: environment, stdin, and the namespace that stands for the host's.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    host: &'a Netns,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    wrapper: Vec<String>,
    args: Vec<String>,
}

impl<'a> Call<'a> {
    /// A call inside `host` with nothing but a PATH.
    pub fn new(host: &'a Netns) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            host,
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            stdin: Vec::new(),
            wrapper: Vec::new(),
            args: Vec::new(),
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Replaces stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Changes one key of the configuration on stdin.
    #[must_use]
    pub fn conf(mut self, key: &str, value: Value) -> Self {
        let mut conf: Value = serde_json::from_slice(&self.stdin).unwrap();
        conf[key] = value;
        self.stdin = serde_json::to_vec(&conf).unwrap();
        self
    }

    /// Takes a key out of the configuration on stdin.
    #[must_use]
    pub fn conf_without(mut self, key: &str) -> Self {
        let mut conf: Value = serde_json::from_slice(&self.stdin).unwrap();
        conf.as_object_mut().unwrap().remove(key);
        self.stdin = serde_json::to_vec(&conf).unwrap();
        self
    }

    /// Starts the plugin by way of another program, for example strace.
    #[must_use]
    pub fn under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Arguments of the plugin; CNI calls have none.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// In another boot of the machine, as far as the kernel tells the plugin: a mount namespace in which the file that says
    /// it is another one. `file` is made.
    #[must_use]
    pub fn in_another_boot(self, file: &std::path::Path) -> Self {
        std::fs::write(file, "11111111-2222-4333-8444-555555555555\n").unwrap();
        const SWAP: &str = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        self.under(["unshare", "--mount", "sh", "-c", SWAP, &file.display().to_string()])
    }

    /// On a machine whose buses of devices are those of a directory: a mount namespace in which `/sys/bus` is this fake.
    #[must_use]
    pub fn with_fake_buses(self, directory: &std::path::Path) -> Self {
        const SWAP: &str = "mount --bind \"$0\" /sys/bus && exec \"$@\"";
        self.under(["unshare", "--mount", "sh", "-c", SWAP, &directory.display().to_string()])
    }

    fn command(&self) -> Command {
        let program = [plugin().into_os_string()].into_iter().chain(self.args.iter().map(Into::into));
        let mut words = self.wrapper.iter().map(Into::into).chain(program);
        let mut command = program::command(words.next().unwrap_or_default());
        command.args(words).env_clear().envs(&self.env).current_dir("/");
        command
    }

    /// Starts it and comes back at once.
    pub fn start(&self) -> Running {
        self.host.inside(|| program::start(&mut self.command(), &self.stdin))
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome {
        Outcome { verb: self.env.get("CNI_COMMAND").cloned().unwrap_or_default(), finished: self.start().finish(LIMIT) }
    }
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    verb: String,
    /// Status, output, time.
    pub finished: Finished,
}

/// The error object that a failed call printed.
#[derive(Debug)]
pub struct Refusal {
    /// CNI code.
    pub code: u64,
    /// The message.
    pub msg: String,
    /// `msg` and `details` in one text.
    pub text: String,
}

impl Outcome {
    /// How a call that was started earlier came to its end.
    pub fn of(verb: &str, running: Running) -> Self {
        Self { verb: verb.to_owned(), finished: running.finish(LIMIT) }
    }

    /// Everything on stdout.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.finished.stdout).into_owned()
    }

    /// Everything on stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.finished.stderr).into_owned()
    }

    fn story(&self) -> String {
        let Finished { code, signal, .. } = self.finished;
        format!(
            "{}: status {code:?}, signal {signal:?}\nstdout: {}\nstderr: {}",
            self.verb,
            self.stdout(),
            self.stderr()
        )
    }

    /// True when the plugin said that it succeeded.
    pub fn succeeded(&self) -> bool {
        self.finished.code == Some(0)
    }

    /// The result of a call that must have succeeded.
    #[track_caller]
    pub fn result(&self) -> Value {
        assert!(self.succeeded(), "{}", self.story());
        serde_json::from_slice(&self.finished.stdout).unwrap_or_else(|e| panic!("{e}; {}", self.story()))
    }

    /// The call must have succeeded without a word on stdout (C35).
    #[track_caller]
    pub fn quiet(&self) {
        assert!(self.succeeded() && self.finished.stdout.is_empty(), "{}", self.story());
    }

    /// The call must have failed with exactly one error object on stdout.
    #[track_caller]
    pub fn refusal(&self) -> Refusal {
        assert!(self.finished.code.is_some_and(|code| code > 0), "{}", self.story());
        let object: Value =
            serde_json::from_slice(&self.finished.stdout).unwrap_or_else(|e| panic!("{e}; {}", self.story()));
        let code = object["code"].as_u64().unwrap_or_else(|| panic!("no code; {}", self.story()));
        let msg = object["msg"].as_str().unwrap_or_else(|| panic!("no msg; {}", self.story())).to_owned();
        assert!(!msg.is_empty() && !msg.contains('\n'), "one line; {}", self.story());
        assert!(object["cniVersion"].is_string(), "no cniVersion; {}", self.story());
        let text = format!("{msg} {}", object["details"].as_str().unwrap_or(""));
        if self.verb == "DEL" {
            // containerd takes a DEL error that holds one of these for success.
            let low = text.to_lowercase();
            let taken = low.contains("not found") || low.contains("no such file or directory");
            assert!(!taken, "a runtime would take this for success; {}", self.story());
        }
        Refusal { code, msg, text }
    }

    /// Failed with this code, and the message names all of these.
    #[track_caller]
    pub fn refused(&self, code: u64, names: &[&str]) -> Refusal {
        let refusal = self.refusal();
        assert_eq!(refusal.code, code, "{}", self.story());
        for name in names {
            assert!(refusal.text.contains(name), "does not name {name:?}; {}", self.story());
        }
        refusal
    }
}
