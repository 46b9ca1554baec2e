//! Which pods' networks are compared with their records, and when. A value without I/O and clock.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::pod_cache::PodName;

/// From an edit to the comparison: edits that follow one another at once are one.
const COALESCE: Duration = Duration::from_millis(50);
/// The least time between two comparisons of a pod that is edited on and on.
const SPACING: Duration = Duration::from_millis(500);
/// The pause after a failure, doubled each time, and the longest pause. Another edit ends it.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A pod as the API server has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// `metadata.uid`.
    pub uid: String,
    /// The digest of its networks annotation.
    pub asked: String,
}

/// The pods that may be hot-plugged.
#[derive(Debug, Default)]
pub struct Schedule(HashMap<PodName, Entry>);

#[derive(Debug)]
struct Entry {
    edition: Edition,
    state: State,
    /// When this edition was first seen.
    since: Instant,
    /// The pod had another one before.
    is_edited: bool,
    /// When the last comparison began.
    begun: Option<Instant>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Instant),
    Running,
    /// It has what it wants, or cannot get it: until the next edit.
    Settled,
    /// It has no record yet: until its next change.
    Unattached,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The pod.
    pub pod: PodName,
    /// What it wants.
    pub edition: Edition,
    /// When that was first seen.
    pub since: Instant,
    /// It wanted something else before, as far as this agent has seen.
    pub is_edited: bool,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod has what it wants, or is none that gets it.
    Settled,
    /// The node has no record of the pod.
    Unattached,
    /// A later try may succeed.
    Failed,
}

impl Schedule {
    /// A pod appeared or changed. True when a comparison is due now or soon that was not.
    pub fn seen(&mut self, pod: PodName, edition: Edition, now: Instant) -> bool {
        let Some(entry) = self.0.get_mut(&pod) else {
            let state = State::Due(now + COALESCE);
            self.0.insert(pod, Entry { edition, state, since: now, is_edited: false, begun: None, failures: 0 });
            return true;
        };
        if entry.edition == edition && entry.state != State::Unattached {
            return false;
        }
        if entry.edition != edition {
            entry.is_edited = entry.edition.uid == edition.uid;
            (entry.edition, entry.since, entry.failures) = (edition, now, 0);
        }
        if entry.state == State::Running {
            return false;
        }
        let due = entry.after(now + COALESCE);
        // Edits that go on and on do not put the comparison off.
        entry.state = match entry.state {
            State::Due(earlier) => State::Due(earlier.min(due)),
            _ => State::Due(due),
        };
        true
    }

    /// Up to so many comparisons that are due.
    pub fn take(&mut self, most: usize, now: Instant) -> Vec<Job> {
        let is_due = |entry: &Entry| matches!(entry.state, State::Due(at) if at <= now);
        let mut due: Vec<_> = self.0.iter_mut().filter(|(_, entry)| is_due(entry)).collect();
        due.sort_by_key(|(_, entry)| entry.since);
        let begin = |(pod, entry): (&PodName, &mut Entry)| {
            (entry.state, entry.begun) = (State::Running, Some(now));
            Job { pod: pod.clone(), edition: entry.edition.clone(), since: entry.since, is_edited: entry.is_edited }
        };
        due.into_iter().take(most).map(begin).collect()
    }

    /// Records what came of a comparison. An edit of meanwhile is compared next.
    pub fn settle(&mut self, job: &Job, outcome: Outcome, now: Instant) {
        let Some(entry) = self.0.get_mut(&job.pod) else { return };
        entry.state = match outcome {
            _ if entry.edition != job.edition => State::Due(entry.after(now)),
            Outcome::Settled => State::Settled,
            Outcome::Unattached => State::Unattached,
            Outcome::Failed => {
                let pause = PAUSE.0.saturating_mul(1 << entry.failures.min(16)).min(PAUSE.1);
                entry.failures += 1;
                State::Due(now + pause)
            }
        };
    }

    /// When the next comparison is due.
    pub fn next(&self) -> Option<Instant> {
        let at = |entry: &Entry| match entry.state {
            State::Due(at) => Some(at),
            _ => None,
        };
        self.0.values().filter_map(at).min()
    }

    /// Forgets the pods that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&PodName) -> bool) {
        self.0.retain(|pod, _| is_there(pod));
    }
}

impl Entry {
    /// The time, or later where the pod was compared just now.
    fn after(&self, time: Instant) -> Instant {
        self.begun.map_or(time, |begun| time.max(begun + SPACING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodName {
        PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn edition(asked: &str) -> Edition {
        Edition { uid: "u".to_owned(), asked: asked.to_owned() }
    }

    const LATER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_hundred_edits_in_a_second_are_few_comparisons_and_the_last_one_wins() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        let mut jobs = Vec::new();
        for number in 0..100 {
            schedule.seen(pod("a"), edition(&number.to_string()), now);
            now += Duration::from_millis(10);
            for job in schedule.take(4, now) {
                schedule.settle(&job, Outcome::Settled, now);
                jobs.push(job);
            }
        }
        now += SPACING;
        jobs.extend(schedule.take(4, now));
        assert!((2..=4).contains(&jobs.len()), "{}", jobs.len());
        assert_eq!(jobs.last().unwrap().edition, edition("99"));
    }

    #[test]
    fn an_edit_while_one_is_compared_is_compared_next_and_never_two_at_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        assert!(schedule.seen(pod("a"), edition("1"), now));
        let job = schedule.take(4, now + COALESCE).remove(0);
        assert!(!schedule.seen(pod("a"), edition("2"), now + COALESCE));
        assert!(schedule.take(4, now + LATER).is_empty() && schedule.next().is_none());
        schedule.settle(&job, Outcome::Failed, now + LATER);
        assert_eq!(schedule.take(4, now + LATER).remove(0).edition, edition("2"), "the failure was of another text");
    }

    #[test]
    fn a_failure_is_tried_again_ever_more_seldom_and_at_once_after_an_edit() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.seen(pod("a"), edition("1"), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            now = schedule.next().unwrap();
            let job = schedule.take(4, now).remove(0);
            schedule.settle(&job, Outcome::Failed, now);
            assert!(!schedule.seen(pod("a"), edition("1"), now), "nothing has changed");
            pauses.push(schedule.next().unwrap().duration_since(now).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        schedule.seen(pod("a"), edition("2"), now);
        assert_eq!(schedule.next(), Some(now + SPACING));
    }

    #[test]
    fn a_pod_without_a_record_is_looked_at_again_when_it_changes_and_one_that_is_settled_is_not() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.seen(pod("a"), edition("1"), now);
        let job = schedule.take(4, now + LATER).remove(0);
        schedule.settle(&job, Outcome::Unattached, now + LATER);
        assert!(schedule.next().is_none() && schedule.seen(pod("a"), edition("1"), now + LATER));
        let job = schedule.take(4, now + 2 * LATER).remove(0);
        schedule.settle(&job, Outcome::Settled, now + LATER);
        assert!(!schedule.seen(pod("a"), edition("1"), now + LATER));
        let again = Edition { uid: "another".to_owned(), ..edition("1") };
        assert!(schedule.seen(pod("a"), again, now + LATER), "a later pod of the same name");
        let job = schedule.take(4, now + 3 * LATER).remove(0);
        assert!(!job.is_edited);
        schedule.settle(&job, Outcome::Settled, now + 3 * LATER);
        let edited = Edition { uid: "another".to_owned(), ..edition("2") };
        schedule.seen(pod("a"), edited, now + 3 * LATER);
        assert!(schedule.take(4, now + 4 * LATER).remove(0).is_edited);
    }

    #[test]
    fn the_longest_known_comes_first_no_more_than_are_asked_for_and_what_is_gone_is_forgotten() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for (i, name) in ["c", "a", "b"].into_iter().enumerate() {
            schedule.seen(pod(name), edition("1"), now + Duration::from_millis(i as u64));
        }
        let names: Vec<_> = schedule.take(2, now + LATER).into_iter().map(|job| job.pod).collect();
        assert_eq!(names, [pod("c"), pod("a")]);
        schedule.retain(|one| *one == pod("c"));
        assert!(schedule.take(4, now + LATER).is_empty());
    }
}
