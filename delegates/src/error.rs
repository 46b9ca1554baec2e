//! What can go wrong in a delegate. Codes of the CNI protocol are chosen in one place, the engine's `fault`.

use attachments::cni::error::ErrorObject;
use attachments::finding::Finding;
use nix::errno::Errno;

/// A failed call of a delegate. Every variant says enough for one line: object, value, what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong; nothing was touched.
    #[error("{}", join(.0))]
    Config(Vec<Finding>),
    /// The kernel refused. `op` says what was tried on which object.
    #[error("{op}: {}{}", errno_text(*.errno), with_detail(.detail))]
    Kernel {
        /// What was tried, with the object's name: "create macvlan net1 on eth1".
        op: String,
        /// The errno, positive.
        errno: i32,
        /// The kernel's extended acknowledgement, if it gave one.
        detail: String,
    },
    /// A link that the configuration names is missing on the node or of another kind.
    #[error("{0}")]
    Parent(Finding),
    /// CNI_NETNS is no network namespace, or the host's own.
    #[error("CNI_NETNS: got {path:?}, want {allowed}")]
    Netns {
        /// The path that was given.
        path: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// Addresses are exhausted, or the requested one is taken or outside the ranges.
    #[error("{0}")]
    Addresses(String),
    /// A file or directory of the node's state could not be read or written.
    #[error("{op}: {source}")]
    Io {
        /// What was tried, with the path.
        op: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An external plugin answered with an error object; its code is kept.
    #[error("{}", .0.msg)]
    Plugin(ErrorObject),
    /// An external plugin is not in any of the directories.
    #[error("plugin {kind:?} is in none of {dirs}")]
    NoPlugin {
        /// The plugin type.
        kind: String,
        /// The directories, joined by ':'.
        dirs: String,
    },
    /// An external plugin died, or answered with something that is neither a result nor an error object.
    #[error("plugin {kind}: {what}")]
    BadAnswer {
        /// The plugin type.
        kind: String,
        /// What happened, with a quote of what it printed.
        what: String,
    },
    /// The call's deadline passed.
    #[error("{0} did not finish before the deadline")]
    Late(String),
    /// Somebody else has it for now; a later try may succeed.
    #[error("{0}")]
    Busy(String),
    /// CHECK: the kernel differs from the result.
    #[error("{0}")]
    Differs(String),
    /// STATUS: an ADD would fail.
    #[error("{0}")]
    NotReady(String),
}

/// The usual result of a delegate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Has a program failed, and not we ourselves?
    pub fn is_of_program(&self) -> bool {
        matches!(self, Self::Plugin(_) | Self::NoPlugin { .. } | Self::BadAnswer { .. } | Self::Late(_))
    }

    /// A refusal of the kernel with what was tried, where nothing else is told of it.
    pub fn kernel(op: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let op = op.into();
        move |errno| Self::Kernel { op, errno: errno as i32, detail: String::new() }
    }

    /// An I/O failure with what was tried.
    pub fn io(op: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let op = op.into();
        move |source| Self::Io { op, source }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Config(vec![finding])
    }
}

impl From<Vec<Finding>> for Error {
    fn from(findings: Vec<Finding>) -> Self {
        Self::Config(findings)
    }
}

/// Findings that one message tells; whoever mends these hears of the next.
const TOLD: usize = 16;

fn join(findings: &[Finding]) -> String {
    let mut told: Vec<String> = findings.iter().take(TOLD).map(Finding::to_string).collect();
    if findings.len() > TOLD {
        told.push(format!("and {} more", findings.len() - TOLD));
    }
    told.join("; ")
}

fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn with_detail(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}
