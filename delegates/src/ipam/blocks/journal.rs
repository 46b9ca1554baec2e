//! The text of the file `leases`: who holds which addresses, and in which order addresses were given back. Pure.
//!
//! ```text
//! leases 1 6f1c4a0e-...                            format and boot: no pod survives a reboot, and its lease does not either
//! +10.42.0.7,fd00::7 CONTAINER net1 shop/web-0     an attachment takes the addresses of a slot; the pod, where it is known
//! -10.42.0.7,fd00::7                               they are given back
//! -10.42.0.7,fd00::7 CONTAINER net1 shop/web-0     by this one of two that have them: a pod of an IPAMClaim, and the one that follows it
//! ~10.42.0.7,fd00::7 CONTAINER net1 shop/web-0     the same where a full disk has no room for a line: `+` was overwritten
//! =10.42.0.9                                       of a text that was written anew: what was given last
//! ```
//!
//! A line counts once its end is there, so a writer that is killed has written a line or has not. Addresses stand there and not
//! numbers of slots: a pool that is changed under running pods numbers otherwise, and nobody may get an address that a pod has.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// As many of the addresses that were given back last are remembered in their order, at least.
pub const HISTORY: usize = 512;

/// Lines that need no reason to be there: a text is not written anew for fewer.
const SPARE: usize = 128;

/// An attachment's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The addresses of its slot, one of each range set.
    pub addresses: Vec<IpAddr>,
    /// Who holds them.
    pub holder: Holder,
}

/// Who holds addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// CNI_CONTAINERID.
    pub container: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// The pod as `namespace/name`, where the runtime said which it is.
    pub pod: Option<String>,
}

impl Holder {
    /// The same attachment?
    pub fn is(&self, container: &str, ifname: &str) -> bool {
        self.container == container && self.ifname == ifname
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.pod {
            write!(f, "pod {pod}, ")?;
        }
        write!(f, "container {} {}", self.container, self.ifname)
    }
}

/// A lease, and where its line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub lease: Lease,
    /// Offset of its first byte.
    pub at: u64,
}

/// What a text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The leases, oldest first.
    pub live: Vec<Line>,
    /// The addresses that were given back and not taken again, longest ago first.
    pub freed: Vec<Vec<IpAddr>>,
    /// An address of the slot that was given last.
    pub last: Option<IpAddr>,
    /// Where the next line goes. Behind it is at most a part of a line.
    pub end: u64,
    /// How many lines there are.
    pub lines: usize,
    /// Nothing of it counts: it is empty, or of an earlier boot.
    pub is_void: bool,
}

/// What a text is, if it is no journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A later version wrote it.
    Format(u32),
    /// A line, counted from 1, is none of ours.
    Line(usize),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "its format is {format}, and this program reads {FORMAT} at most"),
            Self::Line(line) => {
                write!(f, "line {line} is no lease; remove the line, or the file once no pod has an address")
            }
        }
    }
}

/// What became of addresses.
#[derive(Default)]
struct Event<'a> {
    /// The last line about them.
    line: usize,
    /// Who has them, and where that is said.
    live: Vec<(&'a str, u64)>,
}

impl Journal {
    /// A text without anything in it.
    fn void() -> Self {
        Self { is_void: true, ..Self::default() }
    }

    /// Reads a text, with what is wrong in it: lines that cannot be read are no leases.
    pub fn read(bytes: &[u8], boot: &str) -> (Self, Option<Wrong>) {
        let mut lines = Lines { bytes, at: 0 };
        // A writer was killed in its first line, or there was a power cut, behind which some file systems show zeros.
        let Some((_, first)) = lines.next().filter(|_| bytes.first() != Some(&0)) else { return (Self::void(), None) };
        match header(first) {
            None => return (Self::void(), Some(Wrong::Line(1))),
            Some((format, _)) if format > FORMAT => return (Self::void(), Some(Wrong::Format(format))),
            Some((_, of)) if of != boot => return (Self::void(), None),
            Some(_) => {}
        }
        let mut wrong = None;
        let mut events: HashMap<&str, Event<'_>> = HashMap::new();
        let mut last = None;
        let mut count = 1;
        while let Some((at, line)) = lines.next() {
            count += 1;
            let Some((kind, rest)) = std::str::from_utf8(line).ok().and_then(|text| text.split_at_checked(1)) else {
                wrong = wrong.or(Some(Wrong::Line(count)));
                continue;
            };
            let (key, holder) = rest.split_once(' ').unwrap_or((rest, ""));
            match kind {
                "+" | "-" | "~" => {}
                "=" if key.parse::<IpAddr>().is_ok() => {
                    last = Some(key);
                    continue;
                }
                _ => {
                    wrong = wrong.or(Some(Wrong::Line(count)));
                    continue;
                }
            }
            let event = events.entry(key).or_default();
            event.line = count;
            match kind {
                "+" => {
                    event.live.push((holder, at));
                    last = Some(key);
                }
                // A lease that was ended where it stands never was; others may have had the addresses before it.
                "~" => {}
                _ => event.live.retain(|(has, _)| !holder.is_empty() && *has != holder),
            }
        }
        let mut journal = Self { end: lines.at, lines: count, ..Self::default() };
        journal.last = last.and_then(|key| key.split(',').next()).and_then(|first| first.parse().ok());
        let mut events: Vec<(&str, Event<'_>)> = events.into_iter().collect();
        events.sort_unstable_by_key(|(_, event)| event.line);
        for (key, Event { line, live }) in events {
            let Some(addresses) = addresses(key) else {
                wrong = wrong.or(Some(Wrong::Line(line)));
                continue;
            };
            if live.is_empty() {
                journal.freed.push(addresses);
                continue;
            }
            for (text, at) in live {
                match holder(text) {
                    Some(holder) => {
                        journal.live.push(Line { lease: Lease { addresses: addresses.clone(), holder }, at })
                    }
                    None => wrong = wrong.or(Some(Wrong::Line(line))),
                }
            }
        }
        journal.live.sort_unstable_by_key(|line| line.at);
        (journal, wrong)
    }

    /// Is more of the text of the past than need be?
    pub fn is_overgrown(&self) -> bool {
        self.lines > 2 * (self.live.len() + self.freed.len().min(HISTORY)) + SPARE
    }

    /// The text that says the same in as many lines as it needs.
    pub fn rewritten(&self, boot: &str) -> String {
        let mut text = beginning(boot);
        let remembered = self.freed.len().saturating_sub(HISTORY);
        self.freed[remembered..].iter().for_each(|addresses| text.push_str(&release(addresses)));
        self.live.iter().for_each(|line| text.push_str(&line.lease.to_line()));
        if let Some(last) = self.last {
            let _ = writeln!(text, "={last}");
        }
        text
    }
}

impl Lease {
    /// Its line.
    pub fn to_line(&self) -> String {
        let Holder { container, ifname, pod } = &self.holder;
        let pod = pod.as_ref().map(|pod| format!(" {pod}")).unwrap_or_default();
        format!("+{} {container} {ifname}{pod}\n", joined(&self.addresses))
    }

    /// The line that ends it where somebody else has the addresses too.
    pub fn ended(&self) -> String {
        self.to_line().replacen('+', "-", 1)
    }
}

/// The line of addresses that nobody has any more.
pub fn release(addresses: &[IpAddr]) -> String {
    format!("-{}\n", joined(addresses))
}

/// The first line.
pub fn beginning(boot: &str) -> String {
    format!("leases {FORMAT} {boot}\n")
}

fn header(line: &[u8]) -> Option<(u32, &str)> {
    let (format, boot) = std::str::from_utf8(line).ok()?.strip_prefix("leases ")?.split_once(' ')?;
    Some((format.parse().ok()?, boot))
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    text.split(',').map(|address| address.parse().ok()).collect()
}

fn holder(text: &str) -> Option<Holder> {
    let mut words = text.split(' ').map(str::to_owned);
    let (container, ifname, pod) = (words.next()?, words.next()?, words.next());
    let is_whole = !container.is_empty() && !ifname.is_empty() && words.next().is_none();
    is_whole.then_some(Holder { container, ifname, pod })
}

/// The lines whose end is there, without it, each with its offset.
struct Lines<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        let length = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, at) = (&self.bytes[..length], self.at);
        self.bytes = &self.bytes[length + 1..];
        self.at += length as u64 + 1;
        Some((at, line))
    }
}
