//! What keeps the webhook from starting.

use meta_cni_kube::ClientError;

/// Why the webhook ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client of the API server.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// A flag, and what is wrong with it.
    #[error("{0}")]
    Flag(String),
    /// The system refuses.
    #[error("{0}")]
    Io(String),
}

/// A result of the webhook.
pub type Result<T> = std::result::Result<T, Error>;
