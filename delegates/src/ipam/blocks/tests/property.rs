//! Any order of pods that come and go, compared with the pool as it is meant.

use super::*;

/// What a runtime does with one of a few pods.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u8),
    /// With a requested slot.
    Ask(u8, u8),
    Del(u8),
    /// A writer that is killed has written so many bytes of a line.
    Torn(u8),
}

/// The pool as it is meant: who has which slot, and which slots were given back in which order.
#[derive(Default)]
struct Model {
    live: BTreeMap<u8, u32>,
    freed: Vec<u32>,
    last: u32,
}

impl Model {
    /// The slots of [`SMALL`] that pods may have.
    const USABLE: std::ops::RangeInclusive<u32> = 2..=14;

    fn is_free(&self, slot: u32) -> bool {
        Self::USABLE.contains(&slot) && !self.live.values().any(|taken| *taken == slot)
    }

    fn next(&self) -> Option<u32> {
        let around = (self.last + 1..16).chain(0..=self.last);
        let mut unused = around.filter(|slot| self.is_free(*slot) && !self.freed.contains(slot));
        unused.next().or_else(|| self.freed.first().copied())
    }

    fn give(&mut self, pod: u8, slot: u32) {
        self.live.insert(pod, slot);
        self.freed.retain(|freed| *freed != slot);
        self.last = slot;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes and goes, and wherever a writer is killed: each pod gets the slot that the order says, and nobody loses one.
    /// The sequences are long enough for the file to be written anew.
    #[test]
    fn the_file_does_as_the_model_does(steps in prop::collection::vec(step(), 200..400)) {
        let bench = Bench::new();
        let conf = conf(SMALL);
        let mut model = Model::default();
        let mut torn = false;
        for step in steps {
            let (pod, wanted, request) = match step {
                Step::Add(pod) => (pod, model.next(), String::new()),
                Step::Ask(pod, slot) => {
                    let slot = u32::from(slot);
                    (pod, Some(slot).filter(|slot| model.is_free(*slot)), format!(" IP=10.0.0.{slot}"))
                }
                Step::Del(pod) => {
                    bench.del(&conf, &format!("c{pod} net1"));
                    model.freed.extend(model.live.remove(&pod));
                    continue;
                }
                Step::Torn(length) => {
                    let line = b"+10.0.0.14 other net1 shop/other-1";
                    let mut bytes = fs::read(bench.file()).unwrap_or_default();
                    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
                    bytes.extend(line.iter().take(usize::from(length)));
                    if !model.live.is_empty() {
                        fs::write(bench.file(), bytes).unwrap();
                        torn = true;
                    }
                    continue;
                }
            };
            let given = bench.add(&conf, &format!("c{pod} net1{request}"));
            match wanted.filter(|_| !model.live.contains_key(&pod)) {
                Some(slot) => {
                    prop_assert_eq!(given, format!("10.0.0.{}/28", slot));
                    model.give(pod, slot);
                }
                None => prop_assert!(!given.ends_with("/28"), "{} got {}", pod, given),
            }
        }
        let mut held = bench.leases();
        held.sort();
        let mut want: Vec<String> = model.live.iter().map(|(pod, slot)| format!("10.0.0.{slot} c{pod}")).collect();
        want.sort();
        prop_assert_eq!(held, want);
        let lines = read(&bench.file()).lines().count();
        prop_assert!(lines <= 2 * 13 + 128 + 2, "{} lines, torn: {}", lines, torn);
    }

    /// No text makes the reader panic, and what it reads it writes.
    #[test]
    fn any_text_is_read(lines in prop::collection::vec("(leases [0-9]{1,10} [a-z]{0,3}|[-+~=*]?[0-9a-f.,:]{0,12}( [a-z0-9/]{0,4}){0,4}|.{0,6})\n?", 0..12)) {
        let text = format!("{}{}", if lines.len() % 2 == 0 { "leases 1 here\n" } else { "" }, lines.concat());
        let (journal, _) = Journal::read(text.as_bytes(), "here");
        prop_assert!(journal.end as usize <= text.len());
        let (again, wrong) = Journal::read(journal.rewritten("here").as_bytes(), "here");
        prop_assert_eq!(wrong, None);
        let leases = |journal: &Journal| journal.live.iter().map(|line| line.lease.clone()).collect::<Vec<_>>();
        prop_assert_eq!(leases(&again), leases(&journal));
        prop_assert_eq!(&again.freed, &journal.freed);
        prop_assert_eq!(again.last, journal.last.or(leases(&journal).last().and_then(|lease| lease.addresses.first().copied())));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..16).prop_map(Step::Add),
        1 => (0u8..16, 0u8..16).prop_map(|(pod, slot)| Step::Ask(pod, slot)),
        6 => (0u8..16).prop_map(Step::Del),
        1 => (0u8..40).prop_map(Step::Torn),
    ]
}
