//! One configuration, and how it is run on both sides.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chosen;
use crate::compare;
use crate::side::{Side, Who};
use crate::state::State;

/// Every version of the protocol.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A configuration, and what is around it. In texts `$dir` stands for the directory of the side.
#[derive(Clone, Debug)]
pub struct Case {
    /// What failures call it.
    pub name: String,
    /// The chain.
    pub plugins: Vec<Value>,
    /// `cniVersion`.
    pub version: &'static str,
    /// What the runtime has for plugins that declare the capability.
    pub runtime: Value,
    /// Further CNI_ARGS.
    pub args: &'static str,
    /// What they are given instead, where no program of theirs has the first plugin in this version.
    pub theirs: Option<Vec<Value>>,
    /// Files in the directory of the side, with what is in them.
    pub files: Vec<(&'static str, &'static str)>,
    /// Commands that make the scene, on the host, or in the pod after "pod ".
    pub scene: Vec<&'static str>,
    /// Ids of chosen differences that must show, and no others.
    pub differs: Vec<&'static str>,
    /// How ADD ends.
    pub ends: Ends,
    /// Their CHECK looks for what only they make.
    pub unchecked: bool,
    /// After our DEL the scene is as it was.
    pub gives_back: bool,
}

/// How ADD ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ends {
    /// Both attach.
    Attached,
    /// Both refuse.
    Refused,
    /// One of them does: a chosen difference says which, and how.
    RefusedByOne,
}

impl Case {
    /// A chain of plugins that both attach, without a difference.
    pub fn new(plugins: Vec<Value>) -> Self {
        Self {
            name: String::new(),
            plugins,
            version: "1.1.0",
            runtime: json!({}),
            args: "",
            theirs: None,
            files: Vec::new(),
            scene: Vec::new(),
            differs: Vec::new(),
            ends: Ends::Attached,
            unchecked: false,
            gives_back: false,
        }
    }

    /// Sets a key of the first plugin.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.plugins[0][key] = value;
        self
    }

    /// What the scene has made is as it was after our DEL of our ADD; the reference plugins leave their changes behind.
    #[must_use]
    pub fn gives_back(self) -> Self {
        Self { gives_back: true, ..self }
    }

    /// Takes a key out of the first plugin.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.plugins[0].as_object_mut().unwrap().remove(key);
        self
    }

    /// Appends a plugin to the chain.
    #[must_use]
    pub fn then(mut self, plugin: Value) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// What the runtime has for those who declare the capability; the first plugin declares it.
    #[must_use]
    pub fn runtime(mut self, capability: &str, value: Value) -> Self {
        self.runtime[capability] = value;
        self.plugins[0]["capabilities"][capability] = json!(true);
        self
    }

    /// Further CNI_ARGS.
    #[must_use]
    pub fn args(mut self, args: &'static str) -> Self {
        self.args = args;
        self
    }

    /// A file in the directory of the side.
    #[must_use]
    pub fn file(mut self, name: &'static str, content: &'static str) -> Self {
        self.files.push((name, content));
        self
    }

    /// They are given this chain instead.
    #[must_use]
    pub fn beside(self, plugins: Vec<Value>) -> Self {
        Self { theirs: Some(plugins), ..self }
    }

    /// Commands before the ADD.
    #[must_use]
    pub fn scene(mut self, commands: &[&'static str]) -> Self {
        self.scene.extend(commands);
        self
    }

    /// Chosen differences that must show.
    #[must_use]
    pub fn differs(mut self, ids: &[&'static str]) -> Self {
        self.differs.extend(ids);
        self
    }

    /// Chosen differences that do not show here.
    #[must_use]
    pub fn agrees(mut self, ids: &[&'static str]) -> Self {
        self.differs.retain(|id| !ids.contains(id));
        self
    }

    /// Their CHECK cannot agree with a chosen difference.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { unchecked: true, ..self }
    }

    /// Both refuse.
    #[must_use]
    pub fn refused(self) -> Self {
        Self { ends: Ends::Refused, differs: Vec::new(), ..self }
    }

    /// We refuse what the reference plugin accepts, as a chosen difference says.
    #[must_use]
    pub fn refused_by_us(self, id: &'static str) -> Self {
        Self { ends: Ends::RefusedByOne, differs: vec![id], ..self }
    }

    /// The reference plugin refuses what we accept, as a chosen difference says.
    #[must_use]
    pub fn refused_by_them(self, id: &'static str) -> Self {
        self.refused_by_us(id)
    }

    /// In this version of the protocol.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// One case for each version.
    pub fn versions(self, versions: &[&'static str]) -> Vec<Self> {
        versions.iter().map(|version| self.clone().version(version)).collect()
    }

    fn text(&self, side: &Side) -> String {
        let whole = json!({"plugins": self.plugins, "runtime": self.runtime});
        whole.to_string().replace("$dir", side.dir())
    }

    /// Runs it: both attach, each is deleted by itself and by the other.
    pub fn run(&self) {
        let title = format!("{} in {}", self.name, self.version);
        let mut run = Run { case: self, title, shown: BTreeSet::new() };
        match self.ends {
            Ends::Attached => run.attached(),
            Ends::Refused => run.refused(),
            Ends::RefusedByOne => run.refused_by_one(),
        }
        let unseen: Vec<_> = self.differs.iter().filter(|id| !run.shown.contains(*id)).collect();
        assert!(unseen.is_empty(), "{}: chosen differences that do not show: {unseen:?}", run.title);
    }
}

/// A case under way.
struct Run<'a> {
    case: &'a Case,
    title: String,
    /// Ids of the chosen differences that showed.
    shown: BTreeSet<&'static str>,
}

impl Run<'_> {
    fn side(&self) -> Side {
        Side::new(self.case)
    }

    fn attached(&mut self) {
        let sides = [(Who::Them, Who::Them), (Who::Us, Who::Us), (Who::Them, Who::Us), (Who::Us, Who::Them)]
            .map(|(adds, deletes)| (self.side(), adds, deletes));
        let before = sides[1].0.see("", None);
        let results = sides.each_ref().map(|(side, adds, _)| {
            let added = side.add(*adds);
            added.unwrap_or_else(|error| panic!("{}: ADD by {adds:?}: {error}", self.title))
        });
        let [(theirs, ..), (ours, ..), ..] = &sides;
        self.compare("after ADD", (theirs, Some(&results[0])), (ours, Some(&results[1])));
        if self.case.version >= "0.4.0" {
            ours.check(Who::Us, &results[1]).unwrap_or_else(|error| panic!("{}: our CHECK: {error}", self.title));
            // Where it fails for what they made themselves, it says nothing.
            let checked = ours.check(Who::Them, &results[1]);
            let agrees = checked.is_ok() || self.case.unchecked || theirs.check(Who::Them, &results[0]).is_err();
            assert!(agrees, "{}: their CHECK of ours: {checked:?}", self.title);
        }
        for ((side, _, deletes), result) in sides.iter().zip(&results) {
            let deleted = side.del(*deletes, Some(result));
            deleted.unwrap_or_else(|error| panic!("{}: DEL by {deletes:?}: {error}", self.title));
        }
        for (side, adds, deletes) in &sides[1..] {
            if self.case.gives_back && matches!((adds, deletes), (Who::Us, Who::Us)) {
                // A port has joined the bridge and left it: its own state is the kernel's. An address that was taken off comes
                // back with a broadcast address, or to be looked for duplicates.
                const KEPT: [&str; 12] = [
                    "/lock",
                    "/last_reserved_ip.",
                    "/forwarding",
                    "/ip_forward",
                    "/accept_redirects",
                    "host/link/br0/",
                    "link-local of br0",
                    "host/forwarding/br0 ",
                    " br0 ",
                    "/conf/br0/mtu",
                    "10.9.0.",
                    "host/address/br0/fd00:1::9",
                ];
                self.as_before(side, &before, &KEPT);
                continue;
            }
            self.compare(&format!("ADD by {adds:?}, after DEL by {deletes:?}"), (theirs, None), (side, None));
        }
    }

    /// What the reference plugins leave of an ADD that failed is no measure: we leave nothing but what a node keeps.
    fn refused(&mut self) {
        let (theirs, ours) = (self.side(), self.side());
        let before = ours.see("", None);
        assert!(theirs.add(Who::Them).is_err(), "{}: they attach", self.title);
        assert!(ours.add(Who::Us).is_err(), "{}: we attach", self.title);
        self.nothing_left(&ours, &before);
        ours.del(Who::Us, None).unwrap_or_else(|error| panic!("{}: our DEL: {error}", self.title));
    }

    fn refused_by_one(&mut self) {
        let (theirs, ours) = (self.side(), self.side());
        let before = ours.see("", None);
        let said = |side: &Side, who| {
            State::from([("ADD".to_owned(), side.add(who).map_or_else(|e| e, |_| "attached".to_owned()))])
        };
        let wrong = self.wrong(&said(&theirs, Who::Them), &said(&ours, Who::Us));
        assert!(wrong.is_empty(), "{}:\n{wrong}", self.title);
        ours.del(Who::Us, None).unwrap_or_else(|error| panic!("{}: our DEL: {error}", self.title));
        self.nothing_left(&ours, &before);
    }

    /// But for the bridge, forwarding, and the files that host-local keeps.
    fn nothing_left(&self, side: &Side, before: &State) {
        const KEPT: [&str; 6] =
            ["br0", "/lock", "/last_reserved_ip.", "/forwarding", "/ip_forward", "/accept_redirects"];
        self.as_before(side, before, &KEPT);
    }

    /// Nothing differs but what has one of these in its path; the kernel may need a moment.
    fn as_before(&self, side: &Side, before: &State, kept: &[&str]) {
        let late = Instant::now() + Duration::from_secs(20);
        let mut left = String::from("unknown");
        while !left.is_empty() && Instant::now() < late {
            let found = compare::differences(before, &side.see("", None));
            let found = found.iter().filter(|difference| !kept.iter().any(|kept| difference.path.contains(kept)));
            left = found.map(|difference| format!("  {difference}\n")).collect();
        }
        assert!(left.is_empty(), "{}: left, before as theirs and after as ours:\n{left}", self.title);
    }

    /// The states are what they must be; the kernel may need a moment for carriers and addresses.
    fn compare(&mut self, stage: &str, theirs: (&Side, Option<&Value>), ours: (&Side, Option<&Value>)) {
        let see = |(side, result): (&Side, Option<&Value>)| side.see(&self.case.text(side), result);
        let late = Instant::now() + Duration::from_secs(30);
        loop {
            let wrong = self.wrong(&see(theirs), &see(ours));
            if wrong.is_empty() {
                return;
            }
            assert!(Instant::now() < late, "{}, {stage}:\n{wrong}", self.title);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What no chosen difference explains, as text.
    fn wrong(&mut self, theirs: &State, ours: &State) -> String {
        const LINES: usize = 40;
        let found = compare::differences(theirs, ours);
        // Wherever there is an IPv6 address, in whatever case.
        let allowed: Vec<_> = self.case.differs.iter().copied().chain([chosen::ADVERTISEMENTS]).collect();
        let (unexplained, shown) = compare::explain(&found, &allowed);
        self.shown.extend(shown);
        let mut text: String = unexplained.iter().take(LINES).map(|difference| format!("  {difference}\n")).collect();
        if unexplained.len() > LINES {
            text += &format!("  and {} more\n", unexplained.len() - LINES);
        }
        text
    }
}

/// Test cases from configurations: one test each, and `cases()` with all of them. An entry is a case or several.
macro_rules! cases {
    ($($name:ident => $case:expr;)*) => {
        $(#[test]
        fn $name() {
            for mut case in Vec::from($crate::case::Several::from($case)) {
                case.name = stringify!($name).to_owned();
                case.run();
            }
        })*

        pub fn cases() -> Vec<$crate::case::Case> {
            vec![$(Vec::from($crate::case::Several::from($case))),*].concat()
        }
    };
}
pub(crate) use cases;

/// A case or several.
pub struct Several(Vec<Case>);

impl From<Case> for Several {
    fn from(case: Case) -> Self {
        Self(vec![case])
    }
}

impl From<Vec<Case>> for Several {
    fn from(cases: Vec<Case>) -> Self {
        Self(cases)
    }
}

impl From<Several> for Vec<Case> {
    fn from(several: Several) -> Self {
        several.0
    }
}
