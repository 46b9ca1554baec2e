//! A JSONPath as a value, within what rules may use: RFC 9535 without functions.

use serde_json::Value;

/// One step of a query: from each node to some of its children, or of all nodes below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Not only the node's own children, but those of every node below it.
    pub is_descendant: bool,
    /// Which children.
    pub selectors: Vec<Selector>,
}

/// Children of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    /// The member of this name.
    Name(String),
    /// Each.
    Wildcard,
    /// The element at an index, from the end where it is negative.
    Index(i64),
    /// Elements from a start before an end, by a step.
    Slice(Option<i64>, Option<i64>, Option<i64>),
    /// Those of which something holds.
    Filter(Filter),
}

/// What holds of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// One of these.
    Or(Vec<Filter>),
    /// All of these.
    And(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// The query finds something.
    Exists(Query),
    /// The two sides compare so.
    Compare(Side, Operator, Side),
}

/// A query within a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// It begins at the root of the document (`$`), not at the node (`@`).
    pub is_absolute: bool,
    /// Its steps.
    pub segments: Vec<Segment>,
}

/// A side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// A constant.
    Literal(Value),
    /// What a query finds that finds one node at most.
    Singular(Query),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Segment {
    /// The one selector of a step to the node's own children, if there is only one.
    pub fn single(&self) -> Option<&Selector> {
        match (self.is_descendant, &self.selectors[..]) {
            (false, [one]) => Some(one),
            _ => None,
        }
    }
}

impl Query {
    /// Does it find one node at most?
    pub fn is_singular(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment.single(), Some(Selector::Name(_) | Selector::Index(_))))
    }
}
