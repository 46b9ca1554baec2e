//! The CNI error object and its codes (CNI SPEC 1.1.0, section "Error").

use serde::{Deserialize, Serialize};

/// Well-known codes. 1 to 99 belong to the specification; 100 and above to plugins.
pub mod code {
    /// Incompatible CNI version.
    pub const VERSION: u32 = 1;
    /// Unsupported field in the network configuration; the message names key and value.
    pub const UNSUPPORTED: u32 = 2;
    /// The container is unknown: the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// Invalid environment variable; the message names it.
    pub const ENVIRONMENT: u32 = 4;
    /// I/O failure.
    pub const IO: u32 = 5;
    /// The content cannot be decoded.
    pub const DECODE: u32 = 6;
    /// Invalid network configuration.
    pub const CONFIG: u32 = 7;
    /// The namespace is no network namespace, or our own (the Go library's code, not the specification's).
    pub const NETNS: u32 = 8;
    /// Try again later.
    pub const TRY_LATER: u32 = 11;
    /// STATUS: the plugin cannot serve an ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve an ADD, and existing pods may have lost connectivity.
    pub const LIMITED: u32 = 51;
    /// Kernel: the object exists already.
    pub const KERNEL_EXISTS: u32 = 101;
    /// Kernel: the parent (master, bridge, underlay) is missing.
    pub const KERNEL_NO_PARENT: u32 = 102;
    /// Kernel: this kind of link is not supported.
    pub const KERNEL_NO_KIND: u32 = 103;
    /// Kernel: permission denied.
    pub const KERNEL_DENIED: u32 = 104;
    /// Kernel: any other refusal.
    pub const KERNEL: u32 = 105;
    /// Addresses: exhausted, or in use.
    pub const ADDRESSES: u32 = 110;
    /// Policy: isolation denied it.
    pub const POLICY: u32 = 120;
    /// A bug, or an untyped failure of a Go plugin.
    pub const INTERNAL: u32 = 999;
}

/// The object that a failed plugin prints on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// Version of the specification that the caller speaks; the Go library omits it.
    #[serde(rename = "cniVersion", default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    /// One of [`code`], or the plugin's own.
    pub code: u32,
    /// One line: network, field or object, value, what is allowed.
    pub msg: String,
    /// Longer text, for example a kernel's extended acknowledgement.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl ErrorObject {
    /// Reads what a failed plugin printed; nothing when it is no error object.
    pub fn parse(stdout: &[u8]) -> Option<Self> {
        serde_json::from_slice(stdout).ok()
    }
}
