//! The CNI protocol, 0.1.0 to 1.1.0, as plain data: configurations, results, versions and errors.
//!
//! Configurations pass through byte for byte apart from the keys that a runtime owns; results are held in the shape of
//! 1.1.0 and converted at the border.

pub mod conf;
pub mod error;
pub mod object;
mod plain;
pub mod result;
pub mod spelling;
pub mod version;
