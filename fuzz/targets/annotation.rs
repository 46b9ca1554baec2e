//! The networks annotation: every tenant writes one.
#![no_main]

use attachments::selection::{NETWORKS, parse, parse_default};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let namespace = "here".parse().expect("a name");
    let Ok(wanted) = parse(NETWORKS, text, &namespace) else { return };
    let _ = parse_default(text, &namespace);
    let elements: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    if !elements.is_empty() {
        let written = format!("[{}]", elements.join(","));
        assert_eq!(parse(NETWORKS, &written, &namespace).as_ref(), Ok(&wanted), "{written}");
    }
});
