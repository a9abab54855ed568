//! Benchmarks, which are checkers too: a number counts only if the answers were right.

pub mod bank;
