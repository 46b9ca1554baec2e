//! The directory on a real file system, alone and by turns with the reference plugin
//! (`/usr/lib/cni/host-local` of Debian's containernetworking-plugins).

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use attachments::cni::version::Version;
use attachments::names::PluginType;
use nix::fcntl::{Flock, FlockArg};

use super::super::tests::{Bench, Small, read, run};
use super::*;
use crate::call::Verb;
use crate::exec;

impl Bench {
    /// The network's directory below the bench's.
    pub fn lan(&self) -> PathBuf {
        self.dir.path().join("data/lan")
    }

    /// A configuration whose data is in the bench.
    pub fn conf(&self, ipam: &str) -> String {
        let data = self.dir.path().join("data");
        format!(r#"{{"type":"bridge","ipam":{{"type":"host-local","dataDir":"{}",{ipam}}}}}"#, data.display())
    }

    /// The same verb by the reference plugin; a result, or its message.
    fn reference(&self, verb: Verb, conf: &str, who: &str) -> std::result::Result<CniResult, String> {
        let kind: PluginType = "host-local".parse().unwrap();
        let dirs = [PathBuf::from("/usr/lib/cni")];
        let answer = self
            .with(conf, who, |node, call| exec::run(&Node { plugin_dirs: &dirs, ..node.clone() }, &kind, verb, call));
        match answer {
            Ok(stdout) if verb == Verb::Add => Ok(exec::add_result(&kind, &stdout, Version::V1_0_0).unwrap()),
            Ok(_) => Ok(CniResult::default()),
            Err(Error::Plugin(object)) => Err(object.msg),
            Err(other) => panic!("{other}"),
        }
    }

    fn reference_add(&self, conf: &str, who: &str) -> String {
        match self.reference(Verb::Add, conf, who) {
            Ok(result) => result.ips.iter().map(|ip| ip.address.to_string()).collect::<Vec<_>>().join(" "),
            Err(message) => message,
        }
    }

    /// Names, modes and contents of the network's directory, sorted.
    fn tree(&self) -> String {
        let mut names: Vec<PathBuf> = fs::read_dir(self.lan()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        let mut tree = format!("{:o}", fs::metadata(self.lan()).unwrap().permissions().mode());
        for path in names {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            write!(tree, " {}:{mode:o}:{:?}", path.file_name().unwrap().display(), read(&path)).unwrap();
        }
        tree
    }

    /// The same with the modes of newer reference plugins: 1.1.1, Debian's, still makes its files readable for all.
    fn reference_tree(&self) -> String {
        self.tree().replace(":100644:", ":100600:")
    }

    /// The addresses that are held, sorted as text.
    pub fn held(&self) -> String {
        let names = fs::read_dir(self.lan()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.parse::<IpAddr>().is_ok()).collect();
        names.sort();
        names.join(" ")
    }
}

const SMALL: &str = r#""subnet":"10.0.0.0/29""#;

#[test]
fn files_and_results_are_those_of_the_reference_plugin() {
    let sections = [
        r#""subnet":"10.1.0.0/16","routes":[{"dst":"0.0.0.0/0"},{"dst":"10.9.0.0/16","gw":"10.1.0.9"}]"#,
        r#""ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","gateway":"10.1.0.200"}],[{"subnet":"fd00:0:0:1::/64"}]]"#,
        r#""subnet":"10.1.0.0/30","ranges":[[{"subnet":"10.2.0.0/30"},{"subnet":"10.3.0.0/24"}],[{"subnet":"2001:db8::/120"}]]"#,
    ];
    for section in sections {
        let (ours, theirs) = (Bench::new(), Bench::new());
        let (our_conf, their_conf) = (ours.conf(section), theirs.conf(section));
        for who in ["c1 net1", "c1 net2", "c2 net1"] {
            let expected = theirs.reference(Verb::Add, &their_conf, who);
            let given = ours.with(&our_conf, who, allocate);
            match (given, expected) {
                (Ok(given), Ok(expected)) => assert_eq!(
                    given.encode(Version::V1_0_0).unwrap().to_json(),
                    expected.encode(Version::V1_0_0).unwrap().to_json()
                ),
                (Err(_), Err(_)) => {}
                (given, expected) => panic!("{section} {who}: {given:?} {expected:?}"),
            }
            assert_eq!(ours.tree(), theirs.reference_tree(), "{section} {who}");
        }
        theirs.reference(Verb::Del, &their_conf, "c1 net1").unwrap();
        ours.del(&our_conf, "c1 net1");
        assert_eq!(ours.tree(), theirs.reference_tree(), "{section}");
    }
}

#[test]
fn the_reference_plugin_goes_on_where_we_stopped_and_back() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/29");
    assert_eq!(bench.reference_add(&conf, "b net1"), "10.0.0.3/29");
    assert_eq!(bench.add(&conf, "c net1"), "10.0.0.4/29");
    bench.reference(Verb::Del, &conf, "a net1").unwrap();
    bench.del(&conf, "b net1");
    assert_eq!(bench.held(), "10.0.0.4");
    // The round goes on before it begins again.
    assert_eq!(bench.reference_add(&conf, "d net1"), "10.0.0.5/29");
    assert_eq!(bench.add(&conf, "e net1"), "10.0.0.6/29");
    assert_eq!(bench.reference_add(&conf, "f net1"), "10.0.0.2/29");
    assert_eq!(bench.add(&conf, "g net1"), "10.0.0.3/29");
    assert_eq!(bench.add(&conf, "h net1"), "no address left in range set 10.0.0.1-10.0.0.6");
    assert!(bench.reference_add(&conf, "h net1").contains("no IP addresses available"));
    // Each sees the other's owners.
    assert!(bench.reference_add(&conf, "g net1").contains("duplicate allocation"));
    assert!(bench.with(&conf, "f net1", check).is_ok());
    assert!(bench.reference(Verb::Check, &conf, "g net1").is_ok());
    for who in ["c", "d", "e", "f", "g"] {
        bench.del(&conf, &format!("{who} net1"));
    }
    assert_eq!(bench.held(), "");
    assert!(matches!(bench.with(&conf, "f net1", check), Err(Error::Differs(_))));
}

#[test]
fn the_reference_plugin_honours_our_lock_and_we_honour_its() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/24""#);
    bench.add(&conf, "first net1");
    let store = Store::open(&bench.lan(), Instant::now()).unwrap().unwrap();
    thread::scope(|scope| {
        let theirs = scope.spawn(|| bench.reference_add(&conf, "theirs net1"));
        thread::sleep(Duration::from_millis(200));
        assert!(!theirs.is_finished());
        drop(store);
        assert_eq!(theirs.join().unwrap(), "10.0.0.3/24");
    });
}

#[test]
fn fifty_at_once_get_fifty_addresses() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/24""#);
    let mut given: Vec<String> = thread::scope(|scope| {
        let (bench, conf) = (&bench, &conf);
        let each = |i| {
            let who = format!("c{i} net1");
            scope.spawn(move || if i % 5 == 0 { bench.reference_add(conf, &who) } else { bench.add(conf, &who) })
        };
        (0..50).map(each).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 50);
    assert!(given.iter().all(|address| address.ends_with("/24")), "{given:?}");
}

#[test]
fn waiting_for_the_lock_ends_at_the_deadline() {
    let mut bench = Bench::new();
    let conf = bench.conf(SMALL);
    bench.add(&conf, "a net1");
    let file = fs::File::open(bench.lan().join("lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    bench.millis = 100;
    let late = bench.with(&conf, "b net1", allocate).unwrap_err();
    assert!(matches!(&late, Error::Late(text) if text.contains("/lan/lock")), "{late}");
    assert_eq!(bench.held(), "10.0.0.2");
    bench.millis = 20_000;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| bench.add(&conf, "b net1"));
        thread::sleep(Duration::from_millis(100));
        drop(lock);
        // The call that gave up is first in the queue, and must hand the lock on.
        assert_eq!(waiting.join().unwrap(), "10.0.0.3/29");
    });
}

#[test]
fn requested_addresses_come_by_three_channels() {
    let bench = Bench::new();
    let sets = r#""ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]"#;
    let conf = bench.conf(sets);
    let with = |more: &str| format!("{},{more}}}", conf.strip_suffix('}').unwrap());
    assert_eq!(bench.add(&conf, "a net1 IP=10.0.0.9"), "10.0.0.9/24 fd00::2/64");
    assert_eq!(bench.add(&conf, "b net1 IP=fd00::9,10.0.0.10"), "10.0.0.10/24 fd00::9/64");
    let args = with(r#""args":{"cni":{"ips":["10.0.0.11"]}},"runtimeConfig":{"ips":["10.0.0.11/8","fd00::b/64"]}"#);
    assert_eq!(bench.add(&args, "c net1"), "10.0.0.11/24 fd00::b/64");
    // The round goes on behind a requested address.
    assert_eq!(bench.add(&conf, "d net1"), "10.0.0.12/24 fd00::c/64");
    let before = bench.tree();
    for (who, error) in [
        ("e net1 IP=10.0.0.9", "requested address 10.0.0.9 is taken"),
        ("a net1 IP=10.0.0.9", "requested address 10.0.0.9 is taken"),
        ("e net1 IP=10.0.0.1", "CNI_ARGS IP: got 10.0.0.1, want another address than the gateway of 10.0.0.0/24"),
        ("e net1 IP=10.9.0.1", "CNI_ARGS IP: got 10.9.0.1, want an address of 10.0.0.1-10.0.0.254 or fd00::1-"),
        ("e net1 IP=10.0.0.50,10.0.0.51", "CNI_ARGS IP: got 10.0.0.51, want one address of a range set; 10.0.0.50"),
        ("e net1 IP=x", r#"CNI_ARGS IP: got "x", want an IP address"#),
    ] {
        let said = bench.add(&conf, who);
        assert!(said.starts_with(error), "{who}: {said}");
        assert_eq!(bench.tree(), before, "{who}");
    }
}

#[test]
fn ranges_of_the_runtime_come_first() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.1.0.0/24"}]]"#);
    let more = r#","runtimeConfig":{"ipRanges":[[{"subnet":"10.2.0.0/24"}]]}}"#;
    let runtime = format!("{}{more}", conf.strip_suffix('}').unwrap());
    assert_eq!(bench.add(&runtime, "a net1"), "10.2.0.2/24 10.0.0.2/24 10.1.0.2/24");
    let overlap = bench.add(&runtime.replace("10.2.0.0/24", "10.1.0.0/16"), "b net1");
    assert!(overlap.starts_with("ipam.ranges[0]: 10.1.0.1-10.1.0.254 overlaps runtimeConfig.ipRanges[0]"));
}

#[test]
fn a_failed_add_takes_back_what_it_took_and_nothing_else() {
    let bench = Bench::new();
    let conf = bench.conf(r#""ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.1.0.0/30"}]]"#);
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/24 10.1.0.2/30");
    assert_eq!(bench.add(&conf, "b net1"), "no address left in range set 10.1.0.1-10.1.0.2");
    assert_eq!(bench.held(), "10.0.0.2 10.1.0.2");
    // As with the reference plugin, the round robin stays where it is.
    assert_eq!(read(&bench.lan().join("last_reserved_ip.0")), "10.0.0.3");
    assert!(matches!(bench.with(&conf, "b net1", status), Err(Error::NotReady(_))));
    bench.del(&conf, "a net1");
    assert!(bench.with(&conf, "b net1", status).is_ok());
}

#[test]
fn an_address_file_that_was_never_filled_is_free() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/30""#);
    fs::create_dir_all(bench.lan()).unwrap();
    fs::write(bench.lan().join("10.0.0.2"), "").unwrap();
    assert!(bench.with(&conf, "a net1", status).is_ok());
    fs::write(bench.lan().join("10.0.0.2"), "").unwrap();
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/30");
    fs::write(bench.lan().join("10.0.0.1"), "\0\0\0").unwrap();
    bench.del(&conf, "a net1");
    assert_eq!(bench.held(), "");
}

#[test]
fn release_follows_the_rules_of_old_files() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    bench.add(&conf, "a net1");
    fs::write(bench.lan().join("10.0.0.5"), " a \n").unwrap();
    fs::write(bench.lan().join("10.0.0.4"), "a\r\nnet2").unwrap();
    // The exact owner first; the container's own file stays while there was one.
    bench.del(&conf, "a net1");
    assert_eq!(bench.held(), "10.0.0.4 10.0.0.5");
    assert!(bench.with(&conf, "a net1", check).is_ok());
    bench.del(&conf, "a net1");
    assert_eq!(bench.held(), "10.0.0.4");
}

/// A call about the addresses of a result.
fn about<T>(bench: &Bench, conf: &str, who: &str, addresses: &str, act: impl Fn(&Node<'_>, &Call<'_>) -> T) -> T {
    let ip = |address: &str| Ip::new(format!("{address}/24").parse().unwrap(), None, None);
    let result = CniResult { ips: addresses.split_whitespace().map(ip).collect(), ..CniResult::default() };
    bench.with(conf, who, |node, call| act(node, &Call { prev_result: Some(&result), ..call.clone() }))
}

/// Fills a directory with the addresses of others, last read a long time ago.
fn others(bench: &Bench, addresses: impl Iterator<Item = u8>) -> Vec<PathBuf> {
    let long_ago = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH + Duration::from_secs(1));
    let each = |last: u8| {
        let path = bench.lan().join(format!("10.0.0.{last}"));
        fs::write(&path, format!("other{last}\r\neth0")).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_times(long_ago).unwrap();
        path
    };
    addresses.map(each).collect()
}

/// Those that were read since. Under `noatime` nothing could be told; `read` shows that it can.
fn read_since(paths: &[PathBuf]) -> Vec<&PathBuf> {
    let is_read = |path: &&PathBuf| {
        fs::metadata(path).unwrap().accessed().unwrap() > std::time::UNIX_EPOCH + Duration::from_secs(1)
    };
    paths.iter().filter(is_read).collect()
}

#[test]
fn the_files_of_others_are_left_closed_where_the_result_says_what_it_is_about() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/24""#);
    assert_eq!(bench.add(&conf, "first net1"), "10.0.0.2/24");
    let others = others(&bench, 3..200);
    fs::write(bench.lan().join("last_reserved_ip.0"), "10.0.0.199").unwrap();
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.200/24");
    about(&bench, &conf, "a net1", "10.0.0.200", check).unwrap();
    bench.with(&conf, "a net1", status).unwrap();
    about(&bench, &conf, "a net1", "10.0.0.200", release).unwrap();
    assert!(!bench.lan().join("10.0.0.200").exists());
    assert_eq!(read_since(&others), Vec::<&PathBuf>::new());
    // Another's address in the result is looked at, and stays; the container's own is then searched for.
    assert_eq!(bench.add(&conf, "b net1"), "10.0.0.201/24");
    let differs = about(&bench, &conf, "b net1", "10.0.0.7", check).unwrap_err().to_string();
    assert!(differs.starts_with("no file 10.0.0.7 in "), "{differs}");
    about(&bench, &conf, "b net1", "10.0.0.7", release).unwrap();
    assert!(bench.lan().join("10.0.0.7").exists() && !bench.lan().join("10.0.0.201").exists());
    assert_eq!(read_since(&others).len(), others.len(), "a file that is read can be told from one that is not");
}

#[test]
fn a_release_finds_what_the_result_does_not_say() {
    let bench = Bench::new();
    let conf = bench.conf(r#""ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.1.0.0/24"}]]"#);
    for told in ["", "10.0.0.2", "10.1.0.2 10.9.0.9"] {
        bench.add(&conf, "a net1");
        fs::write(bench.lan().join("last_reserved_ip.0"), "10.0.0.1").unwrap();
        fs::write(bench.lan().join("last_reserved_ip.1"), "10.1.0.1").unwrap();
        about(&bench, &conf, "a net1", told, release).unwrap();
        assert_eq!(bench.held(), "", "{told:?}");
    }
    // The oldest plugins wrote the container alone.
    fs::write(bench.lan().join("10.0.0.9"), "a").unwrap();
    about(&bench, &conf, "a net1", "10.0.0.9", check).unwrap();
    about(&bench, &conf, "a net1", "10.0.0.9", release).unwrap();
    assert_eq!(bench.held(), "");
}

#[test]
fn an_address_is_found_behind_many_that_are_taken_and_where_only_leftovers_are_free() {
    let bench = Bench::new();
    let conf = bench.conf(r#""subnet":"10.0.0.0/24""#);
    fs::create_dir_all(bench.lan()).unwrap();
    others(&bench, 2..120);
    bench.with(&conf, "a net1", status).unwrap();
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.120/24");
    others(&bench, 121..=254);
    assert!(matches!(bench.with(&conf, "a net1", status), Err(Error::NotReady(_))));
    assert_eq!(bench.add(&conf, "b net1"), "no address left in range set 10.0.0.1-10.0.0.254");
    fs::write(bench.lan().join("10.0.0.77"), "\0\0").unwrap();
    bench.with(&conf, "a net1", status).unwrap();
    assert_eq!(bench.add(&conf, "b net1"), "10.0.0.77/24");
    // What is no plain file is nobody's, and in the way all the same.
    fs::remove_file(bench.lan().join("10.0.0.78")).unwrap();
    nix::unistd::mkfifo(&bench.lan().join("10.0.0.78"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(bench.add(&conf, "c net1"), "no address left in range set 10.0.0.1-10.0.0.254");
}

#[test]
fn del_needs_neither_a_directory_nor_valid_ranges() {
    let bench = Bench::new();
    bench.del(&bench.conf(SMALL), "a net1");
    assert!(!bench.lan().exists());
    bench.add(&bench.conf(SMALL), "a net1");
    bench.del(&bench.conf(r#""subnet":"nonsense""#), "a net1");
    bench.del(&bench.conf(SMALL), "a net1");
    assert_eq!(bench.held(), "");
}

#[test]
fn gc_removes_what_departed_left_and_tells_of_strangers() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    for who in ["living net1", "living net2", "departed net1", "stranger net1"] {
        bench.add(&conf, who);
    }
    // The oldest plugins wrote no interface; a killed one wrote nothing.
    fs::write(bench.lan().join("10.0.0.6"), "departed").unwrap();
    fs::write(bench.lan().join("10.0.0.1"), "").unwrap();
    fs::create_dir(bench.lan().join("inner")).unwrap();
    fs::write(bench.lan().join("inner/10.0.0.6"), "departed\r\nnet1").unwrap();
    let living = BTreeSet::from(["living".parse().unwrap()]);
    let departed = HashSet::from(["departed".parse().unwrap()]);
    let ownership = Ownership { living: &living, departed: &departed, is_recorded: &|_| false };
    let unknown = bench.with(&conf, "x net1", |node, call| gc(node, call, &ownership)).unwrap();
    assert_eq!(unknown, [format!("address {} of stranger net1", bench.lan().join("10.0.0.5").display())]);
    assert_eq!(bench.held(), "10.0.0.2 10.0.0.3 10.0.0.5");
    assert!(bench.lan().join("inner/10.0.0.6").exists());
    assert!(bench.lan().join("lock").exists() && bench.lan().join("last_reserved_ip.0").exists());
}

#[test]
fn a_spoilt_round_robin_begins_again() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    bench.add(&conf, "a net1");
    for spoilt in ["", "10.0.0.", "10.77.0.1", "\u{0}"] {
        fs::write(bench.lan().join("last_reserved_ip.0"), spoilt).unwrap();
        assert_eq!(bench.add(&conf, "b net1"), "10.0.0.3/29", "{spoilt:?}");
        assert_eq!(read(&bench.lan().join("last_reserved_ip.0")), "10.0.0.3");
        bench.del(&conf, "b net1");
    }
}

#[test]
fn resolv_conf_becomes_dns() {
    let bench = Bench::new();
    let path = bench.dir.path().join("resolv.conf");
    let text = "# c\n; c\nnameserver 1.1.1.1\n nameserver 2.2.2.2 x\ndomain a\ndomain b\nsearch s1 s2\nsearch s3\noptions o1 o2\nbad\n";
    fs::write(&path, text).unwrap();
    let section = format!(r#"{SMALL},"resolvConf":"{}""#, path.display());
    let conf = bench.conf(&section);
    let ours = bench.with(&conf, "a net1", allocate).unwrap();
    let theirs = bench.reference(Verb::Add, &conf, "b net1").unwrap();
    assert_eq!(ours.dns, theirs.dns);
    assert_eq!(ours.dns.search, ["s1", "s2", "s3"]);
    let missing = bench.add(&bench.conf(&format!(r#"{SMALL},"resolvConf":"/nowhere/x""#)), "c net1");
    assert!(missing.starts_with("read ipam.resolvConf /nowhere/x: No such file"), "{missing}");
    let dir = bench.add(&bench.conf(&format!(r#"{SMALL},"resolvConf":"/proc""#)), "c net1");
    assert_eq!(dir, "ipam.resolvConf: got /proc, want a regular file");
    assert_eq!(bench.held(), "10.0.0.2 10.0.0.3");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    let data = bench.dir.path().join("data");
    // One page: the address fits, last_reserved_ip does not. Then not even the address.
    let _small = Small::mount(&data, "size=4k");
    for _ in 0..2 {
        let full = bench.add(&conf, "a net1");
        assert!(full.contains("No space left on device"), "{full}");
        assert_eq!(bench.held(), "");
        fs::write(data.join("filler"), "x").unwrap();
    }
}

#[test]
fn a_read_only_disk_is_an_error_that_names_the_path() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    let data = bench.dir.path().join("data");
    let _small = Small::mount(&data, "size=64k");
    bench.add(&conf, "a net1");
    run(&["mount", "-o", "remount,ro", data.to_str().unwrap()]);
    let refused = bench.add(&conf, "b net1");
    assert!(refused.contains("/data/lan/10.0.0.3: Read-only file system"), "{refused}");
    let kept = bench.with(&conf, "a net1", release).unwrap_err().to_string();
    assert!(kept.starts_with("remove ") && kept.contains("/data/lan/10.0.0.2: Read-only"), "{kept}");
    // What holds nothing is released all the same.
    bench.del(&conf, "b net1");
}
