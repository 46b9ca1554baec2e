//! What tenants may do with a network's directory: choose where it is, and find anything in it.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::symlink;
use std::time::Instant;

use attachments::bind::Source;

use super::super::tests::{Bench, read};
use super::*;
use crate::call::Origin;

const SMALL: &str = r#""subnet":"10.0.0.0/29""#;

/// The call as that of a tenant's network whose directory has this name.
fn as_tenants<T>(
    address_dir: Option<&str>,
    act: impl FnOnce(&Node<'_>, &Call<'_>) -> T,
) -> impl FnOnce(&Node<'_>, &Call<'_>) -> T {
    move |node, call| {
        let source = Source::Node("lan".parse().unwrap());
        let origin = Origin {
            source: &source,
            is_tenants: true,
            is_default: false,
            address_dir,
            ipam_claim: None,
            address_set: None,
        };
        act(node, &Call { origin, ..call.clone() })
    }
}

fn addresses(result: Result<CniResult>) -> String {
    match result {
        Ok(result) => result.ips.iter().map(|ip| ip.address.addr().to_string()).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whatever_lies_in_the_directory_stays_but_plain_files_of_addresses() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/29");
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let owned = "a\r\nnet1";
    let foreign =
        ["lan/other/10.0.0.2", "lan/other/10.0.0.3", "lan/notes", "lan/10.0.0.x", "outside/empty", "outside/owned"];
    fs::create_dir(bench.lan().join("other")).unwrap();
    fs::create_dir(bench.lan().join("10.0.0.6")).unwrap();
    for path in foreign {
        let path = match path.strip_prefix("lan/") {
            Some(inside) => bench.lan().join(inside),
            None => bench.dir.path().join(path),
        };
        fs::write(&path, if path.ends_with("empty") || path.ends_with("10.0.0.3") { "" } else { owned }).unwrap();
    }
    symlink(outside.join("empty"), bench.lan().join("10.0.0.3")).unwrap();
    symlink(outside.join("owned"), bench.lan().join("10.0.0.4")).unwrap();
    symlink(outside.join("new"), bench.lan().join("last_reserved_ip.1")).unwrap();
    nix::unistd::mkfifo(&bench.lan().join("10.0.0.9"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    // A link and a directory stand in the way of their names, and nothing else comes of them.
    assert_eq!(bench.add(&conf, "b net1"), "10.0.0.5/29");
    assert!(bench.add(&conf, "c net1").starts_with("no address left"));
    let departed = HashSet::from(["a".parse().unwrap()]);
    let ownership = Ownership { living: &BTreeSet::new(), departed: &departed, is_recorded: &|_| false };
    bench.with(&conf, "x net1", |node, call| gc(node, call, &ownership)).unwrap();
    bench.del(&conf, "a net1");
    bench.del(&conf, "b net1");
    let two = bench.conf(r#""ranges":[[{"subnet":"10.0.0.0/29"}],[{"subnet":"10.1.0.0/29"}]]"#);
    assert!(bench.add(&two, "d net1").contains("last_reserved_ip.1"), "that file is written nowhere else");
    assert_eq!(bench.held(), "10.0.0.3 10.0.0.4 10.0.0.6 10.0.0.9");
    for path in ["other/10.0.0.2", "notes", "10.0.0.x"] {
        assert_eq!(read(&bench.lan().join(path)), owned, "{path}");
    }
    assert!(bench.lan().join("other/10.0.0.3").exists() && outside.join("empty").exists());
    assert!(read(&outside.join("owned")) == owned && !outside.join("new").exists());
}

#[test]
fn the_lock_is_no_link() {
    let bench = Bench::new();
    fs::create_dir_all(bench.lan()).unwrap();
    symlink(bench.dir.path().join("elsewhere"), bench.lan().join("lock")).unwrap();
    let refused = bench.add(&bench.conf(SMALL), "a net1");
    assert!(refused.starts_with("open ") && refused.contains("lan/lock"), "{refused}");
    assert!(!bench.dir.path().join("elsewhere").exists());
}

#[test]
fn a_tenants_directory_is_no_other_networks_and_holds_none() {
    let bench = Bench::new();
    bench.add(&bench.conf(SMALL), "a net1");
    let data = bench.dir.path().join("data");
    let at =
        |data_dir: &Path| format!(r#"{{"ipam":{{"type":"host-local","dataDir":"{}",{SMALL}}}}}"#, data_dir.display());
    let tenant = |conf: &str| addresses(bench.with(conf, "t net1", as_tenants(None, allocate)));
    for (data_dir, why) in [
        // `lan` in the directory of `lan`, and further down.
        (data.join("lan"), "want a directory outside of those of networks: "),
        (data.join("lan/deep/er"), "want a directory outside of those of networks: "),
        (
            PathBuf::from("/var/lib/cni/networks/other"),
            "want /var/lib/cni/networks itself, or a directory outside of it",
        ),
    ] {
        let refused = tenant(&at(&data_dir));
        assert!(
            refused.starts_with(&format!("ipam.dataDir: got {}", data_dir.display())) && refused.contains(why),
            "{refused}"
        );
    }
    // As `dataDir: /var/lib/cni` and the name `networks`: the directory would hold the others'.
    let outer = bench.dir.path().join("x");
    fs::create_dir_all(outer.join("lan/inner")).unwrap();
    assert_eq!(tenant(&at(&outer)), "10.0.0.2", "an empty directory is nobody's");
    let outer = bench.dir.path().join("y");
    fs::create_dir_all(outer.join("lan/inner")).unwrap();
    fs::write(outer.join("lan/inner/lock"), "").unwrap();
    assert!(tenant(&at(&outer)).contains("/y/lan is this network's then, and "));
    assert!(!outer.join("lan/lock").exists(), "nothing was made");
    assert_eq!(bench.add(&at(&outer), "a net1"), "10.0.0.2/29", "the node's own text may have it so");
    assert!(
        bench.with(&at(&data.join("lan")), "t net1", as_tenants(None, |_, call| admit(call))).is_err(),
        "found before anything is attached"
    );
}

#[test]
fn a_directory_by_namespace_leaves_the_former_ones_addresses() {
    let bench = Bench::new();
    let conf = bench.conf(SMALL);
    let add = |who: &str| addresses(bench.with(&conf, who, as_tenants(Some("shop_lan"), allocate)));
    assert_eq!(addresses(bench.with(&conf, "old net1", as_tenants(None, allocate))), "10.0.0.2");
    assert_eq!(add("new net1"), "10.0.0.3");
    assert_eq!(bench.held(), "10.0.0.2");
    assert_eq!(read(&bench.dir.path().join("data/shop_lan/10.0.0.3")), "new\r\nnet1");
    let asked = |who: &str| add(&format!("{who} IP=10.0.0.2"));
    assert_eq!(asked("c net1"), "requested address 10.0.0.2 is taken");
    // Each record says which directory its addresses are in.
    let check = |who: &str, dir: Option<&str>| bench.with(&conf, who, as_tenants(dir, check)).is_ok();
    assert!(check("old net1", None) && check("new net1", Some("shop_lan")) && !check("old net1", Some("shop_lan")));
    bench.with(&conf, "old net1", as_tenants(None, release)).unwrap();
    assert_eq!(bench.held(), "");
    assert_eq!(asked("c net1"), "10.0.0.2");
}

#[test]
fn a_deadline_ends_the_walk_through_a_full_directory() {
    let mut bench = Bench::new();
    let conf = bench.conf(SMALL);
    bench.add(&conf, "a net1");
    bench.millis = 0;
    let late = |result: Result<()>| matches!(result, Err(Error::Late(_)));
    assert!(late(bench.with(&conf, "b net1", allocate).map(drop)));
    assert!(late(bench.with(&conf, "a net1", release)));
    assert_eq!(bench.held(), "10.0.0.2");
    let store = Store::open(&bench.lan(), Instant::now()).unwrap().unwrap();
    assert!(late(store.survey(None).map(drop)));
}

#[test]
fn a_name_service_file_has_a_size() {
    let bench = Bench::new();
    let file = bench.dir.path().join("resolv.conf");
    let conf = bench.conf(&format!(r#"{SMALL},"resolvConf":"{}""#, file.display()));
    fs::write(&file, format!("nameserver 10.0.0.1\n{}", "#".repeat(64 << 10))).unwrap();
    assert!(bench.add(&conf, "a net1").contains("want a file of at most 65536 bytes"));
    fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
    assert_eq!(bench.add(&conf, "a net1"), "10.0.0.2/29");
}

#[test]
fn thousands_of_ranges_are_read_and_told_apart() {
    let ranges: Vec<String> = (0..3000).map(|i| format!(r#"{{"subnet":"10.{}.{}.0/24"}}"#, i / 200, i % 200)).collect();
    let read = |sets: String| {
        validate(
            &Object::parse(
                format!(r#"{{"cniVersion":"1.0.0","ipam":{{"type":"host-local","ranges":{sets}}}}}"#).as_bytes(),
            )
            .unwrap(),
        )
    };
    let one = format!("[[{}]]", ranges.join(","));
    let each = format!("[{}]", ranges.iter().map(|range| format!("[{range}]")).collect::<Vec<_>>().join(","));
    assert!(read(one.clone()).is_ok() && read(each.clone()).is_ok());
    let twice = |sets: &str, more: &str| read(sets.replacen('[', &format!("[{more},"), 1)).unwrap_err()[0].to_string();
    let again = r#"[{"subnet":"10.14.199.128/25"}]"#;
    assert!(twice(&each, again).contains("overlaps ipam.ranges[0]"));
    assert!(
        read(one.replacen("[[", r#"[[{"subnet":"10.14.199.128/25"},"#, 1)).unwrap_err()[0]
            .to_string()
            .contains("overlaps 10.14.199.129-")
    );
}
