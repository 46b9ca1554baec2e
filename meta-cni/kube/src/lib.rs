//! The way to the API server, for the node agent and the webhook.
//!
//! [`client`] makes the connection, [`Reader`] reads single objects within bounds, [`follow`] lists and watches a collection
//! by its metadata, [`Index`] keeps what is followed, and [`said`] puts an error into one line. Which objects are followed, and
//! what is kept of them, is said by whoever follows them.

mod client;
mod error;
mod fetch;
mod follow;
mod index;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use client::client;
pub use error::{ClientError, said};
pub use fetch::{Read, Reader};
pub use follow::{Collection, Event, Versioned, follow};
pub use index::Index;
