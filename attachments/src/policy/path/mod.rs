//! JSONPaths of rules: read once, within limits that keep reading and walking cheap (rule A01).

pub mod model;
mod read;

use std::collections::BTreeSet;

use self::model::{Filter, Query, Segment, Selector, Side};

/// Longest path, in bytes.
const LONGEST: usize = 512;
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
        read::read(text).map(|segments| Self { segments }).map_err(|wrong| wrong.told(text))
    }

    /// The parts of the document that it speaks of, as `pod.labels` or `request`.
    pub fn uses(&self) -> BTreeSet<String> {
        let mut uses = BTreeSet::new();
        absolute(&self.segments, &mut uses);
        uses
    }

    /// The names by which it goes on from its root, as far as it is a plain one: what is missing is at their end.
    pub fn names(&self) -> Vec<&str> {
        let name = |segment| match Segment::single(segment) {
            Some(Selector::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        self.segments.iter().map_while(name).collect()
    }
}

/// What a query from the root of the document speaks of.
fn absolute(segments: &[Segment], uses: &mut BTreeSet<String>) {
    let names = |segment: Option<&Segment>| -> Vec<String> {
        let selectors = segment.filter(|segment| !segment.is_descendant).map(|segment| &segment.selectors[..]);
        let name = |selector: &Selector| match selector {
            Selector::Name(name) => Some(name.clone()),
            _ => None,
        };
        selectors.unwrap_or_default().iter().filter_map(name).collect()
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
    for selector in segments.iter().flat_map(|segment| &segment.selectors) {
        if let Selector::Filter(filter) = selector {
            in_filter(filter, uses);
        }
    }
}

fn in_filter(filter: &Filter, uses: &mut BTreeSet<String>) {
    let mut query = |query: &Query| match query.is_absolute {
        true => absolute(&query.segments, uses),
        false => filters(&query.segments, uses),
    };
    match filter {
        Filter::Exists(exists) => query(exists),
        Filter::Compare(left, _, right) => {
            for side in [left, right] {
                if let Side::Singular(side) = side {
                    query(side);
                }
            }
        }
        Filter::Not(inner) => in_filter(inner, uses),
        Filter::Or(all) | Filter::And(all) => all.iter().for_each(|one| in_filter(one, uses)),
    }
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
        assert_eq!(refusal("$.a b"), "not a JSONPath (RFC 9535) from column 4 on");
        assert_eq!(refusal("$..a..b"), "at most one \"..\" is allowed");
        assert_eq!(refusal("$..a[?@..b]"), "at most one \"..\" is allowed");
        assert_eq!(refusal(&format!("$.{}", "a".repeat(511))), "must be at most 512 bytes");
        assert!(Path::read(&format!("$.{}", "a".repeat(510))).is_ok());
    }

    /// RFC 9535, 2.1 to 2.5: what its grammar has, and what is one character off.
    #[test]
    fn the_grammar_is_the_standards() {
        for text in [
            "$",
            "$ .a [0]\n['b']",
            "$.ä_1..*",
            "$..['a', 0, -1, 1:2:3, ::, :-1, *]",
            "$[9007199254740991, -9007199254740991]",
            "$[ 1 : 2 : 3 ]",
            r#"$["a\"'\u00e9\ud83d\ude00\/\\"]"#,
            r"$['\'\b\f\n\r\t']",
            "$[?@]",
            "$[? ! ( @.a || $.b [0] ) && @['c']]",
            "$[?@.a=='x', ?@.b<1]",
            "$[?-0 == -1.50e+3]",
            "$[?1e2 >= @ && null != $ && true == false]",
            "$[?@[?@.a].b]",
        ] {
            assert!(Path::read(text).is_ok(), "{text}: {}", refusal(text));
        }
        for text in [
            " $",
            "$ ",
            "$. a",
            "$.. a",
            "$.1a",
            "$.a-b",
            "$...",
            "$..",
            "$.[0]",
            "$[]",
            "$[0,]",
            "$[,0]",
            "$[01]",
            "$[-0]",
            "$[1.0]",
            "$[9007199254740992]",
            "$[1:2:3:4]",
            "$[a]",
            "$['a'",
            "$['a\"]",
            r"$['\x']",
            r"$['\u12']",
            r"$['\ud83d']",
            r"$['\ude00']",
            r#"$['\"']"#,
            "$['\t']",
            "$[?]",
            "$[?()]",
            "$[?@.a ==]",
            "$[?== 1]",
            "$[?1]",
            "$[?'a']",
            "$[?true]",
            "$[?@.a === 1]",
            "$[?@.* == 1]",
            "$[?@..a == 1]",
            "$[?@[0,1] == 1]",
            "$[?@[1:2] == 1]",
            "$[?1 == (@.a)]",
            "$[?!@.a == 1]",
            "$[?!!@.a]",
            "$[?@.a && ]",
            "$[?@.a & @.b]",
            "$[?@.a == TRUE]",
            "$[?@.a == 01]",
            "$[?@.a == 1.]",
            "$[?@.a == .5]",
            "$[?@.a == +1]",
            "$[?(@.a]",
            "$[?@.a)]",
            "$$",
            "@",
            "$@",
        ] {
            assert!(Path::read(text).is_err(), "{text}");
        }
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
