//! Colour, where a person looks: on a terminal, and not where NO_COLOR is set (no-color.org).

use std::io::{IsTerminal, stdout};

/// How words are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As they are.
    Plain,
    /// With the escape sequences of terminals.
    Colour,
}

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// In order.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// A title.
    Strong,
}

impl Style {
    /// That of this program's output.
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::of(stdout().is_terminal(), unwanted, std::env::var_os("TERM").is_some_and(|term| term == "dumb"))
    }

    fn of(is_terminal: bool, is_unwanted: bool, is_dumb: bool) -> Self {
        if is_terminal && !is_unwanted && !is_dumb { Self::Colour } else { Self::Plain }
    }

    /// A word of ours. What others wrote does not come here: the marks are not escaped.
    pub fn paint(self, tone: Tone, word: &'static str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Warning => 33,
            Tone::Bad => 31,
            Tone::Strong => 1,
        };
        match self {
            Self::Plain => word.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{word}\u{1b}[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_and_for_those_who_want_it() {
        assert_eq!(Style::of(true, false, false), Style::Colour);
        for (terminal, unwanted, dumb) in [(false, false, false), (true, true, false), (true, false, true)] {
            assert_eq!(Style::of(terminal, unwanted, dumb), Style::Plain);
        }
        assert_eq!(Style::Plain.paint(Tone::Bad, "refused"), "refused");
        assert_eq!(Style::Colour.paint(Tone::Bad, "refused"), "\u{1b}[31mrefused\u{1b}[0m");
    }
}
