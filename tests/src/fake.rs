//! The delegate of the suites: does what a script says, and records what it was asked.
//!
//! One program under many names. Beside the name that it was started by it reads `NAME.rules` and appends to `calls`;
//! the fixtures write the one and read the other. Without a rule that fits it answers as a plugin should.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::program;

/// File beside the fakes that all of them append to, one JSON [`Seen`] per line.
pub const CALLS: &str = "calls";

/// When, and what then. Absent conditions fit always; deeds happen in the order of the fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// CNI_COMMAND.
    pub verb: Option<String>,
    /// CNI_IFNAME.
    pub ifname: Option<String>,
    /// `name` of the configuration.
    pub network: Option<String>,
    /// How often the rule may fit; always when absent.
    pub times: Option<u64>,
    /// Said on stderr.
    pub stderr: Option<String>,
    /// Blocks until this file exists.
    pub wait_for: Option<PathBuf>,
    /// Leaves a child behind in a session of its own, which holds the output and everything inherited, and ends when this file
    /// exists.
    pub orphan_until: Option<PathBuf>,
    /// SIGKILL to the parent.
    pub kill_parent: bool,
    /// Printed on stdout instead of the usual answer.
    pub print: Option<String>,
    /// Sleeps for an hour.
    pub hang: bool,
    /// Dies by this signal.
    pub signal: Option<i32>,
    /// Exit status.
    pub exit: i32,
}

impl Rule {
    /// A rule for one verb.
    pub fn on(verb: &str) -> Self {
        Self { verb: Some(verb.to_owned()), ..Self::default() }
    }

    /// Only for this CNI_IFNAME.
    #[must_use]
    pub fn at(mut self, ifname: &str) -> Self {
        self.ifname = Some(ifname.to_owned());
        self
    }

    /// Only the first `times` calls that fit.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Prints this and succeeds.
    #[must_use]
    pub fn prints(mut self, text: impl Into<String>) -> Self {
        self.print = Some(text.into());
        self
    }

    /// Prints this JSON and succeeds.
    #[must_use]
    pub fn answers(self, value: &Value) -> Self {
        self.prints(value.to_string())
    }

    /// Fails with an error object.
    #[must_use]
    pub fn fails(self, code: u32, msg: &str) -> Self {
        self.answers(&json!({"code": code, "msg": msg})).exits(1)
    }

    /// Ends with this status.
    #[must_use]
    pub fn exits(mut self, status: i32) -> Self {
        self.exit = status;
        self
    }
}

/// One call as the fake saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The name that it was started by.
    pub plugin: String,
    /// Every variable that starts with CNI_.
    pub env: BTreeMap<String, String>,
    /// Everything on stdin, as text.
    pub stdin: String,
    /// Inode of the network namespace that it ran in.
    pub netns: u64,
    /// Its process id.
    pub pid: i32,
}

impl Seen {
    /// A variable, or nothing.
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).map_or("", String::as_str)
    }

    /// The configuration that it was given.
    pub fn conf(&self) -> Value {
        serde_json::from_str(&self.stdin).unwrap_or_else(|e| panic!("stdin of {}: {e}: {}", self.plugin, self.stdin))
    }

    /// "VERB plugin ifname", for comparing orders.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.var("CNI_COMMAND"), self.plugin, self.var("CNI_IFNAME"))
    }
}

/// A directory of fakes.
#[derive(Debug)]
pub struct Fakes {
    dir: PathBuf,
}

impl Fakes {
    /// Fakes live in this directory, which exists.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// A plugin of this name without rules.
    pub fn install(&self, name: &str) {
        symlink(program::built("fake-delegate"), self.dir.join(name)).unwrap();
    }

    /// Replaces the rules of a plugin; the first that fits counts.
    pub fn rules(&self, name: &str, rules: &[Rule]) {
        for (i, _) in rules.iter().enumerate() {
            let _ = fs::remove_file(self.used(name, i));
        }
        fs::write(self.dir.join(format!("{name}.rules")), serde_json::to_vec(rules).unwrap()).unwrap();
    }

    /// The rules of a plugin.
    pub fn read_rules(&self, name: &str) -> Vec<Rule> {
        match fs::read(self.dir.join(format!("{name}.rules"))) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Vec::new(),
        }
    }

    /// File whose length is the number of calls that fitted a rule.
    pub fn used(&self, name: &str, rule: usize) -> PathBuf {
        self.dir.join(format!("{name}.used.{rule}"))
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Seen> {
        let text = fs::read_to_string(self.dir.join(CALLS)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The calls of one verb.
    pub fn calls_of(&self, verb: &str) -> Vec<Seen> {
        self.calls().into_iter().filter(|seen| seen.var("CNI_COMMAND") == verb).collect()
    }

    /// All calls so far as "VERB plugin ifname"; forgets them.
    pub fn take_order(&self) -> Vec<String> {
        let order = self.calls().iter().map(Seen::line).collect();
        let _ = fs::remove_file(self.dir.join(CALLS));
        order
    }
}

/// The usual answer of a plugin to ADD: the result before it, or one interface and what `fakeIps` lists.
pub fn usual_result(conf: &Value, ifname: &str, netns: &str) -> Value {
    let version = conf["cniVersion"].as_str().unwrap_or("0.1.0");
    if let Some(before) = conf.get("prevResult") {
        return before.clone();
    }
    let ips: Vec<Value> = conf["fakeIps"].as_array().cloned().unwrap_or_default();
    if version.starts_with("0.1") || version.starts_with("0.2") {
        let address = ips.first().map_or(json!("192.0.2.9/24"), |ip| ip["address"].clone());
        return json!({"cniVersion": version, "ip4": {"ip": address}, "dns": {}});
    }
    let with_index = |mut ip: Value| {
        ip["interface"] = json!(0);
        if version < "1" {
            ip["version"] = json!(if ip["address"].as_str().unwrap_or("").contains(':') { "6" } else { "4" });
        }
        ip
    };
    let mac =
        format!("02:00:00:00:00:{:02x}", ifname.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)));
    json!({
        "cniVersion": version,
        "interfaces": [{"name": ifname, "mac": mac, "sandbox": netns}],
        "ips": ips.into_iter().map(with_index).collect::<Vec<_>>(),
        "routes": conf.get("fakeRoutes").cloned().unwrap_or(json!([])),
        "dns": {},
    })
}
