//! Errors of the API server, in words.

use std::error::Error;
use std::path::PathBuf;

/// Why there is no client. The text starts with the flag that is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file that was named is no kubeconfig that can be used.
    #[error("--kubeconfig: {}: {why}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No file was named, and this is no pod with a service account.
    #[error("--kubeconfig: not given, and the pod has no service account: {0}")]
    NoServiceAccount(String),
    /// The configuration was read and makes no client.
    #[error("no client of the API server: {0}")]
    Unusable(String),
}

/// One line about an error: the server's own words where it answered.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.message, status.code),
        other => chain(other),
    }
}

/// An error and what it came from; causes that are told already are left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
