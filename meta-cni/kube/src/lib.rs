//! Access to the API server, for the node agent and the webhook.
//!
//! [`client()`] makes a client, [`Reader`] reads single objects within bounds, [`follow()`] lists and watches the metadata of a
//! collection, [`follow_objects`] the objects of a small one, [`follow_labelled`] the objects of a part that changes, [`Pages`] reads one page by
//! page, [`Index`] caches one, and [`said`] puts an error into one line. The caller decides which collections to follow, and what to keep of an
//! object. Both programs write one [`log`], and serve over one [`tls`].

#![forbid(unsafe_code)]

mod client;
mod error;
mod fetch;
mod follow;
mod index;
mod labelled;
pub mod log;
mod observe;
mod pages;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;

pub use client::{Access, access, client, create, observed_client, remove, server_date, text_of};
pub use error::{ClientError, said};
pub use fetch::{Read, Reader};
pub use follow::{Collection, Event, Versioned, follow, follow_heard, follow_objects};
pub use index::Index;
pub use labelled::{Change, Labelled, follow_labelled};
pub use observe::{Exchange, Observer};
pub use pages::{PageError, PageSize, Pages, Selector, Shape};
