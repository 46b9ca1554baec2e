//! Walks a path through a document, as RFC 9535 has it, with two differences: a name selects the member that Go's decoder would take for
//! it (`VLAN` for `vlan`), and a walk has an end.

use std::cmp::Ordering;

use serde_json::Value;

use super::path::Path;
use super::path::model::{Filter, Operator, Segment, Selector, Side};
use super::subnets::member;

/// Nodes that one rule may look at. A document of 64 KiB has less than half as many.
const MOST: u32 = 100_000;

/// A rule's walk through a document.
pub struct Walk<'a> {
    places: Vec<Place<'a>>,
    left: u32,
}

/// A node of the document.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// What it holds.
    pub value: &'a Value,
    place: usize,
}

struct Place<'a> {
    parent: usize,
    step: Step<'a>,
}

/// One step from the root to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// To a member of an object.
    Key(&'a str),
    /// To an element of a list.
    Index(usize),
}

/// The walk would be too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

type Nodes<'a> = Result<Vec<Node<'a>>, Exhausted>;

/// The place of the document itself.
const TOP: usize = 0;

impl<'a> Walk<'a> {
    /// A walk that begins at the root of a document.
    pub fn new(document: &'a Value) -> (Self, Node<'a>) {
        let top = Place { parent: TOP, step: Step::Key("") };
        (Self { places: vec![top], left: MOST }, Node { value: document, place: TOP })
    }

    /// The nodes that a path selects; `root` is its `$`.
    pub fn select(&mut self, path: &Path, root: Node<'a>) -> Nodes<'a> {
        self.segments(&path.segments, root, root)
    }

    /// The steps from the root of the document to a node.
    pub fn steps(&self, node: Node<'a>) -> Vec<Step<'a>> {
        let (mut steps, mut at) = (Vec::new(), node.place);
        while at != TOP {
            steps.push(self.places[at].step);
            at = self.places[at].parent;
        }
        steps.reverse();
        steps
    }

    fn segments(&mut self, segments: &[Segment], root: Node<'a>, from: Node<'a>) -> Nodes<'a> {
        let mut nodes = vec![from];
        for segment in segments {
            let mut next = Vec::new();
            for node in nodes {
                self.segment(segment, root, node, &mut next)?;
            }
            nodes = next;
        }
        Ok(nodes)
    }

    fn segment(
        &mut self,
        segment: &Segment,
        root: Node<'a>,
        from: Node<'a>,
        found: &mut Vec<Node<'a>>,
    ) -> Result<(), Exhausted> {
        for selector in &segment.selectors {
            self.selector(selector, root, from, found)?;
        }
        if segment.is_descendant {
            for child in self.children(from)? {
                self.segment(segment, root, child, found)?;
            }
        }
        Ok(())
    }

    fn selector(
        &mut self,
        selector: &Selector,
        root: Node<'a>,
        from: Node<'a>,
        found: &mut Vec<Node<'a>>,
    ) -> Result<(), Exhausted> {
        match selector {
            Selector::Name(name) => found.extend(self.named(from, name)?),
            Selector::Wildcard => found.extend(self.children(from)?),
            Selector::Index(index) => found.extend(self.indexed(from, *index)?),
            Selector::Slice(start, end, step) => {
                let length = from.value.as_array().map_or(0, Vec::len);
                for index in slice(length, *start, *end, step.unwrap_or(1)) {
                    found.extend(self.indexed(from, index)?);
                }
            }
            Selector::Filter(filter) => {
                for child in self.children(from)? {
                    if self.holds(filter, root, child)? {
                        found.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn children(&mut self, from: Node<'a>) -> Nodes<'a> {
        match from.value {
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, value)| self.visit(from, Step::Index(i), value)).collect()
            }
            Value::Object(object) => {
                object.iter().map(|(key, value)| self.visit(from, Step::Key(key), value)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    fn named(&mut self, from: Node<'a>, name: &str) -> Result<Option<Node<'a>>, Exhausted> {
        let found = from.value.as_object().and_then(|object| member(object, name));
        found.map(|(key, value)| self.visit(from, Step::Key(key), value)).transpose()
    }

    fn indexed(&mut self, from: Node<'a>, index: i64) -> Result<Option<Node<'a>>, Exhausted> {
        let Value::Array(list) = from.value else { return Ok(None) };
        let index = if index < 0 { i64::try_from(list.len()).unwrap_or(i64::MAX) + index } else { index };
        let Ok(index) = usize::try_from(index) else { return Ok(None) };
        list.get(index).map(|value| self.visit(from, Step::Index(index), value)).transpose()
    }

    fn visit(&mut self, from: Node<'a>, step: Step<'a>, value: &'a Value) -> Result<Node<'a>, Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted)?;
        self.places.push(Place { parent: from.place, step });
        Ok(Node { value, place: self.places.len() - 1 })
    }

    fn holds(&mut self, filter: &Filter, root: Node<'a>, at: Node<'a>) -> Result<bool, Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted)?;
        match filter {
            Filter::Or(all) => {
                for one in all {
                    if self.holds(one, root, at)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Filter::And(all) => {
                for one in all {
                    if !self.holds(one, root, at)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Filter::Not(inner) => Ok(!self.holds(inner, root, at)?),
            Filter::Exists(query) => {
                let from = if query.is_absolute { root } else { at };
                Ok(!self.segments(&query.segments, root, from)?.is_empty())
            }
            Filter::Compare(left, operator, right) => {
                let (left, right) = (self.value(left, root, at)?, self.value(right, root, at)?);
                Ok(compare(*operator, left, right))
            }
        }
    }

    fn value<'c>(&mut self, side: &'c Side, root: Node<'a>, at: Node<'a>) -> Result<Option<&'c Value>, Exhausted>
    where
        'a: 'c,
    {
        match side {
            Side::Literal(value) => Ok(Some(value)),
            Side::Singular(query) => {
                let from = if query.is_absolute { root } else { at };
                let found = self.segments(&query.segments, root, from)?;
                Ok(found.first().map(|node| node.value))
            }
        }
    }
}

/// The indexes of a slice (RFC 9535, 2.3.4.2.2).
fn slice(length: usize, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<i64> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let mut indexes = Vec::new();
    if step > 0 {
        let mut at = from_end(start.unwrap_or(0)).clamp(0, length);
        let end = from_end(end.unwrap_or(length)).clamp(0, length);
        while at < end {
            indexes.push(at);
            at = at.saturating_add(step);
        }
    } else if step < 0 {
        let mut at = start.map_or(length - 1, from_end).clamp(-1, length - 1);
        let end = end.map_or(-1, |end| from_end(end).clamp(-1, length - 1));
        while at > end {
            indexes.push(at);
            at = at.saturating_add(step);
        }
    }
    indexes
}

/// RFC 9535, 2.3.5.2.2. What is absent equals what is absent and nothing else.
fn compare(operator: Operator, left: Option<&Value>, right: Option<&Value>) -> bool {
    let equal = || match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => equals(left, right),
        _ => false,
    };
    let order = || order(left?, right?);
    match operator {
        Operator::Eq => equal(),
        Operator::Ne => !equal(),
        Operator::Lt => order() == Some(Ordering::Less),
        Operator::Le => order() == Some(Ordering::Less) || equal(),
        Operator::Gt => order() == Some(Ordering::Greater),
        Operator::Ge => order() == Some(Ordering::Greater) || equal(),
    }
}

/// Are two values the same? Numbers by what they are, not by how they are written.
pub fn equals(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equals(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(key, value)| right.get(key).is_some_and(|other| equals(value, other));
            left.len() == right.len() && left.iter().all(same)
        }
        _ => left == right,
    }
}

/// Which of two numbers or texts is the lesser.
pub fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i128(), right.as_i128()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jsonpath_rust::JsonPath;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn select(path: &str, document: &Value) -> Result<Vec<String>, Exhausted> {
        let path = Path::read(path).unwrap();
        let (mut walk, root) = Walk::new(document);
        let nodes = walk.select(&path, root)?;
        Ok(nodes.into_iter().map(|node| node.value.to_string()).collect())
    }

    #[test]
    fn a_name_is_found_as_go_finds_it() {
        let document = json!({"plugins": [{"VLAN": 7}, {"vlan": 8, "x": 1}, {"ma\u{17f}ter": "eth1"}]});
        assert_eq!(select("$.plugins[*].vlan", &document).unwrap(), ["7", "8"]);
        assert_eq!(select("$.plugins[?@.vlan == 7].Vlan", &document).unwrap(), ["7"]);
        assert_eq!(select("$.Plugins[*].master", &document).unwrap(), [r#""eth1""#]);
        let both = json!({"a": 1, "A": 2});
        assert_eq!(
            (select("$.a", &both).unwrap(), select("$.A", &both).unwrap()),
            (vec!["1".into()], vec!["2".into()])
        );
    }

    #[test]
    fn steps_lead_to_a_node() {
        let document = json!({"a": [{"B": 1}]});
        let (mut walk, root) = Walk::new(&document);
        let node = walk.select(&Path::read("$.a[-1]..b").unwrap(), root).unwrap()[0];
        assert_eq!(walk.steps(node), [Step::Key("a"), Step::Index(0), Step::Key("B")]);
    }

    #[test]
    fn a_filter_within_a_filter_is_about_the_children_of_the_node() {
        let document = json!({"a": [{"x": false}], "b": [{"y": 1}], "c": {"x": null}});
        for path in ["$[?@[?@.x]]", "$[?(@[?@.x] || @[1])]", "$[?@[?@.x] && @[0]]"] {
            assert_eq!(select(path, &document).unwrap(), [r#"[{"x":false}]"#], "{path}");
        }
        assert_eq!(select("$[?@.x]", &document).unwrap(), [r#"{"x":null}"#], "what is null is there");
    }

    /// By the crate's own walk both would take longer than anybody waits.
    #[test]
    fn a_walk_ends() {
        let mut deep = json!(1);
        for _ in 0..30 {
            deep = json!([deep, 1]);
        }
        for path in [format!("${}", "[*,*]".repeat(30)), format!("$[?@{}]", "[0,0]".repeat(25))] {
            assert_eq!(select(&path, &deep), Err(Exhausted), "{path}");
        }
        let wide = json!(vec![1; 30_000]);
        assert_eq!(select("$..*", &wide).map(|all| all.len()), Ok(30_000));
        assert_eq!(select("$[?@ == 1]", &wide).map(|all| all.len()), Ok(30_000));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-3i64..4).prop_map(Value::from),
            prop::sample::select(vec![0.5, 1.5, -2.5]).prop_map(Value::from),
            prop::sample::select(vec!["", "a", "b", "c"]).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn comparable() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec!["1", "0", "-2", "1.5", "'a'", "\"b\"", "true", "null"]).prop_map(str::to_owned),
            prop::sample::select(vec!["@", "@.a", "@.b", "@[0]", "$.a", "@['c'][-1]", "$[1].b"])
                .prop_map(str::to_owned),
        ]
    }

    fn filter() -> impl Strategy<Value = String> {
        let test = prop::sample::select(vec!["@.a", "!@.b", "@[1]", "$.c", "@.*"]).prop_map(str::to_owned);
        let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
        let comparison = (comparable(), operator, comparable()).prop_map(|(l, op, r)| format!("{l} {op} {r}"));
        prop_oneof![test, comparison].prop_recursive(2, 6, 2, |inner| {
            (inner.clone(), prop::sample::select(vec!["&&", "||"]), inner, any::<bool>())
                .prop_map(|(l, op, r, not)| format!("{}({l} {op} {r})", if not { "!" } else { "" }))
        })
    }

    fn paths() -> impl Strategy<Value = String> {
        let selectors = vec![
            ".a",
            ".b",
            "['c']",
            "[*]",
            ".*",
            "[0]",
            "[-1]",
            "[0,1]",
            "['a','b']",
            "[1:]",
            "[:-1]",
            "[::2]",
            "[::-1]",
            "[3:0:-2]",
            "[::0]",
            "[-2:]",
            "['a',0,*]",
        ];
        let segment = prop_oneof![
            5 => prop::sample::select(selectors).prop_map(str::to_owned),
            3 => filter().prop_map(|filter| format!("[?{filter}]")),
        ];
        (prop::collection::vec(segment, 0..4), prop::option::of(0usize..4)).prop_map(|(mut segments, descendant)| {
            if let Some(at) = descendant.filter(|at| *at < segments.len()) {
                segments[at] = format!("..{}", segments[at].trim_start_matches('.'));
            }
            format!("${}", segments.concat())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A path selects what the crate's own walk selects, where neither the case of keys nor the length of a walk matters, and
        /// no filter stands within a filter, which the crate would apply to the node itself.
        #[test]
        fn a_path_selects_what_the_standard_says(document in documents(), path in paths()) {
            let want: Vec<String> = document.query(&path).unwrap().into_iter().map(Value::to_string).collect();
            let (mut found, mut want) = (select(&path, &document).unwrap(), want);
            // The order is of no matter to any operator.
            found.sort();
            want.sort();
            prop_assert_eq!(found, want, "{} of {}", path, document);
        }
    }
}
