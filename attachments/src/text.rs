//! Text that others wrote, on its way into a message, an event or a log.
//!
//! A value of a definition may hold escape sequences that a terminal obeys, line breaks that forge a line of a log, and
//! marks that turn the direction of writing. Whoever hands a message out passes it through here, once.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: every control character and every mark of direction is written as JSON would escape it (`\n`, `\u001b`).
/// The escaped text is the same in a JSON string.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, acts)
}

/// The same for a text of several lines: line feeds and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && !matches!(c, '\n' | '\t'))
}

/// Would a terminal or a log act on it instead of showing it?
fn acts(c: char) -> bool {
    // Line and paragraph separators, and the marks that embed, override or isolate a direction (Unicode, UAX 9).
    let of_layout =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // C0, DEL and C1: U+0085 breaks a line, U+009B begins an escape sequence.
    c.is_control() || of_layout
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !acts(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Each of them has four hexadecimal digits.
            c => drop(write!(out, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// FNV-1a with 64 bits: the same in every version of every program. Names on disk and in the API depend on it.
pub fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_and_logs_act_on_is_escaped() {
        let text = "a\u{1b}[2Jb\r\nc\u{85}\u{9b}31m\u{7f}\u{2028}\u{202e}\u{2066}\u{200f}d";
        let want = r"a\u001b[2Jb\r\nc\u0085\u009b31m\u007f\u2028\u202e\u2066\u200fd";
        assert_eq!(printable(text), want);
        assert_eq!(printable(want), want, "what is escaped stays as it is");
        assert_eq!(serde_json::from_str::<String>(&format!("\"{want}\"")).unwrap(), text);
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        for text in ["", "eth0: got \"x\", want ä 日本 \u{301}"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(printable_lines("a\n\tb\rc\u{1b}"), "a\n\tb\\rc\\u001b");
    }
}
