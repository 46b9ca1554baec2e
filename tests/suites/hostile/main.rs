//! A hostile tenant, who has rights on the definitions and pods of one namespace and nothing else, against the shipped program. A
//! case is one trick; `test NAME ... ok` says that it came to nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod definitions;
mod node_links;
mod others;
mod pods;
mod sizes;
mod stage;
mod text;
