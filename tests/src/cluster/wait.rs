//! Waiting for what other programs do, with a bound.

use std::time::{Duration, Instant};

/// Tries until it is done or `limit` has passed; the last reason is the error.
pub fn patiently<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match attempt() {
            Err(_) if began.elapsed() < limit => std::thread::sleep(pause),
            done => return done,
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

/// As [`patiently`]; panics with what was waited for and the last reason.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, attempt: impl FnMut() -> Result<T, String>) -> T {
    match patiently(limit, attempt) {
        Ok(value) => value,
        Err(why) => panic!("no {what} within {limit:?}: {why}"),
    }
}
