//! The engine of the plugin: one call of the runtime, from its environment to its answer.
//!
//! [`request`] reads the call, [`engine`] serves it, [`fault`] says what went wrong and with which code. [`node`] is the
//! node's configuration, [`cluster`] the source of facts about pods and definitions: a directory, or the node agent, which is
//! a package of its own as everything is that asks the API server.

pub mod atomic_file;
pub mod cluster;
pub mod conf_dir;
pub mod engine;
pub mod fault;
pub mod node;
pub mod recovery;
pub mod request;
