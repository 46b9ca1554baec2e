//! The queue of unwritten statuses: which one is written next, and when. A value without I/O and clock.

use std::collections::HashMap;
use std::time::Duration;

use meta_cni::cluster::Annotations;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pod_cache::PodName;

/// The pause before the second try, and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a status waits for its pod to appear: the mirror pod of a static pod may come late.
const ABSENCE: Duration = Duration::from_secs(300);

/// The newest status of each pod.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<PodName, Entry>,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    status: Status,
    serial: u64,
    state: State,
    tries: u32,
    since: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A status and the uid of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Uid of the pod from the runtime.
    pub uid: Option<String>,
    /// Text of the annotation.
    pub text: String,
    /// What a dialect writes beside it, by annotation.
    pub beside: Annotations,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Instant),
    InFlight,
    /// Waits for the pod to appear.
    Parked,
}

/// One try to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The pod.
    pub pod: PodName,
    /// What to write.
    pub status: Status,
    serial: u64,
}

/// The outcome of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server has the status.
    Written,
    /// The pod does not exist, or not yet.
    Absent,
    /// The next try may succeed.
    Failed,
    /// No try can succeed: another pod has the name, or the API server refuses the status.
    Hopeless,
}

impl Queue {
    /// Queues a status in place of an older one of the pod. The receiver resolves when the status is written, and fails
    /// when it is replaced or given up.
    pub fn put(&mut self, pod: PodName, status: Status, now: Instant) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.serial += 1;
        let busy = self.entries.get(&pod).is_some_and(|old| old.state == State::InFlight);
        // One try per pod at a time, or the older status could be written last.
        let state = if busy { State::InFlight } else { State::Due(now) };
        let entry = Entry { status, serial: self.serial, state, tries: 0, since: now, waiting: vec![sender] };
        self.entries.insert(pod, entry);
        receiver
    }

    /// The next status to write, if one is due.
    pub fn take(&mut self, now: Instant) -> Option<Job> {
        let due = |entry: &Entry| match entry.state {
            State::Due(at) if at <= now => Some(at),
            _ => None,
        };
        let earliest = self.entries.iter_mut().filter_map(|(pod, entry)| Some((due(entry)?, pod, entry)));
        let (_, pod, entry) = earliest.min_by_key(|(at, _, entry)| (*at, entry.serial))?;
        entry.state = State::InFlight;
        Some(Job { pod: pod.clone(), status: entry.status.clone(), serial: entry.serial })
    }

    /// Records the outcome of a try. Returns how long the status has waited, where it is written now.
    pub fn settle(&mut self, job: &Job, outcome: Outcome, now: Instant) -> Option<Duration> {
        let entry = self.entries.get_mut(&job.pod)?;
        if entry.serial != job.serial {
            entry.state = State::Due(now);
            return None;
        }
        entry.tries += 1;
        match outcome {
            Outcome::Written => {
                let entry = self.entries.remove(&job.pod)?;
                for waiting in entry.waiting {
                    // The receiver may be gone.
                    let _ = waiting.send(());
                }
                return Some(now.saturating_duration_since(entry.since));
            }
            Outcome::Hopeless => drop(self.entries.remove(&job.pod)),
            Outcome::Absent => entry.state = State::Parked,
            Outcome::Failed => entry.state = State::Due(now + pause(entry.tries)),
        }
        None
    }

    /// A pod appeared or changed: a status that waits for it becomes due. True when there was one.
    pub fn appeared(&mut self, pod: &PodName, now: Instant) -> bool {
        match self.entries.get_mut(pod).filter(|entry| entry.state == State::Parked) {
            Some(entry) => {
                entry.state = State::Due(now);
                true
            }
            None => false,
        }
    }

    /// When the next status is due. Drops statuses that have waited too long for their pod.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        self.entries.retain(|_, entry| entry.state != State::Parked || now < entry.since + ABSENCE);
        let at = |entry: &Entry| match entry.state {
            State::Due(at) => Some(at),
            State::Parked => Some(entry.since + ABSENCE),
            State::InFlight => None,
        };
        self.entries.values().filter_map(at).min()
    }

    /// Bytes of all queued statuses.
    pub fn weight(&self) -> usize {
        self.entries.values().map(|entry| entry.status.text.len()).sum()
    }

    /// The number of queued statuses.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is a status of this pod queued?
    pub fn holds(&self, pod: &PodName) -> bool {
        self.entries.contains_key(pod)
    }
}

/// The pause after so many tries, doubled each time.
fn pause(tries: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(PAUSE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodName {
        PodName { namespace: "n".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn status(text: &str) -> Status {
        Status { uid: None, text: text.to_owned(), beside: Annotations::new() }
    }

    #[test]
    fn a_status_is_written_once_and_its_asker_hears_of_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut heard = queue.put(pod("a"), status("1"), now);
        let job = queue.take(now).unwrap();
        assert_eq!(queue.take(now), None, "it is being written");
        let lag = Duration::from_millis(30);
        assert_eq!(queue.settle(&job, Outcome::Written, now + lag), Some(lag));
        assert!(heard.try_recv().is_ok() && !queue.holds(&pod("a")) && queue.next(now).is_none());
    }

    #[test]
    fn the_newest_status_of_a_pod_wins_also_over_one_that_is_being_written() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut first = queue.put(pod("a"), status("1"), now);
        let job = queue.take(now).unwrap();
        let mut second = queue.put(pod("a"), status("2"), now);
        assert_eq!(queue.take(now), None, "never two tries at once");
        queue.settle(&job, Outcome::Written, now);
        let job = queue.take(now).unwrap();
        assert_eq!(job.status.text, "2");
        queue.settle(&job, Outcome::Written, now);
        assert!(first.try_recv().is_err() && second.try_recv().is_ok() && !queue.holds(&pod("a")));
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let _heard = queue.put(pod("a"), status("1"), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let job = queue.take(now).unwrap();
            queue.settle(&job, Outcome::Failed, now);
            assert_eq!(queue.take(now), None);
            let next = queue.next(now).unwrap();
            pauses.push(next.duration_since(now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn a_pod_that_is_absent_is_waited_for_and_given_up_in_the_end() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["mirrored", "gone"] {
            let _heard = queue.put(pod(name), status("1"), now);
            let job = queue.take(now).unwrap();
            queue.settle(&job, Outcome::Absent, now);
        }
        assert_eq!(queue.take(now), None);
        assert!(queue.appeared(&pod("mirrored"), now) && !queue.appeared(&pod("other"), now));
        assert_eq!(queue.take(now).unwrap().pod, pod("mirrored"));
        assert_eq!(queue.next(now), Some(now + ABSENCE));
        queue.next(now + ABSENCE);
        assert!(queue.holds(&pod("mirrored")) && !queue.holds(&pod("gone")));
    }

    #[test]
    fn the_hopeless_is_dropped_and_the_longest_due_comes_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let _b = queue.put(pod("b"), status("1"), later);
        let mut a = queue.put(pod("a"), status("1"), now);
        let job = queue.take(later).unwrap();
        assert_eq!(job.pod, pod("a"));
        queue.settle(&job, Outcome::Hopeless, later);
        assert!(a.try_recv().is_err() && !queue.holds(&pod("a")) && queue.holds(&pod("b")));
        assert_eq!(queue.weight(), 1);
    }
}
