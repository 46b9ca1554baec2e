//! Errors of the API server as text.

use std::error::Error;
use std::path::PathBuf;

/// Why the client cannot be made. The text starts with the flag at fault.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The named file is no usable kubeconfig.
    #[error("--kubeconfig: {}: {why}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No file is named, and the pod has no service account.
    #[error("--kubeconfig: not given, and the pod has no service account: {0}")]
    NoServiceAccount(String),
    /// The configuration is readable and makes no client.
    #[error("no client of the API server: {0}")]
    Unusable(String),
}

/// An error in one line: the server's own message if it answered.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.message, status.code),
        other => chain(other),
    }
}

/// An error and its causes, without causes whose text is in it already.
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
