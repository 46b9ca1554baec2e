//! Why the agent, or one of its commands, cannot go on: words for its log. No runtime reads them.

use attachments::finding::Finding;
use meta_cni::fault::Fault;
use meta_cni_kube::ClientError;

/// A part of the agent that failed. Text starts with what a person looks for first: flag, file, value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, a file that it names, or the place in which the agent was put is wrong.
    #[error("{0}")]
    Config(String),
    /// Something of the node cannot be read, written or started.
    #[error("{0}")]
    Io(String),
    /// What was asked for is not so yet.
    #[error("{0}")]
    NotYet(String),
    /// No client of the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The records of the node cannot be read, or the agent at the socket does not answer.
    #[error(transparent)]
    Node(#[from] Fault),
    /// A bug of ours.
    #[error("internal error: {0}")]
    Bug(String),
}

/// The usual result of a part of the agent.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Config(finding.to_string())
    }
}
