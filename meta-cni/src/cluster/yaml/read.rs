//! YAML to values, as kubectl takes it.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

/// The most values that aliases stand for. A document of a few lines could mean billions.
const MOST_ALIASED: usize = 1 << 16;
/// The deepest nesting. JSON is read so deep, too.
const DEEPEST: usize = 128;
/// The most lines that are indented for the parser's sake; each costs one reading.
const MOST_PADDED: usize = 1024;
/// The key whose value's entries are entries of the mapping itself (YAML 1.1, merge keys).
const MERGE: &str = "<<";

/// The one value of a document; an empty document is `null`. An error begins with the line.
///
/// A plain scalar is what kubectl takes it for: `true` is a boolean, `yes` a text, `0o17` and `017` are 15. What JSON has no number
/// for (`.inf`) is a text. Keys are texts, each once.
///
/// A quoted text may go on at any indent, as kubectl has it: a configuration is often pasted between two quotes as it is.
pub fn read(document: &str) -> Result<Value, String> {
    let (mut padded, mut last): (Option<String>, Option<usize>) = (None, None);
    for _ in 0..MOST_PADDED {
        match read_indented(padded.as_deref().unwrap_or(document)) {
            Ok(value) => return Ok(value),
            // A tab that is wrong elsewhere is wrong behind blanks too.
            Err(Wrong::Indent(line, why)) if last == Some(line) => return Err(why),
            Err(Wrong::Indent(line, _)) => {
                last = Some(line);
                padded = Some(pad(padded.as_deref().unwrap_or(document), line));
            }
            Err(Wrong::Other(why)) => return Err(why),
        }
    }
    Err(format!("a quoted text goes on in more than {MOST_PADDED} lines that are not indented"))
}

/// The document with one line, a continuation of a quoted text, indented deeper than any block. What such a line begins with is
/// not part of the text (YAML 1.2.2, 6.5).
fn pad(document: &str, line: usize) -> String {
    let deepest =
        document.lines().map(|line| line.len() - line.trim_start_matches(' ').len()).max().unwrap_or_default();
    let mut padded = String::with_capacity(document.len() + deepest + 1);
    for (i, text) in document.split_inclusive('\n').enumerate() {
        if i + 1 == line {
            padded.push_str(&" ".repeat(deepest + 1));
        }
        padded.push_str(text);
    }
    padded
}

/// What is wrong with a document.
enum Wrong {
    /// A quoted text goes on in this line, at no more than its block's indent or with a tab.
    Indent(usize, String),
    Other(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

fn read_indented(document: &str) -> Result<Value, Wrong> {
    let mut reader = Reader { events: Parser::new_from_str(document), anchors: HashMap::new(), aliased: 0, line: 1 };
    let mut found = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(found.unwrap_or_default()),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if found.is_some() => return Err(reader.wrong("one document ends here, and another begins")),
            event => found = Some(reader.value(event, 0)?),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// What is anchored, with its number of values.
    anchors: HashMap<usize, (Value, usize)>,
    /// How many values aliases stand for so far.
    aliased: usize,
    /// Where the last event began.
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, Wrong> {
        loop {
            let next: Option<Result<(Event<'a>, Span), ScanError>> = self.events.next();
            let (event, span) = match next {
                None => return Ok(Event::StreamEnd),
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    let line = error.marker().line();
                    let why = format!("line {line}: {}", error.info());
                    return Err(match error.kind() {
                        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::TabInIndentation => Wrong::Indent(line, why),
                        _ => Wrong::Other(why),
                    });
                }
            };
            self.line = span.start.line();
            // Comments, where another program of one build has them switched on.
            if !matches!(event, Event::Anchor(..)) && !is_comment(&event) {
                return Ok(event);
            }
        }
    }

    fn wrong(&self, why: &str) -> Wrong {
        format!("line {}: {why}", self.line).into()
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, Wrong> {
        if depth > DEEPEST {
            return Err(self.wrong(&format!("nested deeper than {DEEPEST}")));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag)),
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(depth)?),
            Event::Alias(anchor) => return self.alias(anchor),
            _ => return Err(self.wrong("a value is missing")),
        };
        if anchor != 0 {
            let size = size(&value);
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, Wrong> {
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err(self.wrong("an alias stands inside of what it is an alias of"));
        };
        self.aliased += size;
        if self.aliased > MOST_ALIASED {
            return Err(self.wrong(&format!("aliases stand for more than {MOST_ALIASED} values")));
        }
        Ok(value.clone())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => items.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Wrong> {
        let (mut entries, mut merged) = (Map::new(), Vec::new());
        loop {
            let (key, is_merge) = match self.next()? {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => {
                    let is_merge = text == MERGE && style == ScalarStyle::Plain;
                    (text.into_owned(), is_merge)
                }
                Event::Alias(anchor) => match self.alias(anchor)? {
                    Value::String(text) => (text, false),
                    _ => return Err(self.wrong("a key must be a text")),
                },
                _ => return Err(self.wrong("a key must be a text")),
            };
            let line = self.line;
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if is_merge {
                merged.push(value);
            } else if entries.contains_key(&key) {
                return Err(format!("line {line}: key {key:?} is there twice").into());
            } else {
                entries.insert(key, value);
            }
        }
        // What stands in the mapping itself wins, then the mapping that is named first.
        for value in merged {
            let each = if let Value::Array(list) = value { list } else { vec![value] };
            for one in each {
                let Value::Object(one) = one else { return Err(self.wrong("<< takes mappings")) };
                for (key, value) in one {
                    entries.entry(key).or_insert(value);
                }
            }
        }
        Ok(Value::Object(entries))
    }
}

fn is_comment(event: &Event<'_>) -> bool {
    !matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::UnresolvedAlias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd
    )
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<Cow<'_, Tag>>) -> Value {
    let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if is_text { text.into() } else { plain(text) }
}

/// What a plain scalar is.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    integer(digits, is_negative).or_else(|| float(digits, is_negative))
}

fn integer(digits: &str, is_negative: bool) -> Option<Number> {
    let of = |radix| move |digits: &str| u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
    let number = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => of(16)(&digits[2..]),
        [b'0', b'o' | b'O', ..] => of(8)(&digits[2..]),
        [b'0', b'b' | b'B', ..] => of(2)(&digits[2..]),
        [b'0', _, ..] => of(8)(&digits[1..]),
        _ => of(10)(digits),
    }?;
    match is_negative {
        false => Some(number.into()),
        true => Some(0_i64.checked_sub_unsigned(number)?.into()),
    }
}

fn float(digits: &str, is_negative: bool) -> Option<Number> {
    // Nothing but digits, one point, one exponent: no `inf`, no `nan`, no address.
    let is_of_float = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !digits.bytes().all(is_of_float) || !digits.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    Number::from_f64(if is_negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_are_what_kubectl_takes_them_for() {
        let document = "a: yes\nb: true\nc: ~\nd: 0x1F\ne: 017\nf: 0o17\ng: -3\nh: 1.5e3\ni: 10.1.2.3\nj: 1e\nk: 089\nl: .inf\nm: 2026-11-29\nn: 18446744073709551615\no: '7'\np: !!str 7\nq: -\nr: 1_000\ns: +5\nt:\nu: 12:30\n";
        let expected = json!({
            "a": "yes", "b": true, "c": null, "d": 31, "e": 15, "f": 15, "g": -3, "h": 1500.0, "i": "10.1.2.3", "j": "1e",
            "k": 89.0, "l": ".inf", "m": "2026-11-29", "n": 18_446_744_073_709_551_615_u64, "o": "7", "p": "7", "r": "1_000",
            "s": 5, "t": null, "u": "12:30"
        });
        let mut read = read(&document.replace("q: -\n", "")).unwrap();
        read.sort_all_objects();
        assert_eq!(read, expected);
    }

    #[test]
    fn quoted_texts_go_on_at_any_indent() {
        for (document, text) in [
            ("spec:\n  config: '{\n\"a\": 1\n}'\n", "{ \"a\": 1 }"),
            ("spec:\n  config: '{\n\t\"a\": 1\n\t}'\n", "{ \"a\": 1 }"),
            ("spec:\n  config: '{\n    \"a\": 1\n  }'\n", "{ \"a\": 1 }"),
            ("spec:\n  config: \"{\n \\\"a\\\": 1 }\"\n", "{ \"a\": 1 }"),
            ("spec:\n  config: |\n    {\"a\":\n      1}\n", "{\"a\":\n  1}\n"),
            ("spec:\n  config: >-\n    {\"a\":\n    1}\n", "{\"a\": 1}"),
        ] {
            assert_eq!(read(document).unwrap(), json!({"spec": {"config": text}}), "{document}");
        }
    }

    #[test]
    fn anchors_and_merges_stand_for_what_they_name() {
        let document = "base: &base {a: 1, b: [x]}\nmine:\n  <<: *base\n  a: 2\nlist: [*base]\n";
        let base = json!({"a": 1, "b": ["x"]});
        assert_eq!(read(document).unwrap(), json!({"base": base, "mine": {"a": 2, "b": ["x"]}, "list": [base]}));
    }

    #[test]
    fn an_error_names_its_line() {
        for (document, says) in [
            ("a: 1\na: 2\n", "line 2: key \"a\" is there twice"),
            ("a: [1\nb: 2\n", "line "),
            ("a: 1\n---\nb: 1\n", "line 3: one document ends here"),
            ("a: *b\n", "line 1"),
            ("? [a]\n: 1\n", "line 1: a key must be a text"),
            ("<<: 1\n", "line "),
        ] {
            let wrong = read(document).unwrap_err();
            assert!(wrong.starts_with(says), "{document}: {wrong}");
        }
        let bomb: String = (0..30)
            .map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")))
            .skip(1)
            .collect();
        let wrong = read(&format!("a0: &a0 [1]\n{bomb}")).unwrap_err();
        assert!(wrong.contains("aliases stand for more than"), "{wrong}");
        let deep = read(&"[".repeat(200)).unwrap_err();
        assert!(deep.contains("nested deeper") || deep.starts_with("line"), "{deep}");
    }

    #[test]
    fn nothing_is_null() {
        for document in ["", "# only a comment\n", "---\n", "---\n# c\n", "...\n"] {
            assert_eq!(read(document).unwrap(), Value::Null, "{document:?}");
        }
    }
}
