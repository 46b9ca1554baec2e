//! Reads a JSONPath: the grammar of RFC 9535 by descent, with one look ahead and never a step back, so that the time is that of the text's
//! length.

use serde_json::Value;

use super::model::{Filter, Operator, Query, Segment, Selector, Side};

/// Deepest nesting of brackets and parentheses: reading is recursive.
const DEEPEST: usize = 16;
/// Farthest index: what a number of JSON holds exactly (RFC 9535, 2.1).
const FARTHEST: i64 = (1 << 53) - 1;

/// Why a text is no path that rules may use.
#[derive(Debug)]
pub enum Wrong {
    /// It is no JSONPath from here on, in bytes.
    At(usize),
    /// It calls a function.
    Function,
    /// Brackets stand in brackets, and so on.
    Deep,
}

impl Wrong {
    /// In words that follow the value.
    pub fn told(&self, text: &str) -> String {
        match self {
            Self::At(place) => {
                let column = text.get(..*place).unwrap_or(text).chars().count() + 1;
                format!("not a JSONPath (RFC 9535) from column {column} on")
            }
            // An operator says the same with an expression that is compiled once.
            Self::Function => "functions are not allowed, use an operator of assert, for example matches".to_owned(),
            Self::Deep => format!("at most {DEEPEST} levels of brackets are allowed"),
        }
    }
}

type Read<T> = Result<T, Wrong>;

/// Reads the steps of a whole path, which begins with `$`.
pub fn read(text: &str) -> Read<Vec<Segment>> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.expect("$")?;
    let segments = reader.segments()?;
    if reader.at < text.len() { Err(reader.wrong()) } else { Ok(segments) }
}

struct Reader<'a> {
    text: &'a str,
    /// What has been read, in bytes.
    at: usize,
    /// Open brackets and parentheses.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self) -> Wrong {
        Wrong::At(self.at)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Goes on behind a text that stands here.
    fn take(&mut self, text: &str) -> bool {
        let is_here = self.rest().starts_with(text);
        self.at += if is_here { text.len() } else { 0 };
        is_here
    }

    fn expect(&mut self, text: &str) -> Read<()> {
        if self.take(text) { Ok(()) } else { Err(self.wrong()) }
    }

    /// Goes on behind the characters that are such.
    fn take_while(&mut self, is_such: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.get(..rest.find(|c| !is_such(c)).unwrap_or(rest.len())).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn space(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    /// One level deeper.
    fn enter(&mut self) -> Read<()> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(Wrong::Deep) } else { Ok(()) }
    }

    fn segments(&mut self) -> Read<Vec<Segment>> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.space();
            let is_descendant = self.take("..");
            let selectors = if self.peek() == Some('[') {
                self.selectors()?
            } else if is_descendant || self.take(".") {
                vec![self.shorthand()?]
            } else {
                // Space that no step follows is not the query's.
                self.at = before;
                return Ok(segments);
            };
            segments.push(Segment { is_descendant, selectors });
        }
    }

    fn shorthand(&mut self) -> Read<Selector> {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        if self.take("*") {
            return Ok(Selector::Wildcard);
        }
        match self.peek() {
            Some(c) if is_first(c) => {
                Ok(Selector::Name(self.take_while(|c| is_first(c) || c.is_ascii_digit()).to_owned()))
            }
            _ => Err(self.wrong()),
        }
    }

    fn selectors(&mut self) -> Read<Vec<Selector>> {
        self.expect("[")?;
        self.enter()?;
        let mut selectors = Vec::new();
        loop {
            self.space();
            selectors.push(self.selector()?);
            self.space();
            if !self.take(",") {
                break;
            }
        }
        self.expect("]")?;
        self.depth -= 1;
        Ok(selectors)
    }

    fn selector(&mut self) -> Read<Selector> {
        match self.peek() {
            Some('\'' | '"') => Ok(Selector::Name(self.string()?)),
            Some('*') => self.expect("*").map(|()| Selector::Wildcard),
            Some('?') => {
                self.expect("?")?;
                self.space();
                Ok(Selector::Filter(self.or()?))
            }
            _ => self.index_or_slice(),
        }
    }

    fn index_or_slice(&mut self) -> Read<Selector> {
        let start = self.index()?;
        let before = self.at;
        self.space();
        if !self.take(":") {
            self.at = before;
            return start.map(Selector::Index).ok_or_else(|| self.wrong());
        }
        self.space();
        let end = self.index()?;
        self.space();
        let step = if self.take(":") {
            self.space();
            self.index()?
        } else {
            None
        };
        Ok(Selector::Slice(start, end, step))
    }

    /// An integer as indexes are written: no zero before another digit, no `-0`, and what a number of JSON holds exactly.
    fn index(&mut self) -> Read<Option<i64>> {
        let begin = self.at;
        let text = self.take_while(|c| c == '-' || c.is_ascii_digit());
        let is_plain = |number: &i64| number.to_string() == text && number.abs() <= FARTHEST;
        match text {
            "" => Ok(None),
            _ => text.parse().ok().filter(is_plain).map(Some).ok_or(Wrong::At(begin)),
        }
    }

    fn or(&mut self) -> Read<Filter> {
        let mut all = vec![self.and()?];
        while self.follows("||") {
            all.push(self.and()?);
        }
        Ok(one_or(all, Filter::Or))
    }

    fn and(&mut self) -> Read<Filter> {
        let mut all = vec![self.basic()?];
        while self.follows("&&") {
            all.push(self.basic()?);
        }
        Ok(one_or(all, Filter::And))
    }

    fn follows(&mut self, operator: &str) -> bool {
        self.space();
        let is_here = self.take(operator);
        self.space();
        is_here
    }

    fn basic(&mut self) -> Read<Filter> {
        let is_not = self.take("!");
        self.space();
        let filter = match self.peek() {
            Some('(') => {
                self.expect("(")?;
                self.enter()?;
                self.space();
                let inner = self.or()?;
                self.space();
                self.expect(")")?;
                self.depth -= 1;
                inner
            }
            Some('@' | '$') if is_not => Filter::Exists(self.query()?),
            _ if is_not => return Err(self.no_value()),
            _ => self.comparison_or_test()?,
        };
        Ok(if is_not { Filter::Not(Box::new(filter)) } else { filter })
    }

    fn comparison_or_test(&mut self) -> Read<Filter> {
        let left = match self.peek() {
            Some('@' | '$') => {
                let query = self.query()?;
                let behind = self.at;
                self.space();
                if !matches!(self.peek(), Some('=' | '!' | '<' | '>')) {
                    return Ok(Filter::Exists(query));
                }
                singular(query, behind)?
            }
            _ => Side::Literal(self.literal()?),
        };
        self.space();
        let operators = [
            ("==", Operator::Eq),
            ("!=", Operator::Ne),
            ("<=", Operator::Le),
            (">=", Operator::Ge),
            ("<", Operator::Lt),
            (">", Operator::Gt),
        ];
        let operator = operators.into_iter().find(|(text, _)| self.take(text));
        let (_, operator) = operator.ok_or_else(|| self.wrong())?;
        self.space();
        let right = match self.peek() {
            Some('@' | '$') => {
                let query = self.query()?;
                singular(query, self.at)?
            }
            _ => Side::Literal(self.literal()?),
        };
        Ok(Filter::Compare(left, operator, right))
    }

    fn query(&mut self) -> Read<Query> {
        let is_absolute = self.take("$");
        if !is_absolute {
            self.expect("@")?;
        }
        Ok(Query { is_absolute, segments: self.segments()? })
    }

    fn literal(&mut self) -> Read<Value> {
        match self.peek() {
            Some('\'' | '"') => self.string().map(Value::String),
            Some('-' | '0'..='9') => self.number(),
            _ => {
                for (text, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
                {
                    if self.take(text) {
                        return Ok(value);
                    }
                }
                Err(self.no_value())
            }
        }
    }

    /// What stands here is no value. It may be a function's name.
    fn no_value(&self) -> Wrong {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let behind = self.rest().trim_start_matches(name);
        let is_named = behind.len() < self.rest().len();
        if is_named && behind.trim_start().starts_with('(') { Wrong::Function } else { self.wrong() }
    }

    /// A number as JSON writes it.
    fn number(&mut self) -> Read<Value> {
        let begin = self.at;
        let text = self.take_while(|c| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        serde_json::from_str(text).map_err(|_| Wrong::At(begin))
    }

    /// A text in quotes of either kind, with the escapes of JSON; of the quotes only its own is escaped.
    fn string(&mut self) -> Read<String> {
        let quote = self.peek().unwrap_or_default();
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let place = self.at;
            let c = self.peek().ok_or(Wrong::At(place))?;
            self.at += c.len_utf8();
            match c {
                _ if c == quote => return Ok(text),
                '\\' => {
                    let escaped = self.peek().ok_or(Wrong::At(place))?;
                    self.at += escaped.len_utf8();
                    text.push(match escaped {
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        '/' | '\\' => escaped,
                        'u' => self.unicode().ok_or(Wrong::At(place))?,
                        _ if escaped == quote => quote,
                        _ => return Err(Wrong::At(place)),
                    });
                }
                '\0'..='\u{1f}' => return Err(Wrong::At(place)),
                _ => text.push(c),
            }
        }
    }

    /// The character of `\uXXXX`, or of two that are a surrogate pair.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        let second = self.take("\\u").then(|| self.hex()).flatten().filter(|low| (0xdc00..0xe000).contains(low))?;
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

fn one_or(mut all: Vec<Filter>, several: impl Fn(Vec<Filter>) -> Filter) -> Filter {
    match (all.len(), all.pop()) {
        (1, Some(one)) => one,
        (_, last) => several(all.into_iter().chain(last).collect()),
    }
}

/// A side of a comparison finds one node at most.
fn singular(query: Query, behind: usize) -> Read<Side> {
    if query.is_singular() { Ok(Side::Singular(query)) } else { Err(Wrong::At(behind)) }
}
