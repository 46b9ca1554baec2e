//! Errors of the agent and its commands, for its log. They have no CNI codes: no runtime reads them.

use attachments::finding::Finding;
use meta_cni::fault::Fault;
use meta_cni_kube::ClientError;

/// Why a part of the agent failed. The text starts with what a person looks for first: flag, file, value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, the file that a flag names, or the pod's namespaces are wrong.
    #[error("{0}")]
    Config(String),
    /// A file or program of the node cannot be read, written or started.
    #[error("{0}")]
    Io(String),
    /// The condition that a command asks for does not hold yet.
    #[error("{0}")]
    NotYet(String),
    /// The client of the API server cannot be made.
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
