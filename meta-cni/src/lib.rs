//! The engine of the plugin: one call of the runtime, from its environment to its answer.
//!
//! [`request`] reads the call, [`engine`] serves it, [`fault`] chooses the error code. [`node`] is the node's configuration,
//! [`cluster`] the source of facts about pods and definitions: a directory of manifests, or the node agent. The agent is a
//! package of its own, like everything that talks to the API server.

#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod call_log;
pub mod cluster;
pub mod conf_dir;
pub mod engine;
pub mod fault;
pub mod hot_plug;
pub mod node;
pub mod recovery;
pub mod render;
pub mod repair;
pub mod request;
