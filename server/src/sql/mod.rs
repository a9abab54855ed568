//! The SQL layer.

pub mod error;
pub mod limits;
pub mod variables;
pub mod schema;
pub mod catalog;
pub mod encoding;
pub mod types;
pub mod parser;
pub mod expr;

pub use error::{Error, Result};
pub use limits::Limits;
