//! Records: whatever a disk has made of one, it is read, or known to be damaged.
#![no_main]

// As a file of its own: its crate brings a Kubernetes client, which would be built here for nothing.
#[allow(dead_code)]
#[path = "../../meta-cni/src/engine/record.rs"]
mod record;

use libfuzzer_sys::fuzz_target;
use meta_cni_fuzz as _;
use record::{Entry, Record, header};

fuzz_target!(|bytes: &[u8]| {
    let _ = Record::decode(bytes);
    // The same bytes as the content of entries whose checksums are right: `kind json`, one in a line.
    let mut sealed = header();
    for line in bytes.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (kind, json) = (String::from_utf8_lossy(&line[..at]), line.get(at + 1..).unwrap_or_default());
        sealed.extend(format!("{kind} {} {:08x}\n", json.len(), crc32fast::hash(json)).into_bytes());
        sealed.extend_from_slice(json);
        sealed.push(b'\n');
    }
    let read = Record::decode(&sealed).expect("the version is right");
    let mut written = header();
    for entry in read.intent.iter().map(Entry::Intent).chain(read.saved.iter().map(Entry::Saved)) {
        written.extend(entry.encode());
    }
    written.extend(read.done.iter().flat_map(|done| Entry::Done(done).encode()));
    let again = Record::decode(&written).expect("the version is right");
    assert!(!again.damaged, "what was written is damaged");
    assert_eq!(again.saved, read.saved);
    assert_eq!(format!("{:?} {:?}", again.intent, again.done), format!("{:?} {:?}", read.intent, read.done));
});
