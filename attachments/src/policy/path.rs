//! JSONPaths of rules: read once by `jsonpath-rust`, within limits that keep reading and walking cheap (rule A01).

use std::collections::BTreeSet;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, JpQuery, Segment, Selector, SingularQuery, SingularQuerySegment, Test,
};
use jsonpath_rust::parser::parse_json_path;

/// Longest path, in bytes.
const LONGEST: usize = 512;
/// Deepest nesting of brackets and parentheses: reading is recursive.
const DEEPEST: usize = 16;

/// A path that can be walked.
#[derive(Clone, Debug)]
pub struct Path {
    pub(super) segments: Vec<Segment>,
}

impl Path {
    /// Reads a path; what is wrong is said in words that follow the value.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("must be at most {LONGEST} bytes"));
        }
        // Counted in the text, as the schema counts it: a `..` within quotes is worth no second rule.
        if text.matches("..").count() > 1 {
            return Err("at most one \"..\" is allowed".to_owned());
        }
        check_form(text)?;
        match parse_json_path(text) {
            Ok(JpQuery { segments }) => Ok(Self { segments }),
            Err(error) => {
                let text = error.to_string();
                // The parser draws a picture of several lines; the place is in the first.
                let place = text.lines().find_map(|line| line.split_once("--> ")?.1.split_once(':'));
                Err(match place {
                    Some((_, column)) => format!("not a JSONPath (RFC 9535) from column {column} on"),
                    None => format!("not a JSONPath (RFC 9535): {}", text.lines().next().unwrap_or_default()),
                })
            }
        }
    }

    /// The parts of the document that it speaks of, as `pod.labels` or `request`.
    pub fn uses(&self) -> BTreeSet<String> {
        let mut uses = BTreeSet::new();
        absolute(&self.segments, &mut uses);
        uses
    }

    /// The names by which it goes on from its root, as far as it is a plain one: what is missing is at their end.
    pub fn names(&self) -> Vec<&str> {
        let name = |segment| match segment {
            &Segment::Selector(Selector::Name(ref name)) => Some(name.as_str()),
            _ => None,
        };
        self.segments.iter().map_while(name).collect()
    }
}

/// Functions are refused before they are read: an operator says the same with an expression that is compiled once, and to read nested
/// functions that are not closed takes the parser a time that doubles with each.
fn check_form(text: &str) -> Result<(), String> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let (mut depth, mut quote, mut is_escaped, mut before, mut is_behind_space) = (0usize, None, false, ' ', false);
    for c in text.chars() {
        if let Some(mark) = quote {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                _ if c == mark => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '\'' | '"' => quote = Some(c),
            // The parser would take both for one name.
            c if is_of_name(c) && is_of_name(before) && is_behind_space => {
                return Err("not a JSONPath (RFC 9535): white space within a name".to_owned());
            }
            '(' if is_of_name(before) => {
                return Err("functions are not allowed, use an operator of assert, for example matches".to_owned());
            }
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("at most {DEEPEST} levels of brackets are allowed"));
        }
        is_behind_space = c.is_whitespace();
        if !is_behind_space {
            before = c;
        }
    }
    Ok(())
}

/// What a query from the root of the document speaks of.
fn absolute(segments: &[Segment], uses: &mut BTreeSet<String>) {
    let names = |segment: Option<&Segment>| -> Vec<String> {
        let name = |selector: &Selector| match selector {
            Selector::Name(name) => Some(name.clone()),
            _ => None,
        };
        match segment {
            Some(Segment::Selector(selector)) => name(selector).into_iter().collect(),
            Some(Segment::Selectors(selectors)) => selectors.iter().filter_map(name).collect(),
            _ => Vec::new(),
        }
    };
    for first in names(segments.first()) {
        let second = names(segments.get(1));
        if second.is_empty() {
            uses.insert(first);
        } else {
            uses.extend(second.iter().map(|second| format!("{first}.{second}")));
        }
    }
    filters(segments, uses);
}

/// What the filters of a query speak of by `$`.
fn filters(segments: &[Segment], uses: &mut BTreeSet<String>) {
    for segment in segments {
        match segment {
            Segment::Descendant(inner) => filters(std::slice::from_ref(&**inner), uses),
            Segment::Selector(Selector::Filter(filter)) => in_filter(filter, uses),
            Segment::Selector(_) => {}
            Segment::Selectors(selectors) => selectors.iter().for_each(|selector| {
                if let Selector::Filter(filter) = selector {
                    in_filter(filter, uses);
                }
            }),
        }
    }
}

fn in_filter(filter: &Filter, uses: &mut BTreeSet<String>) {
    match filter {
        Filter::Or(all) | Filter::And(all) => all.iter().for_each(|one| in_filter(one, uses)),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => in_filter(expr, uses),
        Filter::Atom(FilterAtom::Test { expr, .. }) => match &**expr {
            Test::AbsQuery(query) => absolute(&query.segments, uses),
            Test::RelQuery(segments) => filters(segments, uses),
            Test::Function(_) => {}
        },
        Filter::Atom(FilterAtom::Comparison(comparison)) => {
            let (left, right) = sides(comparison);
            for side in [left, right] {
                if let Comparable::SingularQuery(SingularQuery::Root(steps)) = side {
                    let names = steps.iter().map_while(|step| match step {
                        SingularQuerySegment::Name(name) => Some(name.as_str()),
                        SingularQuerySegment::Index(_) => None,
                    });
                    let names: Vec<&str> = names.take(2).collect();
                    uses.extend((!names.is_empty()).then(|| names.join(".")));
                }
            }
        }
    }
}

/// Both sides of a comparison.
pub(super) fn sides(comparison: &Comparison) -> (&Comparable, &Comparable) {
    comparison.vals()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn refusal(text: &str) -> String {
        Path::read(text).unwrap_err()
    }

    #[test]
    fn what_is_no_path_is_refused_with_its_place() {
        for text in ["", "config", "$.a.", "$[", "$[?@.a = 1]", "$['a'", "@.a"] {
            assert!(refusal(text).starts_with("not a JSONPath (RFC 9535) from column "), "{text}: {}", refusal(text));
        }
        assert_eq!(refusal("$.config.plugins[*]vni"), "not a JSONPath (RFC 9535) from column 20 on");
        assert_eq!(refusal("$.a b"), "not a JSONPath (RFC 9535): white space within a name");
        assert_eq!(refusal("$..a..b"), "at most one \"..\" is allowed");
        assert_eq!(refusal("$..a[?@..b]"), "at most one \"..\" is allowed");
        assert_eq!(refusal(&format!("$.{}", "a".repeat(511))), "must be at most 512 bytes");
        assert!(Path::read(&format!("$.{}", "a".repeat(510))).is_ok());
    }

    #[test]
    fn functions_are_refused() {
        for text in ["$[?length(@.a) > 1]", "$[?match(@.a, 'x')]", "$[?(count (@.*)) > 1]", "$[?in(@.a, $.b)]"] {
            assert!(refusal(text).starts_with("functions are not allowed"), "{text}");
        }
        for text in ["$[?(@.a)]", "$[?!(@.a && (@.b || @.c))]", "$['f(x)']", r#"$[?@.a == "\"f(x)"]"#] {
            assert!(Path::read(text).is_ok(), "{text}");
        }
    }

    /// Each would take longer than anybody waits, or all of the stack.
    #[test]
    fn bombs_are_refused_at_once() {
        let began = Instant::now();
        for (text, times) in [
            ("$[?length(", 1),
            ("length(", 70),
            ("$[?", 170),
            ("(", 500),
            ("$[?@.a == (", 40),
            ("[?!(", 120),
            ("..a", 170),
            ("[*,*]", 100),
            ("[?@", 16),
            ("[?(@||", 8),
            ("[0:0:", 100),
            ("'\\", 250),
        ] {
            for head in ["", "$", "$[?"] {
                let _ = Path::read(&format!("{head}{}", text.repeat(times)));
            }
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn what_a_path_speaks_of_is_known() {
        let uses = |text: &str| Path::read(text).unwrap().uses().into_iter().collect::<Vec<_>>();
        assert_eq!(uses("$.config.plugins[*].vni"), ["config.plugins"]);
        assert_eq!(uses("$.request"), ["request"]);
        assert_eq!(uses("$['pod','nad']['labels'].x"), ["nad.labels", "pod.labels"]);
        assert_eq!(
            uses("$.config.plugins[?@.vni == $.usage.vnis[0] && $.request.user]"),
            ["config.plugins", "request.user", "usage.vnis"]
        );
        assert_eq!(uses("$[*]"), Vec::<String>::new());
        assert_eq!(Path::read("$.a['b'][0].c").unwrap().names(), ["a", "b"]);
    }
}
