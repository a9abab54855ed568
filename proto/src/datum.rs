//! SQL values and their types.
