//! Prometheus' text format.

use std::fmt::{Display, Write};

/// A family of series: its name, its kind, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// A text that grows.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// The next family. Its rows follow.
    pub fn family(&mut self, Family { name, kind, help }: &Family) -> Rows<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Rows { text: &mut self.0, name }
    }

    /// A family of one series without labels.
    pub fn one(&mut self, family: &Family, value: impl Display) {
        self.family(family).row("", &[], value);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// The rows of a family.
pub struct Rows<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Rows<'_> {
    /// One row. `suffix` is that of a histogram's part.
    pub fn row(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if i == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped_as_the_format_says() {
        let mut text = Text::default();
        text.family(&Family { name: "a", kind: "gauge", help: "Of a." }).row("", &[("b", "\"\\\n"), ("c", "d")], 7);
        text.one(&Family { name: "e", kind: "counter", help: "Of e." }, 1.5);
        let want =
            "# HELP a Of a.\n# TYPE a gauge\na{b=\"\\\"\\\\\\n\",c=\"d\"} 7\n# HELP e Of e.\n# TYPE e counter\ne 1.5\n";
        assert_eq!(text.finish(), want);
    }
}
