//! The networks annotation: every tenant writes one.
#![no_main]

use attachments::cni::spelling::SlipKind;
use attachments::finding::Finding;
use attachments::selection::{LONGEST, NETWORKS, parse, parse_default, slips};
use attachments::text::printable;
use libfuzzer_sys::fuzz_target;
use meta_cni_fuzz as _;

fuzz_target!(|text: &str| {
    let namespace = "here".parse().expect("a name");
    let slips = slips(NETWORKS, text);
    let wanted = match parse(NETWORKS, text, &namespace) {
        Ok(wanted) => wanted,
        Err(finding) => return shown(&finding),
    };
    assert!(slips.iter().all(|slip| matches!(slip.kind, SlipKind::Other(_))), "read all the same: {slips:?}");
    assert!(text.len() <= LONGEST, "{} bytes were read", text.len());
    let long = text.to_owned() + &" ".repeat(LONGEST);
    assert!(long.len() == LONGEST || parse(NETWORKS, &long, &namespace).is_err(), "{} bytes were read", long.len());
    let _ = parse_default(text, &namespace);
    let elements: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    // Written out, defaults make it longer.
    let written = format!("[{}]", elements.join(","));
    if !elements.is_empty() && written.len() <= LONGEST {
        assert_eq!(parse(NETWORKS, &written, &namespace).as_ref(), Ok(&wanted), "{written}");
    }
    for wanted in &wanted {
        let names = [wanted.interface.as_ref().map(|name| name.as_str()), wanted.device.as_ref().map(|id| id.as_str())];
        for name in names.into_iter().flatten() {
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()) && !name.starts_with('-'), "{name:?}");
        }
        assert!(!wanted.interface.as_ref().is_some_and(|name| name.as_str().contains('%')), "{wanted}");
    }
});

/// A message on its way out holds nothing that a terminal acts on.
fn shown(finding: &Finding) {
    let text = finding.to_string();
    let shown = printable(&text);
    assert!(!shown.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{shown:?}");
    assert_eq!(printable(&shown), shown, "said twice");
}
