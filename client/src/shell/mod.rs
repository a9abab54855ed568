//! The SQL shell.
