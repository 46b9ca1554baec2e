//! The operators: what a rule asserts about the nodes that its path selects.

use std::net::IpAddr;

use crate::rule::Rule;

use ipnet::IpNet;
use regex_lite::{Regex, RegexBuilder};
use serde_json::Value;

use super::select::{equals, order};
use super::spec::{Assert, Range, Scalar};

/// Longest regular expression, in bytes.
const LONGEST: usize = 512;
/// Memory of a compiled expression, in bytes: `(a{99}){99}` is a text of no length.
const LARGEST: usize = 256 << 10;
/// Values of a list that a message shows.
const SHOWN: usize = 16;

/// An operator, compiled.
#[derive(Clone, Debug)]
pub enum Operator {
    /// About each node.
    Each(Each),
    /// At most so many nodes.
    MaxCount(usize),
    /// At least so many nodes.
    MinCount(usize),
    /// No node.
    Absent,
    /// No two equal nodes.
    Unique,
}

/// What each node must be.
#[derive(Clone, Debug)]
pub enum Each {
    /// One of these.
    OneOf(Vec<Scalar>),
    /// None of these.
    NotOneOf(Vec<Scalar>),
    /// A number within one of these.
    Ranges(Vec<Range>),
    /// A text of this form.
    Matches(Regex, String),
    /// An address or subnet within one of these.
    Within(Vec<IpNet>),
}

/// What is wrong with an operator.
#[derive(Debug)]
pub struct Wrong {
    /// The rule; absent where none is about it.
    pub rule: Option<Rule>,
    /// The field, seen from the operator's.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub text: String,
}

impl Wrong {
    fn new(field: impl Into<String>, value: impl ToString, text: impl Into<String>) -> Self {
        Self { rule: None, field: field.into(), value: value.to_string(), text: text.into() }
    }
}

impl Operator {
    /// Compiles the one operator of an assertion.
    pub fn compile(assert: &Assert) -> Result<Self, Wrong> {
        let Assert { one_of, not_one_of, range, ranges, matches, within, max_count, min_count, absent, unique } =
            assert;
        let one_of = one_of.clone().map(|values| Ok(Self::Each(Each::OneOf(values))));
        let not_one_of = not_one_of.clone().map(|values| Ok(Self::Each(Each::NotOneOf(values))));
        let range = range.map(|range| checked("range", range).map(|range| Self::Each(Each::Ranges(vec![range]))));
        let ranges = ranges.as_ref().map(|ranges| {
            let each = ranges.iter().enumerate().map(|(i, range)| checked(&format!("ranges[{i}]"), *range));
            each.collect::<Result<_, _>>().map(|ranges| Self::Each(Each::Ranges(ranges)))
        });
        let matches = matches.as_deref().map(|text| expression(text).map(Self::Each));
        let within = within.as_deref().map(|texts| subnets(texts).map(Self::Each));
        let max_count = max_count.map(|most| Ok(Self::MaxCount(most as usize)));
        let min_count = min_count.map(|least| Ok(Self::MinCount(least as usize)));
        let absent = absent.map(|value| flag("absent", value, Self::Absent));
        let unique = unique.map(|value| flag("unique", value, Self::Unique));
        let all = [one_of, not_one_of, range, ranges, matches, within, max_count, min_count, absent, unique];
        let mut given = all.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(only), None) => only,
            (None, _) => Err(Wrong::new("", "", "an operator is required, for example oneOf")),
            (Some(_), Some(_)) => Err(Wrong::new("", 2 + given.count(), "exactly one operator is allowed")),
        }
    }

    /// What is allowed, in words that follow "allows".
    pub fn allowed(&self) -> String {
        match self {
            Self::Each(each) => each.allowed(),
            Self::MaxCount(most) => format!("at most {most}"),
            Self::MinCount(least) => format!("no less than {least}"),
            Self::Absent => "none".to_owned(),
            Self::Unique => "each value once".to_owned(),
        }
    }
}

impl Each {
    /// Is the value as it must be?
    pub fn holds(&self, value: &Value) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|one| is(one, value)),
            Self::NotOneOf(values) => !values.iter().any(|one| is(one, value)),
            Self::Ranges(ranges) => {
                let above = |min: i64| order(value, &min.into()).is_some_and(|order| order.is_ge());
                let below = |max: i64| order(value, &max.into()).is_some_and(|order| order.is_le());
                let in_range = |range: &Range| range.min.is_none_or(above) && range.max.is_none_or(below);
                value.is_number() && ranges.iter().any(in_range)
            }
            Self::Matches(regex, _) => value.as_str().is_some_and(|text| regex.is_match(text)),
            Self::Within(subnets) => {
                value.as_str().and_then(subnet).is_some_and(|one| subnets.iter().any(|subnet| subnet.contains(&one)))
            }
        }
    }

    fn allowed(&self) -> String {
        match self {
            Self::OneOf(values) => list(values.iter().map(shown)),
            Self::NotOneOf(values) => format!("anything but {}", list(values.iter().map(shown))),
            Self::Ranges(ranges) => list(ranges.iter().map(|range| match (range.min, range.max) {
                (Some(min), Some(max)) => format!("{min}-{max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, Some(max)) => format!("at most {max}"),
                (None, None) => "any number".to_owned(),
            })),
            Self::Matches(_, text) => format!("what matches {text:?}"),
            Self::Within(subnets) => list(subnets.iter().map(IpNet::to_string)),
        }
    }
}

fn is(scalar: &Scalar, value: &Value) -> bool {
    match scalar {
        Scalar::Number(number) => equals(value, &(*number).into()),
        Scalar::Text(text) => value.as_str() == Some(text),
    }
}

fn shown(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Number(number) => number.to_string(),
        Scalar::Text(text) => format!("{text:?}"),
    }
}

fn list(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    if values.is_empty() {
        return "none".to_owned();
    }
    let more = values.len().saturating_sub(SHOWN);
    values.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", values.join(", "))
}

fn checked(field: &str, range: Range) -> Result<Range, Wrong> {
    match (range.min, range.max) {
        (None, None) => Err(Wrong::new(field, "", "min, max or both are required")),
        (Some(min), Some(max)) if min > max => {
            Err(Wrong::new(field, format!("{min}-{max}"), "min must not be above max"))
        }
        _ => Ok(range),
    }
}

fn flag(field: &str, value: bool, operator: Operator) -> Result<Operator, Wrong> {
    if value { Ok(operator) } else { Err(Wrong::new(field, value, "must be true")) }
}

/// Rule A02. The whole text must match: who allows `eth1` does not mean `eth10`.
fn expression(text: &str) -> Result<Each, Wrong> {
    let wrong = |why: String| Wrong {
        rule: Some(Rule::PolicyExpression),
        ..Wrong::new("matches", format_args!("{text:?}"), why)
    };
    if text.len() > LONGEST {
        return Err(wrong(format!("must be at most {LONGEST} bytes")));
    }
    let compile = |text: &str| RegexBuilder::new(text).size_limit(LARGEST).build().map_err(|e| wrong(e.to_string()));
    // By itself first: `a)|(b` would be another expression within parentheses.
    compile(text)?;
    Ok(Each::Matches(compile(&format!("^(?:{text})$"))?, text.to_owned()))
}

fn subnets(texts: &[String]) -> Result<Each, Wrong> {
    let each = texts.iter().enumerate().map(|(i, text)| match text.parse::<IpNet>() {
        Ok(net) if net.trunc() == net => Ok(net),
        Ok(net) => {
            let want = format!("host bits set, use {:?}", net.trunc().to_string());
            Err(Wrong::new(format!("within[{i}]"), format_args!("{text:?}"), want))
        }
        Err(_) => {
            let want = "must be CIDR, for example \"10.64.0.0/12\"";
            Err(Wrong::new(format!("within[{i}]"), format_args!("{text:?}"), want))
        }
    });
    each.collect::<Result<_, _>>().map(Each::Within)
}

/// `10.1.0.0/16`, or an address alone.
fn subnet(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operator(assert: Value) -> Result<Operator, String> {
        let assert: Assert = serde_json::from_value(assert).unwrap();
        Operator::compile(&assert).map_err(|wrong| {
            let Wrong { rule, field, value, text } = wrong;
            format!("{} {field}: {value}: {text}", rule.map_or("", Rule::id))
        })
    }

    #[test]
    fn each_operator_judges_values_by_what_they_are() {
        let cases = [
            (
                json!({"oneOf": ["eth1", 7]}),
                vec![json!("eth1"), json!(7)],
                vec![json!("7"), json!("eth10"), json!([7])],
            ),
            (json!({"oneOf": []}), vec![], vec![json!(""), json!(0)]),
            (json!({"notOneOf": ["passthru"]}), vec![json!("bridge"), json!(1)], vec![json!("passthru")]),
            (
                json!({"range": {"min": 4000, "max": 4099}}),
                vec![json!(4000), json!(4099), json!(4050.0)],
                vec![json!(3999), json!(4100), json!(4099.5), json!("4050"), json!(true), json!(u64::MAX)],
            ),
            (json!({"range": {"max": 20}}), vec![json!(20), json!(-1)], vec![json!(21)]),
            (json!({"ranges": [{"min": 1, "max": 2}, {"min": 9}]}), vec![json!(1), json!(10)], vec![json!(3)]),
            (json!({"ranges": []}), vec![], vec![json!(1)]),
            (
                json!({"matches": "eth[12]|team-.*"}),
                vec![json!("eth1"), json!("team-a")],
                vec![json!("eth10"), json!("xeth1"), json!("eth1\n"), json!("x\nteam-a"), json!(1)],
            ),
            (
                json!({"within": ["10.64.0.0/12", "fd00:64::/32"]}),
                vec![json!("10.64.0.0/12"), json!("10.70.1.7"), json!("10.70.1.7/24"), json!("fd00:64::1/64")],
                vec![
                    json!("10.0.0.0/8"),
                    json!("10.64.0.7/8"),
                    json!("10.80.0.0/12"),
                    json!("::/0"),
                    json!("x"),
                    json!(7),
                ],
            ),
        ];
        for (assert, good, bad) in cases {
            let Ok(Operator::Each(each)) = operator(assert.clone()) else { panic!("{assert}") };
            good.iter().for_each(|value| assert!(each.holds(value), "{assert}: {value}"));
            bad.iter().for_each(|value| assert!(!each.holds(value), "{assert}: {value}"));
        }
    }

    #[test]
    fn what_is_allowed_is_said() {
        let allowed = |assert| operator(assert).unwrap().allowed();
        assert_eq!(allowed(json!({"oneOf": ["eth1", 7]})), r#""eth1", 7"#);
        assert_eq!(allowed(json!({"oneOf": []})), "none");
        assert_eq!(allowed(json!({"oneOf": (0..20).collect::<Vec<_>>()})).split(", ").last(), Some("15 and 4 more"));
        assert_eq!(allowed(json!({"notOneOf": ["a"]})), r#"anything but "a""#);
        assert_eq!(allowed(json!({"range": {"min": 1, "max": 2}})), "1-2");
        assert_eq!(allowed(json!({"ranges": [{"min": 1}, {"max": -1}]})), "at least 1, at most -1");
        assert_eq!(allowed(json!({"matches": "a.*"})), r#"what matches "a.*""#);
        assert_eq!(allowed(json!({"within": ["10.0.0.0/8"]})), "10.0.0.0/8");
        assert_eq!(allowed(json!({"maxCount": 0})), "at most 0");
        assert_eq!(allowed(json!({"minCount": 1})), "no less than 1");
        assert_eq!(
            (allowed(json!({"absent": true})), allowed(json!({"unique": true}))),
            ("none".into(), "each value once".into())
        );
    }

    #[test]
    fn operators_that_are_none_are_refused() {
        for (assert, want) in [
            (json!({}), " : : an operator is required, for example oneOf"),
            (json!({"oneOf": [], "absent": true, "unique": true}), " : 3: exactly one operator is allowed"),
            (json!({"absent": false}), " absent: false: must be true"),
            (json!({"range": {}}), " range: : min, max or both are required"),
            (json!({"ranges": [{"min": 1}, {"min": 2, "max": 1}]}), " ranges[1]: 2-1: min must not be above max"),
            (json!({"within": ["10.0.0.1/8"]}), r#" within[0]: "10.0.0.1/8": host bits set, use "10.0.0.0/8""#),
            (json!({"within": ["10.0.0.0"]}), r#" within[0]: "10.0.0.0": must be CIDR, for example "10.64.0.0/12""#),
        ] {
            assert_eq!(operator(assert.clone()).unwrap_err(), want, "{assert}");
        }
        // A group of the wrong expression would end the one around it.
        for text in
            ["(", "a)|(b", "[z-a]", "(?P<n>a)(?P<n>b)", "\\p{Greek}", "a{1001}{1001}", "((((a{99}){99}){99}){99})"]
        {
            let why = operator(json!({"matches": text})).unwrap_err();
            assert!(why.starts_with("A02 matches: "), "{text}: {why}");
        }
        let long = operator(json!({"matches": "a".repeat(513)})).unwrap_err();
        assert!(long.ends_with("must be at most 512 bytes"), "{long}");
        assert!(
            operator(json!({"matches": format!("{}b", "(a*)*".repeat(50))})).is_ok(),
            "matching takes no longer for it"
        );
    }
}
