//! Every way in which a call can fail, and the one place that chooses CNI codes (CNI SPEC 1.1.0, "Error").

use attachments::bind::BindError;
use attachments::cni::error::{ErrorObject, code};
use attachments::cni::version::Version;
use attachments::finding::{Finding, shortened};
use attachments::text::printable;
use delegates::call::Verb;
use delegates::error::Error as DelegateError;
use nix::errno::Errno;

/// A failed call. The text starts with what a person looks for first: network, field, value.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An environment variable is missing or wrong.
    #[error("{0}")]
    Environment(String),
    /// The input is no JSON object.
    #[error("configuration on stdin: {0}")]
    Decode(String),
    /// We do not speak `cniVersion`, or the verb needs a later version.
    #[error("{0}")]
    Version(String),
    /// The node configuration, a definition or an annotation is wrong.
    #[error("{0}")]
    Config(String),
    /// A well-formed request for something unsupported.
    #[error("{0}")]
    Unsupported(String),
    /// CNI_NETNS is no network namespace, or our own.
    #[error("{0}")]
    Netns(String),
    /// stdin, the state directory or the record could not be read or written.
    #[error("{0}")]
    Io(String),
    /// A later call may succeed: an object not seen yet, an agent that restarts, a locked sandbox.
    #[error("{0}")]
    TryLater(String),
    /// A network that does not exist yet. The next try finds a definition that is applied meanwhile.
    #[error("{0}")]
    NoNetwork(String),
    /// CHECK of a sandbox that has no attachments of ours.
    #[error("{0}")]
    Unknown(String),
    /// Isolation or another rule of the cluster denies the request.
    #[error("{0}")]
    Policy(String),
    /// ADD for an attachment set that exists, or an interface that exists.
    #[error("{0}")]
    Exists(String),
    /// STATUS: an ADD would fail.
    #[error("{0}")]
    NotAvailable(String),
    /// A delegate of an attachment failed. `subject` names the network and the interface.
    #[error("{subject}: {source}")]
    Delegate {
        /// `network NAME (IFNAME)`.
        subject: String,
        /// The delegate's error.
        source: DelegateError,
    },
    /// Several parts of a DEL or GC failed; the first one gives the code.
    #[error("{}", join(.0))]
    Several(Vec<Fault>),
    /// A bug of ours.
    #[error("internal error: {0}")]
    Bug(String),
}

/// The usual result of a step of the engine.
pub type Result<T> = std::result::Result<T, Fault>;

/// How many characters of a message people see in an event: network, value and cause must be within.
const SEEN: usize = 200;
/// The least number of characters for a delegate's message behind a long name.
const LEAST: usize = 80;

impl Fault {
    /// The code of the CNI protocol.
    pub fn code(&self) -> u32 {
        match self {
            Self::Environment(_) => code::ENVIRONMENT,
            Self::Decode(_) => code::DECODE,
            Self::Version(_) => code::VERSION,
            Self::Config(_) => code::CONFIG,
            Self::Unsupported(_) => code::UNSUPPORTED,
            Self::Netns(_) => code::NETNS,
            Self::Io(_) => code::IO,
            Self::TryLater(_) | Self::NoNetwork(_) => code::TRY_LATER,
            Self::Unknown(_) => code::UNKNOWN_CONTAINER,
            Self::Policy(_) => code::POLICY,
            Self::Exists(_) => code::KERNEL_EXISTS,
            Self::NotAvailable(_) => code::NOT_AVAILABLE,
            Self::Delegate { source, .. } => delegate_code(source),
            Self::Several(faults) => faults.first().map_or(code::INTERNAL, Self::code),
            Self::Bug(_) => code::INTERNAL,
        }
    }

    /// The reason of the event for a failed ADD: Multus's word where it has one.
    pub fn event_reason(&self) -> &'static str {
        match self {
            Self::NoNetwork(_) => "NoNetworkFound",
            _ => "FailedAddingInterface",
        }
    }

    /// One fault for a list: nothing when it is empty, the fault itself when it is alone.
    pub fn several(mut faults: Vec<Self>) -> Result<()> {
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.remove(0)),
            _ => Err(Self::Several(faults)),
        }
    }

    /// The text for people. What says its cause first is whole; of what says it last the middle is left out.
    pub fn message(&self) -> String {
        match self {
            // Field, value, what is allowed, in this order; long values are short already.
            Self::Environment(_) | Self::Version(_) | Self::Config(_) | Self::Unsupported(_) => self.to_string(),
            Self::NoNetwork(_) | Self::Policy(_) | Self::NotAvailable(_) => self.to_string(),
            Self::Delegate { subject, source } => {
                let left = SEEN.saturating_sub(subject.chars().count() + 2).max(LEAST);
                let words = source.to_string();
                format!("{subject}: {}", if says_cause_last(source) { shortened(&words, left) } else { words })
            }
            Self::Several(faults) => faults.iter().map(Self::message).collect::<Vec<_>>().join("; "),
            Self::Decode(_) | Self::Netns(_) | Self::Io(_) | Self::TryLater(_) => shortened(&self.to_string(), SEEN),
            Self::Unknown(_) | Self::Exists(_) | Self::Bug(_) => shortened(&self.to_string(), SEEN),
        }
    }

    /// What runtimes put behind the message: a delegate's own details, and all of a text that the message shortens.
    fn details(&self, message: &str) -> String {
        let whole = self.to_string();
        let whole = if whole == message { "" } else { whole.as_str() };
        let theirs = match self {
            Self::Delegate { source: DelegateError::Plugin(object), .. } => object.details.as_str(),
            _ => "",
        };
        [whole, theirs].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// The object to print. DEL's text is kept clear of the words that runtimes take for "already gone" (containerd
    /// counts a DEL error that contains them as success, and the attachment would leak).
    pub fn to_object(&self, verb: Option<Verb>, version: Version) -> ErrorObject {
        let mut msg = self.message();
        let mut details = self.details(&msg);
        if verb == Some(Verb::Del) {
            for text in [&mut msg, &mut details] {
                *text = replace_ignoring_case(text, "not found", "absent");
                *text = replace_ignoring_case(text, "no such file or directory", "absent (ENOENT)");
            }
        }
        // Runtimes log it, and the kubelet makes an event of it.
        let [msg, details] = [msg, details].map(|text| printable(&text).into_owned());
        ErrorObject { cni_version: version.as_str().to_owned(), code: self.code(), msg, details }
    }
}

impl From<BindError> for Fault {
    fn from(error: BindError) -> Self {
        let text = error.to_string();
        match error {
            BindError::NoDefinition(_)
            | BindError::NoNetwork { .. }
            | BindError::NoNodeFile { .. }
            | BindError::NoFile { .. }
            | BindError::NoAlias { .. }
            | BindError::NoObject { .. } => Self::NoNetwork(text),
            BindError::DevicesUnknown { .. } => Self::TryLater(text),
            BindError::NoConfiguration { .. } | BindError::Invalid(_) => Self::Config(text),
            BindError::Isolated { .. } | BindError::IsolatedNodeFile { .. } | BindError::IsolatedFile { .. } => {
                Self::Policy(text)
            }
        }
    }
}

impl From<Finding> for Fault {
    fn from(finding: Finding) -> Self {
        Self::Config(finding.to_string())
    }
}

fn delegate_code(error: &DelegateError) -> u32 {
    match error {
        DelegateError::Config(_) => code::CONFIG,
        DelegateError::Parent(_) => code::KERNEL_NO_PARENT,
        DelegateError::Netns { .. } => code::NETNS,
        DelegateError::Addresses(_) => code::ADDRESSES,
        DelegateError::Io { .. } => code::IO,
        DelegateError::Plugin(object) => object.code,
        DelegateError::NoPlugin { .. } => code::CONFIG,
        DelegateError::BadAnswer { .. } => code::INTERNAL,
        DelegateError::Late(_) | DelegateError::Busy(_) => code::TRY_LATER,
        DelegateError::Differs(_) => code::KERNEL,
        DelegateError::NotReady(_) => code::NOT_AVAILABLE,
        DelegateError::Kernel { errno, .. } => match Errno::from_raw(*errno) {
            Errno::EEXIST => code::KERNEL_EXISTS,
            Errno::ENODEV | Errno::ENXIO => code::KERNEL_NO_PARENT,
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => code::KERNEL_NO_KIND,
            Errno::EPERM | Errno::EACCES => code::KERNEL_DENIED,
            _ => code::KERNEL,
        },
    }
}

/// True for errors of the system and of Go plugins, which say first what was tried and then why it failed.
fn says_cause_last(error: &DelegateError) -> bool {
    match error {
        DelegateError::Kernel { .. } | DelegateError::Io { .. } | DelegateError::Netns { .. } => true,
        DelegateError::Plugin(_) | DelegateError::BadAnswer { .. } | DelegateError::Late(_) => true,
        DelegateError::Config(_) | DelegateError::Parent(_) | DelegateError::Addresses(_) | DelegateError::Busy(_) => {
            false
        }
        DelegateError::NoPlugin { .. } | DelegateError::Differs(_) | DelegateError::NotReady(_) => false,
    }
}

fn join(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

fn replace_ignoring_case(text: &str, from: &str, to: &str) -> String {
    // ASCII lower-casing keeps every byte position.
    let lower = text.to_ascii_lowercase();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(found) = lower[at..].find(from) {
        out.push_str(&text[at..at + found]);
        out.push_str(to);
        at += found + from.len();
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests;
