//! The webhook, the real program, asked by a real API server over TLS, as it is shipped.

mod admission;
mod certificates;
mod dialects;
mod floor;
mod janitor;
mod judged;
mod mutation;
mod rotation;
mod world;
