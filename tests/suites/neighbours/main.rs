//! Beside real products: a cluster with the product as its users install it, then ours. What the product does goes on as before, and
//! nothing of it changes by our coming and going. `make test-neighbours`; each product alone by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a case that cannot go on fails")]

mod cilium;
mod faults;
mod flannel;
mod kube_router;
mod lan;
mod scene;
mod traffic;
mod usual;
mod whereabouts;
