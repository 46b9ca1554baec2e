//! What kills, disks and other boots leave of the file, and fifty pods at once.

use super::*;

#[test]
fn what_a_killed_writer_left_is_a_line_or_none() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    for who in ["a", "b", "c"] {
        bench.add(&conf, &format!("{who} net1 K8S_POD_NAMESPACE=shop;K8S_POD_NAME={who}-1"));
    }
    bench.del(&conf, "b net1");
    bench.add(&conf, "d net1");
    let whole = fs::read(bench.file()).unwrap();
    let boot = crate::boot::current().unwrap();
    for length in 0..=whole.len() {
        let cut = &whole[..length];
        fs::write(bench.file(), cut).unwrap();
        let lines = cut.iter().filter(|byte| **byte == b'\n').count();
        let before = bench.leases();
        let expected = [0, 0, 1, 2, 3, 2, 3][lines];
        assert_eq!(before.len(), expected, "cut at {length}");
        // Whoever comes next goes on behind the last whole line, and gets what nobody has.
        let given = bench.add(&conf, "next net1");
        assert!(given.ends_with("/28"), "cut at {length}: {given}");
        let after = bench.leases();
        assert_eq!(after[..expected], before, "cut at {length}");
        let distinct: HashSet<&str> = after.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(distinct.len(), expected + 1, "cut at {length}: {after:?}");
        let (_, wrong) = Journal::read(&fs::read(bench.file()).unwrap(), &boot);
        assert_eq!(wrong, None, "cut at {length}");
        bench.del(&conf, "next net1");
        assert_eq!(bench.leases(), before, "cut at {length}");
    }
}

#[test]
fn leases_of_an_earlier_boot_are_void() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    bench.add(&conf, "a net1");
    let boot = crate::boot::current().unwrap();
    let earlier = read(&bench.file()).replace(&boot, "of-last-year");
    fs::write(bench.file(), &earlier).unwrap();
    assert_eq!(bench.leases(), Vec::<String>::new());
    assert!(matches!(bench.with(&conf, "a net1", check), Err(Error::Differs(_))));
    bench.del(&conf, "a net1");
    fs::write(bench.file(), &earlier).unwrap();
    assert_eq!(bench.add(&conf, "b net1"), "10.0.0.2/28");
    assert_eq!(bench.leases(), ["10.0.0.2 b"]);
    // After a power cut a file may be full of zeros.
    fs::write(bench.file(), [0; 4096]).unwrap();
    assert_eq!(bench.add(&conf, "c net1"), "10.0.0.2/28");
    assert!(read(&bench.file()).starts_with(&format!("leases 1 {boot}\n+10.0.0.2 c net1\n")));
}

#[test]
fn a_file_that_cannot_be_read_gives_nothing_out_and_lets_everybody_go() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    bench.add(&conf, "a net1");
    bench.add(&conf, "b net1");
    let good = read(&bench.file());
    for (bad, line) in [
        (format!("{good}+10.0.0.9\n"), 4),
        (format!("{good}nonsense\n"), 4),
        (format!("{good}+10.0.0.x c net1\n"), 4),
        (good.replace("+10.0.0.2", "*10.0.0.2"), 2),
        (format!("{good}\n"), 4),
    ] {
        fs::write(bench.file(), &bad).unwrap();
        for refused in [bench.add(&conf, "c net1"), bench.with(&conf, "c net1", status).unwrap_err().to_string()] {
            assert!(
                refused.contains("/leases: ") && refused.contains(&format!("line {line} is no lease")),
                "{refused}"
            );
        }
        bench.del(&conf, "b net1");
        assert!(bench.leases().iter().all(|lease| lease.ends_with(" a")), "{bad}");
    }
    fs::write(bench.file(), good.replacen("leases 1", "leases 2", 1)).unwrap();
    let later = bench.with(&conf, "a net1", release).unwrap_err().to_string();
    assert!(later.ends_with("its format is 2, and this program reads 1 at most"), "{later}");
    assert_eq!(bench.add(&conf, "c net1"), later);
}

#[test]
fn a_file_stays_as_small_as_what_it_says() {
    let bench = Bench::new();
    let conf = conf(r#""subnet":"10.0.0.0/22""#);
    let stays = ["s1", "s2", "s3"].map(|who| bench.add(&conf, &format!("{who} net1")));
    let mut last = String::new();
    for round in 0..2000 {
        let who = format!("c{round} net1");
        last = bench.add(&conf, &who);
        assert!(!stays.contains(&last), "{round}");
        bench.del(&conf, &who);
    }
    let lines = read(&bench.file()).lines().count();
    assert!(lines < 2 * HISTORY + 200, "{lines} lines");
    assert_eq!(bench.leases().len(), 3);
    // The order is that of giving back still, over all that came and went.
    let before: Vec<String> = (0..3).map(|i| bench.add(&conf, &format!("d{i} net1"))).collect();
    let number = |text: &str| {
        let net: ipnet::Ipv4Net = text.parse().unwrap();
        net.addr().to_bits() & 0x3ff
    };
    let next = |n: u32| if n == 1022 { 4 } else { n + 1 };
    let mut want = number(&last);
    for address in before {
        want = next(want);
        assert_eq!(number(&address), want);
    }
}

#[test]
fn fifty_at_once_get_fifty_addresses() {
    let bench = Bench::new();
    let conf = conf(r#""subnet":"10.0.0.0/26","gateway":"10.0.0.1""#);
    let round = |act: &(dyn Fn(usize) -> String + Sync)| -> Vec<String> {
        thread::scope(|scope| {
            let each = |i| scope.spawn(move || act(i));
            (0..50).map(each).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    for _ in 0..5 {
        let given: HashSet<String> = round(&|i| bench.add(&conf, &format!("c{i} net1"))).into_iter().collect();
        assert_eq!((given.len(), bench.leases().len()), (50, 50));
        assert!(given.iter().all(|address| address.ends_with("/26")), "{given:?}");
        round(&|i| {
            bench.del(&conf, &format!("c{i} net1"));
            String::new()
        });
        assert_eq!(bench.leases().len(), 0);
    }
}

#[test]
fn on_a_full_disk_a_lease_ends_in_its_own_line() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    let networks = bench.dir.path().join("networks");
    let _small = Small::mount(&networks, "size=12k");
    bench.add(&conf, "a net1");
    bench.add(&conf, "b net1");
    // Lines of 10 and 11 bytes fill the page to its end.
    let text = read(&bench.file());
    let left = 4096 - text.len();
    let (lines, longer) = (left / 10, left % 10);
    let filled = format!("{text}{}{}", "=10.0.0.3\n".repeat(lines - longer), "=10.0.0.10\n".repeat(longer));
    assert_eq!(filled.len(), 4096);
    fs::write(bench.file(), &filled).unwrap();
    fs::write(networks.join("filler"), [1; 8192]).unwrap();
    let full = bench.add(&conf, "c net1");
    assert!(full.starts_with("write ") && full.contains("No space left on device"), "{full}");
    bench.del(&conf, "a net1");
    assert_eq!(bench.leases(), ["10.0.0.3 b"]);
    assert!(read(&bench.file()).contains("\n~10.0.0.2 a net1\n"));
    assert!(!bench.file().with_file_name(".leases.new").exists());
    fs::remove_file(networks.join("filler")).unwrap();
    assert_eq!(bench.add(&conf, "c net1"), "10.0.0.11/28");
    assert!(read(&bench.file()).len() < 200, "written anew");
    assert_eq!(bench.leases(), ["10.0.0.3 b", "10.0.0.11 c"]);
}

#[test]
fn a_read_only_disk_stops_no_release_and_the_next_one_ends_the_lease() {
    let bench = Bench::new();
    let conf = conf(SMALL);
    let networks = bench.dir.path().join("networks");
    let _small = Small::mount(&networks, "size=64k");
    bench.add(&conf, "a net1");
    run(&["mount", "-o", "remount,ro", networks.to_str().unwrap()]);
    assert!(bench.add(&conf, "b net1").contains("/leases: Read-only file system"));
    bench.del(&conf, "b net1");
    bench.del(&conf, "a net1");
    assert_eq!(bench.leases(), ["10.0.0.2 a"], "as the record, which is undone again");
    run(&["mount", "-o", "remount,rw", networks.to_str().unwrap()]);
    bench.del(&conf, "a net1");
    assert_eq!(bench.leases(), Vec::<String>::new());
}
