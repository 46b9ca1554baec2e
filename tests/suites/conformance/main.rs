//! The conformance tier: the real plugin driven by environment and stdin, delegates that record what they are asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod abandoned;
mod attach;
mod attached_contracts;
mod contracts;
mod crio;
mod danm;
mod faults;
mod fixtures;
mod genie;
mod hot_plug;
mod install;
mod lint;
mod multus;
mod nested;
mod node_ports;
mod policies;
mod repair;
mod replay;
mod request;
mod selection;
mod sizes;
mod spelling;
mod undo;
mod unfinished;
mod upkeep;
