//! Every way in which a program can misbehave, as shell scripts.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

use attachments::cni::object::Object;
use attachments::names::{ContainerId, IfName, NetworkName};
use tempfile::TempDir;

use super::*;
use crate::call::Point;
use crate::call::testing::ours;
use crate::reserved::Reserved;

/// A directory with one plugin named `fake`.
struct Bench {
    dir: TempDir,
    kind: PluginType,
    network: NetworkName,
    container: ContainerId,
    ifname: IfName,
    conf: Object,
    millis: u64,
}

impl Bench {
    fn new(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("fake");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Self {
            dir,
            kind: "fake".parse().unwrap(),
            network: "lan".parse().unwrap(),
            container: "c1".parse().unwrap(),
            ifname: "net1".parse().unwrap(),
            conf: Object::parse(br#"{"cniVersion":"1.1.0","name":"lan","type":"fake"}"#).unwrap(),
            millis: 20_000,
        }
    }

    fn with_conf_of(mut self, bytes: usize) -> Self {
        self.conf.set("pad", &"x".repeat(bytes));
        self
    }

    fn within(mut self, millis: u64) -> Self {
        self.millis = millis;
        self
    }

    fn run(&self) -> Result<Vec<u8>> {
        self.run_with_lock(None)
    }

    fn run_with_lock(&self, lock: Option<&Lock>) -> Result<Vec<u8>> {
        let dirs = [self.dir.path().join("missing"), self.dir.path().to_owned()];
        let deadline = Instant::now() + Duration::from_millis(self.millis);
        let node = Node {
            plugin_dirs: &dirs,
            state_dir: self.dir.path(),
            deadline,
            builtin: None,
            reserved: Reserved::UNASKED,
            is_alone: true,
            lock,
        };
        let point = Point {
            container: &self.container,
            netns: "/run/netns/x",
            ifname: &self.ifname,
            args: "K=V;IgnoreUnknown=1",
            group: 7,
        };
        let call = Call {
            network: &self.network,
            version: Version::V1_1_0,
            conf: &self.conf,
            origin: ours(),
            point: Some(point),
            prev_result: None,
            saved: None,
        };
        run(&node, &self.kind, Verb::Add, &call)
    }

    fn said(&self) -> String {
        String::from_utf8(self.run().unwrap()).unwrap()
    }

    fn refusal(&self) -> String {
        self.run().unwrap_err().to_string()
    }

    /// The process numbers that the script left in a file.
    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("pids")).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// Killed processes may still be zombies of the machine's init, or of nobody in a container.
fn all_ended(pids: &[String]) -> bool {
    let ended = |pid: &String| match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    (0..100).any(|_| {
        sleep(Duration::from_millis(10));
        pids.iter().all(ended)
    })
}

#[test]
fn a_plugin_gets_the_six_variables_and_the_configuration() {
    let bench = Bench::new(
        r#"echo "$CNI_COMMAND|$CNI_CONTAINERID|$CNI_NETNS|$CNI_IFNAME|$CNI_ARGS|$CNI_PATH|${PATH:+inherited}"; cat"#,
    );
    let dir = bench.dir.path().display();
    assert_eq!(
        bench.said(),
        format!(
            "ADD|c1|/run/netns/x|net1|K=V;IgnoreUnknown=1|{dir}/missing:{dir}|inherited\n{}",
            r#"{"cniVersion":"1.1.0","name":"lan","type":"fake"}"#
        )
    );
}

#[test]
fn variables_without_a_value_are_set_all_the_same() {
    let bench = Bench::new("env");
    let node = Node {
        plugin_dirs: &[bench.dir.path().to_owned()],
        state_dir: bench.dir.path(),
        deadline: Instant::now() + Duration::from_secs(20),
        builtin: None,
        reserved: Reserved::UNASKED,
        is_alone: true,
        lock: None,
    };
    let call = Call {
        network: &bench.network,
        version: Version::V1_1_0,
        conf: &bench.conf,
        origin: ours(),
        point: None,
        prev_result: None,
        saved: None,
    };
    let env = String::from_utf8(run(&node, &bench.kind, Verb::Gc, &call).unwrap()).unwrap();
    for line in ["CNI_COMMAND=GC", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=", "CNI_ARGS="] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
}

#[test]
fn only_a_regular_file_is_a_plugin() {
    let bench = Bench::new("true");
    fs::create_dir_all(bench.dir.path().join("missing/fake")).unwrap();
    assert!(bench.run().is_ok());
    let nowhere = find(&"other".parse().unwrap(), &[PathBuf::from("/a"), PathBuf::from("/b")]).unwrap_err();
    assert_eq!(nowhere.to_string(), r#"plugin "other" is in none of /a:/b"#);
}

#[test]
fn a_program_that_cannot_start_is_an_error() {
    let bench = Bench::new("true");
    let path = bench.dir.path().join("fake");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(bench.refusal().ends_with(&format!("{} is not executable", path.display())));
}

#[test]
fn a_large_configuration_arrives_whole() {
    let bench = Bench::new("wc -c").with_conf_of(1 << 20);
    assert_eq!(bench.said().trim(), bench.conf.to_json().len().to_string());
}

#[test]
fn much_output_on_both_pipes_before_stdin_is_read_blocks_nobody() {
    let bench = Bench::new(
        "head -c 1000000 /dev/zero | tr '\\0' ' ' >&2; head -c 1000000 /dev/zero | tr '\\0' o; cat >/dev/null",
    )
    .with_conf_of(1 << 20);
    assert_eq!(bench.run().unwrap().len(), 1_000_000);
}

#[test]
fn a_plugin_need_not_read_its_configuration() {
    let bench = Bench::new("echo done").with_conf_of(1 << 20);
    assert_eq!(bench.said(), "done\n");
    let early = Bench::new("exec 0<&-; sleep 0.1; echo done").with_conf_of(1 << 20);
    assert_eq!(early.said(), "done\n");
}

#[test]
fn outputs_may_be_closed_before_stdin_is_read() {
    let bench = Bench::new("exec >&- 2>&-; sleep 0.1; wc -c >$(dirname $0)/count").with_conf_of(1 << 20);
    bench.run().unwrap();
    let count = fs::read_to_string(bench.dir.path().join("count")).unwrap();
    assert_eq!(count.trim(), bench.conf.to_json().len().to_string());
}

#[test]
fn endless_output_is_refused_and_ended() {
    let bench = Bench::new("echo $$ >$(dirname $0)/pids; exec yes");
    assert_eq!(bench.refusal(), "plugin fake: printed more than 4194304 bytes on stdout");
    assert!(all_ended(&bench.pids()));
}

#[test]
fn a_plugin_that_hangs_ends_with_its_children_at_the_deadline() {
    let bench = Bench::new("sleep 1000 & echo $$ $! >$(dirname $0)/pids; wait").within(1500);
    let begun = Instant::now();
    assert_eq!(bench.refusal(), "ADD of plugin fake in network lan did not finish before the deadline");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let pids = bench.pids();
    assert_eq!(pids.len(), 2);
    assert!(all_ended(&pids));
}

#[test]
fn a_plugin_that_hangs_with_its_pipes_closed_is_late_too() {
    let bench = Bench::new("exec <&- >&- 2>&-; echo $$ >$(dirname $0)/pids; exec sleep 1000").within(1500);
    assert!(matches!(bench.run(), Err(Error::Late(_))));
    assert!(all_ended(&bench.pids()));
}

#[test]
fn grandchildren_that_keep_the_pipes_open_are_ended() {
    let bench = Bench::new("sleep 1000 & echo $! >$(dirname $0)/pids; echo '{}'");
    let begun = Instant::now();
    assert_eq!(bench.said(), "{}\n");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(all_ended(&bench.pids()));
}

#[test]
fn a_deadline_that_has_passed_starts_nothing() {
    let bench = Bench::new("touch $(dirname $0)/ran").within(0);
    assert!(matches!(bench.run(), Err(Error::Late(_))));
    assert!(!bench.dir.path().join("ran").exists());
}

#[test]
fn a_plugins_own_code_is_kept() {
    let object = |script: &str| match Bench::new(script).run() {
        Err(Error::Plugin(object)) => object,
        other => panic!("{other:?}"),
    };
    let busy = object(r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"d"}'; exit 1"#);
    assert_eq!((busy.code, busy.msg.as_str(), busy.details.as_str()), (11, "busy", "d"));
    assert_eq!(object(r#"echo '{"ips":[]}{"code":8,"msg":"own netns"}'; exit 1"#).code, 8);
    // A plugin that fails with code 0 has failed.
    assert_eq!(object(r#"echo '{"code":0,"msg":"x"}'; exit 3"#).code, 999);
}

#[test]
fn a_failure_without_an_error_object_says_the_most_that_is_known() {
    assert_eq!(
        Bench::new(r"printf 'oh\tno \001'; exit 2").refusal(),
        r#"plugin fake: exit status 2 without an error object, stdout "oh\tno \u{1}""#
    );
    assert_eq!(Bench::new("echo broken >&2; exit 1").refusal(), r#"plugin fake: exit status 1, stderr "broken""#);
    assert_eq!(Bench::new("exit 1").refusal(), "plugin fake: exit status 1 without any output");
    assert_eq!(Bench::new("kill -SEGV $$").refusal(), "plugin fake: killed by SIGSEGV without any output");
    let long = Bench::new("head -c 100000 /dev/zero | tr '\\0' x; exit 1").refusal();
    assert!(long.len() < 400 && long.contains("xxx...xxx") && long.ends_with("xxx\""), "{long}");
}

#[test]
fn a_success_must_hold_a_result() {
    let kind = "fake".parse().unwrap();
    let refusal = |text: &str| add_result(&kind, text.as_bytes(), Version::V1_1_0).unwrap_err().to_string();
    let nothing = Bench::new("exit 0").said();
    assert_eq!(refusal(&nothing), "plugin fake: succeeded without a result, want one JSON object on stdout");
    let garbage = refusal("ok\n");
    assert!(garbage.starts_with("plugin fake: bad result") && garbage.ends_with(r#"it printed "ok\n""#), "{garbage}");
    assert!(add_result(&kind, b"{}", Version::V1_1_0).is_ok());
}

#[test]
fn a_program_that_is_being_written_is_tried_again() {
    let bench = Bench::new("echo done");
    let path = bench.dir.path().join("fake");
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    let released = std::thread::spawn(move || {
        sleep(Duration::from_millis(150));
        drop(writer);
    });
    assert_eq!(bench.said(), "done\n");
    released.join().unwrap();
    let _writer = OpenOptions::new().append(true).open(&path).unwrap();
    let begun = Instant::now();
    assert!(bench.refusal().contains("Text file busy"));
    assert!(begun.elapsed() > Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_sandbox_lock_is_inherited_at_the_same_number() {
    let bench = Bench::new("ls -l /proc/$$/fd");
    let path = bench.dir.path().join("lock");
    let lock = Lock::try_take(&path).unwrap().unwrap();
    let seen = String::from_utf8(bench.run_with_lock(Some(&lock)).unwrap()).unwrap();
    let entry = format!(" {} -> {}", lock.as_fd().as_raw_fd(), path.display());
    assert!(seen.lines().any(|line| line.ends_with(&entry)), "{entry} in {seen}");
    let flags = FdFlag::from_bits_retain(fcntl(&lock, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC), "the next program would inherit it unasked");
}

/// A program that starts another one in a session of its own, which no signal to its group reaches; `then` is what the program
/// itself does. Gives whether the sandbox is locked once the program is given up or done, and ends the other one.
fn is_locked_behind(then: &str, millis: u64) -> bool {
    let bench =
        Bench::new(&format!("setsid sh -c 'echo $$ > \"$0.pid\"; exec sleep 600' \"$0\" {then}")).within(millis);
    let path = bench.dir.path().join("lock");
    let lock = Lock::try_take(&path).unwrap().unwrap();
    drop(bench.run_with_lock(Some(&lock)));
    drop(lock);
    let is_locked = Lock::try_take(&path).unwrap().is_none();
    let pid: i32 = fs::read_to_string(bench.dir.path().join("fake.pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    drop(Lock::take(&path, Instant::now() + Duration::from_secs(20)).unwrap());
    assert!(!path.exists());
    is_locked
}

#[test]
fn whoever_outlives_a_program_that_was_given_up_keeps_the_sandbox_locked() {
    assert!(is_locked_behind("& sleep 600", 2000));
    // The program has ended and its child holds its output: nobody can tell that its work is done.
    assert!(is_locked_behind("& sleep 0.3; echo '{}'", 20_000));
}

#[test]
fn a_daemon_of_good_order_keeps_nothing_locked() {
    assert!(!is_locked_behind("< /dev/null > /dev/null 2>&1 & sleep 0.3; echo '{}'", 20_000));
}
