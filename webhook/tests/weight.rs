//! What a cluster of 1,000 definitions and 5,000 pods weighs in the view. A program of its own: nothing else is in its memory.
#![allow(clippy::unwrap_used, reason = "a test's own constants")]

mod crowd;

use std::fs;

use webhook::cluster::{Options, View};

/// The view's share of the webhook's 40 MB; server, watches and buffers have the rest.
const MOST: u64 = 20 << 20;

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_thousand_definitions_and_five_thousand_pods_fit() {
    let mut view = View::new(Options::default());
    let before = resident();
    crowd::fill(&mut view);
    let weight = resident().saturating_sub(before);
    println!("the view weighs {} KiB", weight >> 10);
    assert_eq!(view.attachments_in(&"shop".parse().unwrap()), 15_000);
    assert_ne!(crowd::networks(0), crowd::networks(1));
    assert!(weight < MOST, "{weight} bytes");
}
