//! Brings the kernel to a specification and back out; the only writer of links.

use crate::call::Node;
use crate::error::{Error, Result};
use crate::spec::LinkId;

/// The host's side of a run.
pub struct Host<'a> {
    /// The node's data of the run.
    pub node: Node<'a>,
}

impl<'a> Host<'a> {
    /// The side of the thread that calls, which is in the host's network namespace. Opens nothing yet.
    pub fn new(node: Node<'a>) -> Self {
        Self { node }
    }
}

/// A pod's network namespace, open.
pub struct Sandbox {
    path: String,
}

impl Sandbox {
    /// Opens CNI_NETNS. [`Error::Netns`] when it is no network namespace, or the thread's own.
    pub fn open(path: &str, node: &Node<'_>) -> Result<Self> {
        let _ = node;
        Ok(Self { path: path.to_owned() })
    }

    /// CNI_NETNS as the runtime gave it.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Removes from a pod every link of a record: one message deletes the record's `group`, from inside the namespace and so
/// at the price of one; what is left of `links` after that (a pod with NET_ADMIN can take a link out of its group, or
/// make the message fail by putting `lo` into it) is deleted by index. A link whose index, kind or hardware address is
/// another's stays: the path may belong to another pod by now.
pub fn detach(sandbox: &mut Sandbox, group: u32, links: &[LinkId]) -> Result<()> {
    let _ = (group, links);
    Err(Error::NotReady(format!("detach from {} is not written yet", sandbox.path)))
}
